"""Jobs: bulk ingest of what lies on the server."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from service.schemas.common import EXAMPLE_IDENTITY, RequestModel, ResponseModel, answer, example

_REASON: Final[dict[str, Any]] = {
    "type": "urn:clsp-service:error:invalid-audio",
    "title": "Invalid audio",
    "detail": "the WAV file is cut off: the last page is missing",
    "code": "truncated",
}
_JOB: Final[dict[str, Any]] = {
    "id": "5f0c6d0e9f2c51d07a4e0b0f8b6e3f5c",
    "collection": "voices",
    "kind": "folder",
    "path": "recordings/2026",
    "state": "running",
    "revision": 17,
    "total": 1200,
    "done": 320,
    "added": 315,
    "replaced": 0,
    "relabelled": 0,
    "unchanged": 4,
    "refused": 1,
    "encoded": 315,
    "audio_s": 1842.5,
    "error": None,
    "identity": EXAMPLE_IDENTITY,
    "created_at": "2026-01-05T10:00:00.000Z",
    "started_at": "2026-01-05T10:00:00.012Z",
    "ended_at": None,
}
JobState = Literal["queued", "listing", "running", "succeeded", "failed", "cancelled"]
SourceKind = Literal["folder", "manifest", "parquet"]


class IngestRequest(RequestModel):
    """What to ingest: a folder of audio, a JSONL manifest, or Parquet of embeddings, below one of the roots."""

    model_config = example({"kind": "folder", "path": "recordings/2026"})

    kind: SourceKind = Field(
        description="`folder`: all audio below it. `manifest`: JSONL, a `file` relative to it, `id`, `metadata` a line."
        " `parquet`: a file, or a folder of them: `id`, `embedding`, `duration_s`, `identity`, `metadata`."
    )
    path: str = Field(
        min_length=1, max_length=4096, description="A root's name and the path below it; links are never followed."
    )


class JobError(ResponseModel):
    """Why something was refused, or a job failed, in the words of a problem document."""

    model_config = answer(_REASON) | {"extra": "allow"}

    type: str | None = Field(None, description="Stable name of the reason.")
    title: str
    detail: str | None = None


class Job(ResponseModel):
    """A bulk ingest, and how far it is. Each clip ends as added, replaced, relabelled, unchanged or refused."""

    model_config = answer(_JOB)

    id: str
    collection: str
    kind: SourceKind
    path: str
    state: JobState = Field(description="The last three are ends; `failed` and `cancelled` can be resumed.")
    revision: int = Field(description="Grows with every change; the id of the event that tells of it.")
    total: int | None = Field(description="Clips of the source; null until it is listed.")
    done: int = Field(description="Clips that are dealt with: the sum of the next five.")
    added: int
    replaced: int = Field(description="Clips whose id held other content.")
    relabelled: int = Field(description="Clips that were there with other metadata.")
    unchanged: int = Field(description="Clips that were there as they are: not encoded again.")
    refused: int = Field(description="Clips that cannot be used; `/refused` says why.")
    encoded: int = Field(description="Clips that went through the encoder.")
    audio_s: float = Field(description="Seconds of those.")
    error: JobError | None = Field(description="Why it failed.")
    identity: str
    created_at: str = Field(description="RFC 3339, UTC.")
    started_at: str | None
    ended_at: str | None


class JobList(ResponseModel):
    """Jobs, latest first."""

    model_config = answer({"data": [_JOB], "next_cursor": None})

    data: list[Job]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")


class RefusedClip(ResponseModel):
    """One line of the report: a clip of the source that was refused, and why."""

    model_config = answer({"number": 12, "file": "recordings/2026/take-12.wav", "id": "take-12.wav", "error": _REASON})

    number: int = Field(description="Its place in the source; a manifest's line.")
    file: str
    id: str | None = Field(description="Null where the listing refused it.")
    error: JobError


class IngestRoot(ResponseModel):
    """A folder of the server that jobs may read."""

    model_config = answer({"name": "recordings"})

    name: str = Field(description="What paths begin with.")


class IngestRoots(ResponseModel):
    """The folders of the server that jobs may read; none where the operator allows none."""

    model_config = answer({"data": [{"name": "recordings"}]})

    data: list[IngestRoot]
