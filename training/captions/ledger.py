"""Every answer that was paid for, durable before it is used: what a killed run had is never asked for again.

SQLite, so that looking up one of a hundred million answers takes no memory. An answer is keyed by audio hash, prompt
hash, model and seed; the endpoint's address is no part of it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, audio TEXT NOT NULL, prompt TEXT NOT NULL, model TEXT NOT NULL, seed INTEGER NOT NULL,
    answer TEXT NOT NULL, at REAL NOT NULL
)
"""
# Keys are hashes, so that each answer touches a page of its own of the key's index: what is written to disk is halved
# by keeping the answers themselves out of that tree, and by a log that gathers more of them before it is folded in.
_SETUP = ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 8000", "cache_size = -16384")


class LedgerLockedError(RuntimeError):
    """Another run writes to this ledger: two at once would pay twice."""


@dataclass(frozen=True)
class Question:
    """What was asked: `audio` is the hash of what was heard (or of the text that was judged)."""

    audio: str
    prompt: str
    model: str
    seed: int

    def key(self) -> str:
        """sha256 hex over all four."""
        told = json.dumps([self.audio, self.prompt, self.model, self.seed], separators=(",", ":"))
        return hashlib.sha256(told.encode()).hexdigest()


class Ledger:
    """One file, one writing process (held by a lock). `put` returns when the answer would survive a power cut."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Raises LedgerLockedError, or sqlite3.DatabaseError for a file of another kind."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._opened_at = time.time()
        self._lock: TextIO = path.with_name(f"{path.name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise LedgerLockedError(f"{path} is in use by another run") from error
        # Looked up from worker threads, written by one thread at a time.
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db_lock = threading.Lock()
        for pragma in _SETUP:
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute(_SCHEMA)
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    def get_many(self, questions: Sequence[Question]) -> dict[Question, dict[str, Any]]:
        """Answers that are there, by question."""
        keys = {bytes.fromhex(question.key()): question for question in questions}
        found: dict[Question, dict[str, Any]] = {}
        names = list(keys)
        with self._db_lock:
            for start in range(0, len(names), 500):
                part = names[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = self._db.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", part)  # noqa: S608
                found.update({keys[key]: json.loads(answer) for key, answer in rows})
        return found

    def forget_earlier(self, questions: Sequence[Question]) -> set[Question]:
        """Drops the answers that were recorded before this start -> their questions, which can be asked anew."""
        keys = {bytes.fromhex(question.key()): question for question in questions}
        marks = ",".join("?" * len(keys))
        with self._db_lock:
            gone = self._db.execute(
                f"DELETE FROM answers WHERE key IN ({marks}) AND at < ? RETURNING key",  # noqa: S608
                [*keys, self._opened_at],
            ).fetchall()
        return {keys[key] for (key,) in gone}

    async def put(self, question: Question, answer: dict[str, Any]) -> None:
        """Records an answer durably. Answers that arrive together share one commit."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        row = (
            bytes.fromhex(question.key()),
            question.audio,
            question.prompt,
            question.model,
            question.seed,
            json.dumps(answer, ensure_ascii=False, separators=(",", ":")),
            time.time(),
        )
        self._waiting.append((row, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await done

    def count(self) -> int:
        """Answers that it holds."""
        with self._db_lock:
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Closes the file and frees the lock."""
        with self._db_lock:
            self._db.close()
        self._lock.close()

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._commit, [row for row, _ in batch])
            except Exception as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _commit(self, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._db_lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                # The first answer stands: it is what the manifest may already say.
                self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
