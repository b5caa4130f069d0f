"""One rule for what becomes of a clip that may be there already."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.exchange.reconcile import metadata_patch, reconcile

OLD = {"gender": "female", "age": 61}


@pytest.mark.parametrize(
    ("stored", "sha256", "said", "outcome", "metadata"),
    [
        (None, "a", None, "added", {}),
        (None, "a", OLD, "added", OLD),
        (("a", OLD), "a", None, "unchanged", OLD),
        (("a", OLD), "a", {**OLD}, "unchanged", OLD),
        (("a", OLD), "a", {}, "relabelled", {}),
        (("a", OLD), "b", None, "replaced", OLD),
        (("a", OLD), "b", {"mood": "calm"}, "replaced", {"mood": "calm"}),
    ],
)
def test_each_case(stored: object, sha256: str, said: object, outcome: str, metadata: object) -> None:
    decision = reconcile(stored, sha256, said)  # type: ignore[arg-type]
    assert (decision.outcome, decision.metadata) == (outcome, metadata)
    assert decision.new_content == (outcome in ("added", "replaced"))


WORDS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3))


@given(WORDS, WORDS)
def test_a_patch_makes_the_one_of_the_other(old: dict[str, int], wanted: dict[str, int]) -> None:
    patch = metadata_patch(old, wanted)
    merged = {**old, **patch}
    assert {name: value for name, value in merged.items() if value is not None} == wanted
