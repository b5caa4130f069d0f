"""What the tests of jobs share: folders of clips, starting a job and waiting for what it becomes."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.support.http import clip
from tests.support.serving import Server

PATIENCE_S = 120.0
Job = dict[str, Any]


def clips(folder: Path, count: int, *, seconds: float = 1.0, first: int = 0) -> list[Path]:
    """A folder of different voices: clip-000.wav and on."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(first, first + count):
        path = folder / f"clip-{number:03}.wav"
        path.write_bytes(clip(seconds, seed=number))
        made.append(path)
    return made


def start(client: httpx.Client, path: str, kind: str = "folder", collection: str = "voices") -> Job:
    """Start a job; returns it as it was accepted."""
    client.put(f"/v1/collections/{collection}").raise_for_status()
    answer = client.post(f"/v1/collections/{collection}/ingest", json={"kind": kind, "path": path})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def until(client: httpx.Client, job: Job, condition: Callable[[Job], bool]) -> Job:
    """Ask for the job until it is as wanted."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition(now := dict(client.get(f"/v1/jobs/{job['id']}").json())):
        assert time.monotonic() < give_up, now
        time.sleep(0.01)
    return now


def ended(client: httpx.Client, job: Job) -> Job:
    """The job when it has ended; its outcomes add up, whatever happened to it."""
    found = until(client, job, lambda job: job["state"] in ("succeeded", "failed", "cancelled"))
    outcomes = ("added", "replaced", "relabelled", "unchanged", "refused")
    assert sum(found[name] for name in outcomes) == found["done"]
    if found["state"] == "succeeded":
        assert found["done"] == found["total"]
    return found


def refusals(client: httpx.Client, job: Job, **query: int) -> list[dict[str, Any]]:
    """The report of what a job refused."""
    answer = client.get(f"/v1/jobs/{job['id']}/refused", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def encoded_pieces(client: httpx.Client) -> float:
    """Windows of audio that went through the encoder since the service started."""
    lines = client.get("/metrics").text.splitlines()
    (value,) = [line.split(" ")[1] for line in lines if line.startswith('clsp_batch_pieces_sum{encoder="speech"}')] or [
        0
    ]
    return float(value)


def write_manifest(path: Path, rows: list[Mapping[str, Any] | str]) -> None:
    """A manifest; texts go in as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def hold_encoder(
    server: Server, after: int, batches: list[list[int]] | None = None
) -> tuple[threading.Event, threading.Event]:
    """Let the encoder wait once it has done so many batches: (it waits, let it go on). `batches` get their lengths."""
    waits, go = threading.Event(), threading.Event()
    runtime = server.app.state.services.engine.runtime
    original, done = runtime.embed_speech, 0

    def held(waves: list[Any]) -> object:
        nonlocal done
        if batches is not None:
            batches.append([len(wave) for wave in waves])
        if done >= after:
            waits.set()
            assert go.wait(60)
        done += 1
        return original(waves)

    runtime.embed_speech = held
    return waits, go
