"""POST /v1/embeddings, through OpenAI's own client and by hand."""

import base64

import httpx
import numpy as np
import openai
import pytest

from tests.support.http import clip, data_uri, refused
from tests.support.serving import Server


@pytest.fixture(scope="module")
def openai_client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)


def test_openai_client_embeds_texts(openai_client: openai.OpenAI, client: httpx.Client) -> None:
    texts = ["a calm older woman", "an angry man", "a calm older woman"]
    answer = openai_client.embeddings.create(model="clsp-small", input=texts)
    dim = client.get("/v1/models").json()["data"][0]["embedding_dim"]
    vectors = np.array([row.embedding for row in answer.data])
    assert vectors.shape == (3, dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] < 0.999
    assert [row.index for row in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens > 6


def test_openai_client_embeds_audio(openai_client: openai.OpenAI) -> None:
    uris = [data_uri(clip(1, seed=1)), data_uri(clip(1, seed=2, name="flac-16"), "audio/flac")]
    answer = openai_client.embeddings.create(model="clsp-small", input=uris, extra_body={"modality": "audio"})
    vectors = np.array([row.embedding for row in answer.data])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = openai_client.embeddings.create(model="clsp-small", input=uris[1], extra_body={"modality": "audio"})
    assert np.dot(alone.data[0].embedding, vectors[1]) > 0.99999


def test_openai_client_lists_the_model(openai_client: openai.OpenAI) -> None:
    (model,) = openai_client.models.list().data
    assert model.id == "clsp-small"
    assert openai_client.models.retrieve("clsp-small").id == model.id


def test_openai_client_raises_its_own_errors(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="another-model"):
        openai_client.embeddings.create(model="another-model", input="x")
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions: this model has"):
        openai_client.embeddings.create(model="clsp-small", input="x", dimensions=7)


def test_base64_holds_the_same_numbers(client: httpx.Client) -> None:
    body = {"input": ["a whisper"], "encoding_format": "float"}
    plain = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    packed = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(packed), "<f4"), np.array(plain, np.float32))


def test_unknown_members_are_ignored_but_wrong_types_are_not(client: httpx.Client) -> None:
    assert client.post("/v1/embeddings", json={"input": "x", "service_tier": "auto"}).status_code == 200
    refused(client.post("/v1/embeddings", json={"input": "x", "user": 5}), 422, "invalid-request", field="user")


def test_long_texts_are_cut_and_said_so(client: httpx.Client) -> None:
    most = client.get("/v1/models").json()["data"][0]["max_tokens"]
    answer = client.post("/v1/embeddings", json={"input": ["short", "slow voice " * most]}).json()
    assert answer["truncated"] == [1]


@pytest.mark.parametrize(
    ("body", "slug", "field"),
    [
        ({}, "invalid-request", "input"),
        ({"input": []}, "invalid-request", "input"),
        ({"input": [1, 2, 3]}, "invalid-request", "input"),
        ({"input": [[1, 2], [3]]}, "invalid-request", "input"),
        ({"input": ["fine", 3]}, "invalid-request", "input[1]"),
        ({"input": ["fine", "  "]}, "invalid-request", "input[1]"),
        ({"input": "x", "encoding_format": "hex"}, "invalid-request", "encoding_format"),
        ({"input": "x", "modality": "video"}, "invalid-request", "modality"),
        ({"input": "x", "modality": "audio"}, "invalid-audio", "input[0]"),
        ({"input": ["x"] * 257}, "limit-exceeded", "input"),
        ({"input": ["x" * 8193]}, "limit-exceeded", "input[0]"),
    ],
)
def test_refusals_name_the_field(client: httpx.Client, body: dict[str, object], slug: str, field: str) -> None:
    refused(client.post("/v1/embeddings", json=body), 422, slug, field=field)
