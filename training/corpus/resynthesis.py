"""Real clips spoken in another style: pitch, melody, tempo, effort, phonation, resonance, by a known amount."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.corpus.world import FRAME_MS, SAMPLE_RATE, Frames, Voice, Wave, analyse, synthesise

FRAMES_PER_S = 1000 / FRAME_MS
CROSSFADE_S = 0.06


@dataclass(frozen=True)
class Style:
    """A change of voice; the defaults change nothing.

    pitch_st: shift, semitones. melody: factor on the pitch's excursions from its median (0 is a monotone).
    tempo: factor on the speed. effort: -1 (soft: steeper spectrum, lower level) to 1 (loud). breathy: 0 to 1.
    creaky: 0 to 1. whisper: noise in place of the voice. formant: factor on the resonances, 0.88 to 1.12 (darker to
    brighter; far from a child's or a giant's). pause_s: silence put in at the clip's quietest inner moments.
    """

    pitch_st: float = 0.0
    melody: float = 1.0
    tempo: float = 1.0
    effort: float = 0.0
    breathy: float = 0.0
    creaky: float = 0.0
    whisper: bool = False
    formant: float = 1.0
    pause_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0.5 <= self.tempo <= 2.0 and 0.88 <= self.formant <= 1.12 and -1 <= self.effort <= 1):
            raise ValueError(f"style out of bounds (tempo 0.5-2, formant 0.88-1.12, effort -1 to 1): {self}")

    def changed(self) -> dict[str, float | bool]:
        """Only what differs from the defaults: a manifest row's record of the edit."""
        neutral = asdict(Style())
        return {name: value for name, value in asdict(self).items() if value != neutral[name]}


def render(voice: Voice, style: Style, rng: np.random.Generator) -> Wave:
    """The voice in another style: [samples] float32 at 16 kHz, its peak under 1."""
    changed = _tempo(voice, style.tempo)
    if style.pause_s > 0:
        changed = _with_pauses(changed, style.pause_s)
    f0, envelope, aperiodicity = _melody(changed.f0, style), changed.envelope.copy(), changed.aperiodicity.copy()
    hertz = np.linspace(0, SAMPLE_RATE / 2, envelope.shape[1])
    if style.formant != 1.0:
        envelope, aperiodicity = _warp(envelope, style.formant), _warp(aperiodicity, style.formant)
    if style.effort:
        envelope *= _power(_effort_db(hertz, style.effort))
    if style.breathy:
        envelope *= _power(_breath_db(hertz, style.breathy))
        noise = np.clip((hertz - 800) / 2500, 0, 1) * style.breathy
        aperiodicity = np.maximum(aperiodicity, 0.95 * noise[None, :])
    if style.creaky:
        f0, envelope = _creak(f0, envelope, style.creaky, rng)
    if style.whisper:
        envelope *= _power(_whisper_db(hertz))
        envelope = _warp(envelope, 1.04)  # whispered formants lie slightly higher
        f0, aperiodicity = np.zeros_like(f0), np.ones_like(aperiodicity)
    return _guard(synthesise(Voice(f0, envelope, np.clip(aperiodicity, 1e-6, 1 - 1e-6))))


def restyle(wave: Wave, style: Style, *, seed: int) -> Wave:
    """A 16 kHz clip in another style, the same for the same seed."""
    return render(analyse(wave), style, np.random.default_rng(seed))


def change_halfway(
    voice: Voice, first: Style, second: Style, cut_s: float, rng: np.random.Generator
) -> tuple[Wave, float]:
    """One style up to `cut_s` of the original and another from there: (samples, moment of change in s).

    The two renderings share their words, so the cross-fade falls on the same sound. Raises ValueError for a cut
    outside the clip.
    """
    if not 0.2 < cut_s < voice.seconds - 0.2:
        raise ValueError(f"the cut must lie inside the clip of {voice.seconds:.2f} s, got {cut_s:.2f} s")
    # Pauses would move the cut: a change of style has none put in.
    one = render(voice, replace(first, pause_s=0.0), rng)
    two = render(voice, replace(second, pause_s=0.0), rng)
    fade = int(CROSSFADE_S * SAMPLE_RATE)
    left, right = int(cut_s / first.tempo * SAMPLE_RATE), int(cut_s / second.tempo * SAMPLE_RATE)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    head, tail = one[: left + fade // 2].copy(), two[max(right - fade // 2, 0) :].copy()
    head[-fade:] = head[-fade:] * (1 - ramp) + tail[:fade] * ramp
    return np.concatenate([head, tail[fade:]]), left / SAMPLE_RATE


def _tempo(voice: Voice, tempo: float) -> Voice:
    if tempo == 1.0:
        return voice
    count = max(int(len(voice.f0) / tempo), 2)
    at = np.minimum(np.arange(count) * tempo, len(voice.f0) - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, len(voice.f0) - 1)
    part = (at - low)[:, None]
    envelope = np.exp((1 - part) * np.log(voice.envelope[low] + 1e-16) + part * np.log(voice.envelope[high] + 1e-16))
    aperiodicity = (1 - part) * voice.aperiodicity[low] + part * voice.aperiodicity[high]
    between = (1 - part[:, 0]) * voice.f0[low] + part[:, 0] * voice.f0[high]
    both = (voice.f0[low] > 0) & (voice.f0[high] > 0)
    nearest = voice.f0[np.round(at).astype(int)]
    return Voice(np.where(both, between, nearest), envelope, aperiodicity)


def _melody(f0: Frames, style: Style) -> Frames:
    voiced = f0 > 0
    if not voiced.any():
        return f0.copy()
    centre = float(np.median(f0[voiced]))
    bent = np.zeros_like(f0)
    bent[voiced] = centre * (f0[voiced] / centre) ** style.melody * 2 ** (style.pitch_st / 12)
    return np.where(voiced, np.clip(bent, 45, 700), 0.0)


def _with_pauses(voice: Voice, pause_s: float) -> Voice:
    """Silence at up to three quiet inner moments, at least 0.7 s apart."""
    level = np.convolve(10 * np.log10(voice.envelope.mean(axis=1) + 1e-12), np.ones(9) / 9, mode="same")
    apart = int(0.7 * FRAMES_PER_S)
    places: list[int] = []
    for place in np.argsort(level):
        if len(places) == 3:
            break
        far_enough = all(abs(int(place) - other) > apart for other in places)
        if far_enough and apart < place < len(level) - apart:
            places.append(int(place))
    gap = int(pause_s * FRAMES_PER_S)

    def insert(rows: Frames, filler: float) -> Frames:
        pieces: list[NDArray[np.float64]] = []
        last = 0
        for place in sorted(places):
            pieces += [rows[last:place], np.full((gap, *rows.shape[1:]), filler)]
            last = place
        return np.concatenate([*pieces, rows[last:]])

    quiet = float(np.percentile(voice.envelope, 1))
    return Voice(insert(voice.f0, 0.0), insert(voice.envelope, quiet), insert(voice.aperiodicity, 1 - 1e-6))


def _warp(rows: Frames, factor: float) -> Frames:
    """Each row's frequency axis stretched by `factor`."""
    bins = np.arange(rows.shape[1]) / factor
    low = np.minimum(bins.astype(int), rows.shape[1] - 1)
    high = np.minimum(low + 1, rows.shape[1] - 1)
    part = np.clip(bins - low, 0, 1)[None, :]
    return np.asarray(np.exp((1 - part) * np.log(rows[:, low] + 1e-16) + part * np.log(rows[:, high] + 1e-16)))


def _power(gain_db: Frames) -> Frames:
    return np.asarray(10 ** (gain_db / 10))[None, :]


def _octaves_over(hertz: Frames, corner: float) -> Frames:
    return np.asarray(np.clip(np.log2(np.maximum(hertz, 1) / corner), 0, 3.5))


def _effort_db(hertz: Frames, effort: float) -> Frames:
    """Louder voices gain more at high frequencies: 5 dB an octave over 500 Hz at full effort."""
    return np.asarray(8.0 * effort + 5.0 * effort * _octaves_over(hertz, 500))


def _breath_db(hertz: Frames, amount: float) -> Frames:
    return np.asarray(amount * (-3.0 * _octaves_over(hertz, 400)))


def _whisper_db(hertz: Frames) -> Frames:
    """A whisper has little under 500 Hz, and is some 15 dB quieter than the voice."""
    return np.asarray(-15.0 - 12.0 * np.clip((600 - hertz) / 600, 0, 1) + 2.0 * _octaves_over(hertz, 600))


def _creak(f0: Frames, envelope: Frames, amount: float, rng: np.random.Generator) -> tuple[Frames, Frames]:
    """Stretches of irregular, octave-lowered pulses, at phrase ends first, as vocal fry has them."""
    voiced = f0 > 0
    creaky = voiced & (_smooth_noise(len(f0), rng) + 0.6 * _lateness(voiced) > 1.15 - amount)
    wobble = 1 + 0.12 * rng.standard_normal(len(f0))
    f0 = np.where(creaky, np.clip(f0 * 0.5 * wobble, 40, 110), f0)
    shimmer = 10 ** (0.25 * rng.standard_normal(len(f0)))
    return f0, envelope * np.where(creaky, 0.5 * shimmer, 1.0)[:, None]


def _smooth_noise(count: int, rng: np.random.Generator) -> Frames:
    """Slow noise in 0..1, about five swings a second."""
    knots = rng.random(max(int(count / FRAMES_PER_S * 5), 2) + 2)
    return np.asarray(np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots))


def _lateness(voiced: NDArray[np.bool_]) -> Frames:
    """0 at the start of each voiced run, 1 at its end."""
    late = np.zeros(len(voiced))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], voiced.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        late[start:stop] = np.linspace(0, 1, stop - start)
    return late


def _guard(wave: Wave) -> Wave:
    peak = float(np.abs(wave).max(initial=0.0))
    return wave if peak <= 0.97 else np.asarray(wave * (0.97 / peak), dtype=np.float32)
