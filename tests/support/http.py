"""What the HTTP tests share: clips as bytes and as data URIs, and what every refusal must look like."""

import base64
from typing import Any

import httpx

from tests.support.audio_files import encode, voice

PROBLEM = "application/problem+json"


def clip(seconds: float = 1.0, *, seed: int = 0, rate: int = 16_000, name: str = "wav-16") -> bytes:
    """A file that sounds like a voice; other seeds are other voices."""
    return encode(voice(seconds, rate, seed=seed), rate, name)


def data_uri(data: bytes, media_type: str = "audio/wav") -> str:
    """Bytes as a base64 data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def add(client: httpx.Client, collection: str, name: str, data: bytes, **metadata: Any) -> dict[str, Any]:
    """Add one clip by JSON; returns what the service says of it."""
    item = {"id": name, "audio": data_uri(data), "metadata": metadata, "filename": f"{name}.wav"}
    response = client.post(f"{collection}/items", json={"items": [item]})
    assert response.status_code == 201, response.text
    return dict(response.json()["items"][0])


def refused(response: httpx.Response, status: int, slug: str, *, field: str | None = None) -> dict[str, Any]:
    """Check that an answer is a whole problem document of this type; returns it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    problem = dict(response.json())
    assert problem["type"] == f"urn:clsp-service:error:{slug}", problem
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    if field is not None:
        assert problem.get("field") == field, problem
    return problem
