"""What the engine gives: vectors of texts and clips, with what has to be known of each, and its counters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.engine.batcher import BatcherStats

Vectors = NDArray[np.float32]
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class TextEmbedding:
    """A text's vector, float32 [D], unit; `tokens` before truncation."""

    vector: Vectors
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class TextResult:
    """Embedded texts: `vectors` float32 [N, D], unit; `tokens` before truncation; `truncated` says which were cut."""

    vectors: Vectors
    tokens: list[int]
    truncated: list[bool]


@dataclass(frozen=True)
class ClipResult:
    """An embedded clip: `windows` in seconds, their `vectors` float32 [n, D], unit, and the clip's `pooled` [D]."""

    windows: list[tuple[float, float]]
    vectors: Vectors
    pooled: Vectors


@dataclass(frozen=True)
class EngineStats:
    """Counters since the start. Speech costs and sizes are seconds of audio; text costs are texts, sizes characters."""

    speech: BatcherStats
    text: BatcherStats
    cache_hits: int
    cache_misses: int
    shared_in_flight: int
