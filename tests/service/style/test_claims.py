"""What captions claim: attributes with their negations, in the words and marks that people and files write."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from service.style.claims import Claim, read_claims
from service.style.drill import FamilyCosines, judge_claims


@pytest.mark.parametrize(
    ("caption", "claims"),
    [
        ("warm, low, slow, slightly amused", ["timbre dark", "pitch low", "rate slow", "emotion happy"]),
        ("calm female, not whispering", ["emotion calm", "gender female", "not phonation whispering"]),
        ("not too fast", ["not rate fast"]),
        ("she isn't loud", ["not loudness loud"]),
        ("she isn\u2019t loud", ["not loudness loud"]),
        ("he can't be loud, and won\u2019t whisper", ["not loudness loud", "not phonation whispering"]),
        ("neither fast nor slow", ["not rate fast", "not rate slow"]),
        ("not only fast but loud", ["rate fast", "loudness loud"]),
        ("Pitch: low. Volume: high. Speed: slow.", ["pitch low", "loudness loud", "rate slow"]),
        ("The volume is low.", ["loudness soft"]),
        ("a low volume, high energy voice", ["loudness soft"]),
        ("Energy: very high.", []),
        ("speaks at a fast pace in a high voice", ["rate fast", "pitch high"]),
        ("not one of those who are loud", ["loudness loud"]),
        ("not - as they say - 'so' loud", ["loudness loud"]),
        ("not - at all - loud", ["not loudness loud"]),
        ("The volume stays low, the voice is low.", ["loudness soft", "pitch low"]),
    ],
)
def test_claims_are_read(caption: str, claims: list[str]) -> None:
    found = [f"{'not ' if one.negated else ''}{one.family} {one.value}" for one in read_claims(caption)]
    assert sorted(found) == sorted(claims)


@pytest.mark.parametrize(
    "text",
    [
        "'deep ' * 20_000",
        "'not' + '-' * 100_000 + ' a b c d deep'",
        "'a' + ' ' * 200_000 + 'b'",
        "'no a(' * 100_000",
    ],
)
def test_a_text_costs_by_its_length_whatever_is_in_it(text: str) -> None:
    """Each takes a second; read again from every place in it, minutes or for ever. A regex cannot count its steps, so
    the only way to tell is to stop waiting, in a process that can be ended."""
    code = (
        "from service.style.claims import read_claims; from service.style.moments import split_caption; "
        f"from service.style.negation import read_wish; text = {text}; "
        "read_claims(text); split_caption(text); read_wish(text)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_what_is_refused_twice_is_meant_of_the_whole_clip() -> None:
    cosines = {
        "rate": FamilyCosines(
            {"slow": 0.1, "normal": 0.4, "fast": 0.1},
            {name: np.array(values) for name, values in (("slow", [0.5, 0]), ("normal", [0, 0]), ("fast", [0, 0.5]))},
        )
    }
    claims = [Claim("rate", value, value, negated=True) for value in ("slow", "fast")]
    assert all(one.margin > 0 for one in judge_claims(claims, cosines, 10.0)), "as a whole it is neither"
    changing = [Claim("rate", value, value) for value in ("slow", "fast")]
    assert all(one.margin > 0 for one in judge_claims(changing, cosines, 10.0)), "each holds in its own window"
