"""Which other styles a clip is spoken in: drawn from its own seed, so that a plan never depends on build order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from training.corpus.resynthesis import Style

# Past these, in the direction of the other gender, a label of gender no longer holds.
GENDER_PITCH_ST = 3.0
GENDER_FORMANT = 0.06


@dataclass(frozen=True)
class Variant:
    """A rendering to make: one style, or two with a change half-way."""

    style: Style
    second: Style | None = None

    def record(self) -> dict[str, Any]:
        if self.second is None:
            return dict(self.style.changed())
        return {"first": self.style.changed(), "second": self.second.changed()}

    def phonation(self) -> str | None:
        """What the voice quality is by construction, where the edit is strong enough to hear."""
        return known_phonation(self.style) if self.second is None else None

    def keeps_gender(self, gender: str | None) -> bool:
        return all(_keeps_gender(s, gender) for s in (self.style, self.second) if s is not None)


def plan_variants(
    count: int, style_set: Literal["wide", "keep_emotion"], *, duration_s: float, gender: str | None, seed: int
) -> list[Variant]:
    """`count` variants of a clip. `keep_emotion` moves pitch, formants and tempo by up to 8 %, the first by none."""
    rng = np.random.default_rng(seed)
    if style_set == "keep_emotion":
        return [Variant(Style() if i == 0 else _mild(rng)) for i in range(count)]
    made: list[Variant] = []
    for number in range(count):
        # About two in five restyled clips change half-way: it is what fine-grained captions are about.
        if duration_s >= 2.5 and rng.random() < 0.4 and number % 2 == 0:
            made.append(_changing(rng, gender))
        else:
            made.append(Variant(_wide(rng, gender)))
    return made


def known_phonation(style: Style) -> str | None:
    if style.whisper:
        return "whisper"
    if style.creaky >= 0.4:
        return "creaky"
    return "breathy" if style.breathy >= 0.6 else None


def _mild(rng: np.random.Generator) -> Style:
    return Style(
        pitch_st=float(rng.uniform(-1.3, 1.3)),
        formant=float(rng.uniform(0.92, 1.08)),
        tempo=float(rng.uniform(0.92, 1.08)),
    )


def _wide(rng: np.random.Generator, gender: str | None) -> Style:
    kind = rng.choice(
        ["prosody", "effort", "whisper", "breathy", "creaky", "formant", "pauses"],
        p=[0.42, 0.24, 0.06, 0.08, 0.07, 0.06, 0.07],
    )
    settings: dict[str, Any] = {}
    moved = rng.permutation(["pitch", "melody", "tempo"])[: int(rng.integers(1, 4)) if kind == "prosody" else 1]
    for name in moved:
        settings |= _prosody(str(name), rng, gender)
    if kind == "effort":
        effort = float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.0))
        settings["effort"] = effort
        if rng.random() < 0.6:  # loud voices are higher and livelier, soft ones lower and flatter
            settings |= {"pitch_st": 2.5 * effort, "melody": 1 + 0.35 * effort}
    elif kind == "whisper":
        settings = {"whisper": True, **_prosody("tempo", rng, gender)}
    elif kind == "breathy":
        settings |= {"breathy": float(rng.uniform(0.7, 1.0)), "effort": float(rng.uniform(-0.6, 0))}
    elif kind == "creaky":
        settings |= {"creaky": float(rng.uniform(0.4, 0.6)), "pitch_st": float(rng.uniform(-3, 0))}
    elif kind == "formant":
        settings["formant"] = float(rng.choice([rng.uniform(0.89, 0.94), rng.uniform(1.06, 1.11)]))
    elif kind == "pauses":
        settings["pause_s"] = float(rng.uniform(0.35, 0.9))
    return Style(**settings)


def _changing(rng: np.random.Generator, gender: str | None) -> Variant:
    if rng.random() < 0.15:
        whisper = Style(whisper=True)
        voiced = Style(**_prosody("tempo", rng, gender)) if rng.random() < 0.5 else Style()
        return Variant(whisper, voiced) if rng.random() < 0.5 else Variant(voiced, whisper)
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    names = rng.permutation(["pitch", "melody", "tempo", "effort", "effort"])[: int(rng.integers(1, 4))]
    for name in dict.fromkeys(str(n) for n in names):
        low, high = {
            "pitch": ({"pitch_st": -2.5}, {"pitch_st": 2.8}),
            "melody": ({"melody": 0.25}, {"melody": 1.7}),
            "tempo": ({"tempo": 0.72}, {"tempo": 1.4}),
            "effort": ({"effort": -0.75}, {"effort": 0.55}),
        }[name]
        if rng.random() < 0.5:
            low, high = high, low
        first |= low
        second |= high
    # A rising effort that is guarded against clipping must not lose its level: start from the quiet side.
    return Variant(Style(**first), Style(**second))


def _prosody(name: str, rng: np.random.Generator, gender: str | None) -> dict[str, Any]:
    up = bool(rng.random() < 0.5)
    if name == "pitch":
        # Room is left in the direction of the speaker's own gender, so that most labels stay true.
        reach = {"male": (-4.0, 3.0), "female": (-3.0, 5.0)}.get(gender or "", (-3.0, 3.0))
        return {"pitch_st": float(rng.uniform(1.5, reach[1]) if up else rng.uniform(reach[0], -1.5))}
    if name == "melody":
        return {"melody": float(rng.uniform(1.4, 2.0) if up else rng.uniform(0.1, 0.5))}
    return {"tempo": float(rng.uniform(1.25, 1.7) if up else rng.uniform(0.58, 0.8))}


def _keeps_gender(style: Style, gender: str | None) -> bool:
    toward = {"male": 1, "female": -1}.get(gender or "", 0)
    return style.pitch_st * toward <= GENDER_PITCH_ST and (style.formant - 1) * toward <= GENDER_FORMANT
