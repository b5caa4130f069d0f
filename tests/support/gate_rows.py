"""Rows for the tests of the gates, as a run would have written them."""

from __future__ import annotations

from service.gates.rows import Attribute, Row, Sentence

IDENTITY = "model-1"


def row(id: str, **changes: object) -> Row:
    """A judged clip; `changes` replace its members."""
    members: dict[str, object] = {
        "id": id,
        "group": id.split("-")[0],
        "caption": "A woman talks fast.",
        "audio": f"{id}.wav",
        "sha256": "0" * 16,
        "duration_s": 3.0,
        "cosine": 0.3,
        "match_probability": 0.8,
        "percentile": 95.0,
        "identity": IDENTITY,
        "attributes": (attribute("rate", "fast", 1.5), attribute("gender", "female", 4.0)),
    }
    return Row(**{**members, **changes})  # type: ignore[arg-type]


def attribute(family: str, value: str, margin: float, *, heard: str | None = None, negated: bool = False) -> Attribute:
    """A judged claim."""
    return Attribute(family, value, value, negated, margin, heard or value)


def two_sentences() -> Row:
    """A clip whose style changes."""
    curve = ((0.0, 3.0, 0.4), (1.0, 4.0, 0.3), (2.0, 5.0, 0.2))
    sentences = (
        Sentence("A man whispers.", 0.2, (0.4, 0.3, 0.1), ((0.0, 2.0),)),
        Sentence("Then he shouts.", 0.3, (0.1, 0.3, 0.4), ((2.0, 5.0),)),
    )
    return row("long-1", duration_s=5.0, curve=curve, sentences=sentences, turns=((2.0, 3.5),))
