"""Zero-shot tasks: which field of a clip is asked for, the prompts of each class, and how corpora's words are read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.evaluation.clips import EvaluationClip

# Words that corpora use for the classes of the paper's prompts.
SYNONYMS = {
    "anger": "angry",
    "sadness": "sad",
    "happiness": "happy",
    "joy": "happy",
    "fearful": "fear",
    "fearfulness": "fear",
    "scared": "fear",
    "surprise": "surprised",
    "disgusted": "disgust",
    "excitement": "excited",
    "man": "male",
    "m": "male",
    "woman": "female",
    "f": "female",
    "young": "child",
    "middle_aged": "middle-aged",
    "elder": "older",
}
# Upper age in years (exclusive) of the paper's four bands (arXiv 2601.03065).
AGE_BANDS = ((20.0, "child"), (40.0, "adult"), (60.0, "middle-aged"), (float("inf"), "older"))


@dataclass(frozen=True)
class ClassTask:
    """One classification.

    `prompts` are those of each class. With `pool` mean a class is the mean of its prompts' vectors; with nearest a clip
    belongs to the class of the prompt nearest to it. Without `fixed` only classes that occur are candidates.
    """

    name: str
    field: str
    prompts: Mapping[str, list[str]]
    pool: Literal["mean", "nearest"] = "mean"
    fixed: bool = False

    def label(self, clip: EvaluationClip) -> str | None:
        """The class of a clip, or None when it is not known or not one of the task's."""
        value = clip.labels.get(self.field)
        if isinstance(value, bool) or value is None:
            return None
        # A table's column of whole numbers is one of fractions as soon as one is missing.
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        if text in self.prompts:
            return text
        if isinstance(value, int | float):
            found = age_band(value) if 0 <= value < math.inf else None
        else:
            found = SYNONYMS.get(text.casefold(), text.casefold())
        return found if found in self.prompts else None


def age_band(years: float) -> str:
    """The paper's band of an age: child (under 20), adult (to 39), middle-aged (to 59), older."""
    return next(band for limit, band in AGE_BANDS if years < limit)


def tasks_of(
    wishes: Mapping[str, str], presets: Mapping[str, Mapping[str, list[str]]], clips: list[EvaluationClip]
) -> list[ClassTask]:
    """A task a wish (field to preset); without any, one for each preset of which at least two classes are labelled.

    Raises ValueError for a preset that is not there.
    """
    if not wishes:
        made = [ClassTask(name, name, dict(prompts)) for name, prompts in presets.items()]
        return [task for task in made if len({task.label(clip) for clip in clips} - {None}) > 1]
    for preset in wishes.values():
        if preset not in presets:
            raise ValueError(f"there is no preset {preset!r}; there are {', '.join(presets)}")
    return [ClassTask(field, field, dict(presets[preset])) for field, preset in wishes.items()]


def read_prompts(document: Any) -> dict[str, dict[str, list[str]]]:
    """Presets of one's own, as parsed from YAML or JSON: preset -> class -> prompt or prompts. Raises ValueError."""
    if not isinstance(document, dict) or not all(isinstance(classes, dict) for classes in document.values()):
        raise ValueError("prompts: write preset: {class: prompt or list of prompts}")
    presets: dict[str, dict[str, list[str]]] = {}
    for preset, classes in document.items():
        told = {str(name): [texts] if isinstance(texts, str) else texts for name, texts in classes.items()}
        for name, texts in told.items():
            if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"prompts: {preset}.{name}: a prompt, or a list of prompts, is needed")
        if len(told) < 2:
            raise ValueError(f"prompts: {preset}: at least two classes are needed")
        presets[str(preset)] = told
    return presets
