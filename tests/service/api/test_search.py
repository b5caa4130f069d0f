"""POST /v1/collections/{c}/search: text, clips, items and vectors, with filters, against exact arithmetic."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.support.audio_files import encode, voice
from tests.support.http import add, clip, data_uri, refused
from tests.support.paths import LIBRARY
from tests.support.serving import Serve


@pytest.fixture(scope="module")
def library(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str]]:
    """Six voices, half of them "female", one of each pair "old"."""
    with serve(data_dir=tmp_path_factory.mktemp("library")) as own:
        path = "/v1/collections/voices"
        own.client.put(path)
        for i in range(6):
            add(own.client, path, f"v{i}", clip(1, seed=i), gender="female" if i % 2 else "male", age=20 + 10 * i)
        yield own.client, path


def embedded(client: httpx.Client, inputs: list[str], modality: str) -> np.ndarray:
    answer = client.post("/v1/embeddings", json={"input": inputs, "modality": modality}).json()
    return np.array([row["embedding"] for row in answer["data"]])


def found(client: httpx.Client, path: str, **body: object) -> list[dict]:
    response = client.post(f"{path}/search", json=body)
    assert response.status_code == 200, response.text
    return list(response.json()["hits"])


def test_text_ranks_by_cosine(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    query = "a low calm voice"
    text = embedded(client, [query], "text")[0]
    clips = embedded(client, [data_uri(clip(1, seed=i)) for i in range(6)], "audio")
    expected = sorted(range(6), key=lambda i: -float(clips[i] @ text))
    hits = found(client, path, query=query)
    assert [hit["id"] for hit in hits] == [f"v{i}" for i in expected]
    assert np.allclose([hit["score"] for hit in hits], [clips[i] @ text for i in expected], atol=1e-4)
    probabilities = [hit["match_probability"] for hit in hits]
    assert all(0 < one < 1 for one in probabilities)
    assert probabilities == sorted(probabilities, reverse=True)
    assert hits[0]["segment"] == {"start_s": 0.0, "end_s": 1.0}


def test_a_clip_finds_itself_and_an_item_finds_others(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    by_clip = found(client, path, query=[{"audio": data_uri(clip(1, seed=2))}])
    assert by_clip[0]["id"] == "v2"
    assert by_clip[0]["score"] > 0.9999
    by_item = found(client, path, query=[{"item_id": "v2"}])
    assert [hit["id"] for hit in by_item] == [hit["id"] for hit in by_clip[1:]]
    assert found(client, path, query=[{"item_id": "v2"}], include_query_item=True)[0]["id"] == "v2"


def test_weights_move_the_query(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    for near, far in (("v1", "v4"), ("v4", "v1")):
        parts = [{"item_id": near, "weight": 20}, {"item_id": far, "weight": 1}]
        assert found(client, path, query=parts, include_query_item=True)[0]["id"] == near
    vectors = embedded(client, [data_uri(clip(1, seed=i)) for i in (1, 4)], "audio")
    mixed = 2 * vectors[0] + vectors[1]
    by_hand = found(client, path, query=[{"vector": mixed.tolist()}])
    by_parts = found(client, path, query=[{"item_id": "v1", "weight": 2}, {"item_id": "v4"}], include_query_item=True)
    assert [hit["id"] for hit in by_parts] == [hit["id"] for hit in by_hand]
    assert np.allclose([hit["score"] for hit in by_parts], [hit["score"] for hit in by_hand], atol=1e-5)


@pytest.mark.parametrize(
    ("conditions", "ids"),
    [
        ({"gender": "female"}, {"v1", "v3", "v5"}),
        ({"age": {"gte": 40, "lt": 60}}, {"v2", "v3"}),
        ({"gender": ["female", "male"], "not": {"age": {"gt": 30}}}, {"v0", "v1"}),
        ({"any": [{"age": 20}, {"age": 70}]}, {"v0", "v5"}),
        ({"gender": "nobody"}, set()),
    ],
)
def test_filters_select_before_the_search(library: tuple[httpx.Client, str], conditions: dict, ids: set) -> None:
    client, path = library
    assert {hit["id"] for hit in found(client, path, query="a voice", filter=conditions, top_k=6)} == ids


def test_limits_of_hits_and_score(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    hits = found(client, path, query="a voice")
    assert found(client, path, query="a voice", top_k=2) == hits[:2]
    assert found(client, path, query="a voice", min_score=hits[2]["score"] - 1e-6) == hits[:3]


def test_the_best_segment_of_a_long_clip_is_named(client: httpx.Client, collection: str) -> None:
    low, high = voice(20, seed=1), voice(10, seed=5)
    long = np.concatenate([low, high, low])
    assert add(client, collection, "long", encode(long, 16_000))["segments"] > 5
    (hit,) = client.post(f"{collection}/search", json={"query": [{"audio": data_uri(encode(high, 16_000))}]}).json()[
        "hits"
    ]
    assert hit["segment"] == {"start_s": 20.0, "end_s": 30.0}
    assert hit["score"] > 0.999
    assert hit["duration_s"] == 50


def test_a_negative_weight_pushes_away(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    parts = [{"item_id": "v1"}, {"item_id": "v4", "weight": -0.9}]
    hits = found(client, path, query=parts, include_query_item=True)
    vectors = embedded(client, [data_uri(clip(1, seed=i)) for i in range(6)], "audio")
    expected = vectors @ (vectors[1] - 0.9 * vectors[4])
    assert [hit["id"] for hit in hits] == [f"v{i}" for i in np.argsort(-expected)]
    for hit in hits:
        own = vectors[int(hit["id"][1])]
        assert hit["parts"] == pytest.approx([own @ vectors[1], own @ vectors[4]], abs=1e-4)


def test_a_text_is_read_for_what_it_refuses(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    read = client.post(f"{path}/search", json={"query": "a calm voice, not whispering"}).json()
    assert [(part["text"], part["weight"]) for part in read["query"]] == [("a calm voice", 1.0), ("whispering", -0.5)]
    parts = [{"text": "a calm voice"}, {"text": "whispering", "weight": -0.5}]
    assert found(client, path, query=parts) == read["hits"]
    literal = client.post(f"{path}/search", json={"query": [{"text": "a calm voice, not whispering"}]}).json()
    assert [part["weight"] for part in literal["query"]] == [1.0]
    assert literal["hits"][0]["parts"] is None


def test_a_text_beside_parts_is_read_too(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    mixed = client.post(f"{path}/search", json={"query": [{"item_id": "v1"}, "but faster, not whispering"]}).json()
    parts = [{"item_id": "v1"}, {"text": "faster"}, {"text": "whispering", "weight": -0.5}]
    assert mixed["hits"] == found(client, path, query=parts)
    assert [(part["item_id"], part["text"]) for part in mixed["query"]] == [
        ("v1", None),
        (None, "faster"),
        (None, "whispering"),
    ]
    for wrong in ([{"item_id": "v1"}, 3], [{"item_id": "v1"}, ""], []):
        refused(client.post(f"{path}/search", json={"query": wrong}), 422, "invalid-request")


def test_a_query_that_cancels_out_is_refused(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    parts = [{"item_id": "v1"}, {"item_id": "v1", "weight": -1}]
    refused(client.post(f"{path}/search", json={"query": parts}), 422, "invalid-request", field="query")


def test_words_move_a_query_by_clip(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    answer = client.post(f"{path}/search", json={"query": [{"item_id": "v1"}, {"text": "fast", "weight": 0.5}]}).json()
    assert [part["weight"] for part in answer["query"]] == [1.0, 1.5]


def test_diverse_hits_are_not_copies(client: httpx.Client, collection: str) -> None:
    for name, seed in (("a1", 1), ("a2", 1), ("a3", 1), ("b", 4), ("c", 9)):
        add(client, collection, name, clip(1, seed=seed))
    query = [{"audio": data_uri(clip(1, seed=1))}]
    plain = [hit["id"] for hit in found(client, collection, query=query, top_k=3)]
    assert plain == ["a1", "a2", "a3"]
    diverse = [hit["id"] for hit in found(client, collection, query=query, top_k=2, diversity=0.6)]
    assert diverse[0] == "a1"
    assert diverse[1] in ("b", "c")
    filtered = found(client, collection, query=query, top_k=10, diversity=1)
    assert sorted(hit["id"] for hit in filtered) == ["a1", "a2", "a3", "b", "c"]


@pytest.mark.parametrize(
    ("body", "slug", "field"),
    [
        ({}, "invalid-request", "query"),
        ({"query": ""}, "invalid-request", "query[0].text"),
        ({"query": []}, "invalid-request", "query"),
        ({"query": 5}, "invalid-request", "query"),
        ({"query": [{}]}, "invalid-request", "query[0]"),
        ({"query": [{"text": "a", "item_id": "v0"}]}, "invalid-request", "query[0]"),
        ({"query": [{"text": "a", "weight": 0}]}, "invalid-request", "query[0].weight"),
        ({"query": [{"text": "a", "weight": -1001}]}, "invalid-request", "query[0].weight"),
        ({"query": "a", "diversity": 1.5}, "invalid-request", "diversity"),
        ({"query": [{"text": "a"}] * 17}, "limit-exceeded", "query"),
        ({"query": [{"vector": [1.0, 0.0]}]}, "dimension-mismatch", "query[0].vector"),
        ({"query": [{"audio": "http://example.com/a.wav"}]}, "invalid-audio", "query[0].audio"),
        ({"query": "a", "top_k": 0}, "invalid-request", "top_k"),
        ({"query": "a", "top_k": 1001}, "limit-exceeded", "top_k"),
        ({"query": "a", "min_score": 2}, "invalid-request", "min_score"),
        ({"query": "a", "topk": 5}, "invalid-request", "topk"),
        ({"query": "a", "filter": {"age": {"over": 5}}}, "invalid-filter", "filter.age.over"),
        ({"query": "a", "filter": {"aeg": 5}}, "unknown-field", "filter.aeg"),
        ({"query": "a", "filter": []}, "invalid-request", "filter"),
        ({"query": "a", "filter": {"any": [{}] * 1200}}, "invalid-filter", "filter.any[256]"),
    ],
)
def test_refusals_name_the_field(library: tuple[httpx.Client, str], body: dict, slug: str, field: str) -> None:
    client, path = library
    problem = refused(client.post(f"{path}/search", json=body), 422, slug, field=field)
    if slug == "unknown-field":
        assert problem["known"] == ["age", "gender"]
    if slug in ("limit-exceeded", "dimension-mismatch"):
        assert str(problem["limit"]) in problem["detail"]


def test_unknown_names_are_404(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    refused(
        client.post("/v1/collections/none/search", json={"query": "a"}), 404, "unknown-collection", field="collection"
    )
    refused(
        client.post(f"{path}/search", json={"query": [{"item_id": "none"}]}),
        404,
        "unknown-item",
        field="query[0].item_id",
    )


def test_style_compares_how_it_is_spoken(client: httpx.Client, collection: str) -> None:
    for name in ("man-us-whisper.ogg", "woman-gb-whisper.flac", "man-us-plain.ogg", "man-us-loud.ogg"):
        add(client, collection, name, (LIBRARY / name).read_bytes())
    query = {"item_id": "man-us-whisper.ogg", "aspect": "style"}
    assert found(client, collection, query=[query])[0]["id"] == "woman-gb-whisper.flac"
    problem = client.post(f"{collection}/search", json={"query": [{"text": "a", "aspect": "style"}]})
    refused(problem, 422, "invalid-request", field="query[0]")


def test_only_words_have_a_match_probability(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    vector = embedded(client, ["a voice"], "text")[0].tolist()
    silent = [
        [{"item_id": "v1"}],
        [{"audio": data_uri(clip(1, seed=2))}],
        [{"vector": vector}],
        [{"item_id": "v1"}, {"item_id": "v2", "weight": -0.5}],
    ]
    for query in silent:
        assert [hit["match_probability"] for hit in found(client, path, query=query, top_k=2)] == [None, None], query
    worded = found(client, path, query=[{"item_id": "v1"}, {"text": "a low voice"}], top_k=2)
    assert all(0 < hit["match_probability"] < 1 for hit in worded)


def test_what_is_only_refused_matches_where_it_does_not_fit(library: tuple[httpx.Client, str]) -> None:
    client, path = library
    wanted = {hit["id"]: hit["match_probability"] for hit in found(client, path, query=[{"text": "a low voice"}])}
    refused_hits = found(client, path, query=[{"text": "a low voice", "weight": -1}])
    assert len(refused_hits) == 6
    for hit in refused_hits:
        assert hit["match_probability"] == pytest.approx(1 - wanted[hit["id"]], abs=1e-4)
