"""`clsp ingest`: a folder or a manifest into a collection, resumable, with every failure on record.

Only successes are skipped on the next run: what is asked of the server is which bytes each item holds, so a run that
was cut off, or a file that has changed since, needs no bookkeeping of its own on this side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clsp_client import OTHER_AUDIO_SUFFIXES, Client, InvalidRequestError, ProblemError
from clsp_client.calls import NewClip
from index.exchange.reconcile import Decision, metadata_patch, reconcile
from service.audio.containers import ACCEPTED, describe, sniff
from service.cli.common import CliError
from service.core.clip_sources import Source

_NO_MORE = frozenset({429, 503, 507})
"""Full still, after the patience, or without room on its disk: each further clip would only wait anew."""
BATCH_BYTES = 16 * 1024 * 1024


@dataclass
class Outcome:
    """What a run did, counted in clips."""

    added: int = 0
    replaced: int = 0
    relabelled: int = 0
    unchanged: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The counts, with `failed` for the failures, and the failures themselves."""
        counts = {name: getattr(self, name) for name in ("added", "replaced", "relabelled", "unchanged")}
        return {**counts, "failed": len(self.failures), "failures": self.failures}


class Ingest:
    """One run over a list of clips. `steps()` yields after each clip, for a progress bar; `outcome` counts."""

    def __init__(self, client: Client, collection: str, *, batch: int = 16) -> None:
        self.outcome = Outcome()
        self._client = client
        self._collection = collection
        self._batch = batch
        self._stored: dict[str, tuple[str, dict[str, Any]]] = {}

    def prepare(self) -> None:
        """Make the collection if it is not there, and learn what it holds."""
        self._client.create_collection(self._collection)
        for item in self._client.items(self._collection):
            self._stored[item["id"]] = (item["content_sha256"], item["metadata"])

    def steps(self, clips: Iterable[Source]) -> Iterator[Source]:
        """Ingest the clips in batches. A batch that is refused is tried again clip by clip, so one bad file costs
        one file. Raises UnreachableError when the service goes away; what it acknowledged is kept."""
        waiting: list[tuple[Source, bytes]] = []
        for clip in clips:
            data = self._read(clip)
            if data is None:
                yield clip
                continue
            size = sum(len(held) for _, held in waiting)
            if len(waiting) >= self._batch or (waiting and size + len(data) > BATCH_BYTES):
                yield from self._send(waiting)
                waiting = []
            waiting.append((clip, data))
        yield from self._send(waiting)

    def _read(self, clip: Source) -> bytes | None:
        """The clip's bytes, or None when there is nothing to send."""
        if clip.refused is not None:
            self._fail(clip, {"title": "The clip cannot be used", "detail": clip.refused})
            return None
        try:
            data = clip.path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a path that no file can have
            detail = getattr(error, "strerror", None) or str(error)
            self._fail(clip, {"title": "The file cannot be read", "detail": detail})
            return None
        if clip.path.suffix.lower() in OTHER_AUDIO_SUFFIXES and sniff(data) is None:
            # Not sent: the service could only say the same.
            detail = f"this is {describe(data)}; the service reads {ACCEPTED}"
            self._fail(clip, {"title": "Invalid audio", "detail": detail})
            return None
        decision = self._decide(clip, hashlib.sha256(data).hexdigest())
        if decision.new_content:
            return data
        if decision.outcome == "unchanged":
            self.outcome.unchanged += 1
        else:
            self._relabel(clip, decision.metadata)
        return None

    def _decide(self, clip: Source, sha256: str) -> Decision:
        return reconcile(self._stored.get(clip.id), sha256, clip.metadata)

    def _relabel(self, clip: Source, wanted: Mapping[str, Any]) -> None:
        """Same audio, other words about it: nothing has to be encoded again."""
        _, stored = self._stored[clip.id]
        try:
            self._client.patch_item(self._collection, clip.id, metadata_patch(stored, wanted))
        except (ProblemError, InvalidRequestError) as error:
            self._fail(clip, _problem(error))
        else:
            self.outcome.relabelled += 1

    def _send(self, batch: list[tuple[Source, bytes]]) -> Iterator[Source]:
        if not batch:
            return
        try:
            self._post(batch)
        except (ProblemError, InvalidRequestError) as error:
            if isinstance(error, ProblemError) and error.status in (401, 403):
                raise  # no other clip would fare better
            if isinstance(error, ProblemError) and error.status in _NO_MORE:
                told = self.outcome
                done = told.added + told.replaced + told.relabelled + told.unchanged
                later = f"{done} clips are done; run the same command again to go on."
                raise CliError(f"The service takes no more clips\n{error}\n{later}") from error
            if len(batch) > 1:
                for one in batch:
                    yield from self._send([one])
                return
            self._fail(batch[0][0], _problem(error))
        yield from (clip for clip, _ in batch)

    def _post(self, batch: list[tuple[Source, bytes]]) -> None:
        clips = [NewClip(data, clip.id, self._decide(clip, "").metadata, clip.path.name) for clip, data in batch]
        answer = self._client.add_items(self._collection, clips)
        for item in answer["items"]:
            if item["created"]:
                self.outcome.added += 1
            else:
                self.outcome.replaced += 1

    def _fail(self, clip: Source, problem: Mapping[str, Any]) -> None:
        wanted = ("type", "title", "status", "detail", "field", "limit")
        reason = {name: problem[name] for name in wanted if problem.get(name) is not None}
        self.outcome.failures.append({"file": str(clip.path), "id": clip.id, **reason})


def _problem(error: ProblemError | InvalidRequestError) -> Mapping[str, Any]:
    if isinstance(error, ProblemError):
        return error.problem
    return {"title": "The clip cannot be sent", "detail": str(error)}
