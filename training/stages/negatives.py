"""Hard negatives: a caption with one attribute turned into another value, so that it is false of its own clip."""

import random
import re
from functools import cache
from pathlib import Path

import yaml

Sides = dict[str, list[str]]


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
    """The text with all words of one attribute turned to another value; None when it names no attribute we know.

    Where a text names several values (slow at first, then fast) they change places, so that the order is what is wrong.
    """
    named = {name: present for name in swaps() if (present := _present(name, text))}
    if not named:
        return None
    attribute = rng.choice(sorted(named))
    present = named[attribute]
    if len(present) > 1:
        to = dict(zip(present, [*present[1:], present[0]], strict=True))
    else:
        to = {present[0]: rng.choice([side for side in swaps()[attribute] if side != present[0]])}

    def replaced(match: re.Match[str]) -> str:
        word = match["word"]
        side = _side(attribute, word)
        other = swaps()[attribute][to[side]][swaps()[attribute][side].index(word.lower())]
        if match["article"]:
            article = "an" if other[0] in "aeiou" else "a"
            return f"{_cased(article, match['article'])}{match['gap']}{_cased(other, word)}"
        return _cased(other, word)

    return _pattern(attribute).sub(replaced, text)


def _present(attribute: str, text: str) -> list[str]:
    """Values of the attribute in the order in which the text first names them."""
    sides = [_side(attribute, match["word"]) for match in _pattern(attribute).finditer(text)]
    return list(dict.fromkeys(sides))


def _side(attribute: str, word: str) -> str:
    return next(side for side, words in swaps()[attribute].items() if word.lower() in words)


def _cased(word: str, like: str) -> str:
    return word[0].upper() + word[1:] if like[0].isupper() else word
