"""A query of several parts: each embedded, weighted, and combined into the one direction that the index searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index.errors import IdentityMismatch, ItemNotFound
from index.types import CollectionKind
from model_export.bundle import MatchMap
from model_export.windows import pool_windows
from service.core.problems import ProblemError
from service.schemas import QueryPart
from service.style.subspace import in_style, style_basis, style_texts
from service.usecases.checks import check_text
from service.usecases.clip_embedding import embed_clips, inline_clip
from service.usecases.scoring import combine_query, cosine, match_probability
from service.usecases.services import Services
from service.usecases.text_embedding import embed_texts
from service.usecases.vectors import unit_vector

Vectors = NDArray[np.float32]
TEXT_GAIN: Final = 3.0
"""Of texts beside clips. Cosines of clips with clips spread some four times as wide as those of texts with clips, so
that words at their plain weight would hardly move "like this, but faster" (docs/search.md has the measurement)."""


@dataclass(frozen=True)
class MixedQuery:
    """The parts as vectors [p, D], their weights as applied, and their combination [D]."""

    parts: Sequence[QueryPart]
    vectors: Vectors
    weights: list[float]
    combined: Vectors
    truncated: bool

    @property
    def item_ids(self) -> list[str]:
        """Items that the query names."""
        return [part.item_id for part in self.parts if part.item_id is not None]

    def part_cosines(self, segments: Vectors) -> NDArray[np.float64]:
        """Of segments [n, D] with each part: [n, p]."""
        return cosine(segments, self.vectors)

    def fits(self, cosines: NDArray[np.float64], calibration: MatchMap) -> list[float] | list[None]:
        """Probabilities that segments fit all texts that are wanted and none that is not, taken as independent.

        [n, p] -> n. None for a query without texts: the calibration is of texts with clips, and two clips that have
        hardly more in common than being speech reach cosines that would pass for certainty.
        """
        texts = [i for i, part in enumerate(self.parts) if part.text is not None]
        if not texts:
            return [None] * len(cosines)
        fits = match_probability(cosines[:, texts], calibration)
        wanted = np.array([self.parts[i].weight > 0 for i in texts])
        found: list[float] = np.where(wanted, fits, 1 - fits).prod(axis=1).tolist()
        return found


async def mix(services: Services, info: CollectionKind, parts: Sequence[QueryPart], deadline: float) -> MixedQuery:
    """Embed and combine the parts. Raises ProblemError, IdentityMismatch and the engine's errors."""
    vectors, truncated = await _vectors(services, info, parts, deadline)
    is_text = [part.text is not None for part in parts]
    gain = TEXT_GAIN if any(is_text) and not all(is_text) else 1.0
    weights = [part.weight * (gain if text else 1.0) for part, text in zip(parts, is_text, strict=True)]
    try:
        combined = combine_query(vectors, weights)
    except ValueError as error:
        raise ProblemError("invalid-request", f"query: {error}", field="query") from error
    return MixedQuery(parts, vectors, weights, combined, truncated)


async def _vectors(
    services: Services, info: CollectionKind, parts: Sequence[QueryPart], deadline: float
) -> tuple[Vectors, bool]:
    """A vector for each part [p, D], and whether a text was cut."""
    texts = {
        i: check_text(f"query[{i}].text", part.text, services.settings)
        for i, part in enumerate(parts)
        if part.text is not None
    }
    uris = {i: part.audio for i, part in enumerate(parts) if part.audio is not None}
    if (texts or uris) and info.identity != services.engine.identity:
        raise IdentityMismatch(info.identity, services.engine.identity)
    found: dict[int, Vectors] = {}
    for i, part in enumerate(parts):
        if part.vector is not None:
            found[i] = unit_vector(part.vector, info.dim, f"query[{i}].vector")
        elif part.item_id is not None:
            try:
                windows = await services.in_store("search", services.store.item_vectors, info.name, part.item_id)
            except ItemNotFound as error:
                raise ProblemError("unknown-item", str(error), field=f"query[{i}].item_id") from error
            found[i] = pool_windows(windows)
    if uris:
        sources = [inline_clip(uri, f"query[{i}].audio", services) for i, uri in uris.items()]
        clips = await embed_clips(services, sources, deadline=deadline)
        found.update(zip(uris, (clip.result.pooled for clip in clips), strict=True))
    if any(part.aspect == "style" for part in parts):
        await _keep_style(services, parts, found, deadline)
    cut = False
    if texts:
        result = await embed_texts(services, list(texts.values()), deadline)
        found.update(zip(texts, result.vectors, strict=True))
        cut = any(result.truncated)
    return np.stack([found[i] for i in range(len(parts))]), cut


async def _keep_style(
    services: Services, parts: Sequence[QueryPart], found: dict[int, Vectors], deadline: float
) -> None:
    """Take who speaks out of the parts that ask for it. The engine's cache makes all calls but the first cheap."""
    texts = style_texts()
    vectors = (await embed_texts(services, [text for _, _, text in texts], deadline)).vectors
    basis = style_basis(texts, vectors)
    for i, part in enumerate(parts):
        if part.aspect == "style":
            try:
                found[i] = in_style(found[i], basis)
            except ValueError as error:
                raise ProblemError("invalid-request", f"query[{i}]: {error}", field=f"query[{i}]") from error
