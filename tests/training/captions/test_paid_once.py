"""Never more answers at stake than requests at once, and no question asked twice: not at a kill, nor side by side."""

import sqlite3
import threading
import time
from pathlib import Path

from tests.support.captions_server import Server, serving
from tests.training.captions.test_annotate import job, run
from training.captions.formats import read_rows, write_rows


def wait_for(server: Server, asked: int, seconds: float) -> bool:
    """Whether so many requests arrive within the time."""
    give_up = time.monotonic() + seconds
    while len(server.asked) < asked:
        if time.monotonic() > give_up:
            return False
        time.sleep(0.005)
    return True


def test_a_request_waits_until_the_answers_before_it_are_recorded(manifest: Path, tmp_path: Path, quick) -> None:
    """While the ledger's disk stalls, answers that came are at stake: no more of them than `concurrency`."""
    ledger = tmp_path / "ledger.sqlite"
    with serving() as server:
        # A first run makes the file and records one clip.
        rows = list(read_rows(manifest))
        write_rows(tmp_path / "one.jsonl", rows[:1])
        run(job(quick(server.url)), tmp_path / "one.jsonl", tmp_path / "one" / "out.jsonl", ledger)
        before = len(server.asked)
        stall = sqlite3.connect(ledger, isolation_level=None)
        stall.execute("BEGIN IMMEDIATE")  # another writer: every commit waits for it
        work = threading.Thread(target=run, args=(job(quick(server.url)), manifest, tmp_path / "out.jsonl", ledger))
        work.start()
        try:
            assert wait_for(server, before + 4, 60)
            assert not wait_for(server, before + 5, 0.7), "a fifth request went out before four answers were recorded"
        finally:
            stall.execute("ROLLBACK")
            stall.close()
            work.join(60)
    assert len(server.asked) == 36
    assert set(server.paid.values()) == {1}


def test_the_same_audio_twice_is_one_question(manifest: Path, tmp_path: Path, quick) -> None:
    """Copies of a clip in one manifest, side by side and far apart, share their answers."""
    rows = list(read_rows(manifest))
    copies = [{**row, "id": f"{row['id']}-{name}"} for row in rows for name in "abc"] + rows
    write_rows(tmp_path / "copies.jsonl", copies)
    with serving(delay_s=0.01) as server:
        done = run(job(quick(server.url)), tmp_path / "copies.jsonl", tmp_path / "out.jsonl")
    assert done.failed == 0
    assert len(server.asked) == 36
    said = [(row["short_captions"], row["long_captions"]) for row in read_rows(tmp_path / "out.jsonl")]
    assert said[:36:3] == said[1:36:3] == said[2:36:3] == said[36:]


def test_what_failed_for_one_copy_failed_for_all(manifest: Path, tmp_path: Path, quick) -> None:
    rows = list(read_rows(manifest))[:2]
    write_rows(tmp_path / "copies.jsonl", [{**row, "id": f"{row['id']}-{n}"} for row in rows for n in range(3)])
    first = None

    def behave(asked):
        nonlocal first
        first = first or asked.heard
        return "400" if asked.heard == first else None

    with serving(behave=behave) as server:
        done = run(job(quick(server.url)), tmp_path / "copies.jsonl", tmp_path / "out.jsonl")
    assert len(server.asked) == 6
    assert done.failed == 9
    made = [len(row["long_captions"]) for row in read_rows(tmp_path / "out.jsonl")]
    assert sorted(made) == [0, 0, 0, 2, 2, 2]


def test_requests_are_keyed_by_what_is_asked_and_not_by_a_name(manifest: Path, tmp_path: Path, quick) -> None:
    """A gateway that answers a repeated key from its store must not mix up two clips of one name, or choke on it."""
    rows = list(read_rows(manifest))
    names = ["sé ñor", "日本-01", "a\nb", "x" * 20_000]
    write_rows(tmp_path / "a.jsonl", [{**row, "id": name} for row, name in zip(rows, names, strict=False)])
    write_rows(tmp_path / "b.jsonl", [{**row, "id": name} for row, name in zip(rows[4:], names, strict=False)])
    with serving() as server:
        for name in "ab":
            done = run(job(quick(server.url)), tmp_path / f"{name}.jsonl", tmp_path / name / "out.jsonl")
            assert done.failed == 0
    assert len(server.asked) == len({asked.key for asked in server.asked}) == 24
    assert all(asked.key.isascii() and len(asked.key) <= 64 for asked in server.asked)
