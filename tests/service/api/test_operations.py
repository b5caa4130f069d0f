"""For those who run the service: readiness, overload, deadlines, failures, metrics, restart after a kill."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from index.errors import StoreLocked
from index.local.store import LocalStore
from model_export.bundle import BundleError
from service.app import create_app
from service.settings import Settings
from tests.support.http import add, clip, data_uri, refused
from tests.support.serving import Serve, Server

SERVE = """
import json, sys, threading
import uvicorn
from service.app import create_app
from service.settings import Settings

settings = Settings()
app = create_app(settings)

@app.get("/modules")
async def modules() -> list[str]:
    return sorted(sys.modules)

uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning")
"""


@contextmanager
def process(data_dir: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """The service in a process of its own, which a test may kill."""
    environment = {**os.environ, "CLSP_DATA_DIR": str(data_dir), "CLSP_PORT": str(port)}
    running = subprocess.Popen([sys.executable, "-c", SERVE], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            give_up = time.monotonic() + 60
            while True:
                assert running.poll() is None, "the service ended"
                assert time.monotonic() < give_up, "the service took too long to start"
                try:
                    client.get("/readyz").raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield running, client
    finally:
        running.kill()
        running.wait()


def test_serving_imports_no_training_and_survives_a_kill(data_dir: Path, free_port: int) -> None:
    path = "/v1/collections/c"
    with process(data_dir, free_port) as (running, client):
        client.put(path)
        add(client, path, "a", clip(1), gender="female")
        client.post(f"{path}/search", json={"query": "a voice"}).raise_for_status()
        client.post("/v1/classify", json={"audio": data_uri(clip(1)), "preset": "gender"}).raise_for_status()
        client.post("/v1/score", json={"pairs": [{"audio": data_uri(clip(1)), "caption": "x"}]}).raise_for_status()
        rooms = {name.partition(".")[0] for name in client.get("/modules").json()}
        assert "onnxruntime" in rooms
        assert not rooms & {"torch", "transformers", "training", "lhotse"}
        running.send_signal(signal.SIGKILL)
        running.wait()
    with process(data_dir, free_port) as (_, client):
        (hit,) = client.post(f"{path}/search", json={"query": "a voice", "filter": {"gender": "female"}}).json()["hits"]
        assert hit["id"] == "a"
        assert client.get(hit["audio_url"]).content == clip(1)


def test_readiness_follows_the_encoders(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir) as own:
        assert own.client.get("/readyz").json() == {"status": "ok"}
        asyncio.run(own.app.state.services.engine.stop())
        answer = own.client.get("/readyz")
        refused(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert own.client.get("/healthz").status_code == 200
        assert "clsp_ready 0.0" in own.client.get("/metrics").text
        answer = own.client.post("/v1/embeddings", json={"input": "not in the cache"})
        assert answer.status_code in (500, 503)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_full_queue_says_when_to_come_back(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_audio_s=5, queue_audio_s=10, threads=1) as own:
        bodies = [
            {"input": [data_uri(clip(4.9, seed=10 * request + i)) for i in range(4)], "modality": "audio"}
            for request in range(8)
        ]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda body: own.client.post("/v1/embeddings", json=body), bodies))
        turned_away = [answer for answer in answers if answer.status_code != 200]
        assert turned_away
        for answer in turned_away:
            refused(answer, 503, "overloaded")
            assert 1 <= int(answer.headers["retry-after"]) <= 30
        time.sleep(max(int(answer.headers["retry-after"]) for answer in turned_away))
        alone = {"input": bodies[0]["input"][:1], "modality": "audio"}
        assert own.client.post("/v1/embeddings", json=alone).status_code == 200
        assert 'clsp_problems_total{type="overloaded"}' in own.client.get("/metrics").text


def test_late_work_is_dropped(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, request_timeout_s=1e-4) as own:
        refused(own.client.post("/v1/embeddings", json={"input": "x"}), 504, "deadline-exceeded")
        assert "clsp_texts_total 0.0" in own.client.get("/metrics").text
        body = {"input": data_uri(clip(5)), "modality": "audio"}
        refused(own.client.post("/v1/embeddings", json=body), 504, "deadline-exceeded")
        assert own.client.get("/readyz").status_code == 200


def test_unexpected_failures_tell_nothing_but_the_id(
    serve: Serve, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(app: FastAPI) -> None:
        @app.get("/fails")
        async def fails() -> None:
            raise KeyError("secret of the house")

    with serve(prepare, data_dir=data_dir) as own:
        problem = refused(own.client.get("/fails"), 500, "internal")
        assert "secret" not in json.dumps(problem)
        (record,) = [one for one in caplog.records if one.name == "clsp.http" and one.exc_info]
        assert problem["request_id"] in record.getMessage()
        assert own.client.get("/healthz").status_code == 200


def test_a_closed_store_is_unavailable(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir) as own:
        own.app.state.services.store.close()
        answer = own.client.get("/v1/collections")
        refused(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "1"


def test_a_data_folder_has_one_owner(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings(data_dir=data_dir))

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with LocalStore(data_dir), pytest.raises(StoreLocked):
        asyncio.run(start())
    assert any(str(data_dir) in one.getMessage() for one in caplog.records if one.name == "clsp")
    asyncio.run(start())


def test_encoders_that_do_not_open_let_the_data_folder_go(data_dir: Path, tmp_path: Path) -> None:
    """Store and encoders are opened side by side: where one fails, the other is let go."""
    broken = Path(shutil.copytree(Settings().bundle, tmp_path / "bundle"))
    (broken / "text.onnx").write_bytes(b"not a graph")
    app = create_app(Settings(data_dir=data_dir, bundle=broken, verify_bundle=False))

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(BundleError):
        asyncio.run(start())
    LocalStore(data_dir).close()


def test_metrics_count_by_route_not_by_path(server: Server) -> None:
    for i in range(3):
        server.client.get(f"/v1/collections/absent-{i}")
        server.client.get(f"/absent-{i}")
        server.client.request(f"MADEUP{i}", "/v1/models")
    server.client.post("/v1/embeddings", json={"input": "counted"})
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    route = 'clsp_requests_total{method="GET",route="/v1/collections/{collection}",status="404"}'
    assert any(line.startswith(route) and float(line.split()[-1]) >= 3 for line in lines)
    assert any('route="unmatched",status="404"' in line for line in lines)
    assert not any("absent-" in line or "MADEUP" in line for line in lines)
    names = {line.partition("{")[0].partition(" ")[0] for line in lines}
    assert {
        "clsp_request_seconds_bucket",
        "clsp_stage_seconds_bucket",
        "clsp_texts_total",
        "clsp_queue_waiting",
        "clsp_batches_total",
        "clsp_text_cache_misses_total",
        "process_resident_memory_bytes",
    } <= names
    assert "clsp_ready 1.0" in lines


def test_many_callers_at_once_get_their_own_answers(client: httpx.Client, collection: str) -> None:
    clips = {f"v{i}": clip(0.5 + 0.2 * i, seed=i) for i in range(8)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: add(client, collection, *one), clips.items()))

        def find(name: str) -> str:
            query = [{"audio": data_uri(clips[name])}]
            answer = client.post(f"{collection}/search", json={"query": query, "top_k": 1})
            return str(answer.json()["hits"][0]["id"])

        assert list(pool.map(find, clips)) == list(clips)
