"""Why the engine gives no vectors: too much to do, too late, or broken."""


class EngineError(RuntimeError):
    """Base of what the engine raises for work that it was given."""


class Overloaded(EngineError):  # noqa: N818  (what happened, as a caller reads it)
    """There is no room, or no time. `retry_after_s` is when there should be, from the throughput that was measured."""

    def __init__(self, retry_after_s: float, detail: str = "the encoder's queue is full") -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(EngineError):  # noqa: N818  (what happened, as a caller reads it)
    """The deadline passed before the work was done, or will for certain; what had not begun was dropped."""


class EngineFailed(EngineError):  # noqa: N818  (what happened, as a caller reads it)
    """The encoder raised, died, or gave vectors that are not numbers."""


class WorkerDown(EngineFailed):
    """The worker is dead and not back yet: nothing was tried, and trying again soon is right."""
