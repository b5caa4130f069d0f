"""What can go wrong with an endpoint, by what the caller should do about it."""

from __future__ import annotations


class EndpointError(RuntimeError):
    """Base of all: one request brought nothing usable."""


class RequestRefusedError(EndpointError):
    """This request will never be answered as it is (400, 413, 422): the clip's fault, others go on."""


class AnswerError(EndpointError):
    """Patience ran out: attempts or waiting time are used up. Asking again later may work."""


class EndpointStoppedError(EndpointError):
    """No request can succeed (key refused, no such model, no money left, budget reached): the run has to stop."""


class TransientError(EndpointError):
    """Worth another attempt. `wait_s` is what the server asked for, None where it named no time."""

    def __init__(self, message: str, wait_s: float | None = None, *, limited: bool = False, sent: bool = True) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.limited = limited  # a rate limit rather than a fault: waiting is all that it needs
        self.sent = sent  # False where the request cannot have reached the server
