"""Samples of WAV, FLAC, OGG and MP3: libsndfile, read forwards only and to the end."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from service.audio import containers
from service.audio.containers import ACCEPTED, Container
from service.audio.limits import AudioError

_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"})


class SequentialFile(sf.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A SoundFile that is only read forwards.

    soundfile seeks after every block that it reads: an MP3 decoder restarts there with other samples (measured: off by
    0.35 of full scale), and a FLAC of unknown length cannot be read at all. It does neither for what cannot be seeked.
    """

    def seekable(self) -> bool:
        return False

    def read(self, wanted: int, *, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """At most `wanted` frames [n, channels]; none at the end."""
        part: NDArray[np.float32] = super().read(wanted, dtype="float32", always_2d=True, out=out)
        return part


@contextmanager
def open_sndfile(data: bytes, container: Container) -> Iterator[SequentialFile]:
    """Open a file that `sniff` knows. Raises AudioError; `read` raises libsndfile's own, for its caller knows how much
    was read before."""
    try:
        if container == "mp3" and not containers.mp3_has_count(data):
            with _piped(data) as descriptor, SequentialFile(descriptor, closefd=False) as file:
                yield _known(file)
        else:
            with SequentialFile(io.BytesIO(data)) as file:
                yield _known(file)
    except sf.SoundFileError as error:
        raise AudioError("unreadable", f"the {container.upper()} file cannot be decoded: it is damaged") from error


def _known(file: SequentialFile) -> SequentialFile:
    if file.format not in _FORMATS:
        raise AudioError("unsupported", f"this is a {file.format} file; send {ACCEPTED}")
    return file


@contextmanager
def _piped(data: bytes) -> Iterator[int]:
    """A descriptor that libsndfile must read to its end, because a pipe has no length to guess from."""
    reader, writer = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), os.fdopen(writer, "wb", buffering=0) as pipe:
            view = memoryview(data)
            while view:
                view = view[pipe.write(view) :]

    feeder = threading.Thread(target=feed, name="mp3-feeder", daemon=True)
    feeder.start()
    try:
        yield reader
    finally:
        os.close(reader)
        feeder.join()
