"""What a run needs to go on exactly where it was killed: its fingerprint, and the rows that are whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from training.captions.formats import jsonl
from training.captions.formats.rows import Row, portable

SYNC_ROWS = 1000  # rows that a power cut may cost; they are made again from the ledger


class RunLockedError(RuntimeError):
    """Another run writes the same output."""


class RunState:
    """`OUT.partial.jsonl` grows a line a row, in the manifest's order; `OUT.run.json` says what made it."""

    def __init__(self, out: Path, fingerprint: Mapping[str, Any]) -> None:
        """Takes the output's lock. Raises RunLockedError."""
        out.parent.mkdir(parents=True, exist_ok=True)
        self.out = out
        self.partial = out.with_name(f"{out.name}.partial.jsonl")
        self._told = out.with_name(f"{out.name}.run.json")
        self._lock: TextIO = out.with_name(f"{out.name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RunLockedError(f"{out} is being written by another run") from error
        self.fingerprint = dict(fingerprint)
        before = _read(self._told)
        self.same = before.get("fingerprint") == self.fingerprint
        self.complete = bool(self.same and before.get("complete") and out.exists())
        self.failed = int(before.get("failed", 0)) if self.same else 0
        self.rows = self._whole_rows() if self.same else 0
        self._file: TextIO | None = None
        self._unsynced = 0

    def begin(self) -> int:
        """Opens the partial output -> rows that it already has, which need not be made again."""
        if self.complete:
            # Only failures are left to try: the rows are made anew, from the ledger.
            self.rows = 0
        if not self.rows:
            self.partial.unlink(missing_ok=True)
        self._tell(complete=False)
        self._file = self.partial.open("a", encoding="utf-8", newline="\n")
        return self.rows

    def add(self, row: Row, *, keep_cut: bool) -> None:
        """Appends a row. It need not be durable yet: the ledger is, and what is cut off is made again from it."""
        assert self._file is not None
        line = portable(row, self.out.parent)
        self._file.write(jsonl.dump({**line, "cut": row["cut"]} if keep_cut and "cut" in row else line))
        self.rows += 1
        self._unsynced += 1
        if self._unsynced >= SYNC_ROWS:
            self.sync()

    def sync(self) -> None:
        """Makes the rows so far durable."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynced = 0

    def finish(self, failed: int) -> None:
        """Marks the output, which is in place by now, as complete but for `failed` captions."""
        self._tell(complete=True, failed=failed)

    def close(self) -> None:
        """Leaves what is there for the next run."""
        if self._file is not None:
            self.sync()
            self._file.close()
        self._lock.close()

    def _tell(self, *, complete: bool, failed: int = 0) -> None:
        told = {"fingerprint": self.fingerprint, "complete": complete, "failed": failed}
        fresh = self._told.with_name(f".{self._told.name}.partial")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(told, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._told)

    def _whole_rows(self) -> int:
        """Rows of the partial output; half a line at its end, or a damaged one, is cut off with all that follows."""
        if not self.partial.exists():
            return 0
        rows = good = 0
        with self.partial.open("rb+") as file:
            for line in file:
                if not line.endswith(b"\n") or not line.startswith(b"{") or not line.rstrip().endswith(b"}"):
                    break
                rows, good = rows + 1, good + len(line)
            file.truncate(good)
        return rows


def _read(path: Path) -> dict[str, Any]:
    """What was told of an earlier run; nothing where the file is missing or damaged: the rows are made anew then."""
    try:
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
