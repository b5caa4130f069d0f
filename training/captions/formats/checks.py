"""What a row's fields must be: a wrong one is told by name and line before anything is paid, not by a crash later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = ("start_s", "duration_s")
TEXTS = ("short_captions", "long_captions")
LABELS = ("speaker", "source", "split", "gender", "emotion", "accent", "language", "phonation", "text")
OBJECTS: Mapping[str, Sequence[str]] = {
    "captions": ("text", "kind"),
    "rejected": ("text", "kind", "rule"),
    "failed": ("kind", "reason"),
}


def checked(row: dict[str, Any]) -> dict[str, Any]:
    """The same row; a single caption becomes a list, a number that is none goes. Raises ValueError naming the field."""
    row |= {name: None for name, value in row.items() if is_blank(value)}
    for name in SECONDS:
        if row.get(name) is not None:
            row[name] = seconds(name, row[name])
    for name in LABELS:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            if not isinstance(value, int | float):
                raise ValueError(f"{name}: one text is wanted, not {_short(value)}")
            if name == "text":  # a spoken number that a table took for one
                row[name] = str(value)
    for name in TEXTS:
        value = row.get(name)
        if isinstance(value, str):
            row[name] = [value]
        elif value is not None and not _all(value, str):
            raise ValueError(f"{name}: a list of texts is wanted, not {_short(value)}")
    for name, wanted in OBJECTS.items():
        value = row.get(name)
        if value and not (_all(value, Mapping) and all(isinstance(o.get(w), str) for o in value for w in wanted)):
            hint = "; plain texts belong into short_captions or long_captions" if name == "captions" else ""
            raise ValueError(f"{name}: a list of objects with {', '.join(wanted)} is wanted, not {_short(value)}{hint}")
    for caption in row.get("captions") or []:
        claims_of(caption)
    channel = row.get("channel")
    if isinstance(channel, int) and channel < 0:
        raise ValueError(f"channel: 0 or more is wanted, not {channel}")
    return row


def is_blank(value: Any) -> bool:
    """Whether it is NaN, which tables write into any column where nothing is known."""
    return isinstance(value, float) and math.isnan(value)


def claims_of(caption: Mapping[str, Any]) -> Mapping[str, str]:
    """What a caption states, {} where it tells nothing of that. Raises ValueError unless values are texts by name."""
    claims = caption.get("claims") or {}
    if not isinstance(claims, Mapping) or not all(isinstance(value, str) for value in claims.values()):
        raise ValueError(f"captions: claims are an object of texts, not {_short(claims)}")
    return claims


def seconds(name: str, value: Any) -> float | None:
    """A field's seconds; None for NaN, also spelled out. Raises ValueError naming the field."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: seconds are wanted, not {_short(value)}") from None
    if math.isnan(number):
        return None
    if not 0 <= number < math.inf:
        raise ValueError(f"{name}: seconds from 0 are wanted, not {_short(value)}")
    return number


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, kind) for part in value)


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 60 else f"{told[:59]}…"
