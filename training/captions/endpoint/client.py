"""One endpoint: a request goes out when pacing allows, and comes back as an answer or as a classified failure."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx

from training.captions.endpoint.answers import Answer, read_answer
from training.captions.endpoint.errors import EndpointStoppedError, RequestRefusedError, TransientError
from training.captions.endpoint.retry import Patience, backoff_s, message_of, outcome, retry_after_s
from training.captions.endpoint.secrets import bare, hidden, secrets_of
from training.captions.endpoint.settings import EndpointSettings

Keep = Callable[[Answer], Awaitable[None]]
SUSPECT = 3  # faults in a row after which an endpoint is rested between attempts


class Endpoint:
    """One base URL. A rate limit or a fault pauses all its requests, not only the one that met it."""

    def __init__(self, url: str, settings: EndpointSettings, *, seed: int = 0) -> None:
        self.url = url
        self.name = bare(url)  # for messages
        self.settings = settings
        self.under_way = 0
        self.requests = 0  # sent, each attempt counted
        self.rate_limited = 0
        self.faults = 0
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._open_at = 0.0  # monotonic: before this nothing is sent
        self._next_slot = 0.0
        self._faults_in_a_row = 0
        self._limits_in_a_row = 0
        self._refusal_of_all: EndpointStoppedError | None = None
        self._stopped = asyncio.Event()
        self._rng = random.Random(seed)
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        self._secrets = secrets_of(key, url)
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency),
            # A redirect would carry the key elsewhere.
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def load(self) -> float:
        """How busy it is, for choosing among several: its requests, and seconds until it opens again.

        One that keeps failing fails fast, and would draw all the work: it gets one request at a time to prove itself.
        """
        if self._faults_in_a_row >= SUSPECT and self.under_way:
            return math.inf
        return self.under_way / self.settings.concurrency + self.wait_s()

    def wait_s(self) -> float:
        """Seconds until it sends again."""
        return max(0.0, self._open_at - time.monotonic())

    async def send(self, payload: Mapping[str, Any], key: str, keep: Keep, patience: Patience) -> Answer:
        """One attempt. `key` goes along as Idempotency-Key, so that a gateway may answer a repeat from its store.

        `keep` records the answer before the slot goes to another request: what is not yet recorded when a process is
        killed has to be paid for again, and must never be more than `concurrency` answers.

        Raises TransientError (ask again), RequestRefusedError (never ask again), EndpointStoppedError (stop asking).
        """
        self.under_way += 1
        try:
            async with self._slots:
                patience.begin()
                await self._paced(patience)
                if self._refusal_of_all is not None:
                    raise self._refusal_of_all
                self.requests += 1
                try:
                    # The limit of httpx is between two bytes; a server that drips them must not hold a slot for ever.
                    async with asyncio.timeout(self.settings.timeout_s + self.settings.connect_timeout_s):
                        answer = await self._post(payload, key)
                except TimeoutError as error:
                    raise self._fault(f"no answer within {self.settings.timeout_s:g} s") from error
                except httpx.ConnectError as error:
                    raise self._fault(f"cannot connect: {error}", sent=False) from error
                except httpx.TimeoutException as error:
                    raise self._fault(
                        f"no answer within {self.settings.timeout_s:g} s ({type(error).__name__})"
                    ) from error
                except httpx.HTTPError as error:
                    # Its words may be the server's: a status line that is none is told whole.
                    raise self._fault(f"{type(error).__name__}: {hidden(str(error), self._secrets)}") from error
                self._faults_in_a_row = self._limits_in_a_row = 0
                await keep(answer)
                return answer
        finally:
            self.under_way -= 1

    async def _post(self, payload: Mapping[str, Any], key: str) -> Answer:
        headers = {"Idempotency-Key": key}
        url = f"{self.url}/chat/completions"
        async with self._http.stream("POST", url, json=payload, headers=headers) as response:
            raw = b""
            async for part in response.aiter_bytes():
                raw += part
                if len(raw) > self.settings.max_answer_bytes:
                    raise RequestRefusedError(f"the answer is larger than {self.settings.max_answer_bytes} bytes")
        if response.status_code == 200:
            inner = _inner_error(raw)
            if inner is None:
                try:
                    return read_answer(raw)
                except TransientError as error:
                    start = hidden(raw.decode("utf-8", "replace"), self._secrets)[:80]
                    raise self._fault(f"{error} ({len(raw)} bytes: {start!r})") from error
            status, said = inner
        else:
            status, said = response.status_code, raw.decode("utf-8", "replace")
        raise self._refusal(status, said, retry_after_s(response.headers), response.headers.get("location", ""))

    def _refusal(self, status: int, body: str, wait_s: float | None, goes_to: str = "") -> Exception:
        try:
            said = message_of(json.loads(body), secrets=self._secrets)
        except ValueError:
            said = message_of(body, secrets=self._secrets)
        text = f"HTTP {status}: {said or 'no words'}"
        text += f" (to {hidden(goes_to, self._secrets)})" if goes_to else ""
        match outcome(status, body):
            case "stop":
                error = EndpointStoppedError(f"{self.name}: {text}")
                self.stop(error)
                return error
            case "refused":
                return RequestRefusedError(text)
            case "limited":
                self.rate_limited += 1
                self.pause(wait_s if wait_s is not None else self._limit_pause_s())
                return TransientError(text, wait_s, limited=True)
            case _:
                if wait_s is not None:
                    self.pause(wait_s)
                return self._fault(text, wait_s=wait_s)

    def _fault(self, text: str, *, wait_s: float | None = None, sent: bool = True) -> TransientError:
        """Counts a fault; from the third in a row the whole endpoint is given a rest."""
        self.faults += 1
        self._faults_in_a_row += 1
        if self._faults_in_a_row >= SUSPECT and wait_s is None:
            options = self.settings
            self.pause(
                backoff_s(self._faults_in_a_row - SUSPECT + 1, options.backoff_s, options.backoff_max_s, self._rng)
            )
        return TransientError(text, wait_s, sent=sent)

    def _limit_pause_s(self) -> float:
        """A pause for a rate limit that names none: doubles from one round of requests to the next."""
        if not self.wait_s():
            self._limits_in_a_row += 1
        options = self.settings
        return backoff_s(max(self._limits_in_a_row, 1), options.backoff_s, options.backoff_max_s, self._rng)

    def stop(self, error: EndpointStoppedError) -> None:
        """Sends nothing more, not even what waits for its turn already: all of that raises the error."""
        self._refusal_of_all = error
        self._stopped.set()

    async def rest(self, seconds: float) -> None:
        """Sleeps, but not on after a stop: nobody waits out a pause for nothing."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def pause(self, seconds: float) -> None:
        """Sends nothing for so long."""
        self._open_at = max(self._open_at, time.monotonic() + seconds)

    async def _paced(self, patience: Patience) -> None:
        """Waits out pauses, then for a place in the row of the rate limit. Raises TransientError for too long a pause.

        A pause may have begun while a request waited for its slot, and nobody else gets the slot that is slept in.
        """
        while (wait := self.wait_s()) > 0 and not self._stopped.is_set():
            if wait > patience.left_s():
                raise TransientError(f"the next {wait:.0f} s are closed", limited=True, sent=False)
            await self.rest(wait)
        if self.settings.requests_per_minute:
            now = time.monotonic()
            mine = max(now, self._next_slot)
            self._next_slot = mine + 60 / self.settings.requests_per_minute
            await self.rest(mine - now)


def _inner_error(raw: bytes) -> tuple[int, str] | None:
    """(status, body) of an error that a gateway wrapped in a 200."""
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(body, dict) or "choices" in body or not isinstance(body.get("error"), dict):
        return None
    code = body["error"].get("code")
    return (code if isinstance(code, int) and code >= 400 else 502), raw.decode("utf-8", "replace")
