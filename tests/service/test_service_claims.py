"""What captions claim: attributes with their negations, in the words and marks that people and files write."""

from __future__ import annotations

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
    ],
)
def test_claims_are_read(caption: str, claims: list[str]) -> None:
    found = [f"{'not ' if one.negated else ''}{one.family} {one.value}" for one in read_claims(caption)]
    assert sorted(found) == sorted(claims)


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
