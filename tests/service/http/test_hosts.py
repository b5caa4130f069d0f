"""The names that a service answers to: a page whose name was pointed at this machine gets nothing (DNS rebinding)."""

import hashlib

import httpx
import pytest

from service.http.origin_guards import HostGuard
from tests.support.http import refused
from tests.support.serving import Serve


def guard(*allowed: str, keyless: bool = True) -> HostGuard:
    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("not called")

    return HostGuard(app, allowed=allowed, keyless=keyless)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "10.0.0.7", "clsp:8000", "app.localhost", ""],
)
def test_names_that_nobody_can_register_are_known(host: str) -> None:
    assert guard().knows(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "a.b.", "[::1"]
)
def test_names_of_strangers_are_not(host: str) -> None:
    assert not guard().knows(host)


def test_an_operator_says_which_names_are_its_own() -> None:
    own = guard("speech.example.com", "*.cluster.local")
    assert own.knows("speech.example.com:443")
    assert own.knows("clsp.default.svc.cluster.local")
    assert own.knows("127.0.0.1")
    assert not own.knows("evil.example")
    assert guard("*").knows("evil.example")
    assert guard(keyless=False).knows("any.example"), "a page without the key gains nothing by a name"
    assert not guard("speech.example.com", keyless=False).knows("other.example")


def test_a_rebound_page_can_neither_read_nor_write(client: httpx.Client) -> None:
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    refused(client.get("/v1/collections", headers={"Host": "evil.example"}), 421, "unknown-host", field="Host")
    refused(client.put("/v1/collections/rebound", headers=rebound), 421, "unknown-host")
    refused(client.get("/", headers={"Host": "evil.example:8000"}), 421, "unknown-host")
    refused(client.get("/v1/collections/rebound"), 404, "unknown-collection")
    assert client.get("/healthz", headers={"Host": "localhost"}).status_code == 200


def test_with_keys_any_name_will_do(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> None:
    keys = [f"a:read:{hashlib.sha256(b'secret').hexdigest()}"]
    with serve(data_dir=tmp_path_factory.mktemp("keyed"), api_keys=keys) as own:
        headers = {"Host": "speech.example.com", "Authorization": "Bearer secret"}
        assert own.client.get("/v1/models", headers=headers).status_code == 200
