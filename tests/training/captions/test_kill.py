"""kill -9 at any point: the next run goes on exactly, the output is the same, nothing recorded is asked for again."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.captions_server import Server, serving
from tests.training.captions.test_annotate import heard_as, job, run
from training.captions.formats import read_rows
from training.captions.ledger import Ledger
from training.captions.pipeline import Pipeline
from training.captions.run import Source

OPTIONS = ["--annotator", "endpoint", "--long", "2", "--yes"]


def start(manifest: Path, out: Path, server: Server, *more: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "CLSP_ANNOTATOR_BASE_URL": server.url,
        "CLSP_ANNOTATOR_MODEL": "tester",
        "CLSP_ANNOTATOR_CONCURRENCY": "4",
        "CLSP_ANNOTATOR_TIMEOUT_S": "5",
    }
    command = [sys.executable, "-m", "training.commands.annotate", "annotate", str(manifest), "--out", str(out)]
    return subprocess.Popen([*command, *OPTIONS, *more], env=environment, text=True, stderr=subprocess.PIPE)


def wait_until_asked(server: Server, count: int, process: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + 30
    while len(server.asked) < count and process.poll() is None:
        assert time.monotonic() < give_up, "the run asks for nothing"
        time.sleep(0.005)


def recorded(out: Path) -> set[tuple[str, int]]:
    """(audio and prompt, seed) of every answer in the ledger."""
    path = out.with_name(f"{out.name}.ledger.sqlite")
    if not path.exists():
        return set()
    book = Ledger(path)
    try:
        with book._db_lock:
            return {(audio, seed) for audio, seed in book._db.execute("SELECT audio || prompt, seed FROM answers")}
    finally:
        book.close()


def kill_until_done(manifest: Path, tmp_path: Path, quick: Any, *, kills: int, concurrency: int = 4) -> None:
    rng = random.Random(kills)
    with serving() as server:
        plain = tmp_path / "plain" / "out.jsonl"
        run(job(quick(server.url)), manifest, plain)
    out = tmp_path / "killed" / "out.jsonl"
    before, answered = 0, set[tuple[str, int]]()
    with serving(delay_s=0.03) as server:
        for _ in range(kills):
            process = start(manifest, out, server)
            wait_until_asked(server, len(server.asked) + rng.randint(1, 24 // kills + 1), process)
            time.sleep(rng.uniform(0, 0.05))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
            assert process.stderr is not None
            process.stderr.close()
            time.sleep(0.1)  # what was under way reaches nobody
            answered = recorded(out)
            before = len(server.asked)
        with start(manifest, out, server) as process:
            assert process.wait(60) == 0
    assert out.read_bytes() == plain.read_bytes()
    # Only what was under way at a kill can have been asked twice.
    assert len(server.attempts) == 36
    assert sum(server.attempts.values()) - 36 <= kills * concurrency
    # And nothing that was recorded at the last kill was asked for after it.
    assert len(server.asked) - before == 36 - len(answered)


def test_kill_9(manifest: Path, tmp_path: Path, quick) -> None:
    kill_until_done(manifest, tmp_path, quick, kills=2)


@pytest.mark.slow
def test_kill_9_again_and_again(manifest: Path, tmp_path: Path, quick) -> None:
    kill_until_done(manifest, tmp_path, quick, kills=20)


def test_ctrl_c_ends_a_run_in_good_order(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with serving(delay_s=0.03) as server:
        process = start(manifest, out, server)
        # 28 of 36 answers have come by then: however they fall on 12 clips, 4 of these have all of theirs.
        wait_until_asked(server, 32, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "goes on from here" in process.stderr.read()
        process.stderr.close()
    # What was under way has been waited for: every answer that was paid for is recorded, none was cut off.
    assert len(recorded(out)) == len(server.paid) == len(server.asked)
    assert (tmp_path / "out.jsonl.partial.jsonl").read_bytes().count(b"\n") >= 4


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_end_waits_out_no_pause(name: signal.Signals, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with serving() as server:
        server.behave = lambda asked: "429 1500" if len(server.asked) > 4 else None
        process = start(manifest, out, server, "--concurrency", "1")
        wait_until_asked(server, 5, process)
        process.send_signal(name)
        try:
            assert process.wait(60) == 130
        finally:
            process.kill()
        assert process.stderr is not None
        assert "goes on from here" in process.stderr.read()
        process.stderr.close()
        assert len(recorded(out)) == len(server.paid) == 4
        server.behave = lambda asked: None
        with start(manifest, out, server) as process:
            assert process.wait(60) == 0
    assert len(server.paid) == 36
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("damage", ["half a line", "a torn line", "no end", "gone"])
def test_a_damaged_partial_output_is_made_good(damage: str, manifest: Path, tmp_path: Path, quick) -> None:
    out = tmp_path / "out.jsonl"
    partial = tmp_path / "out.jsonl.partial.jsonl"
    with serving() as server:
        task = job(quick(server.url))
        stop_after = 5

        async def stopped_early() -> None:
            pipelines: list[Pipeline] = []

            def tick(_: object) -> None:
                if pipelines[0].tally.clips >= stop_after:
                    pipelines[0].stop()

            done = await task.run(
                Source.of(manifest),
                out,
                tmp_path / "ledger.sqlite",
                watch=lambda pipeline, resumed, pools: pipelines.append(pipeline),
                tick=tick,
            )
            assert done.stopped or done.rows == 12

        asyncio.run(stopped_early())
        if not partial.exists():  # the run was done before it could be stopped: as if it had been killed at the end
            partial.write_bytes(out.read_bytes())
            state = json.loads((tmp_path / "out.jsonl.run.json").read_text())
            (tmp_path / "out.jsonl.run.json").write_text(json.dumps(state | {"complete": False}))
            out.unlink()
        lines = partial.read_bytes().splitlines(keepends=True)
        assert len(lines) >= 4
        partial.write_bytes(
            {
                "half a line": b"".join(lines) + lines[0][:40],
                "a torn line": b"".join(lines[:2]) + b"\0\0\0\0\n" + b"".join(lines[2:]),
                "no end": b"".join(lines)[:-1],
                "gone": b"",
            }[damage]
        )
        done = run(task, manifest, out, tmp_path / "ledger.sqlite")
    assert (
        done.resumed_rows == {"half a line": len(lines), "a torn line": 2, "no end": len(lines) - 1, "gone": 0}[damage]
    )
    assert [row["id"] for row in read_rows(out)] == [f"clip{i:02d}" for i in range(12)]
    assert all(len(row["long_captions"]) == 2 for row in read_rows(out))
    assert len(server.asked) == 36
    assert not partial.exists()


def test_exit_codes_and_messages(manifest: Path, tmp_path: Path) -> None:
    with serving(behave=lambda asked: "401") as server:
        with start(manifest, tmp_path / "a.jsonl", server) as process:
            assert process.wait(30) == 4
            assert process.stderr is not None
            told = process.stderr.read()
        assert "Stopped" in told
        assert "401" in told
        assert "Traceback" not in told
        assert len(server.asked) <= 4  # one refusal a slot, not one a caption
        (heard,) = heard_as(row for row in read_rows(manifest) if row["id"] == "clip01")
        server.behave = lambda asked: "400" if asked.heard == heard and "one short sentence" in asked.text else None
        with start(manifest, tmp_path / "a.jsonl", server) as process:
            assert process.wait(30) == 3
        (failure,) = (tmp_path / "a.jsonl-failures.jsonl").read_text().splitlines()
        assert json.loads(failure)["kind"] == "short"
    with start(tmp_path / "none.jsonl", tmp_path / "b.jsonl", server) as process:
        assert process.wait(30) == 2
        assert process.stderr is not None
        assert "No such file" in process.stderr.read()
