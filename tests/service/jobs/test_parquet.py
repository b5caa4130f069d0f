"""Embeddings in Parquet as a job: taken only under the collection's identity, refused row by row, resumed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.exchange import parquet
from index.types import NewItem, NewSegment
from tests.support.http import refused
from tests.support.jobs import encoded_pieces, ended, refusals, start
from tests.support.serving import Serve, Server

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def own(serve: Serve, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(data_dir=tmp_path_factory.mktemp("data"), ingest_roots=[f"lib={root}"]) as running:
        yield running


def identity(server: Server) -> str:
    return str(server.client.get("/v1/models").json()["data"][0]["identity"])


def rows(count: int, identity: str, *, first: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(first)
    return [
        {
            "id": f"e{first + i:04}",
            "embedding": generator.normal(size=512).tolist(),
            "duration_s": 2.5,
            "identity": identity,
            "metadata": {"speaker": f"s{i % 3}", "take": i},
            "filename": f"e{first + i}.wav",
        }
        for i in range(count)
    ]


def write(path: Path, values: list[dict[str, Any]], *, stated: str | None = None, group: int = 100) -> None:
    path.parent.mkdir(exist_ok=True)
    table = pa.Table.from_pylist(values)
    if stated is not None:
        table = table.replace_schema_metadata({"identity": stated})
    pq.write_table(table, path, row_group_size=group)


def test_shards_are_stored_without_the_encoder(own: Server, root: Path) -> None:
    mine = identity(own)
    write(root / "shards" / "a.parquet", rows(700, mine), group=90)
    write(root / "shards" / "b.parquet", rows(50, mine, first=700))
    before = encoded_pieces(own.client)
    job = ended(own.client, start(own.client, "lib/shards", "parquet"))
    assert (job["state"], job["total"], job["added"], job["encoded"]) == ("succeeded", 750, 750, 0)
    assert encoded_pieces(own.client) == before
    again = ended(own.client, start(own.client, "lib/shards", "parquet"))
    assert (again["unchanged"], again["added"], again["replaced"]) == (750, 0, 0)
    item = own.client.get("/v1/collections/voices/items/e0004").json()
    assert (item["metadata"], item["duration_s"]) == ({"speaker": "s1", "take": 4}, 2.5)
    vector = rows(700, mine)[4]["embedding"]
    query = {"query": [{"vector": vector}], "top_k": 1}
    (hit,) = own.client.post("/v1/collections/voices/search", json=query).json()["hits"]
    assert hit["id"] == "e0004" and hit["score"] > 0.999


def test_shards_of_an_embedded_corpus_keep_their_segments(own: Server, root: Path) -> None:
    vectors = np.random.default_rng(5).normal(size=(3, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    segments = [NewSegment(0.0, 10.0, vectors[0]), NewSegment(5.0, 12.5, vectors[1])]
    items = [
        NewItem("long", segments, {"speaker": "x"}, 12.5, "a" * 64, "long.wav"),
        NewItem("short", [NewSegment(0.0, 1.5, vectors[2])], {}, 1.5, "b" * 64, None),
    ]
    (root / "corpus").mkdir()
    parquet.write(root / "corpus" / "0.parquet", items, dim=512, identity=identity(own))
    job = ended(own.client, start(own.client, "lib/corpus", "parquet", "corpus"))
    assert (job["state"], job["added"], job["refused"]) == ("succeeded", 2, 0)
    query = {"query": [{"vector": vectors[1].tolist()}], "top_k": 1}
    (hit,) = own.client.post("/v1/collections/corpus/search", json=query).json()["hits"]
    assert (hit["id"], hit["segment"]) == ("long", {"start_s": 5.0, "end_s": 12.5})
    assert own.client.get("/v1/collections/corpus/items/long").json()["content_sha256"] == "a" * 64
    own.client.patch("/v1/collections/corpus/items/short", json={"metadata": {"kept": True}})
    again = ended(own.client, start(own.client, "lib/corpus", "parquet", "corpus"))
    assert (again["unchanged"], again["added"], again["replaced"]) == (2, 0, 0)
    kept = own.client.get("/v1/collections/corpus/items/short").json()["metadata"]
    assert kept == {"kept": True}, "a row without metadata says nothing"


def test_what_cannot_be_compared_or_stored_is_refused_by_row(own: Server, root: Path) -> None:
    good = rows(8, identity(own))
    good[1]["identity"] = "another-model"
    good[2]["embedding"] = [1.0, 2.0]
    good[3]["embedding"] = [0.0] * 512
    good[4]["embedding"] = None
    good[5]["duration_s"] = -1.0
    good[6]["id"] = "e0000"
    good[7]["identity"] = None
    write(root / "bad" / "x.parquet", good)
    job = ended(own.client, start(own.client, "lib/bad/x.parquet", "parquet", "bad"))
    assert (job["state"], job["added"], job["refused"]) == ("succeeded", 1, 7)
    said = {row["number"]: row["error"]["type"].rpartition(":")[2] for row in refusals(own.client, job)}
    assert said == {
        2: "identity-mismatch",
        3: "dimension-mismatch",
        4: "invalid-request",
        5: "invalid-source",
        6: "invalid-source",
        7: "invalid-source",
        8: "invalid-source",
    }


@pytest.mark.parametrize(
    "corrected",
    [
        {"duration_s": 3.5},
        {"filename": "other.wav"},
        {"filename": None},
        {"segments": [(0.0, 2.0), (1.5, 2.5)]},
    ],
)
def test_a_corrected_row_replaces_what_was_said_of_its_vectors(
    own: Server, root: Path, corrected: dict[str, Any]
) -> None:
    values = rows(2, identity(own))
    for row in values:
        vector = row.pop("embedding")
        row["segments"] = [{"start_s": at, "end_s": at + 1.5, "vector": vector} for at in (0.0, 1.0)]
    write(root / "corrected" / "x.parquet", values)
    ended(own.client, start(own.client, "lib/corrected", "parquet", "corrected"))
    if "segments" in corrected:
        for segment, (start_s, end_s) in zip(values[0]["segments"], corrected["segments"], strict=True):
            segment |= {"start_s": start_s, "end_s": end_s}
    else:
        values[0] |= corrected
    write(root / "corrected" / "x.parquet", values)
    job = ended(own.client, start(own.client, "lib/corrected", "parquet", "corrected"))
    assert (job["replaced"], job["unchanged"]) == (1, 1)
    item = own.client.get("/v1/collections/corrected/items/e0000").json()
    assert (item["duration_s"], item["filename"]) == (values[0]["duration_s"], values[0]["filename"])
    query = {"query": [{"vector": values[0]["segments"][0]["vector"]}], "top_k": 1}
    (hit,) = own.client.post("/v1/collections/corrected/search", json=query).json()["hits"]
    assert hit["segment"] in [{name: one[name] for name in ("start_s", "end_s")} for one in values[0]["segments"]]


def test_metadata_as_json_and_identity_of_the_file(own: Server, root: Path) -> None:
    values = rows(4, "")
    for number, row in enumerate(values):
        del row["identity"]
        row["metadata"] = json.dumps({"n": number}) if number < 2 else ["{broken", "[" * 100_000][number - 2]
    write(root / "stated" / "x.parquet", values, stated=identity(own))
    job = ended(own.client, start(own.client, "lib/stated/x.parquet", "parquet", "stated"))
    assert (job["added"], job["refused"]) == (2, 2)
    assert own.client.get("/v1/collections/stated/items/e0001").json()["metadata"] == {"n": 1}
    write(root / "stated" / "x.parquet", values, stated="another-model")
    own.client.put("/v1/collections/stated")
    body = {"kind": "parquet", "path": "lib/stated/x.parquet"}
    refused(own.client.post("/v1/collections/stated/ingest", json=body), 409, "identity-mismatch", field="identity")


@pytest.mark.parametrize("content", [b"", b"PAR1 this is not Parquet PAR1", b"x" * 5000])
def test_a_file_that_is_no_parquet_is_refused_at_the_door(own: Server, root: Path, content: bytes) -> None:
    own.client.put("/v1/collections/voices")
    (root / "no.parquet").write_bytes(content)
    body = {"kind": "parquet", "path": "lib/no.parquet"}
    refused(own.client.post("/v1/collections/voices/ingest", json=body), 422, "invalid-source", field="path")
    write(root / "columns.parquet", [{"id": "a", "vector": [1.0]}])
    answer = own.client.post("/v1/collections/voices/ingest", json={**body, "path": "lib/columns.parquet"})
    assert "duration_s, embedding (or segments)" in refused(answer, 422, "invalid-source")["detail"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"id": 7}, "`id` is int64; it has to be a string"),
        ({"id": b"e0000"}, "`id` is binary; it has to be a string"),
        ({"segments": [{"start": 0.0, "end": 1.0, "vector": [1.0]}]}, "list of structs of start_s, end_s, vector"),
        ({"segments": [[1.0]]}, "list of structs of start_s, end_s, vector"),
    ],
)
def test_columns_that_no_row_can_be_read_from_are_refused_at_the_door(
    own: Server, root: Path, values: dict[str, Any], said: str
) -> None:
    own.client.put("/v1/collections/voices")
    write(root / "types.parquet", [rows(1, identity(own))[0] | values])
    body = {"kind": "parquet", "path": "lib/types.parquet"}
    problem = refused(own.client.post("/v1/collections/voices/ingest", json=body), 422, "invalid-source", field="path")
    assert "lib/types.parquet: " in problem["detail"] and said in problem["detail"]


def test_what_a_row_lacks_is_on_the_report(own: Server, root: Path) -> None:
    segment = {"start_s": 0.0, "end_s": 1.0, "vector": [1.0] * 512}
    values = [
        row | {"segments": segments}
        for row, segments in zip(
            rows(5, identity(own)), ([segment], [None], [segment | {"end_s": None}], None, [segment]), strict=True
        )
    ]
    values[4]["id"] = None
    write(root / "lacking.parquet", values)
    job = ended(own.client, start(own.client, "lib/lacking.parquet", "parquet", "lacking"))
    assert (job["state"], job["added"], job["refused"]) == ("succeeded", 1, 4)
    said = [row["error"]["detail"].partition(": ")[2] for row in refusals(own.client, job)]
    assert said == [
        "`segments[0]` is null",
        "`segments[0].end_s` is not a number",
        "`segments` is empty",
        "it has no `id`",
    ]
    write(root / "binary.parquet", [row | {"identity": row["identity"].encode()} for row in rows(1, identity(own))])
    job = ended(own.client, start(own.client, "lib/binary.parquet", "parquet", "lacking"))
    (why,) = [row["error"]["detail"] for row in refusals(own.client, job)]
    assert (job["state"], why.partition(": ")[2]) == ("succeeded", "`identity` is not a string")


def test_without_pyarrow_it_says_what_to_install(own: Server, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.client.put("/v1/collections/voices")
    write(root / "good.parquet", rows(1, identity(own)))
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    body = {"kind": "parquet", "path": "lib/good.parquet"}
    problem = refused(own.client.post("/v1/collections/voices/ingest", json=body), 422, "invalid-source", field="kind")
    assert "pip install 'clsp-service[parquet]'" in problem["detail"]
