"""What an evaluation reads: clips with captions, labels and people's ratings, from a JSONL manifest."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from training.captions.formats import jsonl
from training.captions.formats.checks import claims_of, is_blank, seconds
from training.objective.examples import TrainCaption, facts_of

# The annotators' names of the trainer's two kinds of caption.
KIND_NAMES = {"short": "global", "long": "fine"}
NAMED_LISTS = {
    "short_captions": "global",
    "long_captions": "fine",
    "global_captions": "global",
    "fine_captions": "fine",
}


class ManifestError(ValueError):
    """A manifest row can't be read; the message names the line."""


@dataclass(frozen=True)
class Rating:
    """How well people say that a clip fits a caption; the scale is theirs. `kind` keeps two questionnaires apart."""

    caption: str
    rating: float
    kind: str = "style"


@dataclass(frozen=True)
class EvaluationClip:
    """One clip: a file or a stretch of one (seconds), and all that is told of it."""

    path: Path
    source: str
    speaker: str = ""
    captions: tuple[TrainCaption, ...] = ()
    ratings: tuple[Rating, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    start_s: float | None = None
    duration_s: float | None = None

    def caption(self, kind: str) -> str | None:
        """Its first caption of a kind."""
        return next((caption.text for caption in self.captions if caption.kind == kind), None)


def read_manifest(path: Path, *, by: str = "source", where: Mapping[str, str] | None = None) -> list[EvaluationClip]:
    """Rows of JSON as clips; rows of one file, or of one stretch of it, are one, with all their captions and ratings.

    A row has `path` or `file` (relative to the manifest), and where known `caption` or `captions` (a text, or an object
    with `text` and `kind`: global or fine, or a list of them), `short_captions`, `long_captions`, `ratings` (objects
    with `caption`, `rating` and maybe `kind`) or one `rating` of its `caption`, `speaker`, and labels (any other field,
    also inside `metadata` and `attributes`). `by` names the label that sources are told apart by, `where` labels that
    rows must have. Raises ManifestError naming the line, FormatError when the file can't be read.
    """
    clips: dict[tuple[Path, float | None, float | None], EvaluationClip] = {}
    for number, line in jsonl.lines(path):
        try:
            clip = _clip(jsonl.loads(line), path, by)
        except (JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise ManifestError(f"{path}, line {number}: not a JSON object with `path` or `file`") from error
        except ValueError as error:
            raise ManifestError(f"{path}, line {number}: {error}") from error
        if any(str(clip.labels.get(name)) != value for name, value in (where or {}).items()):
            continue
        key = (clip.path, clip.start_s, clip.duration_s)
        clips[key] = _merged(clips[key], clip) if key in clips else clip
    if not clips:
        raise ManifestError(f"{path}: no row{' has what --where asks for' if where else ''}")
    return list(clips.values())


def _clip(row: dict[str, Any], manifest: Path, by: str) -> EvaluationClip:
    row = _known(row)
    labels = row | _known(row.get("attributes") or {}) | _known(row.get("metadata") or {})
    captions, ratings = _captions(row), _ratings(row)
    start_s, duration_s = (
        None if row.get(name) is None else seconds(name, row[name]) for name in ("start_s", "duration_s")
    )
    return EvaluationClip(
        path=manifest.parent / (row.get("path") or row["file"]),
        source=str(labels.get(by) or manifest.name.split(".")[0]),
        speaker=str(labels.get("speaker") or ""),
        captions=captions,
        ratings=ratings,
        labels=labels,
        facts=facts_of(row) if any(caption.claims for caption in captions) else {},
        start_s=start_s,
        duration_s=None if start_s is None else duration_s,
    )


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    # A blank rating stays, and is refused: without it its caption would pass for one that fits.
    return {name: value for name, value in fields.items() if name == "rating" or not is_blank(value)}


def _captions(row: Mapping[str, Any]) -> tuple[TrainCaption, ...]:
    told = _told(row, "captions", "global")
    for name, kind in NAMED_LISTS.items():
        told += _told(row, name, kind)
    # A caption that people rated is one that may well not fit.
    if row.get("rating") is None:
        told += _told(row, "caption", "fine" if row.get("kind") in ("fine", "long") else "global")
    return _once(told)


def _told(row: Mapping[str, Any], name: str, kind: str) -> list[TrainCaption]:
    """The captions of a field, of a kind unless they name their own; a single one may stand without a list."""
    value = row.get(name)
    captions = []
    for caption in value if isinstance(value, list) else [] if value is None else [value]:
        if isinstance(caption, str):
            captions.append(TrainCaption(caption, kind, {}))
        elif isinstance(caption, dict) and isinstance(caption.get("text"), str):
            own = str(caption.get("kind") or kind)
            captions.append(TrainCaption(caption["text"], KIND_NAMES.get(own, own), claims_of(caption)))
        else:
            raise ManifestError(f"{name}: {caption!r} is neither a text nor an object with `text`")
    return captions


def _ratings(row: Mapping[str, Any]) -> tuple[Rating, ...]:
    rows = list(row.get("ratings") or [])
    if row.get("rating") is not None:
        rows.append({"caption": row.get("caption"), "rating": row["rating"], "kind": row.get("rating_kind")})
    found = []
    for one in rows:
        caption = one.get("caption") if isinstance(one, dict) else None
        value = one.get("rating") if isinstance(one, dict) else None
        if not isinstance(caption, str) or isinstance(value, bool) or not isinstance(value, int | float):
            raise ManifestError(f"ratings: {one!r} has no `caption` with a `rating` that is a number")
        if not math.isfinite(value):
            raise ManifestError(f"ratings: {value} is not a finite number")
        found.append(Rating(caption, float(value), str(one.get("kind") or "style")))
    return tuple(found)


def _merged(first: EvaluationClip, second: EvaluationClip) -> EvaluationClip:
    return EvaluationClip(
        path=first.path,
        source=first.source,
        speaker=first.speaker or second.speaker,
        captions=_once((*first.captions, *second.captions)),
        ratings=(*first.ratings, *second.ratings),
        labels={**second.labels, **first.labels},
        facts={**second.facts, **first.facts},
        start_s=first.start_s,
        duration_s=first.duration_s,
    )


def _once(captions: Iterable[TrainCaption]) -> tuple[TrainCaption, ...]:
    """Each text of a kind once, in the order of their first; a blank one is none."""
    first: dict[tuple[str, str], TrainCaption] = {}
    for caption in captions:
        if caption.text.strip():
            first.setdefault((caption.kind, caption.text), caption)
    return tuple(first.values())
