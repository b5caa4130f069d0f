"""Measures to words' bands: percentiles within gender, so that 'high-pitched' means high for such a speaker."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from training.captions.acoustic import Measures

Band = Literal["very_low", "low", "medium", "high", "very_high"]
Gender = Literal["female", "male"]
BANDS: tuple[Band, ...] = ("very_low", "low", "medium", "high", "very_high")
PERCENTILES = (10, 30, 70, 90)

# Attribute -> the measure behind it.
BANDED: dict[str, str] = {
    "pitch": "f0_median_hz",
    "rate": "articulation_per_s",
    "expressiveness": "f0_sd_st",
    "effort": "tilt_db",
    "dynamics": "level_range_db",
    "brightness": "centroid_hz",
    "resonance": "formant_spacing_hz",
    "clearness": "cpp_db",
    "harmonicity": "hnr_db",
    "jitter": "jitter",
}
# Shifted by each corpus's own median before banding: they hear the microphone as much as the voice.
CHANNEL_DEPENDENT = ("effort", "brightness", "clearness", "harmonicity", "dynamics")
CHANNEL_PRIOR_SPEAKERS = 5.0  # a corpus of this many speakers is shifted half of the way
# Attributes that captions name; the rest only support them.
SPOKEN = ("pitch", "rate", "expressiveness", "effort", "dynamics", "brightness")


@dataclass(frozen=True)
class Sample:
    """One natural clip's say in where the bands lie."""

    measures: Measures
    source: str
    speaker: str
    gender: str | None


@dataclass(frozen=True)
class Bands:
    """Thresholds (10th, 30th, 70th, 90th percentile) an attribute and gender ('any' pools all), and corpus offsets."""

    thresholds: dict[str, dict[str, list[float]]]
    offsets: dict[str, dict[str, float]]
    change: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bands:
        """Bands as `to_json` tells them. Raises ValueError naming what is missing or is no number."""
        thresholds, offsets, change = (_table(data, name) for name in ("thresholds", "offsets", "change"))
        for attribute in BANDED:
            groups = _table(thresholds, attribute, "thresholds.")
            for group in ("any", "female", "male"):
                values = groups.get(group)
                if not (isinstance(values, list) and len(values) == len(PERCENTILES) and all(map(_is_number, values))):
                    raise ValueError(f"thresholds.{attribute}.{group}: a list of {len(PERCENTILES)} numbers is wanted")
        shifts = [(f"offsets.{name}", _table(offsets, name, "offsets.")) for name in offsets]
        needed = dict.fromkeys(CHANGE) if change else {}
        for where, numbers in [*shifts, ("change", needed | change)]:
            for name, value in numbers.items():
                if not _is_number(value):
                    raise ValueError(f"{where}.{name}: a number is wanted")
        return cls(thresholds=thresholds, offsets=offsets, change=change)

    def band(self, attribute: str, measures: Measures, *, gender: str | None, source: str) -> Band | None:
        """The band, or None where it was not measured, or where the gender is unknown and would decide."""
        value = getattr(measures, BANDED[attribute])
        if value is None:
            return None
        value -= self.offsets.get(attribute, {}).get(source, 0.0)
        table = self.thresholds[attribute]
        if gender in table:
            return _place(value, table[str(gender)])
        if attribute in ("pitch", "resonance"):
            low, high = _place(value, table["female"]), _place(value, table["male"])
            return low if low == high else None
        return _place(value, table["any"])


def fit(samples: Sequence[Sample], *, offset_samples: Sequence[Sample] = ()) -> Bands:
    """Bands from natural clips; `offset_samples` (synthesis, single words) only tell their own corpus's offset.

    Raises ValueError when a gender has no clips.
    """
    if not {"female", "male"} <= {s.gender for s in samples}:
        raise ValueError("bands within gender need natural clips of both genders")
    offsets = {a: _offsets(a, [*samples, *offset_samples], samples) for a in CHANNEL_DEPENDENT}
    thresholds: dict[str, dict[str, list[float]]] = {}
    for attribute, name in BANDED.items():
        rows = [
            (s.gender, getattr(s.measures, name) - offsets.get(attribute, {}).get(s.source, 0.0))
            for s in samples
            if getattr(s.measures, name) is not None
        ]
        groups = {"any": [v for _, v in rows]} | {g: [v for k, v in rows if k == g] for g in ("female", "male")}
        thresholds[attribute] = {
            group: [round(float(x), 4) for x in np.percentile(values, PERCENTILES)] for group, values in groups.items()
        }
    return Bands(thresholds=thresholds, offsets=offsets, change=dict(CHANGE))


# How much two halves of a clip must differ before a caption says that something changed; natural speech drifts less.
CHANGE: dict[str, float] = {"pitch_st": 4.0, "rate_ratio": 1.4, "level_db": 5.0, "range_ratio": 2.2}


def describe(
    measures: Measures, bands: Bands, *, gender: str | None, source: str, phonation: str | None = None
) -> dict[str, str]:
    """Attribute -> value for one stretch of speech: bands, `phonation` and `pauses`; only what can be told.

    `phonation` is whisper, breathy, creaky or clear, and may be given where it is known; `pauses` is few or many.
    """
    bands_of = {a: bands.band(a, measures, gender=gender, source=source) for a in BANDED}
    found: dict[str, str] = {}
    if phonation == "whisper" or (phonation is None and _is_whisper(measures)):
        found["phonation"] = "whisper"
        if (rate := bands_of["rate"]) is not None and measures.speech_s >= 1.0:
            found["rate"] = rate
        return found
    for attribute in SPOKEN:
        value = bands_of[attribute]
        if value is not None and _reliable(attribute, measures):
            found[attribute] = value
    if found.get("brightness") and not _agrees(found["brightness"], bands_of["resonance"]):
        del found["brightness"]
    if (told := phonation or _phonation(measures, bands_of)) is not None:
        found["phonation"] = told
    if measures.speech_s >= 2.5:
        if measures.pauses >= 2 and measures.phonation_ratio < 0.78:
            found["pauses"] = "many"
        elif measures.pauses == 0 and measures.phonation_ratio > 0.93:
            found["pauses"] = "few"
    return found


def changes(first: Measures, second: Measures, bands: Bands) -> dict[str, str]:
    """What changes from a clip's first half to its second: pitch, rate, level, range, phonation -> direction."""
    limit = bands.change or CHANGE
    found: dict[str, str] = {}
    whispers = [m.voiced_ratio < 0.12 and m.speech_s >= 0.5 for m in (first, second)]
    if whispers[0] != whispers[1] and min(m.speech_s for m in (first, second)) >= 0.5:
        voiced = second if whispers[0] else first
        if voiced.voiced_ratio > 0.35:
            found["phonation"] = "out_of_whisper" if whispers[0] else "into_whisper"
    if first.f0_median_hz and second.f0_median_hz and min(first.voiced_s, second.voiced_s) >= 0.35:
        step = 12 * np.log2(second.f0_median_hz / first.f0_median_hz)
        if abs(step) >= limit["pitch_st"]:
            found["pitch"] = "up" if step > 0 else "down"
        if first.f0_sd_st and second.f0_sd_st and min(first.voiced_s, second.voiced_s) >= 0.8:
            ratio = second.f0_sd_st / first.f0_sd_st
            if max(ratio, 1 / ratio) >= limit["range_ratio"]:
                found["expressiveness"] = "up" if ratio > 1 else "down"
    if first.articulation_per_s and second.articulation_per_s and min(first.syllables, second.syllables) >= 5:
        ratio = second.articulation_per_s / first.articulation_per_s
        if max(ratio, 1 / ratio) >= limit["rate_ratio"]:
            found["rate"] = "up" if ratio > 1 else "down"
    step = second.level_db - first.level_db
    firmer = (second.tilt_db or 0.0) - (first.tilt_db or 0.0)
    if abs(step) >= limit["level_db"] and step * firmer >= 0 and min(first.speech_s, second.speech_s) >= 0.4:
        found["effort"] = "up" if step > 0 else "down"
    return found


def describe_change(
    first: dict[str, str], second: dict[str, str], change: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The halves' values that may be told: of attributes that change, and only where the bands moved the same way."""
    kept = [
        a
        for a, direction in change.items()
        if a in first
        and a in second
        and (a == "phonation" or _rank(second[a]) - _rank(first[a]) != 0)
        and (a == "phonation" or (_rank(second[a]) > _rank(first[a])) == (direction == "up"))
    ]
    return {a: first[a] for a in kept}, {a: second[a] for a in kept}


def extremity(value: str) -> float:
    """How much a value stands out, 0 for the middle to 2: what a listener would mention first."""
    if value in BANDS:
        return float(abs(BANDS.index(value) - 2))
    return {"whisper": 2.5, "creaky": 1.5, "breathy": 1.5, "many": 1.0, "few": 0.4, "clear": 0.6}.get(value, 1.0)


def _table(data: Any, name: str, within: str = "") -> dict[str, Any]:
    """An object of a JSON object; {} where it is not there."""
    table = data.get(name, {}) if isinstance(data, Mapping) else None
    if not isinstance(table, dict):
        raise ValueError(f"{within}{name}: an object is wanted")
    return table


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rank(value: str) -> int:
    return BANDS.index(value)


def _is_whisper(measures: Measures) -> bool:
    return measures.voiced_ratio < 0.12 and measures.speech_s >= 0.6


def _place(value: float, thresholds: Iterable[float]) -> Band:
    return BANDS[sum(value >= t for t in thresholds)]


def _offsets(attribute: str, rows: Sequence[Sample], reference: Sequence[Sample]) -> dict[str, float]:
    name = BANDED[attribute]
    pool = [getattr(s.measures, name) for s in reference if getattr(s.measures, name) is not None]
    centre = float(np.median(pool))
    offsets: dict[str, float] = {}
    for source in sorted({s.source for s in rows}):
        mine = [s for s in rows if s.source == source and getattr(s.measures, name) is not None]
        if mine:
            speakers = len({s.speaker for s in mine})
            shift = float(np.median([getattr(s.measures, name) for s in mine])) - centre
            offsets[source] = round(shift * speakers / (speakers + CHANNEL_PRIOR_SPEAKERS), 4)
    return offsets


def _reliable(attribute: str, measures: Measures) -> bool:
    if attribute == "rate":
        return measures.speech_s >= 1.0 and measures.syllables >= 4
    if attribute in ("expressiveness", "dynamics"):
        return measures.voiced_s >= 0.6
    return measures.voiced_s >= 0.25


def _agrees(brightness: str, resonance: Band | None) -> bool:
    """Bright or dark is said only when the resonances don't point the other way."""
    if brightness == "medium" or resonance is None:
        return False
    high = BANDS.index(brightness) > 2
    return BANDS.index(resonance) >= 2 if high else BANDS.index(resonance) <= 2


def _phonation(measures: Measures, bands: Mapping[str, Band | None]) -> str | None:
    low = ("very_low", "low")
    if measures.voiced_s < 0.5:
        return None
    if measures.creak_ratio >= 0.12 and bands["jitter"] in ("high", "very_high"):
        return "creaky"
    if bands["clearness"] == "very_low" and bands["harmonicity"] in low and bands["effort"] in low:
        return "breathy"
    if bands["clearness"] in ("high", "very_high") and bands["harmonicity"] in ("high", "very_high"):
        return "clear"
    return None
