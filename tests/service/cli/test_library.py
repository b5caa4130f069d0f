"""`clsp search`, `collections` and `delete` against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli.common import CliError
from service.cli.library import parse_filter
from tests.support.clsp_script import LIBRARY, Run


def test_a_clip_finds_itself_first(online: Run, small_library: Path) -> None:
    online("ingest", "find", small_library)
    found = online("search", "find", "--clip", LIBRARY / "man-us-low.ogg", "--json").json()
    assert found["hits"][0]["id"] == "man-us-low"
    assert found["hits"][0]["score"] == pytest.approx(1.0, abs=1e-4)
    assert found["identity"]


def test_an_item_finds_the_others(online: Run, small_library: Path) -> None:
    online("ingest", "like", small_library)
    hits = online("search", "like", "--item", "man-us-low", "--json").json()["hits"]
    assert {hit["id"] for hit in hits} == {"woman-us-fast", "man-us-whisper", "woman-us-creaky"}


def test_conditions_select_before_the_search(online: Run, small_library: Path) -> None:
    online("ingest", "where", small_library)
    men = online("search", "where", "a voice", "--where", "gender=male", "-k", 2, "--json").json()["hits"]
    assert {hit["metadata"]["gender"] for hit in men} == {"male"}
    assert len(men) == 2
    one = online(
        "search", "where", "a voice", "--where", "gender=male", "--filter", '{"pitch": {"exists": true}}', "--json"
    ).json()["hits"]
    assert [hit["id"] for hit in one] == ["man-us-low"]


def test_people_get_a_table(online: Run, small_library: Path) -> None:
    online("ingest", "table", small_library)
    done = online("search", "table", "a man whispers")
    assert done.status == 0
    assert "man-us-whisper" in done.out
    assert "A man whispers quietly." in done.out


def test_a_wrong_field_is_named_with_the_known_ones(online: Run, small_library: Path) -> None:
    online("ingest", "typo", small_library)
    done = online("search", "typo", "a voice", "--where", "gendre=male")
    assert done.status == 1
    assert "gendre" in done.err
    assert "gender" in done.err.replace("gendre", "")
    assert "(422)" in done.err


def test_an_unknown_collection_is_said(online: Run) -> None:
    done = online("search", "nowhere", "a voice")
    assert done.status == 1
    assert "Collection not found (404)" in done.err


def test_items_and_collections_can_be_deleted(online: Run, small_library: Path) -> None:
    online("ingest", "gone", small_library)
    assert online("delete", "gone", "man-us-low").status == 0
    assert online("delete", "gone", "man-us-low").status == 1
    listed = {one["name"]: one for one in online("collections", "--json").json()["data"]}
    assert listed["gone"]["items"] == 3
    for name in ("..", ".", ""):
        done = online("delete", "gone", name)
        assert (done.status, "is not the name of an item" in done.err) == (1, True), done.err
    assert online("search", "gone", "a voice", "--json").json()["hits"], "the collection is still there"
    assert online("delete", "gone").status == 1, "nobody said yes"
    assert online("delete", "gone", "--yes").status == 0
    assert "gone" not in {one["name"] for one in online("collections", "--json").json()["data"]}


def test_values_of_conditions_are_json_where_they_parse() -> None:
    assert parse_filter([], None) is None
    assert parse_filter(["age=40"], None) == {"age": 40}
    for value in ("NaN", "-Infinity", "9" * 5000, "[" * 100_000):
        assert parse_filter([f"name={value}"], None) == {"name": value}
    assert parse_filter(["name=a=b", "calm=true"], '{"x": {"gt": 1}}') == {
        "all": [{"name": "a=b"}, {"calm": True}, {"x": {"gt": 1}}]
    }
    for where, filter_json in ((["age"], None), (["=1"], None), ([], "["), ([], "[1]"), ([], '{"x": NaN}')):
        with pytest.raises(CliError):
            parse_filter(where, filter_json)


def test_a_delete_says_what_went_and_what_was_not_there(online: Run, small_library: Path) -> None:
    assert online("ingest", "partly", small_library).status == 0
    done = online("delete", "partly", "man-us-low", "nope")
    assert done.status == 1
    assert "Deleted man-us-low" in done.out and "no item nope" in done.err


def test_a_field_that_is_asked_for_twice_is_refused_not_found_empty(online: Run, small_library: Path) -> None:
    done = online("search", "partly", "a man", "--where", "gender=male", "--where", "gender=female")
    assert done.status == 1 and "given twice" in done.err
