"""Hard negatives: a caption with one attribute turned into another value, so that it is false of its own clip."""

import random
import re
from bisect import bisect
from functools import cache
from pathlib import Path

import yaml

Sides = dict[str, list[str]]

# Between two values these say which comes when. "In turns" and "next to" hold either way round.
_ORDER = re.compile(
    r"""\b(?:(?:mov|go|ris|fall|turn|shift|switch|chang)(?:e?s|ed|ing)?\sfrom\b[^.;]*?\bto
    |then|first|initially|second|half|midway|next(?!\sto)|later|last|finally|eventually|gradually|after|afterwards|before
    |until|followed|begins?|beginning|began|starts?|started|starting|ends?|ended|ending|becom(?:es?|ing)|became
    |(?<!in\s)(?<!by\s)(?<!take\s)(?<!takes\s)(?<!taking\s)turn(?:s|ed|ing)?|grow(?:s|ing)?|grew|chang(?:es?|ed|ing)
    |shift(?:s|ed|ing)?|switch(?:es|ed|ing)?|giv(?:es?|ing)\sway|gave\sway|into)\b""",
    re.IGNORECASE | re.VERBOSE,
)


@cache
def swaps() -> dict[str, Sides]:
    """Attribute -> value -> its wordings; the i-th wordings of an attribute's values stand for one another."""
    found: dict[str, Sides] = yaml.safe_load((Path(__file__).parent / "swaps.yaml").read_text())
    return found


@cache
def _pattern(attribute: str) -> re.Pattern[str]:
    words = {word for side in swaps()[attribute].values() for word in side}
    either = "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
    return re.compile(rf"(?<![\w-])(?:(?P<article>an?)(?P<gap>\s+))?(?P<word>{either})(?![\w-])", re.IGNORECASE)


def swap_attribute(text: str, rng: random.Random) -> str | None:
    """The text with all words of one value turned to another; None when nothing is named that can be made false so.

    Where a text names several values in an order (slow at first, then fast) they change places. In no order (sad and
    fearful) that would be as true as before: one becomes a value that the text does not name, if there is one.
    """
    changes = {name: found for name in swaps() if (found := _changes(name, text))}
    if not changes:
        return None
    attribute = rng.choice(sorted(changes))
    to = rng.choice(changes[attribute])

    def replaced(match: re.Match[str]) -> str:
        word = match["word"]
        side = _side(attribute, word)
        if side not in to:
            return match[0]
        other = swaps()[attribute][to[side]][swaps()[attribute][side].index(word.lower())]
        if match["article"]:
            article = "an" if other[0] in "aeiou" else "a"
            return f"{_cased(article, match['article'])}{match['gap']}{_cased(other, word)}"
        return _cased(other, word)

    return _pattern(attribute).sub(replaced, text)


def _changes(attribute: str, text: str) -> list[dict[str, str]]:
    """Each way of turning the attribute's values into others that makes the text false."""
    cuts = [match.end() for match in _ORDER.finditer(text)]
    parts: dict[int, set[str]] = {}  # values by part of the text: within one they stand in no order
    present: dict[str, None] = {}
    for match in _pattern(attribute).finditer(text):
        side = _side(attribute, match["word"])
        parts.setdefault(bisect(cuts, match.start("word")), set()).add(side)
        present[side] = None
    if not present:
        return []
    first, *rest = present
    exchanged = dict(zip(present, [*rest, first], strict=True))
    if any({exchanged[side] for side in part} != part for part in parts.values()):
        return [exchanged]
    free = [side for side in swaps()[attribute] if side not in present]
    return [{side: other} for side in present for other in free]


def _side(attribute: str, word: str) -> str:
    return next(side for side, words in swaps()[attribute].items() if word.lower() in words)


def _cased(word: str, like: str) -> str:
    return word[0].upper() + word[1:] if like[0].isupper() else word
