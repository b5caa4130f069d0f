"""What is measured must be what was made, and its bands must lie within gender and apart from the microphone."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from training.captions import acoustic
from training.captions.attributes import BANDS, CHANGE, Bands, Sample, changes, describe, describe_change, fit
from training.captions.gender import estimate_gender

SR = 16_000


def voice(
    f0: float = 120.0, seconds: float = 3.0, *, syllables: float = 4.0, swing_st: float = 2.0, bright: float = 1.0
) -> np.ndarray:
    """A buzz with two resonances, so many syllables a second and a pitch that swings by so many semitones."""
    t = np.arange(int(seconds * SR)) / SR
    pitch = f0 * 2 ** (swing_st / 12 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / SR
    orders = np.arange(1, int(6000 / f0))
    gains = (
        np.exp(-(((orders * f0 - 500) / 300) ** 2)) + 0.3 * bright * np.exp(-(((orders * f0 - 1500) / 400) ** 2)) + 0.01
    )
    wave = sum(g * np.sin(k * phase) for k, g in zip(orders, gains, strict=True))
    envelope = 0.02 + np.sin(np.pi * syllables * t) ** 2
    return (0.2 * wave / np.abs(wave).max() * envelope).astype(np.float32)


def measures(**changed: float | int | None) -> acoustic.Measures:
    return replace(measured_voice(), **changed)


@cache
def measured_voice() -> acoustic.Measures:
    return acoustic.measure(voice())


@pytest.fixture(scope="module")
def bands() -> Bands:
    rng = np.random.default_rng(0)
    samples = []
    for number in range(200):
        gender = ("female", "male")[number % 2]
        drawn = measures(
            f0_median_hz=float(rng.normal(210 if gender == "female" else 120, 25)),
            f0_sd_st=float(rng.uniform(1, 5)),
            articulation_per_s=float(rng.uniform(2.5, 6)),
            tilt_db=float(rng.uniform(-22, -8)),
            level_range_db=float(rng.uniform(15, 28)),
            centroid_hz=float(rng.uniform(280, 800)),
            cpp_db=float(rng.uniform(17, 24)),
            hnr_db=float(rng.uniform(6, 18)),
            jitter=float(rng.uniform(0.01, 0.04)),
            formant_spacing_hz=float(rng.normal(1130 if gender == "female" else 1020, 25)),
        )
        samples.append(Sample(drawn, ("a", "b")[number % 2 ^ number // 2 % 2], f"s{number % 20}", gender))
    return fit(samples)


def test_measured_pitch_rate_and_melody_are_those_that_were_made() -> None:
    measured = acoustic.measure(voice(f0=150, seconds=4, syllables=5, swing_st=3))
    assert measured.f0_median_hz == pytest.approx(150, rel=0.03)
    assert measured.f0_range_st == pytest.approx(6, abs=1.0)
    assert measured.speech_rate_per_s == pytest.approx(5, abs=0.6)
    flat = acoustic.measure(voice(f0=150, swing_st=0.0))
    assert flat.f0_sd_st is not None and measured.f0_sd_st is not None and flat.f0_sd_st < 0.3 < measured.f0_sd_st


def test_level_changes_loudness_and_leaves_tilt() -> None:
    loud, quiet = acoustic.measure(voice()), acoustic.measure(voice() * np.float32(0.1))
    assert loud.level_db - quiet.level_db == pytest.approx(20, abs=0.2)
    assert loud.tilt_db == pytest.approx(quiet.tilt_db, abs=0.2)


def test_pauses_are_counted_and_left_out_of_articulation() -> None:
    piece = voice(seconds=1.5)
    gap = np.zeros(int(0.6 * SR), np.float32)
    measured = acoustic.measure(np.concatenate([piece, gap, piece, gap, piece]))
    assert measured.pauses == 2
    assert measured.longest_pause_s == pytest.approx(0.6, abs=0.15)
    assert measured.articulation_per_s > measured.speech_rate_per_s


def test_noise_has_no_voice_and_reads_as_whisper(bands: Bands) -> None:
    rng = np.random.default_rng(1)
    t = np.arange(2 * SR) / SR
    hiss = (0.1 * rng.standard_normal(len(t)) * (0.05 + np.sin(np.pi * 4 * t) ** 2)).astype(np.float32)
    measured = acoustic.measure(hiss)
    assert measured.voiced_ratio < 0.12
    told = describe(measured, bands, gender="male", source="a")
    assert told["phonation"] == "whisper"
    assert set(told) <= {"phonation", "rate"}


@pytest.mark.parametrize("seconds", [0.15, 0.3])
def test_very_short_clips_measure_without_claims(seconds: float, bands: Bands) -> None:
    told = describe(acoustic.measure(voice(seconds=seconds)), bands, gender="male", source="a")
    assert not set(told) & {"rate", "expressiveness", "pauses"}


def test_too_short_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"0\.15 s"):
        acoustic.measure(np.zeros(1000, np.float32))


def test_silence_measures_as_nothing() -> None:
    silent = acoustic.measure(np.zeros(SR, np.float32))
    assert (silent.speech_s, silent.syllables, silent.f0_median_hz) == (0.0, 0, None)


def test_bands_are_within_gender(bands: Bands) -> None:
    same = measures(f0_median_hz=165.0)
    assert bands.band("pitch", same, gender="male", source="a") in ("high", "very_high")
    assert bands.band("pitch", same, gender="female", source="a") in ("low", "very_low")
    assert bands.band("pitch", same, gender=None, source="a") is None  # the tables disagree: nothing is said
    assert bands.band("pitch", measures(f0_median_hz=60.0), gender=None, source="a") == "very_low"


def test_each_band_holds_its_share() -> None:
    values = np.linspace(100, 300, 101)
    samples = [Sample(measures(f0_median_hz=float(v)), "a", "s", g) for v in values for g in ("female", "male")]
    fitted = fit(samples)
    placed = [fitted.band("pitch", s.measures, gender=s.gender, source="a") for s in samples]
    shares = [placed.count(b) / len(placed) for b in BANDS]
    assert shares == pytest.approx([0.1, 0.2, 0.4, 0.2, 0.1], abs=0.02)


def test_a_corpus_with_another_microphone_is_shifted() -> None:
    rng = np.random.default_rng(3)
    rows = []
    for source, shift in (("a", 0.0), ("b", 8.0)):
        rows += [
            Sample(
                measures(tilt_db=float(rng.normal(-15 + shift, 2))), source, f"{source}{i}", ("female", "male")[i % 2]
            )
            for i in range(60)
        ]
    fitted = fit(rows)
    apart = fitted.offsets["effort"]["b"] - fitted.offsets["effort"]["a"]
    assert apart == pytest.approx(8 * 60 / 65, abs=1.0)
    assert fitted.band("effort", measures(tilt_db=-15.0), gender="male", source="a") == "medium"
    assert fitted.band("effort", measures(tilt_db=-7.5), gender="male", source="b") == "medium"


def test_bands_survive_json_and_need_both_genders(bands: Bands) -> None:
    assert Bands.from_json(bands.to_json()) == bands
    with pytest.raises(ValueError, match="both genders"):
        fit([Sample(measures(), "a", "s", "male")])


def test_changes_are_told_only_past_their_limits() -> None:
    low = measures(f0_median_hz=100.0)
    barely, clearly = 2 ** ((CHANGE["pitch_st"] - 0.5) / 12), 2 ** ((CHANGE["pitch_st"] + 0.5) / 12)
    empty = Bands({}, {})
    assert "pitch" not in changes(low, measures(f0_median_hz=100.0 * barely), empty)
    assert changes(low, measures(f0_median_hz=100.0 * clearly), empty)["pitch"] == "up"
    assert changes(measures(f0_median_hz=100.0 * clearly), low, empty)["pitch"] == "down"


def test_halves_are_told_only_when_their_bands_moved_the_same_way() -> None:
    change = {"pitch": "up", "rate": "up"}
    first, second = describe_change({"pitch": "low", "rate": "high"}, {"pitch": "high", "rate": "high"}, change)
    assert (first, second) == ({"pitch": "low"}, {"pitch": "high"})


@pytest.mark.parametrize(
    ("pitch", "spacing", "expected"),
    [(210, 1140, "female"), (110, 1010, "male"), (160, 1090, None), (210, 1000, None), (350, 1200, None)],
)
def test_gender_is_estimated_only_when_pitch_and_formants_agree(
    pitch: float, spacing: float, expected: str | None
) -> None:
    assert estimate_gender(measures(f0_median_hz=pitch, formant_spacing_hz=spacing, voiced_s=2.0)) == expected
    assert estimate_gender(measures(f0_median_hz=pitch, formant_spacing_hz=spacing, voiced_s=0.3)) is None
