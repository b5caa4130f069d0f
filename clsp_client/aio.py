"""The asynchronous client: the same methods, to be awaited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from clsp_client import calls
from clsp_client.answers import Item, Job
from clsp_client.calls import Call, Filter
from clsp_client.client import DEFAULT_URL
from clsp_client.retry import RetryPolicy
from clsp_client.transport import BROKEN, answer, broken, httpx_options, retry_after_s, unsendable

P = ParamSpec("P")
T = TypeVar("T")


class _Endpoint(Generic[P, T]):
    """An awaitable method that sends what `build` describes, with `build`'s parameters and documentation."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        functools.update_wrapper(self, build)  # type: ignore[arg-type]

    @overload
    def __get__(self, client: None, owner: type[AsyncClient]) -> Self: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[AsyncClient]) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: AsyncClient | None, owner: type[AsyncClient]) -> Self | Callable[P, Awaitable[T]]:
        if client is None:
            return self
        bound = client

        @functools.wraps(self._build)
        async def method(*args: P.args, **kwargs: P.kwargs) -> T:
            # Building a call reads and encodes files: not on the loop that other calls wait for.
            return await bound.send(await asyncio.to_thread(self._build, *args, **kwargs))

        return method


class AsyncClient:
    """Calls a clsp service from an event loop. Use it as an async context manager, or `aclose` it.

    Methods raise ProblemError for a refusal and UnreachableError when nobody answers, after `retry` says to give up.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout_s: float = 300.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`timeout_s`: longest silence while an answer is waited for. `transport`: instead of the network, such as
        `httpx.ASGITransport` for an app in this process. Raises InvalidUrlError and InvalidKeyError.
        """
        self.url = url.rstrip("/")
        self._retry = retry or RetryPolicy()
        self._http = httpx.AsyncClient(transport=transport, **httpx_options(self.url, api_key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    models = _Endpoint(calls.models)
    ready = _Endpoint(calls.ready)
    collections = _Endpoint(calls.collections)
    collection = _Endpoint(calls.collection)
    create_collection = _Endpoint(calls.create_collection)
    delete_collection = _Endpoint(calls.delete_collection)
    add_items = _Endpoint(calls.add_items)
    items_page = _Endpoint(calls.items_page)
    item = _Endpoint(calls.item)
    patch_item = _Endpoint(calls.patch_item)
    delete_item = _Endpoint(calls.delete_item)
    item_audio = _Endpoint(calls.item_audio)
    ingest_roots = _Endpoint(calls.ingest_roots)
    start_ingest = _Endpoint(calls.start_ingest)
    job = _Endpoint(calls.job)
    jobs_page = _Endpoint(calls.jobs_page)
    cancel_job = _Endpoint(calls.cancel_job)
    resume_job = _Endpoint(calls.resume_job)
    refused = _Endpoint(calls.refused)
    search = _Endpoint(calls.search)
    classify = _Endpoint(calls.classify)
    score = _Endpoint(calls.score)
    embed_texts = _Endpoint(calls.embed_texts)
    embed_clips = _Endpoint(calls.embed_clips)

    async def items(self, collection: str, *, filter: Filter | None = None, page: int = 500) -> AsyncIterator[Item]:
        """All items of a collection, fetched page by page."""
        cursor: str | None = None
        while True:
            found = await self.items_page(collection, cursor=cursor, limit=page, filter=filter)
            for item in found["data"]:
                yield item
            cursor = found["next_cursor"]
            if cursor is None:
                return

    async def wait_job(
        self, id: str, *, progress: Callable[[Job], object] = lambda job: None, every_s: float = 1.0
    ) -> Job:
        """Wait until a job has ended; `progress` is told of it every `every_s` seconds, and at the end."""
        while True:
            job = await self.job(id)
            progress(job)
            if job["ended_at"] is not None:
                return job
            await asyncio.sleep(every_s)

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Any call by hand: `options` go to httpx. Returns the decoded JSON."""
        return await self.send(Call[Any](method, path, options))

    async def send(self, call: Call[T]) -> T:
        """Send a call, with retries. Raises InvalidRequestError, where nothing was sent, and as all methods do."""
        attempts = self._retry.start()
        while True:
            try:
                response = await self._http.request(call.method, call.path, **call.options)
            except BROKEN as error:
                failure, worth_it = broken(self.url, error)
                wait_s = attempts.after_broken_connection() if worth_it else None
                if wait_s is None:
                    raise failure from error
            except ValueError as error:
                raise unsendable(error) from error
            else:
                wait_s = attempts.after_status(response.status_code, retry_after_s(response))
                if wait_s is None:
                    return answer(call, response, sent_before=attempts.broke_off)
            await asyncio.sleep(wait_s)
