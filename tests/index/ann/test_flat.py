"""The FAISS layer alone: selection before search, removal, and scores that do not depend on the place."""

from __future__ import annotations

import numpy as np
import pytest

from index.ann.flat import FlatIndex, Selection
from index.types import Vector
from tests.support.index_oracle import unit

DIM = 24
Vectors = dict[int, Vector]


@pytest.fixture
def vectors() -> Vectors:
    # Ids far apart make a bitmap larger than a hash set, so both selectors are met.
    return {i if i < 50 else i * 10**8: unit(i, DIM) for i in range(100)}


@pytest.fixture
def index(vectors: Vectors) -> FlatIndex:
    index = FlatIndex(DIM)
    index.add(np.array(list(vectors), dtype=np.int64), np.stack(list(vectors.values())))
    return index


@pytest.mark.parametrize("wanted", [[], [3], list(range(0, 50, 2)), [1, 60 * 10**8, 99 * 10**8], "all"])
@pytest.mark.parametrize("inverted", [False, True])
def test_only_selected_ids_are_searched(
    index: FlatIndex, vectors: Vectors, wanted: list[int] | str, inverted: bool
) -> None:
    ids = list(vectors) if wanted == "all" else wanted
    query = unit(1000, DIM)
    candidates = [key for key in vectors if (key in ids) != inverted]
    expected = sorted(candidates, key=lambda key: -float(vectors[key] @ query))[:20]
    scores, found = index.search(query, 20, Selection(np.array(ids, dtype=np.int64), inverted))
    assert found.tolist() == expected
    assert np.allclose(scores, [vectors[key] @ query for key in expected], atol=1e-6)


def test_removed_ids_are_gone_and_others_stay(index: FlatIndex, vectors: Vectors) -> None:
    gone = [0, 7, 99 * 10**8, 12345]
    index.remove(np.array(gone, dtype=np.int64))
    assert len(index) == 97
    scores, found = index.search(unit(7, DIM), 1000)
    assert set(found.tolist()) == set(vectors) - set(gone)
    assert (np.diff(scores) <= 0).all()


def test_equal_vectors_score_equally_wherever_they_lie() -> None:
    for count in (1, 2, 3, 5, 8, 13, 500):
        index = FlatIndex(DIM)
        index.add(np.arange(count, dtype=np.int64), np.repeat(unit(1, DIM)[None], count, axis=0))
        scores, _ = index.search(unit(2, DIM), count)
        some, _ = index.search(unit(2, DIM), count, Selection(np.arange(0, count, 2, dtype=np.int64)))
        assert len(set(scores.tolist()) | set(some.tolist())) == 1


def test_an_empty_index_answers_nothing() -> None:
    scores, found = FlatIndex(DIM).search(unit(1, DIM), 3)
    assert (len(scores), len(found)) == (0, 0)
