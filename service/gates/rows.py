"""What a run reads and writes: cases in, one judged or unjudged row a case out, as JSONL that diffs well."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import FiniteFloat, TypeAdapter, ValidationError

DIGITS, FINE_DIGITS = 3, 4
"""Decimals of numbers in rows, and of cosines and probabilities: finer than any gate, and coarse enough that the last
bits of a float, which depend on what else was in the encoder's batch, do not show."""


class RowsError(ValueError):
    """A file is not a run's rows, or a case cannot become one."""


@dataclass(frozen=True)
class Case:
    """One clip to judge. `shown` is its path as the set names it; rows keep that, never a machine's own path.

    Raises RowsError for text that no file of rows can hold (half a surrogate pair).
    """

    id: str
    audio: Path
    caption: str
    group: str
    shown: str
    labels: tuple[str, ...] = ()
    """"column=value" of what else the clip is grouped by."""

    def __post_init__(self) -> None:
        try:
            "\n".join((self.id, self.caption, self.group, self.shown, *self.labels)).encode("utf-8")
        except UnicodeEncodeError as error:
            raise RowsError(f"{self.id!a}: id, caption, group or path is not valid Unicode") from error


@dataclass(frozen=True)
class Attribute:
    """One claim of the caption: its margin is negative where an opposite, `heard`, fits the clip better."""

    family: str
    value: str
    phrase: str
    negated: bool
    margin: FiniteFloat
    heard: str

    @property
    def key(self) -> tuple[str, str, bool]:
        """What makes two claims the same one in two runs."""
        return self.family, self.value, self.negated

    @property
    def name(self) -> str:
        """As people read it."""
        return f"{self.family}: {'not ' if self.negated else ''}{self.value}"


@dataclass(frozen=True)
class Sentence:
    """One sentence of the caption, its curve over the row's windows, and when it holds."""

    text: str
    cosine: FiniteFloat
    curve: tuple[FiniteFloat, ...]
    holds: tuple[tuple[FiniteFloat, FiniteFloat], ...]


@dataclass(frozen=True)
class Voice:
    """What was measured of a clip; None where it cannot be told. Units are in the names: st are semitones."""

    pitch_hz: FiniteFloat | None = None
    pitch_range_st: FiniteFloat | None = None
    rate_hz: FiniteFloat | None = None
    level_lufs: FiniteFloat | None = None
    pauses_s: FiniteFloat = 0.0
    silence_s: FiniteFloat = 0.0
    clipped_share: FiniteFloat = 0.0


@dataclass(frozen=True)
class Row:
    """One judged clip. `curve` has (start_s, end_s, cosine) a window, `turns` (at_s, strength) between sentences.

    `truncated`: the caption is longer than the model reads, and was judged by its beginning.
    """

    id: str
    group: str
    caption: str
    audio: str
    sha256: str
    duration_s: FiniteFloat
    cosine: FiniteFloat
    match_probability: FiniteFloat
    percentile: FiniteFloat | None
    identity: str
    truncated: bool = False
    labels: tuple[str, ...] = ()
    voice: Voice | None = None
    attributes: tuple[Attribute, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    turns: tuple[tuple[FiniteFloat, FiniteFloat], ...] = ()
    curve: tuple[tuple[FiniteFloat, FiniteFloat, FiniteFloat], ...] = ()

    def attribute(self, key: tuple[str, str, bool]) -> Attribute | None:
        """The claim of this key, if the caption makes it."""
        return next((one for one in self.attributes if one.key == key), None)


@dataclass(frozen=True)
class Unjudged:
    """One clip that could not be judged, and why."""

    id: str
    group: str
    caption: str
    audio: str
    reason: str


@dataclass
class Run:
    """What became of a set: every case is in exactly one of the two lists."""

    rows: list[Row] = field(default_factory=list)
    unjudged: list[Unjudged] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Share of the set that was judged, 0 to 1."""
        total = len(self.rows) + len(self.unjudged)
        return len(self.rows) / total if total else 0.0


_ROW: Final = TypeAdapter(Row)


def row_of_answer(case: Case, sha256: str, answer: Mapping[str, Any]) -> Row:
    """A row from an answer of `POST /v1/score` for one pair."""
    (result,) = answer["results"]
    curve = result.get("curve") or ()
    sentences = result.get("sentences") or ()
    return Row(
        id=case.id,
        group=case.group,
        caption=case.caption,
        audio=case.shown,
        sha256=sha256,
        duration_s=_number(result["duration_s"]),
        cosine=_fine(result["cosine"]),
        match_probability=_fine(result["match_probability"]),
        percentile=None if result["percentile"] is None else _number(result["percentile"]),
        identity=answer["identity"],
        truncated=bool(answer["truncated"]),
        labels=case.labels,
        attributes=tuple(_attribute(one) for one in result.get("attributes") or ()),
        sentences=tuple(
            Sentence(
                one["text"],
                _fine(one["cosine"]),
                tuple(map(_fine, one["curve"])),
                tuple((_number(span["start_s"]), _number(span["end_s"])) for span in one["holds"]),
            )
            for one in (sentences if len(sentences) > 1 else ())  # a single one is the caption, with the row's curve
        ),
        turns=tuple((_number(one["at_s"]), _number(one["strength"])) for one in result.get("turns") or ()),
        curve=tuple((_number(p["start_s"]), _number(p["end_s"]), _fine(p["cosine"])) for p in curve),
    )


def dump(row: Row | Unjudged) -> str:
    """A row as one line of JSON: members in a fixed order, empty and false ones left out."""
    listed: dict[str, Any] = {}
    for name, value in vars(row).items():
        if name in ("attributes", "sentences"):
            value = [vars(one) for one in value]
        elif name == "voice":
            value = () if value is None else vars(value)
        if value not in ((), []) and value is not False:
            listed[name] = value
    return json.dumps(listed, ensure_ascii=False)


def load_row(line: str) -> Row:
    """A row from its line. Raises RowsError: not a row, or one whose numbers are none."""
    try:
        return _ROW.validate_json(line)
    except ValueError as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        raise RowsError(f"not a row of `clsp score` ({where + ': ' if where else ''}{first['msg']})") from error


def lines_of(text: str) -> list[str]:
    """The lines of rows or of a set. Only a line feed ends one: captions may hold what else Python takes for an end."""
    return text.split("\n")


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier run. Raises RowsError, which names the row: not a row, or an id that appears twice."""
    try:
        lines = lines_of(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RowsError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = load_row(line)
        except RowsError as error:
            raise RowsError(f"{path}, line {number}: {error}") from error
        if row.id in rows:
            raise RowsError(f"{path}, line {number}: the id {row.id!r} appears twice")
        rows[row.id] = row
    return list(rows.values())


def write_rows(path: Path, rows: Iterable[Row | Unjudged]) -> None:
    """Write rows as JSONL, whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text("".join(f"{dump(row)}\n" for row in rows), "utf-8")
    beside.replace(path)


def groups_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by group, groups by name."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return dict(sorted(found.items()))


def _attribute(members: Mapping[str, Any]) -> Attribute:
    return Attribute(
        members["family"],
        members["value"],
        members["phrase"],
        members["negated"],
        _number(members["margin"]),
        members["heard"],
    )


def _number(value: float) -> float:
    return round(float(value), DIGITS)


def _fine(value: float) -> float:
    return round(float(value), FINE_DIGITS)
