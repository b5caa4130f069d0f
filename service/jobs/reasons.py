"""Why a clip was refused or a job failed, as the members of a problem document: stable type, words, field and limit."""

from __future__ import annotations

import logging
from typing import Any

from service.core.problems import ProblemError
from service.jobs.errors import JobError, JobsBroken, SourceError, TooManyJobs, UnknownJob, WrongState
from service.usecases import failures
from service.usecases.failures import RETRY_SOON_S

logger = logging.getLogger("clsp.jobs")
RETRY_JOB_S = 30
_LEFT_OUT = frozenset({"status", "request_id"})


def problem_of_job(error: JobError) -> ProblemError:
    """What cannot be done with a job, or without its file."""
    detail = str(error)
    match error:
        case SourceError():
            return ProblemError("invalid-source", detail, field=error.field)
        case UnknownJob():
            return ProblemError("unknown-job", detail, field="job_id")
        case WrongState():
            return ProblemError("conflict", detail, field="state")
        case TooManyJobs():
            return ProblemError("too-many-jobs", detail, limit=error.limit, headers={"Retry-After": str(RETRY_JOB_S)})
        case JobsBroken():
            return ProblemError("storage-failed", detail, headers={"Retry-After": str(RETRY_SOON_S)})
    raise error


def problem_of(error: BaseException) -> ProblemError:
    """What an error is in HTTP's terms. One that nobody expected is logged, and called internal."""
    if isinstance(error, JobError):
        return problem_of_job(error)
    known = failures.problem_of(error)
    if known is not None:
        return known
    logger.error("unexpected in a job", exc_info=error)
    return ProblemError("internal", f"the service failed at this: {type(error).__name__}")


def reason_of(error: BaseException) -> dict[str, Any]:
    """The same as a dictionary."""
    return {name: value for name, value in problem_of(error).body(None).items() if name not in _LEFT_OUT}
