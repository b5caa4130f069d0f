"""What a job and its parts are: plain values, as the store keeps them and the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from service.core.problems import PROBLEMS, TYPE_PREFIX

Kind = Literal["folder", "manifest", "parquet"]
State = Literal["queued", "listing", "running", "succeeded", "failed", "cancelled"]
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
ACTIVE: Final = frozenset({"listing", "running"})
OUTCOMES: Final = ("added", "replaced", "relabelled", "unchanged", "refused")
"""What can become of one clip of a job. Each ends in exactly one."""


@dataclass(frozen=True)
class Job:
    """A bulk ingest. `total` is None until the source is listed; the outcomes add up to what is done.

    `revision` grows with every change. `encoded` counts clips that went through the encoder and were stored by this
    job, `audio_s` their seconds.
    """

    number: int
    id: str
    collection: str
    identity: str
    kind: Kind
    path: str
    state: State
    revision: int
    total: int | None
    added: int
    replaced: int
    relabelled: int
    unchanged: int
    refused: int
    encoded: int
    audio_s: float
    error: dict[str, Any] | None
    created_at: str
    started_at: str | None
    ended_at: str | None

    @property
    def done(self) -> int:
        """Clips that are dealt with."""
        return self.added + self.replaced + self.relabelled + self.unchanged + self.refused

    @property
    def ended(self) -> bool:
        """Whether nothing happens any more unless the job is resumed."""
        return self.state in ENDED


@dataclass(frozen=True)
class Entry:
    """One clip that a job has to deal with: the `seq`-th of its source.

    path: `root/sub/file`; row: in a Parquet file; metadata: None where the source says nothing about it.
    sha256, existed: what was about to be stored when the process last spoke of it, and whether the id was taken.
    """

    seq: int
    path: str
    id: str | None
    metadata: dict[str, Any] | None = None
    row: int | None = None
    reason: dict[str, Any] | None = None
    sha256: str | None = None
    existed: bool = False


@dataclass
class Progress:
    """What happened since the store was last told: how many of each outcome, and what was refused why."""

    finished: list[int] = field(default_factory=list)
    refused: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    added: int = 0
    replaced: int = 0
    relabelled: int = 0
    unchanged: int = 0
    encoded: int = 0
    audio_s: float = 0.0

    def finish(self, seq: int, outcome: str) -> None:
        """Count an entry that needs nothing more."""
        self.finished.append(seq)
        setattr(self, outcome, getattr(self, outcome) + 1)


def reason(slug: str, detail: str, **members: Any) -> dict[str, Any]:
    """Why an entry was refused, in the shape of a problem document."""
    given = {name: value for name, value in members.items() if value is not None}
    return {"type": TYPE_PREFIX + slug, "title": PROBLEMS[slug][1], "detail": detail, **given}
