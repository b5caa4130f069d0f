"""Filters as people write them: numbers and texts, lists, composed and decomposed names, date-times with an offset."""

from typing import Any

import httpx
import pytest

from tests.support.audio_files import encode, voice

COMPOSED, DECOMPOSED = "Jos\u00e9", "Jose\u0301"


@pytest.fixture
def stored(client: httpx.Client, collection: str) -> str:
    metadata = (
        f'{{"speaker": "{DECOMPOSED}", "date": "2024-05-01T08:00:00Z", "year": "2020", "age": 41, '
        '"tags": ["calm", "low"], "ok": true}'
    )
    files = {"files": (f"{DECOMPOSED}.wav", encode(voice(1.0), 16_000), "audio/wav")}
    assert client.post(f"{collection}/items", files=files, data={"metadata": metadata}).status_code == 201
    return collection


def hits(client: httpx.Client, collection: str, where: dict[str, Any]) -> int:
    answer = client.post(f"{collection}/search", json={"query": "a man", "filter": where})
    assert answer.status_code == 200, answer.text
    return len(answer.json()["hits"])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"year": 2020}, 1),
        ({"year": "2020"}, 1),
        ({"year": 2021}, 0),
        ({"age": "41"}, 1),
        ({"age": {"gte": "40"}}, 1),
        ({"age": {"lt": "40"}}, 0),
        ({"ok": "true"}, 1),
        ({"tags": "calm"}, 1),
        ({"tags": ["loud", "low"]}, 1),
        ({"tags": "loud"}, 0),
        ({"tags": {"contains": "calm"}}, 1),
        ({"not": {"tags": "calm"}}, 0),
        ({"year": {"ne": 2020}}, 0),
        ({"year": {"ne": 2021}}, 1),
        ({"speaker": COMPOSED}, 1),
        ({"speaker": DECOMPOSED}, 1),
        ({"date": {"gte": "2024-05-01T07:30:00Z"}}, 1),
    ],
)
def test_what_is_meant_is_found(client: httpx.Client, stored: str, where: dict[str, Any], expected: int) -> None:
    assert hits(client, stored, where) == expected


def test_a_time_with_an_offset_is_refused_not_compared_as_text(client: httpx.Client, stored: str) -> None:
    where = {"date": {"gte": "2024-05-01T08:30:00+02:00"}}
    answer = client.post(f"{stored}/search", json={"query": "a man", "filter": where})
    assert answer.status_code == 422
    assert answer.json()["field"] == "filter.date.gte" and "UTC" in answer.json()["detail"]


def test_a_name_has_one_id_in_both_of_its_forms(client: httpx.Client, stored: str) -> None:
    assert [item["id"] for item in client.get(f"{stored}/items").json()["data"]] == [f"{COMPOSED}.wav"]
    for form in (COMPOSED, DECOMPOSED):
        assert client.get(f"{stored}/items/{form}.wav").status_code == 200
    files = {"files": (f"{COMPOSED}.wav", encode(voice(1.0), 16_000), "audio/wav")}
    again = client.post(f"{stored}/items", files=files, data={"metadata": "{}"})
    assert [item["created"] for item in again.json()["items"]] == [False]
