"""The encoders behind a queue: what the rest of the service may use of them."""

from service.engine.admission import check_time
from service.engine.engine import Engine
from service.engine.errors import DeadlineExceeded, EngineError, EngineFailed, Overloaded, WorkerDown
from service.engine.results import ClipResult, EngineStats, TextResult

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
