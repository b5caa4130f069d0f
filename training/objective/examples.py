"""The training manifest as the trainer reads it: clips with facts, captions with claims, by split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.captions.formats import jsonl
from training.captions.profiles import profile_facts
from training.captions.prompts import age_band, years_of


@dataclass(frozen=True)
class TrainCaption:
    """One caption: its kind (global, fine, prompt, hedged) and what it states."""

    text: str
    kind: str
    claims: Mapping[str, str]


@dataclass(frozen=True)
class TrainClip:
    """One clip: where it lies, what is known of it, and its captions."""

    path: Path
    split: str
    source: str
    speaker: str
    facts: Mapping[str, str]
    captions: Sequence[TrainCaption]


def read_examples(manifest: Path) -> list[TrainClip]:
    """Clips with at least one caption, from a manifest of `training.corpus.data.Row`s.

    Raises ValueError naming the line of a malformed row, FormatError when the file can't be read.
    """
    clips = []
    for number, line in jsonl.lines(manifest):
        try:
            row = jsonl.loads(line)
            captions = [TrainCaption(c["text"], c["kind"], c.get("claims", {})) for c in row["captions"]]
            if captions:
                path = manifest.parent / row["path"]
                clips.append(TrainClip(path, row["split"], row["source"], row["speaker"], facts_of(row), captions))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{manifest}, line {number}: {error!r}") from error
    return clips


def facts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """All that is known of a clip, in the vocabulary of captions' claims.

    Its measures or its label say which profiles of prosody (`profile.calm`) it fits and which it doesn't.

    What changes half-way is told as `first.`, `second.` and `change.`: its average is no fact of the whole clip.
    """
    parts = row.get("parts") or {}
    changed = parts.get("change") or {}
    facts = {k: v for k, v in (row.get("attributes") or {}).items() if k not in changed and isinstance(v, str)}
    words = {k: v for k in ("gender", "emotion", "accent") if isinstance(v := row.get(k), str) and v}
    facts |= profile_facts(facts, words.get("emotion"))
    for part in ("first", "second", "change"):
        facts |= {f"{part}.{k}": v for k, v in (parts.get(part) or {}).items()}
    facts |= words
    if (age := years_of(row.get("age"))) is not None:
        facts["age"] = age_band(age)
    return facts | (row.get("facts") or {})
