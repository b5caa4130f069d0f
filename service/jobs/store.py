"""Jobs on disk: a SQLite file of their own beside the catalog, so that a kill at any moment loses no job.

An entry's row lives from the listing of the source until the clip is in the catalog: what is left after a kill is
exactly what is left to do. The catalog commits first, then the row goes; what was about to be stored is written down
before (`intend`), so that a kill between the two is told from work of others.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from index.storage.locks import FolderLock
from service.jobs.errors import JobsBroken, TooManyJobs, UnknownJob, WrongState
from service.jobs.records import Entry, Job, Kind, Progress, State, reason

SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, identity TEXT NOT NULL,
    kind TEXT NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL, revision INTEGER NOT NULL DEFAULT 1, total INTEGER,
    added INTEGER NOT NULL DEFAULT 0, replaced INTEGER NOT NULL DEFAULT 0, relabelled INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0, encoded INTEGER NOT NULL DEFAULT 0,
    audio_s REAL NOT NULL DEFAULT 0, error TEXT, created_at TEXT NOT NULL, started_at TEXT, ended_at TEXT,
    stalls INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_state ON jobs(state, number);
CREATE TABLE entries (
    job INTEGER NOT NULL REFERENCES jobs(number) ON DELETE CASCADE, seq INTEGER NOT NULL, path TEXT NOT NULL,
    row INTEGER, id TEXT, metadata TEXT, reason TEXT, sha256 TEXT, existed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, seq), UNIQUE (job, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_refused ON entries(job, seq) WHERE reason IS NOT NULL;
"""
_JOB: Final = (
    "number, id, collection, identity, kind, path, state, revision, total, added, replaced, relabelled, unchanged, "
    "refused, encoded, audio_s, error, created_at, started_at, ended_at"
)
_ENTRY: Final = "seq, path, id, metadata, row, reason, sha256, existed"


class JobStore:
    """The jobs of one folder, which one process owns at a time. Thread-safe; every call is one durable transaction.

    Calls raise JobsBroken when the disk refuses, and UnknownJob.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create. Raises StoreLocked while another process has the folder, and JobsBroken."""
        self._turn = threading.Lock()
        with _disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder)
        try:
            with _disk_errors():
                self._db = self._connect(folder / "jobs.sqlite")
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let the folder go."""
        with self._turn:
            self._db.close()
            self._lock.release()

    def create(self, *, collection: str, identity: str, kind: Kind, path: str, most_waiting: int) -> Job:
        """A job that waits for its turn, or the one of this source that has not ended. Raises TooManyJobs."""
        with self._writing() as db:
            same = "collection = ? AND kind = ? AND path = ? AND state IN ('queued', 'listing', 'running')"
            known = db.execute(f"SELECT {_JOB} FROM jobs WHERE {same}", (collection, kind, path)).fetchone()  # noqa: S608
            if known is not None:
                return _job(known)
            (waiting,) = db.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= most_waiting:
                raise TooManyJobs(most_waiting)
            number = db.execute(
                "INSERT INTO jobs (id, collection, identity, kind, path, state, created_at) VALUES (?,?,?,?,?,?,?)",
                (uuid.uuid4().hex, collection, identity, kind, path, "queued", _now()),
            ).lastrowid
            return _job(db.execute(f"SELECT {_JOB} FROM jobs WHERE number = ?", (number,)).fetchone())  # noqa: S608

    def get(self, job_id: str) -> Job:
        """A job by the id that callers know."""
        with self._writing() as db:
            return _get(db, job_id)

    def page(self, *, before: int | None, limit: int, collection: str | None, state: State | None) -> list[Job]:
        """Jobs, latest first."""
        sql = f"""SELECT {_JOB} FROM jobs WHERE (?1 IS NULL OR number < ?1) AND (?2 IS NULL OR collection = ?2)
            AND (?3 IS NULL OR state = ?3) ORDER BY number DESC LIMIT ?4"""  # noqa: S608
        with self._writing() as db:
            return [_job(row) for row in db.execute(sql, (before, collection, state, limit))]

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        with self._writing() as db:
            return dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def requeue_interrupted(self) -> None:
        """At start-up: what was running when the last process ended waits for its turn again."""
        with self._writing() as db:
            _set(db, "WHERE state IN ('listing', 'running')", "state = 'queued'")

    def claim(self) -> tuple[Job, int] | None:
        """The job that waited longest, now this caller's, and how often it was claimed in a row and did not advance.

        None where none waits.
        """
        with self._writing() as db:
            row = db.execute(
                "SELECT id, total, stalls FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            job_id, total, stalls = row
            begun = "state = ?, stalls = stalls + 1, started_at = coalesce(started_at, ?)"
            _set(db, "WHERE id = ?", begun, "listing" if total is None else "running", _now(), job_id)
            return _get(db, job_id), stalls

    def release(self, job: Job) -> None:
        """Put a job back, in good order: whoever starts next goes on with it."""
        with self._writing() as db:
            _set(db, "WHERE number = ? AND state IN ('listing', 'running')", "state = 'queued', stalls = 0", job.number)

    def end(self, job: Job, state: State, error: dict[str, Any] | None = None) -> Job:
        """The job has ended, for now."""
        text = None if error is None else json.dumps(error)
        with self._writing() as db:
            _set(db, "WHERE number = ?", "state = ?, error = ?, ended_at = ?", state, text, _now(), job.number)
            return _get(db, job.id)

    def resume(self, job_id: str) -> Job:
        """Let an ended job wait for its turn again; what it refused is tried again. Raises WrongState."""
        with self._writing() as db:
            job = _get(db, job_id)
            if not job.ended:
                return job
            if job.state == "succeeded" and not job.refused:
                raise WrongState("the job has succeeded and refused nothing: there is nothing to resume")
            # Those without an id were refused by the listing, as would happen again.
            again = "UPDATE entries SET reason = NULL WHERE job = ? AND reason IS NOT NULL AND id IS NOT NULL"
            left = job.refused - db.execute(again, (job.number,)).rowcount
            anew = "state = 'queued', stalls = 0, refused = ?, error = NULL, ended_at = NULL"
            _set(db, "WHERE id = ?", anew, left if job.total is not None else 0, job_id)
            return _get(db, job_id)

    def forget_old(self, keep: int) -> None:
        """Drop all but the latest `keep` jobs that have ended."""
        ended = "state IN ('succeeded', 'failed', 'cancelled')"
        sql = f"DELETE FROM jobs WHERE {ended} AND number <= (SELECT number FROM jobs WHERE {ended} "  # noqa: S608
        with self._writing() as db:
            db.execute(sql + "ORDER BY number DESC LIMIT 1 OFFSET ?)", (keep,))

    def begin_listing(self, job: Job) -> None:
        """Forget a listing that was cut off."""
        with self._writing() as db:
            db.execute("DELETE FROM entries WHERE job = ?", (job.number,))

    def list_entries(self, job: Job, entries: Iterable[Entry]) -> None:
        """Write down entries. An id that the job has already is refused."""
        sql = "INSERT OR IGNORE INTO entries (job, seq, path, row, id, metadata, reason) VALUES (?,?,?,?,?,?,?)"
        with self._writing() as db:
            for one in entries:
                about = None if one.metadata is None else json.dumps(one.metadata, ensure_ascii=False)
                values = (job.number, one.seq, one.path, one.row)
                if not db.execute(sql, (*values, one.id, about, _text(one.reason))).rowcount:
                    twice = reason("invalid-source", f"the id {one.id!r} is taken by another clip of the source")
                    db.execute(sql, (*values, None, about, _text(twice)))

    def end_listing(self, job: Job) -> Job:
        """All entries are written down; what was refused while listing counts now."""
        with self._writing() as db:
            total, refused = db.execute(
                "SELECT count(*), count(reason) FROM entries WHERE job = ?", (job.number,)
            ).fetchone()
            listed = "state = 'running', stalls = 0, total = ?, refused = ?"
            # Unless it was cancelled meanwhile: then it is listed anew when it is resumed.
            _set(db, "WHERE number = ? AND state = 'listing'", listed, total, refused, job.number)
            return _get(db, job.id)

    def waiting(self, job: Job, *, after: int, limit: int) -> list[Entry]:
        """Entries that are not dealt with, in the order of the source."""
        where = "job = ? AND seq > ? AND reason IS NULL"
        with self._writing() as db:
            return _entries(db, where, (job.number, after, limit))

    def refused(self, job: Job, *, after: int, limit: int) -> list[Entry]:
        """Entries that were refused, with the reason, in the order of the source."""
        with self._writing() as db:
            return _entries(db, "job = ? AND seq > ? AND reason IS NOT NULL", (job.number, after, limit))

    def intend(self, job: Job, intents: Sequence[tuple[int, str, bool]]) -> None:
        """Write down what is about to be stored: (seq, SHA-256 of the content, whether the id is taken)."""
        sql = "UPDATE entries SET sha256 = ?, existed = ? WHERE job = ? AND seq = ?"
        with self._writing() as db:
            db.executemany(sql, [(sha256, existed, job.number, seq) for seq, sha256, existed in intents])

    def advance(self, job: Job, progress: Progress) -> Job:
        """Entries have been dealt with: one transaction for their rows and the counts."""
        with self._writing() as db:
            db.executemany(
                "DELETE FROM entries WHERE job = ? AND seq = ?", [(job.number, seq) for seq in progress.finished]
            )
            db.executemany(
                "UPDATE entries SET reason = ? WHERE job = ? AND seq = ?",
                [(_text(reason), job.number, seq) for seq, reason in progress.refused],
            )
            counted = ("added", "replaced", "relabelled", "unchanged", "encoded", "audio_s")
            changes = ", ".join(f"{name} = {name} + ?" for name in (*counted, "refused"))
            values = [getattr(progress, name) for name in counted]
            _set(db, "WHERE number = ?", f"stalls = 0, {changes}", *values, len(progress.refused), job.number)
            return _get(db, job.id)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._turn, _disk_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.commit()
            finally:
                if self._db.in_transaction:
                    self._db.rollback()

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "journal_size_limit = 67108864",
        ):
            db.execute(f"PRAGMA {pragma}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise JobsBroken(f"{path} has schema {version}; this version knows up to {SCHEMA_VERSION}")
        if version == 0:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        return db


def _set(db: sqlite3.Connection, where: str, changes: str, *values: object) -> None:
    db.execute(f"UPDATE jobs SET revision = revision + 1, {changes} {where}", values)  # noqa: S608


def _get(db: sqlite3.Connection, job_id: str) -> Job:
    row = db.execute(f"SELECT {_JOB} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608
    if row is None:
        raise UnknownJob(f"there is no job {job_id!r}")
    return _job(row)


def _job(row: Sequence[Any]) -> Job:
    names = [name.strip() for name in _JOB.split(",")]
    values = dict(zip(names, row, strict=True))
    return Job(**{**values, "error": _value(values["error"])})


def _entries(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[Entry]:
    sql = f"SELECT {_ENTRY} FROM entries WHERE {where} ORDER BY seq LIMIT ?"  # noqa: S608
    return [
        Entry(seq, path, id, _value(metadata), row, _value(reason), sha256, bool(existed))
        for seq, path, id, metadata, row, reason, sha256, existed in db.execute(sql, values)
    ]


def _value(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def _text(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JobsBroken(f"the jobs cannot be read or written: {error}") from error
