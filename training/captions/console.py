"""How the captions' commands talk: a progress bar for people, now and then a line for logs, no tracebacks."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from training.captions.book import PromptError
from training.captions.endpoint import EndpointError, EndpointStoppedError
from training.captions.formats import FormatError
from training.captions.job import Pools
from training.captions.ledger import LedgerLockedError
from training.captions.pipeline import Pipeline
from training.captions.run_state import RunLockedError

console = Console(stderr=True)

FAILED_SOME, STOPPED, INTERRUPTED = 3, 4, 130
LOG_EVERY_S = 15.0


def say(text: str) -> None:
    """A line to stderr, as it stands."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def facts(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Name and value pairs."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    console.print(table)


@contextmanager
def plain_errors() -> Iterator[None]:
    """What users can mend becomes a message and an exit code: 2 for them, 4 for an endpoint that stopped the run."""
    try:
        yield
    except ValidationError as error:
        for fault in error.errors():
            say(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")
        raise typer.Exit(2) from error
    except EndpointStoppedError as error:
        say(f"Stopped: {error}\nWhat was made and paid for is kept: the same command goes on from here.")
        raise typer.Exit(STOPPED) from error
    except EndpointError as error:
        say(str(error))
        raise typer.Exit(STOPPED) from error
    except sqlite3.DatabaseError as error:
        say(f"the ledger cannot be used: {error}")
        raise typer.Exit(2) from error
    except (FormatError, PromptError, LedgerLockedError, RunLockedError, OSError) as error:
        say(str(error))
        raise typer.Exit(2) from error
    except (ValueError, RuntimeError) as error:
        if type(error) in (ValueError, RuntimeError) or type(error).__module__.startswith("training.captions"):
            say(str(error))
            raise typer.Exit(2) from error
        raise


class Watch:
    """Progress of one run: use as a context manager, then call it with the pipeline and tick it for each row."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._pipeline: Pipeline | None = None
        self._pools = Pools(None, None)
        self._last = time.monotonic()
        self._done = 0
        self._progress = Progress(
            BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn(), console=console
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._progress.start()
            self._task = self._progress.add_task("", total=self._total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._task is not None:
            self._progress.stop()

    def begin(self, pipeline: Pipeline, resumed: int, pools: Pools) -> None:
        """Work starts; `resumed` rows are from before."""
        self._pipeline, self._pools, self._done = pipeline, pools, resumed
        if resumed:
            say(f"going on after {resumed} clips that are done")
        if self._task is not None:
            self._progress.update(self._task, completed=resumed)

    def tick(self, row: object = None) -> None:
        """One more row."""
        self._done += 1
        if self._task is not None:
            self._progress.update(self._task, advance=1, description=self.line())
        elif time.monotonic() - self._last >= LOG_EVERY_S:
            self._last = time.monotonic()
            say(f"{self._done} of {self._total or '?'} clips; {self.line()}")

    def line(self) -> str:
        """Where it stands, in one line."""
        if self._pipeline is None:
            return ""
        tally, pool = self._pipeline.tally, self._pools.annotator
        told = [f"{tally.kept} kept, {tally.rejected} rejected, {tally.failed} failed"]
        if tally.from_ledger:
            told.append(f"{tally.from_ledger} from the ledger")
        if pool is not None:
            told.append(f"{sum(e.requests for e in pool.endpoints)} requests")
            limited = sum(e.rate_limited for e in pool.endpoints)
            told += [f"{limited} rate limited"] if limited else []
            if pool.maybe_paid_in_vain:
                told.append(f"{pool.maybe_paid_in_vain} answers lost on the way, perhaps billed")
        if self._pools.cost:
            told.append(f"cost {self._pools.cost:.2f}")
        return "; ".join(told)
