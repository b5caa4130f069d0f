"""Wishes in words: what is refused leaves the text, whatever people write it with, and nothing else does."""

from __future__ import annotations

import pytest

from service.style.negation import REFUSED_WEIGHT, read_wish

NOT = REFUSED_WEIGHT


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a calm older woman", [("a calm older woman", 1.0)]),
        ("calm female, not whispering", [("calm female", 1.0), ("whispering", NOT)]),
        ("not whispering, calm female", [("calm female", 1.0), ("whispering", NOT)]),
        ("no music", [("music", NOT)]),
        ("not too fast", [("fast", NOT)]),
        ("not a woman", [("woman", NOT)]),
        ("calm, not sad but warm", [("calm but warm", 1.0), ("sad", NOT)]),
        ("calm; no music; no noise", [("calm", 1.0), ("music", NOT), ("noise", NOT)]),
        ("not fast and not loud", [("fast", NOT), ("loud", NOT)]),
        ("a man, never fast or loud", [("a man", 1.0), ("fast", NOT), ("loud", NOT)]),
        ("a man reads aloud, neither fast nor slow", [("a man reads aloud", 1.0), ("fast", NOT), ("slow", NOT)]),
        ("a woman who doesn't whisper", [("a woman", 1.0), ("whisper", NOT)]),
        ("a woman who doesn\u2019t whisper", [("a woman", 1.0), ("whisper", NOT)]),
        ("a man, can't be loud", [("a man", 1.0), ("loud", NOT)]),
        ("warm (not whispering) and low", [("warm and low", 1.0), ("whispering", NOT)]),
        ("calm - not whispering", [("calm", 1.0), ("whispering", NOT)]),
        ("calm \u2013 not whispering", [("calm", 1.0), ("whispering", NOT)]),
        ("a low-pitched, not breathy, well-spoken man", [("a low-pitched, well-spoken man", 1.0), ("breathy", NOT)]),
        ("but faster", [("faster", 1.0)]),
        ("but not faster", [("faster", NOT)]),
        # Words that look like refusals and are none.
        ("a no-nonsense, non-native tone", [("a no-nonsense, non-native tone", 1.0)]),
        ("not only calm but warm", [("not only calm but warm", 1.0)]),
        ("without a doubt angry", [("without a doubt angry", 1.0)]),
        ("a man, not without warmth", [("a man, with warmth", 1.0)]),
        ("a knot of tension", [("a knot of tension", 1.0)]),
        ("not", [("not", 1.0)]),
    ],
)
def test_refusals_leave_the_text(text: str, parts: list[tuple[str, float]]) -> None:
    assert read_wish(text) == parts
