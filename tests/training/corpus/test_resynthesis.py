"""A restyled clip measures as its edit says, and a channel changes everything but length and words."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from training.captions import acoustic
from training.corpus import world
from training.corpus.augment import DEFAULT_CHANCES, augment
from training.corpus.plan import Variant, plan_variants
from training.corpus.resynthesis import Style, change_halfway, render, restyle

SR = 16_000


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Three seconds of a buzzing voice: pulses through five resonances, four syllables a second, a moving pitch."""
    rng = np.random.default_rng(0)
    t = np.arange(3 * SR) / SR
    pitch = 130 * 2 ** (3 / 12 * np.sin(2 * np.pi * 0.6 * t))
    pulses = np.diff(np.floor(np.cumsum(pitch) / SR), prepend=0) + 0.003 * rng.standard_normal(len(t))
    wave = pulses
    for hertz, width in ((500, 80), (1500, 120), (2500, 180), (3500, 250), (4500, 300)):
        radius, angle = np.exp(-np.pi * width / SR), 2 * np.pi * hertz / SR
        wave = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], wave)
    wave = wave * (0.03 + np.sin(np.pi * 4 * t) ** 2)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture(scope="module")
def before(clip: np.ndarray) -> acoustic.Measures:
    return acoustic.measure(restyle(clip, Style(), seed=0))


def test_no_change_keeps_length_pitch_and_rate(clip: np.ndarray, before: acoustic.Measures) -> None:
    natural = acoustic.measure(clip)
    assert before.duration_s == pytest.approx(natural.duration_s, abs=0.02)
    assert before.f0_median_hz == pytest.approx(natural.f0_median_hz, rel=0.02)
    assert before.articulation_per_s == pytest.approx(natural.articulation_per_s, rel=0.15)


@pytest.mark.parametrize("semitones", [-4.0, 4.0])
def test_pitch_moves_by_the_given_semitones(clip: np.ndarray, before: acoustic.Measures, semitones: float) -> None:
    after = acoustic.measure(restyle(clip, Style(pitch_st=semitones), seed=0))
    assert 12 * np.log2(after.f0_median_hz / before.f0_median_hz) == pytest.approx(semitones, abs=0.3)


@pytest.mark.parametrize("factor", [0.2, 1.7])
def test_melody_scales_the_pitch_range(clip: np.ndarray, before: acoustic.Measures, factor: float) -> None:
    after = acoustic.measure(restyle(clip, Style(melody=factor), seed=0))
    assert after.f0_range_st / before.f0_range_st == pytest.approx(factor, rel=0.2)
    assert after.f0_median_hz == pytest.approx(before.f0_median_hz, rel=0.04)


@pytest.mark.parametrize("tempo", [0.65, 1.5])
def test_tempo_changes_length_and_rate_not_pitch(clip: np.ndarray, before: acoustic.Measures, tempo: float) -> None:
    after = acoustic.measure(restyle(clip, Style(tempo=tempo), seed=0))
    assert before.duration_s / after.duration_s == pytest.approx(tempo, rel=0.02)
    assert after.speech_rate_per_s / before.speech_rate_per_s == pytest.approx(tempo, rel=0.15)
    assert after.f0_median_hz == pytest.approx(before.f0_median_hz, rel=0.03)


def test_effort_tilts_the_spectrum_and_moves_level(clip: np.ndarray, before: acoustic.Measures) -> None:
    soft, loud = (acoustic.measure(restyle(clip, Style(effort=e), seed=0)) for e in (-0.8, 0.8))
    assert soft.tilt_db < before.tilt_db - 3 and loud.tilt_db > before.tilt_db + 3
    assert soft.level_db < before.level_db - 3


def test_whisper_has_no_pitch_and_keeps_its_syllables(clip: np.ndarray, before: acoustic.Measures) -> None:
    after = acoustic.measure(restyle(clip, Style(whisper=True), seed=0))
    # Narrow resonances excited by noise look a little voiced, and no more than that.
    assert after.voiced_ratio < 0.3 * before.voiced_ratio
    assert after.hnr_db is None or after.hnr_db < 3 < before.hnr_db
    assert after.speech_rate_per_s == pytest.approx(before.speech_rate_per_s, rel=0.25)


def test_breath_lowers_the_cepstral_peak_and_creak_lowers_pitch(clip: np.ndarray, before: acoustic.Measures) -> None:
    breathy = acoustic.measure(restyle(clip, Style(breathy=0.9), seed=0))
    creaky = acoustic.measure(restyle(clip, Style(creaky=0.6), seed=0))
    assert breathy.cpp_db < before.cpp_db - 0.5
    assert creaky.jitter > 1.5 * before.jitter
    assert creaky.f0_median_hz is None or creaky.f0_median_hz <= before.f0_median_hz


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_formants_scale_and_pitch_stays(clip: np.ndarray, before: acoustic.Measures, factor: float) -> None:
    after = acoustic.measure(restyle(clip, Style(formant=factor), seed=0))
    assert after.formant_spacing_hz / before.formant_spacing_hz == pytest.approx(factor, abs=0.04)
    assert after.f0_median_hz == pytest.approx(before.f0_median_hz, rel=0.03)


def test_pauses_are_put_in(clip: np.ndarray, before: acoustic.Measures) -> None:
    after = acoustic.measure(restyle(clip, Style(pause_s=0.5), seed=0))
    assert after.pauses >= before.pauses + 2
    assert after.duration_s == pytest.approx(before.duration_s + 0.5 * (after.pauses - before.pauses), abs=0.1)
    assert after.articulation_per_s == pytest.approx(before.articulation_per_s, rel=0.15)


@pytest.mark.parametrize("settings", [{"formant": 1.4}, {"tempo": 3.0}, {"effort": -2.0}])
def test_styles_out_of_bounds_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        Style(**settings)


def test_a_style_changes_half_way_without_a_click(clip: np.ndarray) -> None:
    voice = world.analyse(clip)
    low, high = Style(pitch_st=-3, tempo=0.8), Style(pitch_st=3, tempo=1.25)
    wave, moment = change_halfway(voice, low, high, 1.5, np.random.default_rng(0))
    assert moment == pytest.approx(1.5 / 0.8, abs=0.01)
    assert len(wave) / SR == pytest.approx(1.5 / 0.8 + 1.5 / 1.25, abs=0.05)
    tracks = acoustic.analyse(wave)
    first, second = acoustic.summarise(tracks, 0, moment - 0.1), acoustic.summarise(tracks, moment + 0.1)
    assert 12 * np.log2(second.f0_median_hz / first.f0_median_hz) > 3.5
    at = int(moment * SR)
    assert np.abs(np.diff(wave[at - 800 : at + 800])).max() <= 1.1 * np.abs(np.diff(wave)).max()
    with pytest.raises(ValueError, match="inside the clip"):
        change_halfway(voice, low, high, 3.5, np.random.default_rng(0))


def test_rendering_is_deterministic_finite_and_unclipped(clip: np.ndarray) -> None:
    style = Style(creaky=0.5, effort=1.0, pitch_st=2)
    one, two = (restyle(clip, style, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert np.isfinite(one).all() and np.abs(one).max() <= 0.971
    voice = world.analyse(clip)
    kept = voice.f0.copy(), voice.envelope.copy()
    render(voice, replace(style, whisper=True), np.random.default_rng(0))
    np.testing.assert_array_equal(voice.f0, kept[0])
    np.testing.assert_array_equal(voice.envelope, kept[1])


def test_silence_and_noise_survive_resynthesis() -> None:
    for wave in (np.zeros(SR, np.float32), np.random.default_rng(0).normal(0, 0.05, SR).astype(np.float32)):
        made = restyle(wave, Style(tempo=0.8, melody=0.3), seed=0)
        assert np.isfinite(made).all()
        assert len(made) / SR == pytest.approx(1.25, abs=0.02)


def test_plans_depend_on_the_seed_alone_and_mild_ones_keep_emotion() -> None:
    drawn = [plan_variants(6, "wide", duration_s=4.0, gender="male", seed=s) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    first, *mild = plan_variants(40, "keep_emotion", duration_s=2.0, gender="female", seed=3)
    assert first.record() == {}
    for variant in mild:
        assert set(variant.record()) <= {"pitch_st", "formant", "tempo"}
        assert abs(variant.style.pitch_st) <= 12 * np.log2(1.08)
        assert abs(variant.style.tempo - 1) <= 0.08 and abs(variant.style.formant - 1) <= 0.08
    wide = [v for s in range(50) for v in plan_variants(2, "wide", duration_s=4.0, gender="male", seed=s)]
    assert 5 < sum(v.second is not None for v in wide) < 60
    assert len({tuple(v.record()) for v in wide}) > 10


def test_gender_is_dropped_when_the_voice_is_moved_toward_the_other() -> None:
    assert Variant(Style(pitch_st=2)).keeps_gender("male")
    assert not Variant(Style(pitch_st=4)).keeps_gender("male")
    assert Variant(Style(pitch_st=4)).keeps_gender("female")
    assert not Variant(Style(formant=0.9)).keeps_gender("female")
    assert not Variant(Style(), Style(pitch_st=-4)).keeps_gender("female")


@pytest.mark.parametrize("step", ["room", "noise", "eq", "band", "codec", "level"])
def test_each_channel_step_changes_the_sound_and_keeps_its_length(clip: np.ndarray, step: str) -> None:
    changed, done = augment(clip, seed=3, chances={step: 1.0})
    assert set(done) == {step}
    assert changed.shape == clip.shape and changed.dtype == np.float32
    assert np.isfinite(changed).all() and np.abs(changed).max() <= 0.99
    assert np.abs(changed - clip).max() > 1e-3
    # The words stay where they were: loudness over time still follows the clip's.
    energy = [np.sqrt(np.square(w[: 480 * 100].reshape(-1, 480)).mean(axis=1)) for w in (clip, changed)]
    assert np.corrcoef(*energy)[0, 1] > 0.8


def test_noise_lies_at_its_stated_level(clip: np.ndarray) -> None:
    for seed in range(5):
        noisy, done = augment(clip, seed, {"noise": 1.0})
        ratio = 10 * np.log10(np.square(clip).mean() / np.square(noisy - clip).mean())
        assert ratio == pytest.approx(done["noise"]["snr_db"], abs=0.1)
        assert 10 <= done["noise"]["snr_db"] <= 30


def test_a_telephone_has_edges() -> None:
    white = np.random.default_rng(0).normal(0, 0.1, 4 * SR).astype(np.float32)
    for seed in range(20):
        narrow, done = augment(white, seed, {"band": 1.0})
        high = done["band"]["high_hz"]
        spectrum = np.square(np.abs(np.fft.rfft(narrow)))
        hertz = np.fft.rfftfreq(len(narrow), 1 / SR)
        inside = spectrum[(hertz > 500) & (hertz < 2500)].mean()
        outside = spectrum[(hertz > min(1.5 * high, 7600)) & (hertz < 7950)].mean()
        if high < 5000:
            assert 10 * np.log10(outside / inside) < -12, done


def test_channels_are_deterministic_by_seed_and_always_do_something(clip: np.ndarray) -> None:
    one, two, other = augment(clip, 5), augment(clip, 5), augment(clip, 6)
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1] == two[1] != other[1]
    for seed in range(60):
        assert set(augment(clip[:4000], seed)[1]) - {"level"}
    with pytest.raises(ValueError, match="unknown augmentation steps: hall"):
        augment(clip, 1, {**DEFAULT_CHANCES, "hall": 1.0})
