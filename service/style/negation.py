"""What people type into a search box, read as they mean it: "calm female, not whispering" is a wish and a refusal.

A contrastive model hears "not whispering" much as it hears "whispering", so what is not wanted must leave the text and
become a query part of its own with a negative weight.
"""

from __future__ import annotations

import re
from typing import Final

REFUSED_WEIGHT: Final = -0.5
"""Enough to push what is not wanted down, not so much that the search is for its opposite (docs/search.md)."""

_HINT = re.compile("no|n't|without|except|neither|never", re.IGNORECASE)
"""What every refusal has: cheap to look for in the many texts that have none."""
_APOSTROPHES = re.compile("[\u2018\u2019\u02bc]")
"""What phones type in "isn't"."""
_DOUBLE = re.compile(r"\bnot\s+without\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"[\s,;(]{0,4}(?:[\u2013\u2014]|(?<=\s)-)?\s?\b(?:but\s+|and\s+)?(?:(?:who|that|which)\s+)?"
    r"(?:(?:is|are|does|do|should|must|can|will)\s+)?"
    r"(?:not|without|except|never|no|neither|cannot|(?:is|are|does|do|should|must|ca|wo)n't)\b\s+"
    r"(?!(?:only|just|merely|to\s+say|a\s+doubt|doubt)\b)(?:be\s+)?(?:(?:a|an|any|too|so|very)\s+)?"
    r"(?P<refused>[^,;.()\u2013\u2014]+?)"
    r"(?:\)|(?=\s*(?:[,;.(\u2013\u2014]|\s-\s|\bbut\b|\band\s+(?:not|no|without|never)\b|$)))",
    re.IGNORECASE,
)
_EITHER = re.compile(r"\s+n?or\s+(?:(?:a|an|any|too|so|very)\s+)?", re.IGNORECASE)
_LEADING = re.compile(r"^\s*(?:but|and)\s+", re.IGNORECASE)


def read_wish(text: str) -> list[tuple[str, float]]:
    """A text as query parts (text, weight): what is wanted at 1, each thing that is not at REFUSED_WEIGHT.

    A text without refusals comes back whole, without the "but" of "but faster".
    """
    plain = re.sub(r"\s+", " ", _APOSTROPHES.sub("'", text))
    plain = _LEADING.sub("", _DOUBLE.sub("with", plain)).strip()
    if not _HINT.search(plain):
        return [(plain, 1.0)]
    refused = [one.strip() for match in _REFUSAL.finditer(plain) for one in _EITHER.split(match["refused"])]
    if not refused:
        return [(plain, 1.0)]
    # Blanks first: a long row of them before no comma would be read from each one to its end.
    wanted = re.sub(r"\s+", " ", _REFUSAL.sub(" ", plain))
    wanted = re.sub(r"\s*,(\s*,)+", ",", wanted)
    wanted = re.sub(r"\s+([,;.])", r"\1", wanted).strip(" ,;.-")
    wanted = re.sub(r"^(?:but|and)\s+|\s+(?:but|and)$", "", wanted, flags=re.IGNORECASE)
    parts = [(wanted, 1.0)] if wanted else []
    return parts + [(one, REFUSED_WEIGHT) for one in dict.fromkeys(refused) if one]
