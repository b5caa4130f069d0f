"""`clsp embed-corpus`: hash, plan and embed a manifest with Ray Data, on this machine or on all that Ray has.

A shard is the unit of work and of progress: it appears whole, under a name made of what it holds, so that a worker that
is killed costs one shard's work, a driver that is killed nothing, and doing a shard twice changes nothing.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_export.bundle import Bundle
from service.audio.limits import AudioLimits
from service.core.clip_sources import Source
from service.corpus.embed import Embedder, Hasher, Work
from service.corpus.plan import CorpusError, contents, owned, settle, shards, sort_out, write_plan
from service.engine.identity import embedding_identity

FAILURES = "failures.jsonl"
_HASH_BATCH = 64


@dataclass(frozen=True)
class Machines:
    """How the work is spread.

    Attributes:
        address: of a Ray cluster, "auto" for the one this machine belongs to; None starts one here.
        workers: encoder sessions at the same time.
        cpus: threads of each, and what each reserves.
        gpus: of each, for a bundle that runs on them; 0 keeps to CPUs.
        shard: contents in one shard.
    """

    address: str | None = None
    workers: int = 1
    cpus: int = 1
    gpus: float = 0.0
    shard: int = 512


@dataclass(frozen=True)
class Report:
    """What a run did, in clips (and contents for `embedded`), and how many shards there are now.

    `relabelled` were embedded already, and have other metadata now; the rest of those are `already`.
    """

    clips: int
    already: int
    relabelled: int
    embedded: int
    failed: int
    shards: int


def embed_corpus(
    clips: Sequence[Source],
    out: Path,
    *,
    bundle: Path,
    limits: AudioLimits,
    machines: Machines,
    tick: Callable[[str, int, int], None] = lambda stage, done, of: None,
) -> Report:
    """Embed what no shard in `out` holds yet. `tick(stage, done, of)` tells the progress.

    `out`, `bundle` and the audio must be at the same paths on all machines.

    Raises:
        CorpusError: no Ray, or another job is at the folder.
        BundleError, IdentityMismatch: the bundle can't be used, or made other vectors than the folder holds.
    """
    ray = _ray(machines)
    loaded = Bundle.load(bundle, verify=True)
    identity, dim = embedding_identity(loaded), loaded.manifest.embedding_dim
    work = Work(str(bundle.absolute()), str(out.absolute()), limits, machines.cpus)
    with owned(out):
        failures = _Failures(out / FAILURES)
        usable, refused = sort_out(clips)
        failures.add(refused)
        hashes = _hash(ray, usable, failures, tick)
        done, relabelled = settle(out, usable, hashes, dim=dim, identity=identity)
        left = contents(usable, hashes, done)
        plans = write_plan(out / "plan", left, machines.shard)
        embedded = 0
        if plans:
            rows = ray.data.from_items([{"plan": str(path)} for path in plans], override_num_blocks=len(plans))
            results = rows.map_batches(
                Embedder,
                fn_constructor_args=(work,),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(machines.workers, len(plans))),
                num_cpus=machines.cpus,
                num_gpus=machines.gpus or None,
            )
            for ended, row in enumerate(results.iter_rows(), 1):
                embedded += int(row["embedded"])
                failures.add(json.loads(row["failures"]))
                tick("embed", min(ended * machines.shard, len(left)), len(left))
        for path in plans:
            path.unlink()
        failures.close()
        already = sum(done.get(clip.id) == hashes.get(clip.id, "") for clip in usable) - len(relabelled)
        return Report(len(clips), already, len(relabelled), embedded, failures.count, len(shards(out)))


def _hash(
    ray: Any, clips: Sequence[Source], failures: _Failures, tick: Callable[[str, int, int], None]
) -> dict[str, str]:
    """SHA-256 by id of every file that can be read."""
    paths = {clip.id: str(clip.path.absolute()) for clip in clips}
    if not paths:
        return {}
    rows = ray.data.from_items([{"id": item_id, "path": path} for item_id, path in paths.items()])
    hashes: dict[str, str] = {}
    for count, row in enumerate(rows.map_batches(_hash_batch, batch_size=_HASH_BATCH).iter_rows(), 1):
        if row["error"]:
            failures.add([{"file": paths[row["id"]], "id": row["id"], "detail": row["error"]}])
        else:
            hashes[row["id"]] = row["sha256"]
        tick("hash", count, len(paths))
    return hashes


def _hash_batch(batch: dict[str, Any]) -> dict[str, Any]:
    return Hasher()(batch)


def _ray(machines: Machines) -> Any:
    try:
        import ray
    except ImportError as error:
        raise CorpusError("this needs Ray: pip install 'clsp-service[cpu,scale]'") from error
    if not ray.is_initialized():
        options: dict[str, Any] = {"address": machines.address} if machines.address else {"include_dashboard": False}
        if not machines.address:
            options["num_cpus"] = max(machines.workers * machines.cpus + 1, os.cpu_count() or 1)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless somebody wants it
        ray.init(log_to_driver=False, **options)
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # `tick` tells the progress
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


class _Failures:
    """The failures of this run: a line each as they come, so that a run that is killed has told of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace")  # in JSON, an escape
        self.count = 0

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self.count += 1
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        if not self.count:
            self._path.unlink()
