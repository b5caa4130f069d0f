"""`clsp embed-corpus` on a Ray cluster of this machine: each content once, whoever is killed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile as sf

from index.errors import IdentityMismatch
from index.exchange import parquet
from index.exchange.load import load
from index.local.store import LocalStore
from model_export.bundle import Bundle
from model_export.runtime import BundleRuntime
from model_export.windows import plan_windows
from service.audio.decode import AudioLimits, decode
from service.core.clip_sources import read_source
from service.corpus.job import Machines, Report, embed_corpus
from service.engine.identity import embedding_identity
from service.settings import DEFAULT_BUNDLE

ray = pytest.importorskip("ray", reason="the corpus job needs the scale extra")
pytest.importorskip("pyarrow", reason="the corpus job needs the scale extra")

BUNDLE = Bundle.load(DEFAULT_BUNDLE, verify=False)
IDENTITY, DIM = embedding_identity(BUNDLE), BUNDLE.manifest.embedding_dim
LIMITS = AudioLimits(min_s=BUNDLE.manifest.min_s)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def sound(path: Path, seed: int, seconds: float = 0.5) -> None:
    """A clip that is like no other seed's."""
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000))
    sf.write(path, noise, 16_000, format="WAV", subtype="PCM_16")


def make(folder: Path, count: int, *, last: Path | None = None) -> Path:
    """A manifest of `count` clips; the last one is read from `last` where given."""
    folder.mkdir(exist_ok=True)
    rows = []
    for i in range(count):
        path = folder / f"c{i:02}.wav"
        if i < count - 1 or last is None:
            sound(path, i)
        rows.append({"file": str(last or path) if i == count - 1 else path.name, "id": f"c{i:02}", "n": i})
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def run(manifest: Path, out: Path, *, workers: int = 1, shard: int = 3, **options: Any) -> Report:
    machines = Machines(workers=workers, shard=shard)
    clips = read_source(manifest)
    return embed_corpus(clips, out, bundle=DEFAULT_BUNDLE, limits=LIMITS, machines=machines, **options)


def rows(out: Path) -> dict[str, Any]:
    """Every item of every shard by id; no id may come twice."""
    found: dict[str, Any] = {}
    for path in out.glob("*.parquet"):
        for batch in parquet.read(path, dim=DIM, identity=IDENTITY):
            for item in batch:
                assert item.id not in found
                found[item.id] = item
    return found


def feed(pipe: Path, data: bytes) -> None:
    """Give a reader of the pipe its bytes; waits for one."""
    with pipe.open("wb") as file:
        file.write(data)


@contextmanager
def held(pipe: Path, alive: Callable[[], bool]) -> Iterator[None]:
    """A process waits for the pipe's bytes all this while: who looked for it and left would give it an end of file."""
    while True:
        try:
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            assert error.errno == errno.ENXIO
            assert alive()
            time.sleep(0.05)
    try:
        yield
    finally:
        os.close(writer)


def until(holds: Callable[[], bool], alive: Callable[[], bool] = lambda: True) -> None:
    while not holds():
        assert alive()
        time.sleep(0.05)


def test_each_content_is_embedded_once_and_failures_are_told(tmp_path: Path) -> None:
    manifest, out = make(tmp_path / "audio", 7), tmp_path / "out"
    audio = manifest.parent
    # Equal bytes under another name, silence, no audio at all, and a file that is not there.
    (audio / "twin.wav").write_bytes((audio / "c00.wav").read_bytes())
    sf.write(audio / "silent.wav", np.zeros(16_000), 16_000)
    (audio / "text.wav").write_bytes(b"not audio")
    with manifest.open("a") as file:
        for name in ("twin", "silent", "text", "missing"):
            file.write(json.dumps({"file": f"{name}.wav", "id": name, "metadata": {"of": name}}) + "\n")
    ticks: list[tuple[str, int, int]] = []
    report = run(manifest, out, tick=lambda *tick: ticks.append(tick))
    assert (report.clips, report.already, report.embedded, report.failed) == (11, 0, 7, 3)
    assert ("hash", 11, 11) in ticks and ("embed", 9, 9) in ticks
    found = rows(out)
    assert set(found) == {*(f"c{i:02}" for i in range(7)), "twin"}
    assert (found["c03"].metadata, found["c03"].filename, found["twin"].metadata) == (
        {"n": 3},
        "c03.wav",
        {"of": "twin"},
    )
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert {row["id"] for row in failures} == {"silent", "text", "missing"}
    assert all(row["detail"] and row["file"].endswith(f"{row['id']}.wav") for row in failures)

    # The vectors are those of the bundle, window by window.
    data = (audio / "c03.wav").read_bytes()
    clip, policy = decode(data, LIMITS), BUNDLE.manifest
    plan = plan_windows(
        len(clip.samples),
        sample_rate=policy.sample_rate,
        window_s=policy.window_s,
        hop_s=policy.hop_s,
        min_s=policy.min_s,
    )
    expected = BundleRuntime(BUNDLE, threads=1).embed_speech([clip.samples[a:b] for a, b in plan])
    assert np.allclose([one.vector for one in found["c03"].segments], expected, atol=1e-5)
    assert found["c03"].content_sha256 == hashlib.sha256(data).hexdigest()

    with LocalStore(tmp_path / "data") as store:
        assert load(store, "corpus", sorted(out.glob("*.parquet"))).added == 8
        (hit,) = store.search("corpus", expected[0], top_k=1)
        assert (hit.item_id, round(hit.score, 4)) == ("c03", 1.0)


def test_other_metadata_is_carried_without_embedding_again(tmp_path: Path) -> None:
    manifest, out = make(tmp_path / "audio", 4), tmp_path / "out"
    assert run(manifest, out).embedded == 4
    before = {path: path.stat().st_ino for path in out.glob("*.parquet")}
    told = [json.loads(line) for line in manifest.read_text().splitlines()]
    told[1] = {"file": "c01.wav", "id": "c01", "metadata": {"speaker": "anna"}}
    told[2] = {"file": "c02.wav", "id": "c02"}  # of which nothing is said any more
    manifest.write_text("".join(json.dumps(row) + "\n" for row in told))
    report = run(manifest, out)
    assert (report.already, report.relabelled, report.embedded, report.failed) == (3, 1, 0, 0)
    assert [found.metadata for _, found in sorted(rows(out).items())] == [
        {"n": 0},
        {"speaker": "anna"},
        {"n": 2},
        {"n": 3},
    ]
    assert sum(path.stat().st_ino != inode for path, inode in before.items()) == 1, "the other shard is left alone"
    assert run(manifest, out).relabelled == 0


def test_what_no_index_could_hold_is_told_apart_by_file(tmp_path: Path) -> None:
    folder, out = tmp_path / "audio", tmp_path / "out"
    (folder / "a").mkdir(parents=True)
    names = ["a/b.wav", "a__b.wav", os.fsdecode(b"caf\xe9.wav"), "z.wav"]
    for seed, name in enumerate(names):
        sound(tmp_path / "made.wav", seed)
        (tmp_path / "made.wav").rename(folder / name)
    report = run(folder, out)
    assert (report.clips, report.embedded, report.failed) == (4, 2, 2)
    assert rows(out)["a__b.wav"].content_sha256 == hashlib.sha256((folder / "a" / "b.wav").read_bytes()).hexdigest()
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [(row["file"], row["detail"]) for row in failures] == [
        (str(folder / names[1]), f"the id 'a__b.wav' is taken by another clip of the source: {folder / 'a' / 'b.wav'}"),
        (str(folder / names[2]), "its name is not valid UTF-8"),
    ]
    told = [{"file": "z.wav", "id": "a/b"}, {"file": "z.wav", "id": "z", "metadata": {"a": {"b": 1}}}]
    told += [{"file": "z.wav", "id": "z.wav"}, {"file": "z\0.wav", "id": "nul"}]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    again = run(folder / "m.jsonl", out)
    assert (again.already, again.embedded, again.failed) == (1, 0, 3)


@pytest.mark.slow
def test_only_what_failed_or_changed_is_embedded_again(tmp_path: Path) -> None:
    manifest, out = make(tmp_path / "audio", 7), tmp_path / "out"
    audio = manifest.parent
    (audio / "text.wav").write_bytes(b"not audio")
    with manifest.open("a") as file:
        for name in ("text", "missing"):
            file.write(json.dumps({"file": f"{name}.wav", "id": name}) + "\n")
    report = run(manifest, out)
    assert (report.already, report.embedded, report.failed) == (0, 7, 2)

    # One failure is mended, one clip has changed, one is new under a content that is known.
    before = {path: path.stat().st_ino for path in out.glob("*.parquet")}
    sound(audio / "missing.wav", 100)
    sound(audio / "c05.wav", 105)
    with manifest.open("a") as file:
        file.write(json.dumps({"file": "c01.wav", "id": "again"}) + "\n")
    report = run(manifest, out)
    assert (report.already, report.embedded, report.failed) == (6, 3, 1)
    found = rows(out)
    assert set(found) == {*(f"c{i:02}" for i in range(7)), "missing", "again"}
    assert found["c05"].content_sha256 == hashlib.sha256((audio / "c05.wav").read_bytes()).hexdigest()
    untouched = [path for path, inode in before.items() if path.exists() and path.stat().st_ino == inode]
    assert len(untouched) == len(before) - 1
    assert run(manifest, out).embedded == 0

    for path in sorted(out.glob("*.parquet"))[:1]:
        items = [item for batch in parquet.read(path, dim=DIM, identity=IDENTITY) for item in batch]
        parquet.write(path, items, dim=DIM, identity="another model")
    with pytest.raises(IdentityMismatch):
        run(manifest, out)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path: Path) -> None:
    pipe, out = tmp_path / "pipe.wav", tmp_path / "out"
    os.mkfifo(pipe)
    manifest = make(tmp_path / "audio", 10, last=pipe)
    sound(tmp_path / "held.wav", 999)
    data = (tmp_path / "held.wav").read_bytes()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(run, manifest, out, workers=2)
        feed(pipe, data)  # to be hashed
        until(lambda: len(list(out.glob("*.parquet"))) == 3, lambda: not job.done())
        with held(pipe, lambda: not job.done()):
            children = psutil.Process().children(recursive=True)
            workers = [one for one in children if "Embedder" in " ".join(one.cmdline())]
            assert len(workers) == 2
            for worker in workers:
                worker.kill()
            gone, _ = psutil.wait_procs(workers, timeout=60)
            assert len(gone) == 2
        feed(pipe, data)  # to whoever took the shard over
        report = job.result(300)
    assert (report.embedded, report.failed, report.shards) == (10, 0, 4)
    assert set(rows(out)) == {f"c{i:02}" for i in range(10)}


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    pipe, out = tmp_path / "pipe.wav", tmp_path / "out"
    os.mkfifo(pipe)
    manifest = make(tmp_path / "audio", 10, last=pipe)
    sound(tmp_path / "held.wav", 999)
    data = (tmp_path / "held.wav").read_bytes()
    command = [sys.executable, "-m", "service.cli", "embed-corpus", str(manifest), str(out), "--shard", "3", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as driver:
        feed(pipe, data)
        until(lambda: len(list(out.glob("*.parquet"))) == 3, lambda: driver.poll() is None)
        with held(pipe, lambda: driver.poll() is None):
            children = psutil.Process(driver.pid).children(recursive=True)
            driver.kill()
    assert driver.returncode == -signal.SIGKILL
    # Ray ends what it started when its driver is gone, but only a minute later where a read never returns.
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=60)
    before = {path: path.stat().st_ino for path in out.glob("*.parquet")}
    pipe.unlink()
    pipe.write_bytes(data)
    report = run(manifest, out)
    assert (report.already, report.embedded, report.failed, report.shards) == (9, 1, 0, 4)
    assert {path: path.stat().st_ino for path in before} == before
    assert set(rows(out)) == {f"c{i:02}" for i in range(10)}
