"""A small typed client of the clsp service: the same calls, synchronous (`Client`) and asynchronous (`AsyncClient`).

    from clsp_client import Client

    with Client("http://127.0.0.1:8000") as clsp:
        for hit in clsp.search("voices", "a calm older woman", top_k=5)["hits"]:
            print(hit["id"], hit["score"])

Answers are the API's JSON, typed (`clsp_client.answers`). Refusals raise ProblemError; an answer of 429 or 503 is
waited for as long as the service asks (`RetryPolicy`).
"""

from clsp_client.aio import AsyncClient
from clsp_client.audio import AUDIO_SUFFIXES, OTHER_AUDIO_SUFFIXES, data_uri, media_type
from clsp_client.client import DEFAULT_URL, Client
from clsp_client.errors import (
    ClspError,
    InvalidKeyError,
    InvalidRequestError,
    InvalidUrlError,
    ProblemError,
    UnreachableError,
)
from clsp_client.retry import RetryPolicy

__all__ = [
    "AUDIO_SUFFIXES",
    "DEFAULT_URL",
    "OTHER_AUDIO_SUFFIXES",
    "AsyncClient",
    "Client",
    "ClspError",
    "InvalidKeyError",
    "InvalidRequestError",
    "InvalidUrlError",
    "ProblemError",
    "RetryPolicy",
    "UnreachableError",
    "data_uri",
    "media_type",
]
