"""Small wrongs that were passed over in silence: misspelt parameters, names of files, limits without their setting."""

import httpx
import pytest

from tests.support.audio_files import encode, voice


def test_an_unknown_query_parameter_is_named(client: httpx.Client, collection: str) -> None:
    answer = client.get(f"{collection}/items", params={"limt": 5})
    assert (answer.status_code, answer.json()["field"]) == (422, "limt")
    assert "limit" in answer.json()["detail"]
    assert client.get(f"{collection}/items", params={"limit": 5}).status_code == 200
    assert client.get("/healthz", params={"t": "1"}).status_code == 200


@pytest.mark.parametrize(
    "disposition",
    ["filename*=UTF-8''t%C3%A9st.wav", "filename=\"test.wav\"; filename*=utf-8'de't%C3%A9st.wav"],
)
def test_a_name_beyond_ascii_arrives(client: httpx.Client, collection: str, disposition: str) -> None:
    head = f'--X\r\nContent-Disposition: form-data; name="files"; {disposition}\r\nContent-Type: audio/wav\r\n\r\n'
    body = head.encode() + encode(voice(1.0), 16_000) + b"\r\n--X--\r\n"
    form = {"Content-Type": "multipart/form-data; boundary=X"}
    answer = client.post(f"{collection}/items", content=body, headers=form)
    assert answer.status_code == 201, answer.text
    assert answer.json()["items"][0]["id"] == "t\u00e9st.wav"


def test_a_limit_names_its_setting(client: httpx.Client) -> None:
    body = {"model": client.get("/v1/models").json()["data"][0]["id"], "input": ["a"] * 5000}
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 422 and "CLSP_MAX_TEXTS" in answer.json()["detail"]
