"""Jobs: start a bulk ingest, look at it, stop it, go on with it, and read what it refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from index import cursors
from index.errors import InvalidCursor
from service.api.body import read_json
from service.api.deps import ANY_CALL, BODY_CALL, CollectionPath, JobsDep, ServicesDep, problems, request_body
from service.core.problems import ProblemError
from service.http.auth import require_read, require_write
from service.jobs import records
from service.jobs.manager import Jobs
from service.schemas import IngestRequest, IngestRoot, IngestRoots, Job, JobList, JobState, RefusedClip
from service.schemas.common import CollectionName
from service.usecases.services import Services

router = APIRouter(prefix="/v1", tags=["jobs"])

JSONL: Final = "application/x-ndjson"
JobPath = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Id of a job.", examples=["0" * 32])]
JOB_CALL: Final = (*ANY_CALL, "unknown-job", "storage-failed", "storage-full")
_REPORT_PAGE: Final = 500


def shown(job: records.Job) -> Job:
    """The stored facts as the API shows them."""
    return Job(**{**asdict(job), "done": job.done})


@router.get("/ingest-roots", dependencies=[Depends(require_read)], responses=problems(*ANY_CALL))
async def list_roots(jobs: JobsDep) -> IngestRoots:
    """The folders of the server that jobs may read, by name; none unless CLSP_INGEST_ROOTS names some."""
    return IngestRoots(data=[IngestRoot(name=name) for name in jobs.roots.names])


@router.post(
    "/collections/{collection}/ingest",
    status_code=202,
    dependencies=[Depends(require_write)],
    responses=problems(
        *BODY_CALL,
        "ingest-off",
        "unknown-collection",
        "identity-mismatch",
        "invalid-source",
        "too-many-jobs",
        "storage-failed",
        "storage-full",
    ),
    openapi_extra=request_body(IngestRequest),
    response_description="The job is on disk, and runs when its turn comes.",
)
async def start_ingest(collection: CollectionPath, request: Request, services: ServicesDep, jobs: JobsDep) -> Job:
    """Ingest a folder, a manifest or embeddings that lie on the server, as a job that outlives restarts.

    Clips that the collection has with the same content are skipped; one that cannot be used is refused by itself. The
    call may be repeated: while a job of the same source has not ended, it is the answer.
    """
    body = await read_json(request, IngestRequest)
    if not services.settings.ingest_roots:
        detail = "CLSP_INGEST_ROOTS names no folder; send the clips to /items, as `clsp ingest` does"
        raise ProblemError("ingest-off", detail)
    info = await services.own_collection(collection)
    return shown(await jobs.create(info.name, info.identity, body.kind, body.path))


@router.get("/jobs", dependencies=[Depends(require_read)], responses=problems(*ANY_CALL, "invalid-cursor"))
async def list_jobs(
    services: ServicesDep,
    jobs: JobsDep,
    cursor: Annotated[str | None, Query(max_length=2048, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, description="Maximum number of jobs on the page.")] = 20,
    collection: Annotated[CollectionName | None, Query(description="Only jobs of this collection.")] = None,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
) -> JobList:
    """Jobs, latest first, a page at a time."""
    _check_limit(limit, services)
    before = None if cursor is None else _number(cursor)
    found = await jobs.page(before=before, limit=limit + 1, collection=collection, state=state)
    more = len(found) > limit
    next_cursor = cursors.encode(str(found[limit - 1].number)) if more else None
    return JobList(data=[shown(job) for job in found[:limit]], next_cursor=next_cursor)


@router.get("/jobs/{job_id}", dependencies=[Depends(require_read)], responses=problems(*JOB_CALL))
async def get_job(job_id: JobPath, jobs: JobsDep) -> Job:
    """One job, and how far it is."""
    return shown(await jobs.get(job_id))


@router.post("/jobs/{job_id}/cancel", dependencies=[Depends(require_write)], responses=problems(*JOB_CALL, "conflict"))
async def cancel_job(job_id: JobPath, jobs: JobsDep) -> Job:
    """Stop a job. Answers when it has stopped; what it stored stays, and it can be resumed."""
    return shown(await jobs.cancel(job_id))


@router.post("/jobs/{job_id}/resume", dependencies=[Depends(require_write)], responses=problems(*JOB_CALL, "conflict"))
async def resume_job(job_id: JobPath, jobs: JobsDep) -> Job:
    """Go on with a job that failed or was cancelled, or try again what one refused. Nothing is encoded twice."""
    return shown(await jobs.resume(job_id))


@router.get(
    "/jobs/{job_id}/refused",
    dependencies=[Depends(require_read)],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "JSONL: one refused clip a line, in the order of the source.",
            "content": {JSONL: {"schema": {"type": "string"}}},
        },
        **problems(*JOB_CALL),
    },
)
async def get_refused(
    job_id: JobPath,
    services: ServicesDep,
    jobs: JobsDep,
    after: Annotated[int, Query(ge=0, le=2**53, description="Leave out clips up to this `number`.")] = 0,
    limit: Annotated[
        int | None, Query(ge=1, le=2**53, description="Maximum number of lines; left out, all of them.")
    ] = None,
) -> StreamingResponse:
    """What the job refused so far, and why: `number`, `file`, `id` and `error` a line, streamed."""
    job = await jobs.get(job_id)
    return StreamingResponse(_report(jobs, job, after, limit), media_type=JSONL)


async def _report(jobs: Jobs, job: records.Job, after: int, limit: int | None) -> AsyncIterator[bytes]:
    left = limit
    while left is None or left > 0:
        size = _REPORT_PAGE if left is None else min(left, _REPORT_PAGE)
        page = await jobs.refused(job, after=after, limit=size)
        for entry in page:
            row = RefusedClip(number=entry.seq, file=entry.path, id=entry.id, error=entry.reason)
            yield (json.dumps(_plain(row), ensure_ascii=False) + "\n").encode()
        if len(page) < size:
            return
        after = page[-1].seq
        left = None if left is None else left - len(page)


def _plain(row: RefusedClip) -> dict[str, Any]:
    return row.model_dump(exclude_none=True) | {"id": row.id}


def _check_limit(limit: int, services: Services) -> None:
    most = services.settings.page_size_max
    if limit > most:
        raise ProblemError("invalid-request", f"limit: {limit}; at most {most}", field="limit", limit=most)


def _number(cursor: str) -> int:
    text = cursors.decode(cursor)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidCursor("the cursor is not one of this service")
    return int(text)
