"""The encoders behind a queue: what the rest of the service may use of them."""

from service.engine.admission import check_time
from service.engine.engine import ClipResult, Engine, EngineStats, TextResult
from service.engine.errors import DeadlineExceeded, EngineError, EngineFailed, Overloaded, WorkerDown

__all__ = [
    "ClipResult",
    "DeadlineExceeded",
    "Engine",
    "EngineError",
    "EngineFailed",
    "EngineStats",
    "Overloaded",
    "TextResult",
    "WorkerDown",
    "check_time",
]
