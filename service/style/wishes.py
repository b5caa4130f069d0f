"""What people type into a search box, read as they mean it: "calm female, not whispering" is a wish and a refusal.

A contrastive model hears "not whispering" much as it hears "whispering", so what is not wanted must leave the text and
become a query part of its own with a negative weight.
"""

from __future__ import annotations

import re
from typing import Final

REFUSED_WEIGHT: Final = -0.5
"""Enough to push what is not wanted down, not so much that the search is for its opposite (docs/search.md)."""

_REFUSAL = re.compile(
    r"[\s,;]*\b(?:but\s+|and\s+)?(?:(?:who|that|which)\s+)?(?:(?:is|are|does|do|should)\s+)?"
    r"(?:not|without|except|never|no|(?:is|are|does|do)n't)\b\s+(?:(?:a|an|any|too|so|very)\s+)?"
    r"(?P<refused>[^,;.]+?)(?=\s*(?:[,;.]|\bbut\b|\band\s+(?:not|no|without|never)\b|$))",
    re.IGNORECASE,
)


def read_wish(text: str) -> list[tuple[str, float]]:
    """A text as query parts (text, weight): what is wanted at 1, each thing that is not at REFUSED_WEIGHT.

    A text without negations comes back as it is.
    """
    refused = [match["refused"].strip() for match in _REFUSAL.finditer(text)]
    if not refused:
        return [(text, 1.0)]
    wanted = re.sub(r"\s*,(\s*,)+", ",", _REFUSAL.sub(" ", text))
    wanted = re.sub(r"\s+([,;.])", r"\1", wanted)
    wanted = re.sub(r"\s+", " ", wanted).strip(" ,;.")
    wanted = re.sub(r"^(?:but|and)\s+|\s+(?:but|and)$", "", wanted, flags=re.IGNORECASE)
    parts = [(wanted, 1.0)] if wanted else []
    return parts + [(one, REFUSED_WEIGHT) for one in refused]
