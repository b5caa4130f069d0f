"""The filter language: what it accepts and refuses by name, and that each backend agrees with a plain evaluator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from index.backend import Store
from index.errors import FilterError, UnknownField
from index.filters import FilterLimits, filter_fields, parse_filter
from tests.support.index_backends import Backend
from tests.support.index_oracle import clip, folder_in_memory, holds

HOSTILE = ["a", "a.b", 'quo"te', "'; DROP TABLE items; --", "$.x[0]", "?1", "名", "a b", "%", "NULL", "\\"]

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
numbers = st.integers(-3, 3) | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
near = st.sampled_from([2**53, 2**53 + 1, float(2**53), 0.1 + 0.2, 0.3, -0.0, 0, 1, 1.0, True, False, "1", "", None])
scalars = near | st.none() | st.booleans() | numbers | texts
fields = st.sampled_from(HOSTILE)
metadatas = st.dictionaries(fields, scalars | st.lists(scalars, max_size=3), max_size=4)
ordered = numbers | texts
operators = (
    st.fixed_dictionaries({}, optional={"eq": scalars, "ne": scalars, "contains": scalars, "exists": st.booleans()})
    | st.fixed_dictionaries({}, optional=dict.fromkeys(("gt", "gte", "lt", "lte"), ordered))
    | st.fixed_dictionaries({}, optional={op: st.lists(scalars, min_size=1, max_size=4) for op in ("in", "nin")})
).filter(bool)
conditions = st.dictionaries(fields, scalars | st.lists(scalars, min_size=1, max_size=3) | operators, max_size=2)
filters = st.recursive(
    conditions,
    lambda inner: (
        st.fixed_dictionaries({"not": inner})
        | st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)})
        | st.tuples(conditions, inner).map(lambda pair: {**pair[0], "not": pair[1]})
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def shared(backend: Backend) -> Iterator[Store]:
    folder = folder_in_memory()
    with closing(backend.open(folder)) as store:
        yield store
    shutil.rmtree(folder)


HARD: list[tuple[list[Any], list[Any]]] = [
    ([{"a": 2**53 + 1}], [{"a": float(2**53)}, {"a": {"gt": float(2**53)}}]),
    (
        [{"a": True}, {"a": 1}, {"a": "1"}, {"a": None}, {}],
        [{"a": 1}, {"a": {"ne": 1}}, {"not": {"a": 1}}, {"a": None}],
    ),
    ([{"a": []}, {"a": [None]}], [{"a": {"exists": True}}, {"a": {"contains": None}}, {"a": {"ne": 1}}]),
    ([{"a": "é"}, {"a": "é!"}, {"a": 3}, {}], [{"not": {"a": {"gte": "é"}}}, {"not": {"a": {"nin": ["é", 3]}}}]),
]


def examples(most: int) -> Any:
    """Hypothesis' settings for a server or a file that costs as much as it does."""
    return settings(
        max_examples=most, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )


def every_filter(test: Any) -> Any:
    """Items and filters at random, and those that once were, or could be, wrong."""
    for items, wheres in HARD:
        test = example(items, wheres)(test)
    return given(st.lists(metadatas, min_size=1, max_size=5), st.lists(filters, min_size=1, max_size=4))(test)


def check_filters(shared: Store, metadatas: list[Any], wheres: list[Any]) -> None:
    # Every field exists on one more item, so that no filter fails for naming an unknown one.
    before = [*metadatas, dict.fromkeys(HOSTILE, "~")]
    after = [*before[1:], before[0]]
    shared.create_collection("c", dim=4, identity="x")
    try:
        # Asked again after every item got another one's metadata, answers that were remembered have to follow.
        for given in (before, after):
            items = {f"i{i}": metadata for i, metadata in enumerate(given)}
            batch = [clip(item_id, [i], 4, data) for i, (item_id, data) in enumerate(items.items())]
            shared.upsert("c", batch, identity="x")
            for where in wheres:
                expected = {item_id for item_id, metadata in items.items() if holds(where, metadata)}
                parsed = parse_filter(where)
                listed, cursor = shared.list_items("c", limit=100, where=parsed)
                assert {item.id for item in listed} == expected
                assert cursor is None
                found = shared.search("c", clip("q", [7], 4).segments[0].vector, top_k=100, where=parsed)
                assert {hit.item_id for hit in found} == expected
            assert {item.id: item.metadata for item in shared.list_items("c", limit=100)[0]} == items
    finally:
        shared.delete_collection("c")


@pytest.mark.parametrize("backend", ["local"], indirect=True)
@examples(150)
@every_filter
def test_sql_agrees_with_a_plain_evaluator(shared: Store, metadatas: list[Any], wheres: list[Any]) -> None:
    check_filters(shared, metadatas, wheres)


@pytest.mark.parametrize("backend", ["milvus"], indirect=True)
@examples(30)
@every_filter
def test_milvus_agrees_with_a_plain_evaluator(shared: Store, metadatas: list[Any], wheres: list[Any]) -> None:
    check_filters(shared, metadatas, wheres)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["milvus"], indirect=True)
@examples(300)
@every_filter
def test_milvus_agrees_at_length(shared: Store, metadatas: list[Any], wheres: list[Any]) -> None:
    check_filters(shared, metadatas, wheres)


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ([], "filter"),
        ({"age": {"above": 3}}, "filter.age.above"),
        ({"age": {}}, "filter.age"),
        ({"age": {"gte": True}}, "filter.age.gte"),
        ({"age": {"gte": None}}, "filter.age.gte"),
        ({"age": {"eq": [1]}}, "filter.age.eq"),
        ({"age": {"eq": {"x": 1}}}, "filter.age.eq"),
        ({"age": float("nan")}, "filter.age"),
        ({"age": 2**70}, "filter.age"),
        ({"age": "a\0b"}, "filter.age"),
        ({"age": "\ud800"}, "filter.age"),
        ({"age": [[1]]}, "filter.age[0]"),
        ({"age": []}, "filter.age"),
        ({"age": {"in": 3}}, "filter.age.in"),
        ({"age": {"exists": 1}}, "filter.age.exists"),
        ({"any": []}, "filter.any"),
        ({"any": {"a": 1}}, "filter.any"),
        ({"any": [{"a": 1}, 3]}, "filter.any[1]"),
        ({"not": 3}, "filter.not"),
        ({"all": [{"not": {"x": {"lt": []}}}]}, "filter.all[0].not.x.lt"),
        ({"": 1}, "filter"),
        ({1: 1}, "filter"),
        ({"a\0": 1}, "filter: field name"),
    ],
)
def test_what_is_not_of_the_language_is_refused_by_name(where: Any, field: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(where)
    assert caught.value.field == field
    assert field in str(caught.value)


def test_limits_bound_depth_conditions_and_values() -> None:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(4):
        deep = {"not": deep}
    parse_filter(deep, limits=FilterLimits(max_depth=5))
    with pytest.raises(FilterError, match="deeper than 4"):
        parse_filter(deep, limits=FilterLimits(max_depth=4))
    with pytest.raises(FilterError, match="more than 2 conditions"):
        parse_filter({"a": 1, "b": {"gt": 1, "lt": 3}}, limits=FilterLimits(max_conditions=2))
    parse_filter({"any": [{}, {"not": {}}]}, limits=FilterLimits(max_conditions=2))
    for empty in ({"any": [{}, {}, {}]}, {"all": [{"not": {}}, {"any": [{}]}], "not": {}}, {"a": 1, "all": [{}, {}]}):
        with pytest.raises(FilterError, match="more than 2 conditions"):
            parse_filter(empty, limits=FilterLimits(max_conditions=2))
    with pytest.raises(FilterError, match="more than 3 listed values"):
        parse_filter({"a": [1, 2], "b": [1, 2]}, limits=FilterLimits(max_values=3))
    with pytest.raises(FilterError, match="longer than 3"):
        parse_filter({"a": "four"}, limits=FilterLimits(max_chars=3))


def test_the_largest_filter_allowed_runs(shared: Store) -> None:
    shared.create_collection("big", dim=4, identity="x")
    shared.upsert("big", [clip("one", [1], 4, {"a": 5})], identity="x")
    limits = FilterLimits()
    wide = {"any": [{"a": {"gt": 100 + i}} for i in range(limits.max_conditions - 1)] + [{"a": 5}]}
    long = {"a": list(range(limits.max_values))}
    deep: dict[str, Any] = wide
    for _ in range(limits.max_depth - 2):
        deep = {"all": [deep]}
    empty = {"any": [{"not": {}}] * (limits.max_conditions - 1) + [{}]}
    for where in (wide, long, deep, empty):
        assert [item.id for item in shared.list_items("big", where=parse_filter(where))[0]] == ["one"]
    shared.delete_collection("big")


def test_fields_of_a_filter() -> None:
    where = parse_filter({"a": 1, "any": [{"b": 1}, {"not": {"c": {"exists": True}, "a": 2}}]})
    assert filter_fields(where) == ["a", "b", "c"]


def test_a_field_that_no_item_has_is_an_error_that_lists_the_known_ones(backend: Backend, tmp_path: Path) -> None:
    with closing(backend.open(tmp_path)) as store:
        store.create_collection("c", dim=4, identity="x")
        store.create_collection("other", dim=4, identity="x")
        store.upsert("other", [clip("o", [1], 4, {"pitch": 1})], identity="x")
        store.upsert("c", [clip("a", [1], 4, {"gender": "female", "age": 3})], identity="x")
        for call in (
            lambda where: store.search("c", clip("q", [1], 4).segments[0].vector, top_k=1, where=where),
            lambda where: store.list_items("c", where=where),
        ):
            with pytest.raises(UnknownField) as caught:
                call(parse_filter({"any": [{"gender": "female"}, {"not": {"pitch": 1}}]}))
            assert (caught.value.field, caught.value.known) == ("pitch", ["age", "gender"])
