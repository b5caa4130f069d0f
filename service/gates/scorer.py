"""Where clips are scored: by a running service, or by the same use case inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from clsp_client import AsyncClient, ProblemError, RetryPolicy

if TYPE_CHECKING:
    from service.usecases.services import ModelServices

NO_DEADLINE_S = 24 * 3600.0
_CLIP_STATUSES: Final = frozenset({413, 415, 422, 504})
"""Refusals that are about one clip; any other would meet every clip."""
_PLACE: Final = "pairs[0]."
"""Where the clip stands in its request, which says nothing to whoever reads a report of files."""


@dataclass(frozen=True)
class Detail:
    """What is asked of each clip beside its score; a run is resumed only with the same."""

    attributes: bool = True
    sentences: bool = True
    window_s: float | None = None
    hop_s: float | None = None


class ClipRefusedError(Exception):
    """One clip can't be scored; the message says why. Others may be."""


class Scorer(Protocol):
    """Scores one clip against one caption; the same numbers to the bit, wherever it does."""

    identity: str
    """The embedding identity of the model."""
    scoring: str | None
    """The identity of scores: embedding, calibration and code. None from a service that does not state it."""

    async def score(self, audio: bytes, caption: str, detail: Detail) -> dict[str, Any]:
        """An answer of `POST /v1/score` for one pair, with its curve.

        Raises ClipRefusedError for this clip, and ClspError where any other would fare the same.
        """


class RemoteScorer:
    """A running service."""

    def __init__(self, client: AsyncClient, model: dict[str, Any]) -> None:
        """`model`: the first entry of `GET /v1/models`."""
        self._client = client
        self.identity: str = model["identity"]
        self.scoring: str | None = model.get("scoring")

    async def score(self, audio: bytes, caption: str, detail: Detail) -> dict[str, Any]:
        try:
            return dict(await self._client.score([(audio, caption)], curve=True, **asdict(detail)))
        except ProblemError as error:
            raise _of_one_clip(error) from error


class LocalScorer:
    """The use case itself, with encoders of this process."""

    def __init__(self, services: ModelServices) -> None:
        self._services = services
        self.identity: str = services.engine.identity
        self.scoring: str | None = services.engine.scoring

    async def score(self, audio: bytes, caption: str, detail: Detail) -> dict[str, Any]:
        from service.schemas import ScoreOptions
        from service.usecases.clip_embedding import ClipSource
        from service.usecases.failures import problem_of
        from service.usecases.score import score_pairs

        given = {name: value for name, value in asdict(detail).items() if value is not None}
        options = ScoreOptions(curve=True, **given)
        source = ClipSource("audio", None, lambda: audio)
        while True:
            try:
                answer = await score_pairs(self._services, [source], [caption], options, "caption")
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    raise
                told = ProblemError(problem.status_code, dict(problem.body(None)))
                if problem.status_code != 503:
                    raise _of_one_clip(told) from error
                await asyncio.sleep(float((problem.headers or {}).get("Retry-After", 1)))
            else:
                return answer.model_dump(mode="json")


def _of_one_clip(error: ProblemError) -> ClipRefusedError | ProblemError:
    if error.status not in _CLIP_STATUSES:
        return error
    return ClipRefusedError((error.detail or error.title).removeprefix(_PLACE))


@asynccontextmanager
async def remote(url: str, api_key: str | None, *, patience_s: float) -> AsyncIterator[Scorer]:
    """A running service. `patience_s`: how long to wait while it is full. Raises ClspError."""
    async with AsyncClient(url, api_key, retry=RetryPolicy(patience_s=patience_s)) as client:
        yield RemoteScorer(client, dict((await client.models())[0]))


@asynccontextmanager
async def in_process(bundle: Path | None = None) -> AsyncIterator[Scorer]:
    """Encoders of this process, with the limits that a service would have.

    Raises BundleError for a bundle that cannot be served, and ImportError where the inference packages are missing.
    """
    from service.settings import Settings
    from service.usecases.open_model import open_model

    given = {} if bundle is None else {"bundle": bundle}
    settings = Settings(request_timeout_s=NO_DEADLINE_S, **given)  # type: ignore[arg-type]
    async with open_model(settings) as services:
        yield LocalScorer(services)
