"""What a voice is, measured: pitch, rate, level, pauses and silence, with units, whatever its caption says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.audio.decode import SAMPLE_RATE, AudioError, decode
from service.audio.limits import AudioLimits
from service.gates.rows import Row, Voice
from service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

Floats = NDArray[np.float64]
PREFIX: Final = "measured "
_HOP_S, _SMOOTHED_S = 0.01, 0.05
_BELOW_DB, _DIP_DB = 30.0, 2.0
"""Silence: this far below the loudest moment. Dip: between the peaks of two syllables (de Jong and Wempe, 2009)."""
_SILENT_DB = -70.0
_PAUSE_S = 0.15
_VOICED = 0.5
_SEMITONES = 12.0
_FULL_SCALE = 0.999


class Measure(NamedTuple):
    """How a property changes between two takes: its unit, and the mean change that is tolerated."""

    unit: str
    tolerated: float
    says: str


MEASURES: Final = {
    "pitch": Measure("st", 0.3, "median fundamental frequency, semitones"),
    "range": Measure("st", 0.7, "10th to 90th percentile of the fundamental frequency, semitones"),
    "rate": Measure("%", 3.0, "syllable peaks a second, percent"),
    "level": Measure("LU", 1.0, "integrated loudness (ITU-R BS.1770), loudness units"),
    "pauses": Measure("s", 0.1, "pauses of 0.15 s or more inside the speech, seconds"),
    "silence": Measure("s", 0.1, "silence before and after the speech, seconds"),
    "duration": Measure("%", 3.0, "length of the file, percent"),
    "clipping": Measure("%", 0.05, "samples at full scale, percent of all"),
}


class MeasuringUnavailableError(RuntimeError):
    """The packages that measure voices are not installed."""


def measure(samples: NDArray[np.float32]) -> Voice:
    """Measure a mono clip of SAMPLE_RATE. What cannot be told (pitch of a whisper, level of 0.3 s) is None.

    Pitch: SwiftF0, voiced frames. Level: ITU-R BS.1770 by pyloudnorm. Rate: peaks of the smoothed level of voiced
    speech with dips of 2 dB between them, a second of speech without its pauses (after de Jong and Wempe, 2009).
    Raises MeasuringUnavailableError where the extra `gates` is not installed.
    """
    loudness, detector = _tools()
    level = _level_db(samples)
    loudest = float(level.max(initial=-120.0))
    heard = np.flatnonzero(level > max(loudest - _BELOW_DB, _SILENT_DB))
    if len(heard) == 0:
        return Voice(clipped_share=_clipped(samples), silence_s=round(len(samples) / SAMPLE_RATE, 3))
    times, pitch = _pitch(detector, samples)
    first, last = int(heard[0]), int(heard[-1]) + 1
    pauses = _pauses(np.diff(heard) - 1)
    speech_s = (last - first) * _HOP_S - pauses
    peaks = _syllables(level[first:last], times, pitch, first) if len(pitch) else 0
    long_enough = len(samples) >= 0.4 * SAMPLE_RATE
    lufs = float(loudness.integrated_loudness(samples.astype(np.float64))) if long_enough else -math.inf
    low, middle, high = np.percentile(pitch, [10, 50, 90]) if len(pitch) >= 5 else (0.0, 0.0, 0.0)
    return Voice(
        pitch_hz=round(float(middle), 1) if middle else None,
        pitch_range_st=round(_SEMITONES * math.log2(high / low), 2) if middle else None,
        rate_hz=round(peaks / speech_s, 3) if peaks and speech_s > 0 else None,
        level_lufs=round(lufs, 2) if math.isfinite(lufs) else None,
        pauses_s=round(pauses, 3),
        silence_s=round(len(samples) / SAMPLE_RATE - (last - first) * _HOP_S, 3),
        clipped_share=_clipped(samples),
    )


def with_voices(rows: Sequence[Row], paths: Mapping[str, Path]) -> Iterator[Row]:
    """The rows with what was measured of their audio; one that has it, or whose audio is gone, stays as it is."""
    limits = AudioLimits.from_settings(Settings(api_keys=[]), min_s=0.0)
    for row in rows:
        if row.voice is not None:
            yield row
            continue
        try:
            samples = decode(paths[row.id].read_bytes(), limits).samples
        except (OSError, AudioError):
            yield row
        else:
            yield replace(row, voice=measure(samples))


def change_of(name: str, before: Row, after: Row) -> float | None:
    """How far a property moved between two takes, in its unit; None where one of them does not tell."""
    if name == "duration":
        return _percent(before.duration_s, after.duration_s)
    then, now = before.voice, after.voice
    if then is None or now is None:
        return None
    if name == "pitch":
        percent = _percent(then.pitch_hz, now.pitch_hz)
        return None if percent is None else _SEMITONES * math.log2(1 + percent / 100)
    if name == "rate":
        return _percent(then.rate_hz, now.rate_hz)
    member = {"range": "pitch_range_st", "level": "level_lufs", "pauses": "pauses_s", "silence": "silence_s"}
    if name == "clipping":
        return 100 * (now.clipped_share - then.clipped_share)
    old, new = getattr(then, member[name]), getattr(now, member[name])
    return None if old is None or new is None else float(new - old)


def _percent(before: float | None, after: float | None) -> float | None:
    return 100 * (after / before - 1) if before and after else None


@cache
def _tools() -> tuple[Any, Any]:
    try:
        import pyloudnorm
        import swift_f0
    except ImportError as error:
        raise MeasuringUnavailableError(
            f"measuring voices needs {error.name}: pip install 'clsp-service[gates]'"
        ) from error
    return pyloudnorm.Meter(SAMPLE_RATE), swift_f0.SwiftF0()


def _pitch(detector: Any, samples: NDArray[np.float32]) -> tuple[Floats, Floats]:
    found = detector.detect(samples, SAMPLE_RATE)
    voiced = found.confidence >= _VOICED
    return np.asarray(found.timestamps[voiced]), np.asarray(found.pitch_hz[voiced])


def _level_db(samples: NDArray[np.float32]) -> Floats:
    """Level of each _HOP_S, smoothed over _SMOOTHED_S, dB of full scale."""
    hop = int(_HOP_S * SAMPLE_RATE)
    frames = samples[: len(samples) // hop * hop].astype(np.float64).reshape(-1, hop)
    power = (frames**2).mean(axis=1)
    if not len(power):
        return np.zeros(0)
    window = np.hanning(int(2 * _SMOOTHED_S / _HOP_S) + 1)
    smooth = np.convolve(power, window / window.sum(), mode="same")[: len(power)]
    decibels: Floats = 10 * np.log10(np.maximum(smooth, 1e-12))
    return decibels


def _pauses(gaps: NDArray[np.int64]) -> float:
    return float(gaps[gaps * _HOP_S >= _PAUSE_S].sum()) * _HOP_S


def _syllables(level: Floats, times: Floats, pitch: Floats, first: int) -> int:
    from scipy.signal import find_peaks

    places, _ = find_peaks(np.pad(level, 1, constant_values=level.min()), prominence=_DIP_DB, height=level.max() - 25)
    at = (places - 1 + first) * _HOP_S
    return int(sum(np.abs(times - one).min() <= 0.05 for one in at))


def _clipped(samples: NDArray[np.float32]) -> float:
    """Share of samples at full scale that have a neighbour there too: a single one is a peak."""
    full = np.abs(samples) >= _FULL_SCALE
    beside = np.zeros_like(full)
    beside[1:] |= full[:-1]
    beside[:-1] |= full[1:]
    return round(float((full & beside).mean()), 6) if len(full) else 0.0
