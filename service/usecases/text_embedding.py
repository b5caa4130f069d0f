"""Texts to vectors, with what classification and scoring need of them: one vector a label, and reference captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.engine import TextResult
from service.usecases.scoring import label_vector
from service.usecases.services import ModelServices


@dataclass(frozen=True)
class LabelVectors:
    """One vector a label, [k, D] in the order of `labels`; `truncated` names labels with a prompt that was cut."""

    labels: list[str]
    vectors: NDArray[np.float32]
    truncated: list[str]


async def embed_texts(services: ModelServices, texts: Sequence[str], deadline: float) -> TextResult:
    """Embed texts, measured. Raises the engine's errors."""
    with services.metrics.stage("encode"):
        found = await services.engine.embed_texts(texts, deadline=deadline)
    services.metrics.texts.inc(len(texts))
    return found


async def label_vectors(services: ModelServices, prompts: Mapping[str, Sequence[str]], deadline: float) -> LabelVectors:
    """A vector for each label, from its prompts. Raises the engine's errors."""
    flat = [(label, text) for label, texts in prompts.items() for text in texts]
    result = await embed_texts(services, [text for _, text in flat], deadline)
    rows: dict[str, list[int]] = {label: [] for label in prompts}
    for row, (label, _) in enumerate(flat):
        rows[label].append(row)
    return LabelVectors(
        list(rows),
        np.stack([label_vector(result.vectors[own]) for own in rows.values()]),
        [label for label, own in rows.items() if any(result.truncated[row] for row in own)],
    )


async def reference_vectors(services: ModelServices, deadline: float) -> NDArray[np.float32]:
    """The bundle's reference captions as vectors [n, D]. The engine's cache makes all calls but the first cheap."""
    return (await embed_texts(services, services.engine.manifest.reference_captions, deadline)).vectors
