"""Why a clip was refused or a job failed, as the members of a problem document: stable type, words, field and limit."""

from __future__ import annotations

import logging
from typing import Any

from index.errors import IndexingError
from service.api.failures import problem_of_audio, problem_of_engine, problem_of_index, problem_of_job
from service.audio.limits import AudioError
from service.core.problems import ProblemError
from service.engine import DeadlineExceeded, EngineFailed, Overloaded
from service.jobs.errors import JobError

logger = logging.getLogger("clsp.jobs")
_LEFT_OUT = frozenset({"status", "request_id"})


def problem_of(error: BaseException) -> ProblemError:
    """What an error is in HTTP's terms. One that nobody expected is logged, and called internal."""
    match error:
        case ProblemError():
            return error
        case JobError():
            return problem_of_job(error)
        case AudioError():
            return problem_of_audio(error)
        case IndexingError():
            return problem_of_index(error)
        case Overloaded() | DeadlineExceeded() | EngineFailed():
            return problem_of_engine(error)
    logger.error("unexpected in a job", exc_info=error)
    return ProblemError("internal", f"the service failed at this: {type(error).__name__}")


def reason_of(error: BaseException) -> dict[str, Any]:
    """The same as a dictionary."""
    return {name: value for name, value in problem_of(error).body(None).items() if name not in _LEFT_OUT}
