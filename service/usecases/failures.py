"""What audio, index and engine raise, said as problems: the only place that knows both their errors and ours."""

from __future__ import annotations

import math

from index.errors import (
    CollectionExists,
    CollectionNotFound,
    DimensionMismatch,
    FilterError,
    IdentityMismatch,
    IndexingError,
    InvalidCursor,
    InvalidInput,
    ItemNotFound,
    MediaNotKept,
    MetadataTooLarge,
    StorageFailed,
    StorageFull,
    StoreClosed,
    UnknownField,
)
from service.audio.limits import AudioError
from service.core.problems import ProblemError
from service.engine import DeadlineExceeded, EngineFailed, Overloaded, WorkerDown

RETRY_SOON_S = 1


def problem_of_audio(error: AudioError) -> ProblemError:
    """A refused clip. The field was set by whoever knew where the clip came from."""
    slug = "audio-too-large" if error.code == "too_large" else "invalid-audio"
    detail = f"{error.field}: {error.detail}" if error.field else error.detail
    return ProblemError(slug, detail, field=error.field, limit=error.limit, code=error.code)


def problem_of_index(error: IndexingError) -> ProblemError:
    """A refusal or failure of the index."""
    detail = str(error)
    match error:
        case CollectionNotFound():
            return ProblemError("unknown-collection", detail, field="collection")
        case ItemNotFound():
            return ProblemError("unknown-item", detail, field="id")
        case MediaNotKept():
            return ProblemError("no-audio", detail, field="id")
        case CollectionExists():
            return ProblemError("conflict", detail, field="collection")
        case IdentityMismatch():
            return ProblemError("identity-mismatch", detail, field="identity", limit=error.expected, got=error.got)
        case DimensionMismatch():
            return ProblemError("dimension-mismatch", detail, field=error.field, limit=error.expected)
        case MetadataTooLarge():
            return ProblemError("limit-exceeded", detail, field=error.field, limit=error.limit)
        case InvalidInput():
            return ProblemError("invalid-request", detail, field=error.field, limit=error.limit)
        case FilterError():
            return ProblemError("invalid-filter", detail, field=error.field)
        case UnknownField():
            return ProblemError("unknown-field", detail, field=f"filter.{error.field}", known=error.known)
        case InvalidCursor():
            return ProblemError("invalid-cursor", detail, field="cursor")
        case StorageFull():
            # No Retry-After: waiting makes no room.
            return ProblemError("storage-full", f"{detail}; delete items or make room, and send it again")
        case StorageFailed():
            return ProblemError("storage-failed", detail, headers={"Retry-After": str(RETRY_SOON_S)})
        case StoreClosed():
            return ProblemError("unavailable", detail, headers={"Retry-After": str(RETRY_SOON_S)})
    raise error  # a new error without an answer is a fault of ours: the middleware logs it and says 500


def problem_of_engine(error: Overloaded | DeadlineExceeded | EngineFailed) -> ProblemError:
    """Work that was not done: too much of it, too late, or the encoder failed."""
    match error:
        case Overloaded():
            retry = str(max(1, math.ceil(error.retry_after_s)))
            return ProblemError("overloaded", str(error), headers={"Retry-After": retry})
        case WorkerDown():
            detail = "the encoder is being brought back; nothing was lost, send the request again"
            return ProblemError("unavailable", detail, headers={"Retry-After": str(RETRY_SOON_S)})
        case DeadlineExceeded():
            return ProblemError("deadline-exceeded", str(error))
        case _:
            # Why an encoder failed is for the log, not for the caller.
            detail = "the encoder failed at this request"
            return ProblemError("engine-failed", detail, headers={"Retry-After": str(RETRY_SOON_S)})


def problem_of(error: BaseException) -> ProblemError | None:
    """The problem that an error of the rooms below is; None for one that is none of theirs."""
    match error:
        case ProblemError():
            return error
        case AudioError():
            return problem_of_audio(error)
        case IndexingError():
            return problem_of_index(error)
        case Overloaded() | DeadlineExceeded() | EngineFailed():
            return problem_of_engine(error)
    return None
