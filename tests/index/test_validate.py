"""What may not enter the index: each refusal names the field at fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from index.errors import DimensionMismatch, InvalidInput, InvalidName
from index.types import Limits, MediaBlob, NewSegment
from index.validate import check_collection_name, check_item, check_item_id, check_metadata, check_vector
from tests.support.index_oracle import clip, unit


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "0" * 64])
def test_collection_names_that_are_fine(name: str) -> None:
    assert check_collection_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "a b", "é", "0" * 65, "a\n", "a\0", 3, None])
def test_collection_names_that_are_refused(name: Any) -> None:
    with pytest.raises(InvalidName):
        check_collection_name(name)


@pytest.mark.parametrize("item_id", ["a", "clip 1.wav", "...", "名前", "a'b\"c", "%2F", "x" * 256, "é", "a\\b", "🎤"])
def test_ids_that_are_fine(item_id: str) -> None:
    assert check_item_id(item_id) == item_id


@pytest.mark.parametrize("item_id", ["", "a/b", ".", "..", "a\nb", "a\0", "\x7f", "\ud800", "a\u2028", "x" * 257, 3])
def test_ids_that_are_refused(item_id: Any) -> None:
    with pytest.raises(InvalidName) as caught:
        check_item_id(item_id, "items[3].id")
    assert caught.value.field == "items[3].id"


def test_metadata_is_copied_and_kept_as_it_is() -> None:
    tags: list[Any] = ["a", 1, None]
    given = {"t": tags, "n": 1.5, "i": -(2**63) + 1, "b": False, "z": None, "s": "line\nbreak", "e": []}
    checked = check_metadata(given, Limits())
    tags.append("later")
    assert checked == {**given, "t": ["a", 1, None]}


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"a": {"b": 1}}, "metadata.a"),
        ({"a": [[1]]}, "metadata.a[0]"),
        ({"a": [1, {"b": 1}]}, "metadata.a[1]"),
        ({"a": float("inf")}, "metadata.a"),
        ({"a": [0, float("nan")]}, "metadata.a[1]"),
        ({"a": 2**63}, "metadata.a"),
        ({"a": b"bytes"}, "metadata.a"),
        ({"a": np.float32(1)}, "metadata.a"),
        ({"a": "\0"}, "metadata.a"),
        ({"a": "\udfff"}, "metadata.a"),
        ({"a": "x" * 9}, "metadata.a"),
        ({"a": [1, 2, 3, 4]}, "metadata.a"),
        ({"": 1}, "metadata"),
        ({3: 1}, "metadata"),
        ({"toolong": 1}, "metadata: field name"),
        ({"a\0": 1}, "metadata: field name"),
        ({"not": 1}, "metadata.not"),
        ({"a": 1, "b": 1, "c": 1}, "metadata"),
        ([("a", 1)], "metadata"),
    ],
)
def test_metadata_that_is_refused(metadata: Any, field: str) -> None:
    limits = Limits(max_fields=2, max_field_chars=6, max_text_chars=8, max_list=3)
    with pytest.raises(InvalidInput) as caught:
        check_metadata(metadata, limits)
    assert caught.value.field == field


def test_a_vector_is_brought_to_exactly_unit_length() -> None:
    vector = unit(1, 8) * np.float32(1.0009)
    checked = check_vector(vector, 8)
    assert checked.dtype == np.float32
    assert abs(float(np.linalg.norm(checked.astype(np.float64))) - 1) < 1e-6


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4),
        np.ones(4),
        unit(1, 4) * 1.002,
        np.array([np.nan, 0, 0, 1]),
        np.array([np.inf, 0, 0, 1]),
        np.eye(4),
        ["a", "b", "c", "d"],
        [[1.0], 0.0, 0.0, 0.0],
        None,
        1.0,
    ],
)
def test_vectors_that_are_refused(vector: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_vector(vector, 4, "query")
    assert caught.value.field == "query"


def test_another_dimension_is_its_own_error() -> None:
    with pytest.raises(DimensionMismatch) as caught:
        check_vector(unit(1, 5), 4, "query")
    assert (caught.value.expected, caught.value.got, caught.value.field) == (4, 5, "query")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "a/b"}, "items[2].id"),
        ({"segments": []}, "items[2].segments"),
        ({"segments": [NewSegment(0, 1, unit(1, 4))] * 4}, "items[2].segments"),
        ({"segments": [NewSegment(2, 1, unit(1, 4))]}, "items[2].segments[0].end_s"),
        ({"segments": [NewSegment(-1, 1, unit(1, 4))]}, "items[2].segments[0].start_s"),
        ({"segments": [NewSegment(0, 1, np.ones(4, np.float32))]}, "items[2].segments[0].vector"),
        ({"duration_s": float("nan")}, "items[2].duration_s"),
        ({"content_sha256": "A" * 64}, "items[2].content_sha256"),
        ({"content_sha256": "a" * 63}, "items[2].content_sha256"),
        ({"filename": "a\0"}, "items[2].filename"),
        ({"media": MediaBlob(b"", "audio")}, "items[2].media_type"),
        ({"media": MediaBlob(b"", "audio/wav\r\nX: y")}, "items[2].media_type"),
        ({"metadata": {"a": {}}}, "items[2].metadata.a"),
    ],
)
def test_items_that_are_refused(change: dict[str, Any], field: str) -> None:
    item = replace(clip("fine", [1, 2], 4), **change)
    with pytest.raises(InvalidInput) as caught:
        check_item(item, 4, Limits(max_segments=3), "items[2]")
    assert caught.value.field == field
