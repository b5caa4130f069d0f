"""Bytes to 16 kHz mono float32 samples: every limit on audio is enforced here, while reading and not after.

Deterministic: samples in file order, never a seek (seeking in an MP3 changes its samples), one resampler, one downmix.
Memory is bounded by the limits whatever the bytes are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from service.audio import containers, wav
from service.audio.containers import ACCEPTED, FFMPEG, Container, title
from service.audio.data_uri import parse_data_uri
from service.audio.ffmpeg import FfmpegFile, check_length, open_ffmpeg
from service.audio.limits import AudioError, AudioLimits
from service.audio.sndfile import SequentialFile, open_sndfile

__all__ = [
    "DECODERS",
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

MEDIA_TYPES: dict[str, str] = {
    "WAV": "audio/wav",
    "WAVEX": "audio/wav",
    "RF64": "audio/wav",
    "FLAC": "audio/flac",
    "OGG": "audio/ogg",
    "MP3": "audio/mpeg",
    **{name.upper(): kind.media_type for name, kind in FFMPEG.items()},
}
"""Of each `Clip.format`."""

DECODERS = {
    **dict.fromkeys(("wav", "flac", "ogg", "mp3"), "libsndfile"),
    **dict.fromkeys(FFMPEG, "ffmpeg"),
}
"""Which library makes samples of each container; joined MP3 streams, which libsndfile ends early, are FFmpeg's."""
AudioFile = SequentialFile | FfmpegFile
_BLOCK_VALUES = 1 << 15  # float32 values read at a time, whatever the channel count
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
    container, sound = _admit(data, limits)
    with _open(sound, container) as file:
        _check_header(file, limits)
        if watch is not None and (declared := _declared(file)):
            watch(declared * file.channels)
        samples, frames, peaks = _read(file, container, limits, watch)
        if isinstance(file, FfmpegFile):
            check_length(file, frames)
        rate, channels, name = file.samplerate, file.channels, file.format
    _check_whole(frames, rate, peaks, limits)
    return Clip(
        samples=samples,
        duration_s=frames / rate,
        source_rate=rate,
        channels=channels,
        format=name,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _admit(data: bytes, limits: AudioLimits) -> tuple[Container, bytes]:
    """The container, and the bytes that the decoder gets: the file's own, save for a WAV that needs tidying."""
    if not data:
        raise AudioError("empty", "the audio is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise AudioError(
            "too_large",
            f"the audio is {len(data)} bytes; at most {limits.max_bytes} are accepted",
            limit=limits.max_bytes,
        )
    start = containers.start_of_audio(data)
    container = containers.sniff(data[start : start + 16] if start else data)
    if container is None:
        raise AudioError("unsupported", f"this is {containers.describe(data)}; send {ACCEPTED}")
    # libsndfile takes the length of a tag off the end of what follows it.
    sound = data[start:] if start else data
    if container == "ogg" and (codec := containers.foreign_codec(sound)):
        raise AudioError("unsupported", f"this is {codec} in an OGG file; send {ACCEPTED}")
    if container == "wav":
        return container, _whole_wav(sound)
    if cut := containers.ogg_cut(sound) if container == "ogg" else containers.container_cut(sound, container):
        raise AudioError("truncated", f"the {title(container)} file is cut off: {cut}")
    if containers.joined_at(sound, container) is not None:
        detail = f"the {title(container)} file holds several streams, one after the other; send one stream per file"
        raise AudioError("unsupported", detail)
    return container, sound


def _whole_wav(data: bytes) -> bytes:
    found = wav.read_wav(data)
    if found.problem:
        raise AudioError("truncated", f"the WAV file is cut off or was never finished: {found.problem}")
    if found.joined_at is not None:
        detail = f"the WAV file holds several files, the second from byte {found.joined_at}; send each as a file"
        raise AudioError("unsupported", detail)
    return wav.tidied(data, found) if found.irregular else data


def _open(data: bytes, container: Container) -> AbstractContextManager[AudioFile]:
    """With libsndfile what it reads whole; a change here for a format changes its numbers (see engine/identity.py)."""
    by_ffmpeg = DECODERS[container] == "ffmpeg" or (container == "mp3" and containers.mp3_is_joined(data))
    return open_ffmpeg(data, container) if by_ffmpeg else open_sndfile(data, container)


def _check_header(file: AudioFile, limits: AudioLimits) -> None:
    _check_layout(file, limits)
    if (frames := _declared(file)) > limits.max_s * file.samplerate:
        raise _too_long(f"lasts {frames / file.samplerate:.1f} s", limits)
    if frames * file.channels > limits.max_samples:
        raise _too_many_samples(f"has {frames * file.channels}", limits)


def _declared(file: AudioFile) -> int:
    """Frames by the header; 0 where it does not say. FFmpeg's are no promise: encoders pad and trim."""
    if isinstance(file, FfmpegFile):
        return round((file.declared_s or 0.0) * file.samplerate)
    return file.frames if _counted(file) else 0


def _check_layout(file: AudioFile, limits: AudioLimits) -> None:
    if file.channels > limits.max_channels:
        detail = f"the clip has {file.channels} channels; at most {limits.max_channels} are accepted"
        raise AudioError("too_many_channels", detail, limit=limits.max_channels)
    low, high = limits.min_sample_rate, limits.max_sample_rate
    if not low <= file.samplerate <= high:
        detail = f"the sample rate is {file.samplerate} Hz; {low} to {high} Hz are accepted"
        raise AudioError("sample_rate", detail, limit=low if file.samplerate < low else high)


def _too_long(what: str, limits: AudioLimits) -> AudioError:
    return AudioError("too_long", f"the clip {what}; at most {limits.max_s:g} s are accepted", limit=limits.max_s)


def _too_many_samples(what: str, limits: AudioLimits) -> AudioError:
    detail = f"the clip {what} samples in all channels together; at most {limits.max_samples} are accepted"
    return AudioError("too_many_samples", detail, limit=limits.max_samples)


def _counted(file: AudioFile) -> bool:
    """Whether the header tells the length; streamed FLAC and piped MP3 read as the largest count there is."""
    frames: int = file.frames
    return 0 < frames < 1 << 62


@dataclass
class _Peaks:
    """Largest magnitudes: of any channel, and of their mean."""

    channels: float = 0.0
    downmix: float = 0.0


def _read(
    file: AudioFile, container: Container, limits: AudioLimits, watch: Callable[[int], None] | None
) -> tuple[NDArray[np.float32], int, _Peaks]:
    """Samples at 16 kHz, frames as recorded, and the peaks."""
    rate, channels = file.samplerate, file.channels
    cap = math.floor(limits.max_s * rate)
    resampler = (
        None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    )
    collected = _Samples(min(file.frames, cap) if _counted(file) else cap, rate)
    block = np.empty((max(1, _BLOCK_VALUES // channels), channels), dtype=np.float32)
    frames, peaks = 0, _Peaks()
    # Never past the counted end: what follows there, such as a tag, would be taken for damage.
    while (wanted := min(len(block), file.frames - frames)) > 0:
        try:
            part = file.read(wanted, out=block[:wanted])
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
        peaks.channels = max(peaks.channels, block_peak)
        peaks.downmix = max(peaks.downmix, _peak(mono) if channels > 1 else block_peak)
        collected.add(mono if resampler is None else resampler.resample_chunk(mono))
    if _counted(file) and file.frames - frames > rate // 100:
        raise _damaged(container, frames, file)
    if resampler is not None:
        collected.add(resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))
    return collected.array(), frames, peaks


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


def _damaged(container: Container, frames: int, file: AudioFile) -> AudioError:
    of = f" of {file.frames / file.samplerate:.2f}" if _counted(file) else ""
    good = f"{frames / file.samplerate:.2f}{of} s could be decoded"
    return AudioError("truncated", f"the {container.upper()} file is damaged or cut off: {good}")


def _check_whole(frames: int, rate: int, peaks: _Peaks, limits: AudioLimits) -> None:
    if frames < limits.min_s * rate:
        detail = f"the clip lasts {frames / rate:.3f} s; at least {limits.min_s:g} s are needed"
        raise AudioError("too_short", detail, limit=limits.min_s)
    level = _dbfs(peaks.downmix)
    if level >= limits.min_peak_dbfs:
        return
    detail = f"the clip is silent: its peak is {level:.1f} dBFS; at least {limits.min_peak_dbfs:g} dBFS are needed"
    if _dbfs(peaks.channels) >= limits.min_peak_dbfs:
        detail = (
            "the channels cancel each other out (one is the other with the opposite sign), so their mean is silent: "
            "send one of them, or turn the sign of one"
        )
    raise AudioError("silent", detail, limit=limits.min_peak_dbfs)


def _dbfs(peak: float) -> float:
    return 20 * math.log10(peak) if peak > 0 else -math.inf
