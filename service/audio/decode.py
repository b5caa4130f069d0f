"""Bytes to 16 kHz mono float32 samples: every limit on audio is enforced here, while reading and not after.

Deterministic: samples in file order, never a seek (seeking in an MP3 changes its samples), one resampler, one downmix.
Memory is bounded by the limits whatever the bytes are.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from service.audio import containers
from service.audio.containers import ACCEPTED, Container
from service.audio.data_uri import parse_data_uri
from service.audio.limits import AudioError, AudioLimits

__all__ = [
    "DOWNMIX",
    "MEDIA_TYPES",
    "RESAMPLER",
    "SAMPLE_RATE",
    "AudioError",
    "AudioLimits",
    "Clip",
    "decode",
    "parse_data_uri",
]

SAMPLE_RATE = 16_000
RESAMPLER = "soxr-HQ"
DOWNMIX = "mean"

MEDIA_TYPES = {
    "WAV": "audio/wav",
    "WAVEX": "audio/wav",
    "RF64": "audio/wav",
    "FLAC": "audio/flac",
    "OGG": "audio/ogg",
    "MP3": "audio/mpeg",
}
"""Of each `Clip.format`."""

_BLOCK_VALUES = 1 << 15  # float32 values read at a time, whatever the channel count
_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"})
# Float files written on the 16-bit scale are readable; far beyond it the front-end's power spectrum would overflow.
_MAX_PEAK = 65_536.0


@dataclass(frozen=True)
class Clip:
    """A decoded clip: `samples` float32 [n] at 16 kHz, mono; the rest describes the file it came from."""

    samples: NDArray[np.float32]
    duration_s: float
    source_rate: int
    channels: int
    format: str
    sha256: str


def decode(data: bytes, limits: AudioLimits, *, watch: Callable[[int], None] | None = None) -> Clip:
    """Decode one file. Raises AudioError and nothing else, for any bytes, and what `watch` raises.

    Args:
        data: the file as sent. The container is told by its bytes, never by a name or a media type.
        limits: refused from the header where it tells, and while reading where it lies or does not.
        watch: is told how many samples of all channels there will be, where the header counts them, and between blocks
            how many were read; by raising it ends the decoding.
    """
    container = _admit(data, limits)
    with _open(data, container) as file:
        _check_header(file, limits)
        if watch is not None and _counted(file):
            watch(file.frames * file.channels)
        samples, frames, peak = _read(file, container, limits, watch)
        rate, channels, name = file.samplerate, file.channels, file.format
    _check_whole(frames, rate, peak, limits)
    return Clip(
        samples=samples,
        duration_s=frames / rate,
        source_rate=rate,
        channels=channels,
        format=name,
        sha256=hashlib.sha256(data).hexdigest(),
    )


class _SequentialFile(sf.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A SoundFile that is only read forwards.

    soundfile seeks after every block that it reads: an MP3 decoder restarts there with other samples (measured: off by
    0.35 of full scale), and a FLAC of unknown length cannot be read at all. It does neither for what cannot be seeked.
    """

    def seekable(self) -> bool:
        return False


def _admit(data: bytes, limits: AudioLimits) -> Container:
    if not data:
        raise AudioError("empty", "the audio is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise AudioError(
            "too_large",
            f"the audio is {len(data)} bytes; at most {limits.max_bytes} are accepted",
            limit=limits.max_bytes,
        )
    container = containers.sniff(data)
    if container is None:
        raise AudioError("unsupported", f"this is {containers.describe(data)}; send {ACCEPTED}")
    if container == "ogg" and (codec := containers.foreign_codec(data)):
        raise AudioError("unsupported", f"this is {codec} in an OGG file; send {ACCEPTED}")
    if cut := containers.find_cut(data, container):
        raise AudioError("truncated", f"the {container.upper()} file is cut off: {cut}")
    if container == "ogg" and containers.chained_streams(data) > 1:
        raise AudioError("unsupported", "the OGG file holds several streams; send one stream per file")
    return container


@contextmanager
def _open(data: bytes, container: Container) -> Iterator[sf.SoundFile]:
    try:
        if container == "mp3" and not containers.mp3_counts_frames(data):
            with _piped(data) as descriptor, _SequentialFile(descriptor, closefd=False) as file:
                yield file
        else:
            with _SequentialFile(io.BytesIO(data)) as file:
                yield file
    except sf.SoundFileError as error:
        raise AudioError("unreadable", f"the {container.upper()} file cannot be decoded: it is damaged") from error


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


def _check_header(file: sf.SoundFile, limits: AudioLimits) -> None:
    if file.format not in _FORMATS:
        raise AudioError("unsupported", f"this is a {file.format} file; send {ACCEPTED}")
    if file.channels > limits.max_channels:
        detail = f"the clip has {file.channels} channels; at most {limits.max_channels} are accepted"
        raise AudioError("too_many_channels", detail, limit=limits.max_channels)
    low, high = limits.min_sample_rate, limits.max_sample_rate
    if not low <= file.samplerate <= high:
        detail = f"the sample rate is {file.samplerate} Hz; {low} to {high} Hz are accepted"
        raise AudioError("sample_rate", detail, limit=low if file.samplerate < low else high)
    if _counted(file) and file.frames > limits.max_s * file.samplerate:
        raise _too_long(f"lasts {file.frames / file.samplerate:.1f} s", limits)
    if _counted(file) and file.frames * file.channels > limits.max_samples:
        raise _too_many_samples(f"has {file.frames * file.channels}", limits)


def _too_long(what: str, limits: AudioLimits) -> AudioError:
    return AudioError("too_long", f"the clip {what}; at most {limits.max_s:g} s are accepted", limit=limits.max_s)


def _too_many_samples(what: str, limits: AudioLimits) -> AudioError:
    detail = f"the clip {what} samples in all channels together; at most {limits.max_samples} are accepted"
    return AudioError("too_many_samples", detail, limit=limits.max_samples)


def _counted(file: sf.SoundFile) -> bool:
    """Whether the header tells the length; streamed FLAC and piped MP3 read as the largest count there is."""
    frames: int = file.frames
    return 0 < frames < 1 << 62


def _read(
    file: sf.SoundFile, container: Container, limits: AudioLimits, watch: Callable[[int], None] | None
) -> tuple[NDArray[np.float32], int, float]:
    """Samples at 16 kHz, frames as recorded, and the peak of the downmix."""
    rate, channels = file.samplerate, file.channels
    cap = math.floor(limits.max_s * rate)
    resampler = (
        None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    )
    collected = _Samples(min(file.frames, cap) if _counted(file) else cap, rate)
    block = np.empty((max(1, _BLOCK_VALUES // channels), channels), dtype=np.float32)
    frames, peak = 0, 0.0
    # Never past the counted end: what follows there, such as a tag, would be taken for damage.
    while (wanted := min(len(block), file.frames - frames)) > 0:
        try:
            part = file.read(wanted, dtype="float32", always_2d=True, out=block[:wanted])
        except sf.SoundFileError as error:
            raise _damaged(container, frames, file) from error
        if not len(part):
            break
        frames += len(part)
        if frames > cap:
            raise _too_long("is longer than its limit", limits)
        if frames * channels > limits.max_samples:
            raise _too_many_samples("has more", limits)
        if watch is not None:
            watch(frames * channels)
        block_peak = _peak(part)
        if not math.isfinite(block_peak):
            first = int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
            at = (frames - len(part) + first) / rate
            raise AudioError("not_finite", f"the clip holds samples that are NaN or infinite, the first at {at:.2f} s")
        if block_peak > _MAX_PEAK:
            detail = f"a sample is {block_peak:.3g} times full scale; at most {_MAX_PEAK:g} is accepted"
            raise AudioError("out_of_range", detail, limit=_MAX_PEAK)
        mono = part.mean(axis=1, dtype=np.float32) if channels > 1 else part[:, 0]
        peak = max(peak, _peak(mono) if channels > 1 else block_peak)
        collected.add(mono if resampler is None else resampler.resample_chunk(mono))
    if _counted(file) and file.frames - frames > rate // 100:
        raise _damaged(container, frames, file)
    if resampler is not None:
        collected.add(resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))
    return collected.array(), frames, peak


def _peak(part: NDArray[np.float32]) -> float:
    """Largest magnitude; NaN when any value is. Twice over the samples costs less than writing their magnitudes."""
    return max(float(part.max()), -float(part.min()))


class _Samples:
    """Room for a clip, reserved once: pages that are never written are never spent, however much the header claims."""

    def __init__(self, frames: int, rate: int) -> None:
        self._room = np.empty(math.ceil(frames * SAMPLE_RATE / rate) + SAMPLE_RATE, dtype=np.float32)
        self._used = 0

    def add(self, part: NDArray[np.float32]) -> None:
        self._room[self._used : self._used + len(part)] = part
        self._used += len(part)

    def array(self) -> NDArray[np.float32]:
        """The samples alone: a view that kept a far larger reservation alive would count against memory limits."""
        samples = self._room[: self._used]
        return samples if 2 * self._used >= len(self._room) else samples.copy()


def _damaged(container: Container, frames: int, file: sf.SoundFile) -> AudioError:
    of = f" of {file.frames / file.samplerate:.2f}" if _counted(file) else ""
    good = f"{frames / file.samplerate:.2f}{of} s could be decoded"
    return AudioError("truncated", f"the {container.upper()} file is damaged or cut off: {good}")


def _check_whole(frames: int, rate: int, peak: float, limits: AudioLimits) -> None:
    if frames < limits.min_s * rate:
        detail = f"the clip lasts {frames / rate:.3f} s; at least {limits.min_s:g} s are needed"
        raise AudioError("too_short", detail, limit=limits.min_s)
    level = 20 * math.log10(peak) if peak > 0 else -math.inf
    if level < limits.min_peak_dbfs:
        detail = f"the clip is silent: its peak is {level:.1f} dBFS; at least {limits.min_peak_dbfs:g} dBFS are needed"
        raise AudioError("silent", detail, limit=limits.min_peak_dbfs)
