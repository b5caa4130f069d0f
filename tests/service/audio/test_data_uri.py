"""Data URIs: what is opened, what is refused, and that the size is judged before decoding."""

import base64

import pytest

from service.audio.decode import AudioError, parse_data_uri


def test_base64_with_and_without_a_media_type() -> None:
    payload = base64.b64encode(b"RIFF....").decode()
    assert parse_data_uri(f"data:audio/wav;base64,{payload}") == ("audio/wav", b"RIFF....")
    assert parse_data_uri(f"data:Audio/OGG;codecs=opus;base64,{payload}") == ("audio/ogg", b"RIFF....")
    assert parse_data_uri(f"DATA:;BASE64,{payload}") == ("application/octet-stream", b"RIFF....")
    assert parse_data_uri(f"data:audio/wav;base64,{payload[:4]}\r\n {payload[4:]}")[1] == b"RIFF...."


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "hello",
        "https://example.org/a.wav",
        "file:///etc/passwd",
        "data:audio/wav,plain",
        "data:audio/wav;base64",
        "data:audio/wav;base64,a",
        "data:audio/wav;base64,!!!!",
        "data:audio/wav;base64,ä",
        "data:" + "a" * 500_000,
    ],
)
def test_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(AudioError) as caught:
        parse_data_uri(uri)
    assert caught.value.code == "bad_data_uri"


def test_size_is_judged_before_decoding() -> None:
    uri = "data:audio/wav;base64," + "A" * 4_000
    with pytest.raises(AudioError) as caught:
        parse_data_uri(uri, max_bytes=1000)
    assert (caught.value.code, caught.value.limit) == ("too_large", 1000)
    assert len(parse_data_uri(uri, max_bytes=3000)[1]) == 3000
