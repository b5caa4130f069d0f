"""What a worker does: a shard's contents read, decoded and embedded, and the shard written. One session a worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput
from index.exchange import parquet
from index.types import Limits, NewItem
from index.validate import check_item
from model_export.bundle import Bundle
from model_export.runtime import BundleRuntime
from model_export.windows import plan_windows
from service.audio.decode import Clip, decode
from service.audio.limits import AudioError, AudioLimits
from service.corpus.plan import SHARD_NAME, Content, read_plan
from service.engine.identity import embedding_identity
from service.usecases.item_builder import clip_item

BATCH_S = 120.0
"""Audio that is embedded at a time, seconds: enough windows of one length to fill batches, little enough to hold."""


@dataclass(frozen=True)
class Work:
    """What every worker is told: paths that all machines see, limits, and threads that a worker may use."""

    bundle: str
    out: str
    limits: AudioLimits
    threads: int
    decoders: int = 2


class Hasher:
    """Reads files and says which bytes they hold."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Paths -> `sha256`, or "" and why not."""
        results = [self._one(Path(path)) for path in batch["path"]]
        return {"id": batch["id"], "sha256": [one for one, _ in results], "error": [error for _, error in results]}

    def _one(self, path: Path) -> tuple[str, str]:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest(), ""
        except (OSError, ValueError) as error:  # ValueError: a path that no file can have
            return "", getattr(error, "strerror", None) or str(error)


class Embedder:
    """One encoder session, and shards through it one after the other."""

    def __init__(self, work: Work) -> None:
        self._work = work
        # The driver has checked the hashes; the copy that this machine sees may be another.
        self._bundle = Bundle.load(Path(work.bundle), verify=True)
        self._identity = embedding_identity(self._bundle)
        self._runtime = BundleRuntime(self._bundle, threads=work.threads)
        self._decoders = ThreadPoolExecutor(work.decoders)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Plans of shards, one a row -> how many contents were embedded, and what failed."""
        results = [self.shard(Path(plan)) for plan in batch["plan"]]
        return {"embedded": [done for done, _ in results], "failures": [json.dumps(failed) for _, failed in results]}

    def shard(self, plan: Path) -> tuple[int, list[dict[str, Any]]]:
        """Embed a shard's contents and write it, whole or not at all; (contents embedded, failures)."""
        items: list[NewItem] = []
        failures: list[dict[str, Any]] = []
        waiting: list[tuple[Content, Clip]] = []
        embedded = 0
        for content, clip in self._decoded(read_plan(plan)):
            if isinstance(clip, str):
                failures += _failures(content, clip)
                continue
            waiting.append((content, clip))
            if sum(one.duration_s for _, one in waiting) >= BATCH_S:
                embedded += self._embed(waiting, items, failures)
                waiting = []
        embedded += self._embed(waiting, items, failures)
        if items:
            target = Path(self._work.out) / SHARD_NAME.format(plan.stem)
            parquet.write(target, items, dim=self._runtime.dim, identity=self._identity)
        return embedded, failures

    def _decoded(self, contents: Sequence[Content]) -> Iterator[tuple[Content, Clip | str]]:
        """Each content with its clip, or why there is none; a few are decoded ahead while others are embedded."""
        waiting: list[tuple[Content, Future[Clip | str]]] = []
        rest = iter(contents)
        while True:
            ahead = 2 * self._work.decoders - len(waiting)
            waiting += [(one, self._decoders.submit(self._decode, one)) for one in islice(rest, ahead)]
            if not waiting:
                return
            content, future = waiting.pop(0)
            yield content, future.result()

    def _decode(self, content: Content) -> Clip | str:
        try:
            clip = decode(Path(content.path).read_bytes(), self._work.limits)
        except OSError as error:
            return error.strerror or str(error)
        except AudioError as error:
            return error.detail
        if clip.sha256 != content.sha256:
            return "the file changed while the job ran; run it again"
        return clip

    def _embed(
        self, waiting: Sequence[tuple[Content, Clip]], items: list[NewItem], failures: list[dict[str, Any]]
    ) -> int:
        """Embed clips and add their items; how many contents."""
        policy = self._bundle.manifest
        rate = policy.sample_rate
        places = [
            plan_windows(
                len(clip.samples),
                sample_rate=rate,
                window_s=policy.window_s,
                hop_s=policy.hop_s,
                min_s=policy.min_s,
            )
            for _, clip in waiting
        ]
        windows: list[NDArray[np.float32]] = [
            np.ascontiguousarray(clip.samples[start:stop])
            for (_, clip), ranges in zip(waiting, places, strict=True)
            for start, stop in ranges
        ]
        vectors = self._runtime.embed_speech(windows)
        first, embedded = 0, 0
        for (content, clip), ranges in zip(waiting, places, strict=True):
            rows = vectors[first : first + len(ranges)]
            first += len(ranges)
            if not np.isfinite(rows).all():
                failures += _failures(content, "the encoder gave a vector that is not finite")
                continue
            embedded += 1
            seconds = [(start / rate, stop / rate) for start, stop in ranges]
            for named in content.clips:
                item = clip_item(
                    named.id,
                    seconds,
                    rows,
                    metadata=named.metadata,
                    duration_s=clip.duration_s,
                    content_sha256=content.sha256,
                    filename=named.filename,
                )
                try:
                    items.append(check_item(item, self._runtime.dim, Limits(), "item"))
                except InvalidInput as error:  # an id or metadata that no index would take
                    failures.append({"file": content.path, "id": named.id, "detail": str(error)})
        return embedded


def _failures(content: Content, detail: str) -> list[dict[str, Any]]:
    return [{"file": content.path, "id": clip.id, "detail": detail} for clip in content.clips]
