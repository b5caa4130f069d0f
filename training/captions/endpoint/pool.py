"""Several endpoints of one model as one: work goes where there is room, and patience is kept here."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from training.captions.endpoint.answers import Answer
from training.captions.endpoint.client import Endpoint, Keep
from training.captions.endpoint.errors import AnswerError, EndpointStoppedError, RequestRefusedError, TransientError
from training.captions.endpoint.retry import Patience, backoff_s
from training.captions.endpoint.settings import EndpointSettings
from training.captions.endpoint.spending import Spending


async def unkept(answer: Answer) -> None:
    """Records nothing: for answers that may be lost."""


class Chat(Protocol):
    """Anything that answers chat requests."""

    @property
    def settings(self) -> EndpointSettings:
        """How it is asked."""
        ...

    async def ask(
        self, messages: Sequence[Mapping[str, Any]], *, seed: int, key: str, keep: Keep = unkept, **more: Any
    ) -> Answer:
        """One answer, recorded by `keep` before its place is free. Raises EndpointError by what should be done."""
        ...


class EndpointPool:
    """Use as an async context manager: connections are closed at its end."""

    def __init__(self, settings: EndpointSettings, *, seed: int = 0, spending: Spending | None = None) -> None:
        """`spending` is an account that other pools have charged before; a new one by default."""
        self._settings = settings
        self.endpoints = [Endpoint(url, settings, seed=seed + i) for i, url in enumerate(settings.base_url)]
        self.spending = spending or Spending(settings)
        self.asked = 0
        self.maybe_paid_in_vain = 0  # sent, but its answer was lost on the way
        self._given_up_in_a_row = 0
        self._began = time.monotonic()
        self._reached = False  # whether any request ever got to a server
        self._refused_first = 0  # requests that were refused before anything was ever answered
        self._stopped: EndpointStoppedError | None = None
        self._rng = random.Random(seed)
        self._mind_the_budget()

    @property
    def settings(self) -> EndpointSettings:
        """How the model is asked."""
        return self._settings

    @property
    def concurrency(self) -> int:
        """Requests that all endpoints take at once."""
        return self._settings.concurrency * len(self.endpoints)

    @property
    def cost(self) -> float:
        """What the answers so far cost, by the prices of the settings."""
        return self.spending.cost

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await asyncio.gather(*(endpoint.__aexit__(kind, error, tb) for endpoint in self.endpoints))

    async def ask(
        self, messages: Sequence[Mapping[str, Any]], *, seed: int, key: str, keep: Keep = unkept, **more: Any
    ) -> Answer:
        """Asks until there is an answer, patience runs out or there is no point in going on.

        `keep` is awaited with the answer while its request still holds its place among those at once. `more` joins
        the request body (response_format ...). Raises RequestRefusedError, AnswerError or EndpointStoppedError.
        """

        async def arrived(answer: Answer) -> None:
            self._given_up_in_a_row = 0
            self._reached = True
            self.asked += 1
            self.spending.add(answer, messages)
            self._mind_the_budget()
            await keep(answer)

        try:
            return await self._answer(messages, seed, key, more, arrived)
        except RequestRefusedError as error:
            self._refused_first += not self.asked
            if not self.asked and self._refused_first >= self._settings.failures_in_a_row:
                why = f"all of the first {self._refused_first} requests were refused: {error}"
                raise self._stop(EndpointStoppedError(why)) from error
            raise
        except EndpointStoppedError as error:
            self._stop(error)
            raise

    async def _answer(
        self, messages: Sequence[Mapping[str, Any]], seed: int, key: str, more: Mapping[str, Any], keep: Keep
    ) -> Answer:
        options = self._settings
        payload = {
            "model": options.model,
            "messages": list(messages),
            "seed": seed,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "max_tokens": options.max_tokens,
            **more,
            **options.extra_body,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        started, attempt, last = time.monotonic(), 0, ""
        patience = Patience(options.patience_s)
        while attempt < options.attempts and patience.left_s() >= 0:
            if self._stopped is not None:
                raise self._stopped  # what no request can change is not asked for again by those that wait
            ahead_s = min(endpoint.wait_s() for endpoint in self.endpoints)
            if ahead_s > patience.left_s():
                last = f"{last or 'rate limited'}; the next {ahead_s:.0f} s are closed"
                break
            try:
                # Faults move a request to whichever endpoint is least busy then.
                return await min(self.endpoints, key=Endpoint.load).send(payload, key, keep, patience)
            except TransientError as error:
                if error.sent or not error.limited:  # else it only found the door closed, which is told below
                    last = str(error)
                self._reached |= error.sent
                if not self._reached and time.monotonic() - self._began > options.connect_timeout_s:
                    why = f"nothing answers at {', '.join(endpoint.name for endpoint in self.endpoints)}: {last}"
                    raise self._stop(EndpointStoppedError(why)) from error
                self.maybe_paid_in_vain += error.sent and not error.limited and "HTTP" not in last
                attempt += not error.limited
                # A time that the server names holds the whole endpoint, and is waited out there.
                if error.wait_s is None:
                    step = max(attempt, 1)
                    pause_s = backoff_s(step, options.backoff_s, options.backoff_max_s, self._rng)
                    await self.endpoints[0].rest(pause_s)
        self._given_up_in_a_row += 1
        tried = f"{attempt} attempts, {time.monotonic() - started:.0f} s"
        if self._given_up_in_a_row >= options.failures_in_a_row:
            why = f"{self._given_up_in_a_row} requests in a row failed; the last: {last}"
            raise self._stop(EndpointStoppedError(why))
        raise AnswerError(f"given up after {tried}: {last}")

    def interrupt(self) -> None:
        """Lets what was sent come back, and sends nothing more: what waits raises EndpointStoppedError at once."""
        self._stop(EndpointStoppedError("interrupted"))

    def _mind_the_budget(self) -> None:
        if (error := self.spending.exceeded()) is not None:
            self._stop(error)

    def _stop(self, error: EndpointStoppedError) -> EndpointStoppedError:
        """Nothing goes out from here on, whatever waits for its turn. Returns the error, to raise."""
        self._stopped = error
        for endpoint in self.endpoints:
            endpoint.stop(error)
        return error
