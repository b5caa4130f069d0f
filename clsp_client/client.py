"""The synchronous client."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from clsp_client import calls
from clsp_client.answers import Item, Job
from clsp_client.calls import Call, Filter
from clsp_client.retry import RetryPolicy
from clsp_client.transport import BROKEN, answer, broken, httpx_options, retry_after_s, unsendable

DEFAULT_URL: Final = "http://127.0.0.1:8000"
P = ParamSpec("P")
T = TypeVar("T")


class _Endpoint(Generic[P, T]):
    """A method that sends what `build` describes, with `build`'s parameters and documentation."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        functools.update_wrapper(self, build)  # type: ignore[arg-type]

    @overload
    def __get__(self, client: None, owner: type[Client]) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type[Client]) -> Callable[P, T]: ...
    def __get__(self, client: Client | None, owner: type[Client]) -> Self | Callable[P, T]:
        if client is None:
            return self
        bound = client

        @functools.wraps(self._build)
        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return bound.send(self._build(*args, **kwargs))

        return method


class Client:
    """Calls a clsp service. Use it as a context manager, or `close` it; it may be shared between threads.

    Methods raise ProblemError for a refusal and UnreachableError when nobody answers, after `retry` says to give up.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout_s: float = 300.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        """`timeout_s`: longest silence while an answer is waited for. Raises InvalidUrlError and InvalidKeyError."""
        self.url = url.rstrip("/")
        self._retry = retry or RetryPolicy()
        self._http = httpx.Client(**httpx_options(self.url, api_key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

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

    def items(self, collection: str, *, filter: Filter | None = None, page: int = 500) -> Iterator[Item]:
        """All items of a collection, fetched page by page."""
        cursor: str | None = None
        while True:
            found = self.items_page(collection, cursor=cursor, limit=page, filter=filter)
            yield from found["data"]
            cursor = found["next_cursor"]
            if cursor is None:
                return

    def wait_job(self, id: str, *, progress: Callable[[Job], object] = lambda job: None, every_s: float = 1.0) -> Job:
        """Wait until a job has ended; `progress` is told of it every `every_s` seconds, and at the end."""
        while True:
            job = self.job(id)
            progress(job)
            if job["ended_at"] is not None:
                return job
            time.sleep(every_s)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Any call by hand: `options` go to httpx. Returns the decoded JSON."""
        return self.send(Call[Any](method, path, options))

    def send(self, call: Call[T]) -> T:
        """Send a call, with retries. Raises InvalidRequestError, where nothing was sent, and as all methods do."""
        attempts = self._retry.start()
        while True:
            try:
                response = self._http.request(call.method, call.path, **call.options)
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
            time.sleep(wait_s)
