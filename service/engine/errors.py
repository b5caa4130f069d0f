"""Why the engine gives no vectors: too much to do, too late, or broken."""


class EngineError(RuntimeError):
    """Base of what the engine raises for work that it was given."""


class Overloaded(EngineError):  # noqa: N818  (what happened, as a caller reads it)
    """The queue has no room. `retry_after_s` is when it should have, from the throughput that was measured."""

    def __init__(self, retry_after_s: float, detail: str = "the encoder's queue is full") -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(EngineError):  # noqa: N818  (what happened, as a caller reads it)
    """The deadline passed before the work was done; what had not begun was dropped."""


class EngineFailed(EngineError):  # noqa: N818  (what happened, as a caller reads it)
    """The encoder raised, died, or gave vectors that are not numbers."""
