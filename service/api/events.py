"""A job's progress as server-sent events: what changed, as it changes, until the job ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import StreamingResponse

from service.api.deps import JobsDep, ServicesDep, problems
from service.api.jobs import JOB_CALL, JobPath, shown
from service.http.auth import require_read
from service.jobs.errors import JobError
from service.jobs.manager import Jobs
from service.jobs.records import Job
from service.settings import Settings

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_STREAM: Final = "text/event-stream"
_EVENT: Final = {
    "type": "object",
    "description": "One event; `data` is a Job as JSON.",
    "properties": {name: {"type": "string"} for name in ("event", "id", "data")},
}
_LEAST_GAP_S: Final = 0.2
"""Between two events: a fast job need not be watched clip by clip."""
_RETRY_MS: Final = 2000


@router.get(
    "/{job_id}/events",
    dependencies=[Depends(require_read)],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events `progress` and at last `end`, each with the job as JSON and its revision as id.",
            "content": {_STREAM: {"schema": _EVENT}},
        },
        204: {"description": "The job has ended, and `Last-Event-ID` names its last event."},
        **problems(*JOB_CALL),
    },
)
async def job_events(
    job_id: JobPath,
    services: ServicesDep,
    jobs: JobsDep,
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="Id of the last event that was seen; nothing is repeated then.")
    ] = None,
) -> Response:
    """The job now, and whenever it has changed; a comment every few seconds of silence; the stream ends with the job.

    It also ends when a request's time is over or the service stops: ask again with `Last-Event-ID`.
    """
    job = await jobs.get(job_id)
    seen = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else -1
    if job.ended and job.revision == seen:
        return Response(status_code=204)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(jobs, job, seen, services.settings), media_type=_STREAM, headers=headers)


async def _events(jobs: Jobs, job: Job, seen: int, settings: Settings) -> AsyncIterator[str]:
    end = time.monotonic() + settings.request_timeout_s
    yield f"retry: {_RETRY_MS}\n\n"
    while True:
        if job.revision != seen:
            yield _event(job)
            seen = job.revision
        if job.ended or jobs.closing.is_set() or time.monotonic() > end:
            return
        silence_s = min(settings.events_heartbeat_s, max(0.0, end - time.monotonic()))
        try:
            changed = await jobs.changed(job.id, seen, timeout_s=silence_s)
        except JobError:
            return  # half an answer is out; asked again, the service says what is wrong
        if changed is None:
            yield ": alive\n\n"
        else:
            job = changed
            if not job.ended:
                await asyncio.sleep(_LEAST_GAP_S)
                job = await jobs.get(job.id)


def _event(job: Job) -> str:
    name = "end" if job.ended else "progress"
    return f"event: {name}\nid: {job.revision}\ndata: {shown(job).model_dump_json()}\n\n"
