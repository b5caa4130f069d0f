"""The same annotation over many machines: a Ray Data job whose unit of work is a shard of the manifest.

A shard is a run like any other, with a ledger, an output and a resume of its own in the output folder, which all
machines must see. Rows never pass through the driver, so that its memory does not know how long the manifest is, and
the workers together keep to each endpoint's limits, so that the endpoints set the pace.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.captions.endpoint import EndpointSettings, EndpointStoppedError
from training.captions.filter_report import Report
from training.captions.formats import read_rows
from training.captions.job import Job
from training.captions.shards import Shard, keep_plan, plan_shards, read_plan


class ScaleError(RuntimeError):
    """The job cannot run here; the message says what is missing."""


class ShardWorker:
    """One worker: annotates whole shards, one after the other, until one of them is stopped.

    Its keys come from its own environment; its share of the budget is for all of its shards together.
    """

    def __init__(self, job: Job, out: str, audio_root: str | None) -> None:
        self._job = Job(**{**_fields(job), "annotator": _keyed(job, "annotator"), "verifier": _keyed(job, "verifier")})
        self._out = Path(out)
        self._root = Path(audio_root) if audio_root else None
        self._accounts = self._job.accounts()
        self._stopped = ""  # why; what stopped one shard would stop the next, at a price

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Shards, one a row -> what became of each: its number, rows, failures, or the reason it stopped.

        Those that come after one that stopped are not begun, and have its reason.
        """
        results = [self._one(int(number)) for number in batch["number"]]
        return {name: [result[name] for result in results] for name in ("number", "rows", "failed", "begun", "stopped")}

    def _one(self, number: int) -> dict[str, Any]:
        result = {"number": number, "rows": 0, "failed": 0, "begun": not self._stopped, "stopped": self._stopped}
        if self._stopped:
            return result
        shard = next(s for s in read_plan(self._out) if s.number == number)
        out = self._out / f"{shard.name}.jsonl"
        ledger = self._out / "ledgers" / f"{shard.name}.sqlite"
        try:
            done = asyncio.run(self._job.run(shard.source(self._root), out, ledger, accounts=self._accounts))
        except EndpointStoppedError as error:
            self._stopped = str(error)
            return {**result, "stopped": self._stopped}
        return {**result, "rows": done.rows, "failed": done.failed}


def run(
    job: Job,
    manifest: Path,
    out: Path,
    *,
    workers: int,
    shards: int,
    audio_root: Path | None = None,
    cpus: float = 1.0,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Annotates to `out`/part-*.jsonl. `tick(shards done, shards)`. Started again, it goes on with what is missing.

    Raises ScaleError without Ray, FormatError, or EndpointStoppedError once the shards that could have ended.
    """
    try:
        import ray
    except ImportError as error:
        raise ScaleError("this needs Ray: pip install 'clsp-service[train,scale]'") from error
    plan = keep_plan(out, plan_shards(manifest, shards))
    workers = min(workers, len(plan))
    mine = job.share(workers)
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless somebody wants it
        ray.init(log_to_driver=False, include_dashboard=False)
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # `tick` tells the progress
    numbers = ray.data.from_items([{"number": shard.number} for shard in plan], override_num_blocks=len(plan))
    root = str(audio_root.absolute()) if audio_root else None
    results = numbers.map_batches(
        ShardWorker,
        fn_constructor_args=(_without_keys(mine), str(out.absolute()), root),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=cpus,
    )
    stopped: list[str] = []
    left = 0
    for done, row in enumerate(results.iter_rows(), 1):
        if row["stopped"] and not row["begun"]:
            left += 1
        elif row["stopped"]:
            stopped.append(f"shard {row['number']}: {row['stopped']}")
        tick(done, len(plan))
    if stopped:
        told = "; ".join(stopped[:3]) + (f" and {len(stopped) - 3} more" if stopped[3:] else "")
        raise EndpointStoppedError(told + (f"; {left} shards were not begun" if left else ""))
    return merge_reports(out, plan)


def merge_reports(out: Path, plan: list[Shard]) -> Report:
    """One report over all parts, written beside them."""
    from training.captions.run import write_report

    rows = (row for shard in plan for row in read_rows(out / f"{shard.name}.jsonl"))
    return write_report(out / "all", rows)


def _fields(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__dataclass_fields__}


def _without_keys(job: Job) -> Job:
    """A job as it may lie in a cluster's object store."""
    bare = {
        role: options.model_copy(update={"api_key": None})
        for role, options in (("annotator", job.annotator), ("verifier", job.verifier))
        if options is not None
    }
    return Job(**{**_fields(job), **bare})


def _keyed(job: Job, role: Any) -> EndpointSettings | None:
    """The settings of a role with the key of the machine that works."""
    options: EndpointSettings | None = getattr(job, role)
    if options is None:
        return None
    return options.model_copy(update={"api_key": EndpointSettings.of(role).api_key})
