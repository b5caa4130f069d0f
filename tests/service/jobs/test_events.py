"""Progress of a job as server-sent events: live, continued where it broke off, ended with the job, behind keys."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.http import refused
from tests.support.jobs import clips, ended, hold_encoder, start
from tests.support.serving import Serve, Server

Event = dict[str, Any]


def events(response: httpx.Response) -> Iterator[Event]:
    """Events as a browser would read them; a comment is an event without a name."""
    event: Event = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if not line and event:
            yield event
            event = {}
        elif line.startswith(":"):
            yield {"comment": line[2:]}
        elif line:
            event[name] = json.loads(value) if name == "data" else value


@pytest.fixture
def own(serve: Serve, data_dir: Path, tmp_path: Path) -> Iterator[Server]:
    clips(tmp_path / "lib", 12)
    with serve(
        data_dir=data_dir, ingest_roots=[tmp_path / "lib"], batch_audio_s=2.0, events_heartbeat_s=0.05
    ) as running:
        yield running


def test_progress_is_told_until_the_end(own: Server) -> None:
    _, go = hold_encoder(own, after=0)
    job = start(own.client, "lib")
    address = f"/v1/jobs/{job['id']}/events"
    with own.client.stream("GET", address) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        stream = events(response)
        assert next(stream) == {"retry": "2000"}
        assert next(stream)["event"] == "progress"
        while "comment" not in next(stream):
            pass  # the encoder is held: sooner or later there is nothing to tell
        go.set()
        told = [event for event in stream if "event" in event]
    assert [event["event"] for event in told] == ["progress"] * (len(told) - 1) + ["end"]
    done = [event["data"]["done"] for event in told]
    assert done == sorted(done) and done[-1] == 12
    assert all(event["id"] == str(event["data"]["revision"]) for event in told)
    assert told[-1]["data"] == ended(own.client, job)

    # Who asks again is told what is new to them, and that there will be no more.
    with own.client.stream("GET", address, headers={"Last-Event-ID": "1"}) as response:
        assert [event["event"] for event in events(response) if "event" in event] == ["end"]
    assert own.client.get(address, headers={"Last-Event-ID": told[-1]["id"]}).status_code == 204
    assert own.client.get(address, headers={"Last-Event-ID": "not a number"}).status_code == 200


def test_a_stream_goes_on_where_it_broke_off_and_ends_when_the_service_stops(own: Server) -> None:
    _, go = hold_encoder(own, after=0)
    job = start(own.client, "lib")
    address = f"/v1/jobs/{job['id']}/events"
    with own.client.stream("GET", address) as response:
        stream = events(response)
        seen = [next(stream) for _ in range(2)][-1]
        while "comment" not in (event := next(stream)):
            seen = event
    with own.client.stream("GET", address, headers={"Last-Event-ID": seen["id"]}) as response:
        stream = events(response)
        assert next(stream) == {"retry": "2000"}
        assert "comment" in next(stream), "nothing is told twice"
        own.app.state.jobs.close_streams()
        for event in stream:
            assert "comment" in event
    go.set()


def test_keys_and_scopes(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    clips(tmp_path / "lib", 1)
    keys = [f"{name}:{name}:{hashlib.sha256(name.encode()).hexdigest()}" for name in ("read", "write")]
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], api_keys=keys) as own:
        reader, writer = ({"Authorization": f"Bearer {name}"} for name in ("read", "write"))
        own.client.put("/v1/collections/voices", headers=writer)
        body = {"kind": "folder", "path": "lib"}
        ingest = "/v1/collections/voices/ingest"
        refused(own.client.post(ingest, json=body), 401, "unauthorized")
        refused(own.client.post(ingest, json=body, headers=reader), 403, "forbidden")
        job = own.client.post(ingest, json=body, headers=writer).json()
        for path in ("", "/events", "/refused"):
            refused(own.client.get(f"/v1/jobs/{job['id']}{path}"), 401, "unauthorized")
            refused(own.client.get(f"/v1/jobs/{job['id']}{path}", headers=writer), 403, "forbidden")
            assert own.client.get(f"/v1/jobs/{job['id']}{path}", headers=reader).status_code == 200
        for path in ("/v1/jobs", "/v1/ingest-roots"):
            refused(own.client.get(path), 401, "unauthorized")
            assert own.client.get(path, headers=reader).status_code == 200
        for action in ("cancel", "resume"):
            refused(own.client.post(f"/v1/jobs/{job['id']}/{action}", headers=reader), 403, "forbidden")
