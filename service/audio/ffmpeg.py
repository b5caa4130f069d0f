"""Samples of the files that libsndfile does not read, or reads in part: FFmpeg through PyAV, kept to audio alone.

FFmpeg never learns a name, an address or a format to guess: it gets bytes, the demuxer that the first bytes call for
(playlists could open other files), and a list of audio decoders (no video decoder ever runs). It decodes in this
process, block by block, so that limits and deadlines of the caller hold between packets.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.audio.containers import FFMPEG, Container, title
from service.audio.limits import AudioError

UNCOUNTED = 1 << 62
"""`frames` of a file whose header does not say how many there are, as libsndfile has it."""

_DECODERS = (
    "aac,aac_latm,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_swf,alac,amrnb,amrwb,eac3,flac,gsm,gsm_ms,ilbc,mace3,"
    "mace6,mp1,mp1float,mp2,mp2float,mp3,mp3float,nellymoser,opus,pcm_alaw,pcm_bluray,pcm_f32be,pcm_f32le,pcm_f64be,"
    "pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_s8,pcm_u8,speex,vorbis,"
    "wmalossless,wmapro,wmav1,wmav2,wmavoice"
)
_PROBE_BYTES = 1 << 20
# Encoders pad and trim by a frame or two (AAC: 2,048 samples); what is cut off is longer.
_TOLERANCE_S = 0.25

# Packets in a row.
_MAX_LOST = 2


class FfmpegFile:
    """The first audio stream of a file, read forwards. Fields as soundfile's: `frames` and `samplerate` as declared."""

    def __init__(self, stream: Any, packets: Iterator[Any], container: Container, duration_s: float | None) -> None:
        self.format = container.upper()
        self._stream, self._packets, self._container = stream, packets, container
        self.declared_s = duration_s
        self.channels: int = stream.codec_context.channels
        self.samplerate: int = stream.codec_context.sample_rate
        self.frames = UNCOUNTED
        self._ready: NDArray[np.float32] | None = None
        self._blocks = self._decode()

    def prime(self) -> None:
        """Decode the first frame: what it says of rate and channels goes (HE-AAC doubles the rate of its header)."""
        self._ready = next(self._blocks, None)
        if self._ready is None or not self.samplerate:
            raise AudioError("unreadable", f"the {title(self._container)} file holds no sound that can be decoded")

    def read(self, wanted: int, *, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """At most `wanted` frames [n, channels] as float32; none at the end. Raises AudioError for damage."""
        if self._ready is None or not len(self._ready):
            self._ready = next(self._blocks, None)
        if self._ready is None:
            return out[:0]
        part, self._ready = self._ready[:wanted], self._ready[wanted:]
        out[: len(part)] = part
        return out[: len(part)]

    def _decode(self) -> Iterator[NDArray[np.float32]]:
        first = True
        for frame in self._frames():
            channels = frame.layout.nb_channels
            if first:
                self.samplerate, self.channels, first = frame.sample_rate, channels, False
            elif (frame.sample_rate, channels) != (self.samplerate, self.channels):
                detail = "the sound changes its sample rate or its channels on the way; send each part as a file"
                raise AudioError("unsupported", detail)
            if frame.samples:
                yield _as_float(frame)

    def _frames(self) -> Iterator[Any]:
        """Where MP3 streams meet, FFmpeg takes a tag for a frame that is damaged: that is passed over, more is not."""
        from av.error import InvalidDataError

        lost = 0
        for packet in self._packets:
            try:
                frames = self._stream.codec_context.decode(packet)
            except InvalidDataError:
                lost += 1
                if self._container != "mp3" or lost > _MAX_LOST:
                    raise
                continue
            lost = 0
            yield from frames


@contextmanager
def open_ffmpeg(data: bytes, container: Container) -> Iterator[FfmpegFile]:
    """Open a file that `sniff` knows. Raises AudioError, from `read` too: FFmpeg's own errors end here.

    PyAV is imported on first use: it costs 0.3 s and 40 MB, and most services only see what libsndfile reads.
    """
    import av
    from av.error import FFmpegError

    av.logging.set_level(None)
    demuxer = FFMPEG[container].demuxer if container in FFMPEG else container
    options = {"codec_whitelist": _DECODERS, "protocol_whitelist": "none", "probesize": str(_PROBE_BYTES)}
    file: Any
    try:
        with av.open(io.BytesIO(data), format=demuxer, options=options, metadata_errors="replace") as file:
            if not file.streams.audio:
                raise AudioError("unsupported", f"the {title(container)} file holds no sound")
            stream = file.streams.audio[0]
            codec = stream.codec_context.codec.name if stream.codec_context else "unknown"
            if codec not in _DECODERS.split(","):
                raise AudioError("unsupported", f"the sound in the {title(container)} file is {codec}: not read here")
            stream.codec_context.thread_count = 1
            opened = FfmpegFile(stream, file.demux(stream), container, _declared_s(file, stream, container))
            opened.prime()
            yield opened
    except (FFmpegError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, AudioError):
            raise
        detail = f"the {title(container)} file cannot be decoded: it is damaged or cut off"
        raise AudioError("unreadable", detail) from error


def check_length(file: FfmpegFile, frames: int) -> None:
    """Refuse a file that ends well before its header says. Raises AudioError."""
    decoded = frames / file.samplerate
    if file.declared_s is not None and decoded < file.declared_s - _TOLERANCE_S:
        detail = f"the {title(file.format.lower())} file is damaged or cut off: " + (
            f"{decoded:.2f} of {file.declared_s:.2f} s could be decoded"
        )
        raise AudioError("truncated", detail)


def _declared_s(file: Any, stream: Any, container: Container) -> float | None:
    """What the header says; None where FFmpeg only guesses from the bit rate, or counts pictures too."""
    if container not in FFMPEG or not FFMPEG[container].counted:
        return None
    if stream.frames and stream.codec_context.codec.name.startswith("pcm_"):
        return float(stream.frames / stream.codec_context.sample_rate) if stream.codec_context.sample_rate else None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if file.duration is not None and len(file.streams) == 1:
        return float(file.duration) / 1e6
    return None


def _as_float(frame: Any) -> NDArray[np.float32]:
    """[samples, channels] in full scale of 1.0, whatever the decoder's sample format."""
    values: NDArray[Any] = frame.to_ndarray()
    channels = frame.layout.nb_channels
    by_frame = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.uint8:
        return ((by_frame.astype(np.float32) - 128.0) / 128.0).astype(np.float32)
    if values.dtype.kind == "i":
        return (by_frame.astype(np.float64) / float(1 << (8 * values.dtype.itemsize - 1))).astype(np.float32)
    return np.ascontiguousarray(by_frame, dtype=np.float32)
