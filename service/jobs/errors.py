"""Why a job cannot be started, found or changed."""

from __future__ import annotations


class JobError(Exception):
    """Base of the errors of jobs."""


class SourceError(JobError):
    """The source cannot be read: not there, outside the roots, of another kind, or of another model."""

    def __init__(self, detail: str, *, field: str = "path") -> None:
        super().__init__(detail)
        self.field = field


class UnknownJob(JobError):  # noqa: N818  (what happened)
    """No job has this id."""


class WrongState(JobError):  # noqa: N818  (what happened)
    """What was asked does not apply to a job in this state."""


class TooManyJobs(JobError):  # noqa: N818  (what happened)
    """The job queue is full."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} jobs wait already")
        self.limit = limit


class JobsBroken(JobError):  # noqa: N818  (what happened)
    """The file of the jobs cannot be read or written."""
