"""A load generator that costs little: raw HTTP/1.1 on asyncio, closed loop (clients) or open loop (arrivals).

It shares the machine with what it measures, so a request costs it tens of microseconds, not a millisecond.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

NextRequest = Callable[[], bytes]
ANSWER_LIMIT_S = 90.0


def post(url: str, body: bytes, media_type: str = "application/json") -> bytes:
    """A whole request as bytes; the connection is kept."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {media_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Outcome:
    """What came back: seconds of each success, statuses, and how long it all took."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    wall_s: float = 0.0
    sent: int = 0
    warmed: int = 0
    retry_after: int = 0
    refusal_seconds: list[float] = field(default_factory=list)
    offered_per_s: float = 0.0
    """Open loop: what really was sent, which a generator that is the bottleneck would fall short of."""
    cpu_s: float = 0.0
    """Open loop: the generator's own processor time."""

    def row(self) -> dict[str, Any]:
        """Figures for a table. Milliseconds of successes; `lost` got no answer at all."""
        times = np.array(self.seconds or [float("nan")]) * 1000
        refusals = np.array(self.refusal_seconds or [0.0]) * 1000
        return {
            "per second": len(self.seconds) / self.wall_s,
            "p50 ms": float(np.percentile(times, 50)),
            "p99 ms": float(np.percentile(times, 99)),
            "ok": len(self.seconds),
            "refused": self.statuses[503] + self.statuses[429],
            "refusal p99 ms": float(np.percentile(refusals, 99)),
            "late": self.statuses[504],
            "other": sum(n for s, n in self.statuses.items() if s not in (200, 201, 503, 429, 504)),
            "lost": self.lost,
        }


class _Connection:
    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # the server closed it while nothing was asked: no request is lost with it
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=1 << 20)
        reader, writer = self._streams
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lowered = head.lower()
            at = lowered.find(b"content-length:")
            length = int(head[at + 15 : head.index(b"\r\n", at)]) if at >= 0 else 0
            if length:
                await reader.readexactly(length)
            if b"connection: close" in lowered:
                self.close()
            return int(head[9:12]), lowered
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _one(connection: _Connection, request: bytes, outcome: Outcome, since: float) -> float:
    """Ask, write down what came, and return how many seconds the server wants one to wait."""
    outcome.sent += 1
    try:
        status, head = await asyncio.wait_for(connection.ask(request), ANSWER_LIMIT_S)
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        outcome.lost += 1
        return 1.0
    outcome.statuses[status] += 1
    took = time.perf_counter() - since
    if status < 300:
        outcome.seconds.append(took)
        return 0.0
    outcome.refusal_seconds.append(took)
    _, told, rest = head.partition(b"retry-after: ")
    outcome.retry_after += bool(told)
    return float(rest.split(b"\r\n", 1)[0]) if told else 0.0


def closed_loop(url: str, clients: int, next_request: NextRequest, *, seconds: float, warm_s: float = 1.0) -> Outcome:
    """`clients` that each send the next request when they have the answer to the last, and obey Retry-After."""
    parts = urlsplit(url)

    async def main() -> Outcome:
        connections = [_Connection(str(parts.hostname), int(parts.port or 80)) for _ in range(clients)]

        async def run(end: float, outcome: Outcome) -> None:
            async def client(connection: _Connection) -> None:
                while (began := time.perf_counter()) < end:
                    retry_s = await _one(connection, next_request(), outcome, began)
                    if retry_s:
                        await asyncio.sleep(min(retry_s, max(0.0, end - time.perf_counter())))

            await asyncio.gather(*(client(connection) for connection in connections))

        warm_up = Outcome()
        await run(time.perf_counter() + warm_s, warm_up)
        outcome = Outcome(warmed=len(warm_up.seconds))
        began = time.perf_counter()
        await run(began + seconds, outcome)
        outcome.wall_s = time.perf_counter() - began
        for connection in connections:
            connection.close()
        return outcome

    return asyncio.run(main())


def open_loop(url: str, rate: float, next_request: NextRequest, *, seconds: float, seed: int = 0) -> Outcome:
    """Arrivals at `rate` a second (Poisson), whatever becomes of those before: time counts from when one was due."""
    parts = urlsplit(url)

    def gaps() -> Iterator[float]:
        generator = random.Random(seed)
        while True:
            yield generator.expovariate(rate)

    async def main() -> Outcome:
        free: list[_Connection] = []
        outcome, tasks = Outcome(), set()

        async def arrival(due: float) -> None:
            connection = free.pop() if free else _Connection(str(parts.hostname), int(parts.port or 80))
            await _one(connection, next_request(), outcome, due)
            free.append(connection)

        began = due = time.perf_counter()
        cpu_began = time.process_time()
        for gap in gaps():
            due += gap
            if due > began + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(arrival(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0)  # the last arrivals begin
        outcome.offered_per_s = outcome.sent / (time.perf_counter() - began)
        while tasks:
            with suppress(Exception):
                await asyncio.gather(*tasks)
        outcome.wall_s = time.perf_counter() - began
        outcome.cpu_s = time.process_time() - cpu_began
        for connection in free:
            connection.close()
        return outcome

    return asyncio.run(main())
