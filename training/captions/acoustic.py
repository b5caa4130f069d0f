"""Measures of a voice that captions can speak of: pitch, rate, loudness, voice quality, each with its unit.

Pitch, formants, harmonicity, jitter and shimmer come from Praat; syllable nuclei follow De Jong and Wempe (2009):
peaks of intensity at least 2 dB above their valleys, in voiced speech.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import parselmouth
from numpy.typing import NDArray
from parselmouth.praat import call
from scipy.fft import irfft, rfft
from scipy.signal import find_peaks

SAMPLE_RATE = 16_000
HOP = 160
STEP_S = HOP / SAMPLE_RATE
PITCH_FLOOR_HZ = 60.0
PITCH_CEILING_HZ = 600.0
MIN_PAUSE_S = 0.2

Array = NDArray[np.float64]
Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Measures:
    """What one stretch of speech measures. None where there is too little voice to tell.

    Units: `_s` seconds, `_hz` hertz, `_st` semitones, `_db` decibels, `_per_s` events a second; ratios lie in 0..1.
    """

    duration_s: float
    speech_s: float  # time that is speech rather than silence
    voiced_s: float
    f0_median_hz: float | None
    f0_sd_st: float | None  # spread of pitch about its median, robust (16th to 84th percentile, halved)
    f0_range_st: float | None  # 5th to 95th percentile
    f0_slope_st_per_s: float | None
    creak_ratio: float  # voiced frames far below the clip's own median pitch
    syllables: int
    articulation_per_s: float | None  # syllable nuclei per second of speech, pauses left out
    speech_rate_per_s: float | None  # syllable nuclei per second from first to last sound, pauses included
    phonation_ratio: float  # speech / time from first to last sound
    voiced_ratio: float  # voiced / speech: near 0 in a whisper
    pauses: int
    longest_pause_s: float
    level_db: float  # mean level of speech frames, dBFS
    level_range_db: float  # 10th to 95th percentile of speech frames
    tilt_db: float | None  # 1-5 kHz against 50-1000 Hz in voiced frames: soft voices are low, loud ones high
    centroid_hz: float | None
    cpp_db: float | None  # cepstral peak prominence: low when breathy or rough
    hnr_db: float | None
    jitter: float | None  # mean period change / mean period
    shimmer: float | None  # mean amplitude change / mean amplitude
    formant_spacing_hz: float | None  # the vocal tract's mean formant distance: larger is shorter, hence brighter


@dataclass(frozen=True)
class Tracks:
    """Frame-wise analysis of a clip, every 10 ms: what `summarise` reads, so that halves cost nothing more."""

    duration_s: float
    f0: Array
    creak: NDArray[np.bool_]
    level: Array
    speech: NDArray[np.bool_]
    nuclei: NDArray[np.int64]
    low: Array
    high: Array
    centroid: Array
    cpp: Array
    hnr: Array
    formants: Array
    sound: Any
    pulses: Any  # None where voice quality was not measured

    def pitch(self) -> tuple[Array, Array]:
        """(times s, f0 Hz with 0 for unvoiced)."""
        return np.asarray((np.arange(len(self.f0)) + 0.5) * STEP_S), self.f0


def praat_pitch(wave: Wave, step_s: float = STEP_S) -> tuple[Array, Array]:
    """(times s, f0 Hz with 0 for unvoiced) in two passes; the second's limits fit the speaker (Hirst, 2011)."""
    sound = parselmouth.Sound(np.asarray(wave, dtype=np.float64), SAMPLE_RATE)
    return _fitted_pitch(sound, _wide_pitch(sound)[1], step_s)


def _wide_pitch(sound: Any) -> tuple[Array, Array]:
    return _pitch(sound, 2 * STEP_S, PITCH_FLOOR_HZ, PITCH_CEILING_HZ)


def _fitted_pitch(sound: Any, wide: Array, step_s: float) -> tuple[Array, Array]:
    floor, ceiling = PITCH_FLOOR_HZ, PITCH_CEILING_HZ
    if (wide > 0).sum() >= 10:
        low, high = np.percentile(wide[wide > 0], [25, 75])
        floor, ceiling = max(PITCH_FLOOR_HZ, 0.7 * low), min(PITCH_CEILING_HZ, 2.2 * high)
    return _pitch(sound, step_s, floor, ceiling)


def _pitch(sound: Any, step_s: float, floor: float, ceiling: float) -> tuple[Array, Array]:
    if sound.duration < 3.2 / floor:
        return np.zeros(0), np.zeros(0)
    # Praat's defaults, but dearer octave jumps and a stricter voicing threshold: reverberant rooms cause both faults.
    pitch = sound.to_pitch_ac(
        time_step=step_s, pitch_floor=floor, pitch_ceiling=ceiling, octave_jump_cost=0.7, voicing_threshold=0.5
    )
    return np.asarray(pitch.xs()), np.asarray(pitch.selected_array["frequency"], dtype=np.float64)


def analyse(wave: Wave, *, quality: bool = True) -> Tracks:
    """Frame-wise analysis of a 16 kHz mono clip, [samples] in -1..1. Raises ValueError under 0.15 s.

    Without `quality`, harmonicity, formants, jitter and shimmer are left unmeasured: three fifths of the work.
    """
    if len(wave) < 0.15 * SAMPLE_RATE:
        raise ValueError(f"a clip needs 0.15 s to be measured, this one has {len(wave) / SAMPLE_RATE:.3f} s")
    samples = np.asarray(wave, dtype=np.float64)
    sound = parselmouth.Sound(samples, SAMPLE_RATE)
    frames = len(samples) // HOP
    times = np.asarray((np.arange(frames) + 0.5) * STEP_S, dtype=np.float64)
    wide_times, wide = _wide_pitch(sound)
    deep = _at(times, wide_times, wide)
    f0 = _at(times, *_fitted_pitch(sound, wide, STEP_S))
    voiced = f0[f0 > 0]
    creak = (deep > 0) & (deep < 0.62 * float(np.median(voiced))) if len(voiced) else np.zeros(frames, dtype=bool)
    level, low, high, centroid, cpp = _spectral(samples, frames)
    speech = _speech(level)
    hnr, formants, pulses = np.full(frames, np.nan), np.full((4, frames), np.nan), None
    if quality:
        harmonicity = sound.to_harmonicity_cc(time_step=0.03, minimum_pitch=75)
        hnr = _at(times, np.asarray(harmonicity.xs()), harmonicity.values[0])
        formant = sound.to_formant_burg(time_step=0.03, maximum_formant=5250)
        grid = np.asarray(formant.xs())
        values = [[formant.get_value_at_time(k, t) for t in grid] for k in (1, 2, 3, 4)]
        formants = np.stack([_at(times, grid, np.array(row)) for row in values])
        pulses = call(sound, "To PointProcess (periodic, cc)", PITCH_FLOOR_HZ, PITCH_CEILING_HZ)
    return Tracks(
        duration_s=len(samples) / SAMPLE_RATE,
        f0=f0,
        creak=creak,
        level=level,
        speech=speech,
        nuclei=_nuclei(level, speech, f0),
        low=low,
        high=high,
        centroid=centroid,
        cpp=cpp,
        hnr=hnr,
        formants=formants,
        sound=sound,
        pulses=pulses,
    )


def summarise(tracks: Tracks, start_s: float = 0.0, stop_s: float | None = None) -> Measures:
    """Measures of the stretch [start_s, stop_s) of an analysed clip (the whole of it by default)."""
    stop_s = tracks.duration_s if stop_s is None else stop_s
    span = slice(round(start_s / STEP_S), max(round(stop_s / STEP_S), round(start_s / STEP_S) + 1))
    f0, speech, level = tracks.f0[span], tracks.speech[span], tracks.level[span]
    voiced = f0 > 0
    pitched = voiced & speech
    enough = int(pitched.sum()) >= 15
    active = np.flatnonzero(speech)
    first, last = (int(active[0]), int(active[-1]) + 1) if len(active) else (0, len(speech))
    gaps = _gaps(speech[first:last])
    speech_s, span_s = len(active) * STEP_S, (last - first) * STEP_S
    nuclei = int(((tracks.nuclei >= span.start) & (tracks.nuclei < span.stop)).sum())
    semitones = 12 * np.log2(f0[pitched] / np.median(f0[pitched])) if enough else np.zeros(0)
    spread = np.percentile(semitones, [5, 16, 84, 95]) if enough else np.zeros(4)
    quality = enough and tracks.pulses is not None
    formants = np.nanmedian(tracks.formants[:, span][:, pitched], axis=1) if quality else np.full(4, np.nan)
    jitter, shimmer = _periodicity(tracks, start_s, stop_s) if quality else (None, None)
    return Measures(
        duration_s=stop_s - start_s,
        speech_s=speech_s,
        voiced_s=int(pitched.sum()) * STEP_S,
        f0_median_hz=float(np.median(f0[pitched])) if enough else None,
        f0_sd_st=float(spread[2] - spread[1]) / 2 if enough else None,
        f0_range_st=float(spread[3] - spread[0]) if enough else None,
        f0_slope_st_per_s=float(np.polyfit(np.flatnonzero(pitched) * STEP_S, semitones, 1)[0]) if enough else None,
        creak_ratio=float((tracks.creak[span] & speech).sum() / max(int(pitched.sum()), 1)) if enough else 0.0,
        syllables=nuclei,
        articulation_per_s=nuclei / speech_s if speech_s >= 0.5 and nuclei >= 2 else None,
        speech_rate_per_s=nuclei / span_s if speech_s >= 0.5 and nuclei >= 2 else None,
        phonation_ratio=speech_s / span_s if span_s else 0.0,
        voiced_ratio=int(pitched.sum()) / max(len(active), 1),
        pauses=len(gaps),
        longest_pause_s=max(gaps, default=0) * STEP_S,
        level_db=float(10 * np.log10(np.mean(10 ** (level[speech] / 10)))) if len(active) else float(level.mean()),
        level_range_db=float(np.subtract(*np.percentile(level[speech], [95, 10]))) if len(active) else 0.0,
        tilt_db=_mean(10 * np.log10(tracks.high[span][pitched] / tracks.low[span][pitched])) if enough else None,
        centroid_hz=_mean(tracks.centroid[span][pitched]) if enough else None,
        cpp_db=_mean(tracks.cpp[span][pitched]) if enough else None,
        hnr_db=_mean(tracks.hnr[span][pitched & (tracks.hnr[span] > -50)]) if enough else None,
        jitter=jitter,
        shimmer=shimmer,
        formant_spacing_hz=_spacing(formants),
    )


def measure(wave: Wave) -> Measures:
    """Measures of a whole clip: 16 kHz mono, [samples] in -1..1. Raises ValueError under 0.15 s."""
    return summarise(analyse(wave))


def halving_point(tracks: Tracks) -> float:
    """The quietest moment (s) of the clip's middle third: where a change of style would fall."""
    frames = len(tracks.level)
    third = slice(frames // 3, max(2 * frames // 3, frames // 3 + 1))
    smooth = np.convolve(tracks.level, np.ones(9) / 9, mode="same")
    return (third.start + int(np.argmin(smooth[third]))) * STEP_S


def _at(times: Array, grid: Array, values: Array) -> Array:
    """`values` on `grid`, read at the nearest of `times`."""
    if len(grid) == 0:
        return np.zeros(len(times))
    step = grid[1] - grid[0] if len(grid) > 1 else 1.0
    nearest = np.clip(np.round((times - grid[0]) / step).astype(int), 0, len(grid) - 1)
    near: Array = np.asarray(values, dtype=np.float64)[nearest]
    return near


def _spectral(samples: Array, frames: int) -> tuple[Array, Array, Array, Array, Array]:
    """Level dBFS, energies under and over 1 kHz, centroid Hz and cepstral peak prominence dB of each frame."""
    size = 640  # 40 ms: two periods of the lowest voice
    padded = np.pad(samples, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[HOP // 2 :: HOP][:frames]
    single = np.asarray(windows * np.hanning(size), dtype=np.float32)
    power = np.abs(rfft(single, 1024, axis=1)) ** 2 + np.float32(1e-9)
    hertz = np.arange(513) * SAMPLE_RATE / 1024
    level = 10 * np.log10(np.mean(windows**2, axis=1) + 1e-10)
    speechband = (hertz >= 50) & (hertz <= 5000)
    low = power[:, (hertz >= 50) & (hertz < 1000)].sum(axis=1)
    high = power[:, (hertz >= 1000) & (hertz <= 5000)].sum(axis=1)
    centroid = (power[:, speechband] @ hertz[speechband]) / power[:, speechband].sum(axis=1)
    cepstrum = np.abs(irfft(10 * np.log10(power), axis=1))[:, :512]
    quefrency = np.arange(16, 267)  # samples: 1000 Hz down to 60 Hz
    region = 20 * np.log10(cepstrum[:, quefrency] + 1e-6)
    centred = quefrency - quefrency.mean()
    slope = (region @ centred) / (centred @ centred)
    prominence = region - region.mean(axis=1, keepdims=True) - slope[:, None] * centred
    return level, low, high, centroid, np.asarray(prominence.max(axis=1), dtype=np.float64)


def _speech(level: Array) -> NDArray[np.bool_]:
    """Frames that are speech: within 30 dB of the loud ones and clear of the floor; gaps under 80 ms are filled."""
    top, floor = np.percentile(level, [95, 5])
    active: NDArray[np.bool_] = level > max(top - 30, floor + 0.25 * (top - floor), -75)
    edges = np.flatnonzero(np.diff(np.concatenate([[1], active.astype(int), [1]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if start > 0 and stop < len(active) and stop - start < 8:
            active[start:stop] = True
    return active


def _gaps(speech: NDArray[np.bool_]) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[1], speech.astype(int), [1]])))
    runs = zip(edges[::2], edges[1::2], strict=True)
    return [int(stop - start) for start, stop in runs if (stop - start) * STEP_S >= MIN_PAUSE_S]


def _nuclei(level: Array, speech: NDArray[np.bool_], f0: Array) -> NDArray[np.int64]:
    smooth = np.convolve(np.pad(level, 2, mode="edge"), np.array([1, 2, 3, 2, 1]) / 9, mode="valid")
    peaks, _ = find_peaks(smooth, prominence=2.0, distance=7)
    voiced = np.convolve((f0 > 0).astype(float), np.ones(5), mode="same") > 0
    whispered = (f0 > 0)[speech].mean() < 0.15 if speech.any() else True
    return np.asarray(peaks[speech[peaks] & (voiced[peaks] | whispered)], dtype=np.int64)


def _periodicity(tracks: Tracks, start_s: float, stop_s: float) -> tuple[float | None, float | None]:
    jitter = call(tracks.pulses, "Get jitter (local)", start_s, stop_s, 0.0001, 0.02, 1.3)
    shimmer = call([tracks.sound, tracks.pulses], "Get shimmer (local)", start_s, stop_s, 0.0001, 0.02, 1.3, 1.6)
    return (None if np.isnan(jitter) else float(jitter)), (None if np.isnan(shimmer) else float(shimmer))


def _spacing(formants: Array) -> float | None:
    """Least-squares formant distance of a tube closed at one end (Reby and McComb, 2003): F_i = (i - 1/2) spacing."""
    order = (2 * np.arange(1, 5) - 1) / 2
    known = ~np.isnan(formants)
    return float(formants[known] @ order[known] / (order[known] @ order[known])) if known.sum() >= 3 else None


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None
