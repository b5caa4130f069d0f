"""Windows finer than the model's own, for curves over time: embedded all together, or none of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.windows import plan_windows
from service.core.problems import ProblemError
from service.engine import ClipResult
from service.schemas import ScoreOptions
from service.usecases.services import ModelServices

SENTENCE_WINDOW_S = 3.0
"""Long enough for the encoder to hear a style, short enough to place a change."""
HOPS_A_WINDOW = 4


@dataclass(frozen=True)
class CurvePolicy:
    """How a curve's windows lie."""

    window_s: float
    hop_s: float


def curve_policy(services: ModelServices, options: ScoreOptions, sentences: int) -> CurvePolicy | None:
    """The windows for a caption of so many sentences; None where the model's own will do. Raises ProblemError."""
    manifest = services.engine.manifest
    window_s, hop_s = options.window_s, options.hop_s
    if window_s is None:
        if sentences < 2:  # fine windows cost several times the clip, and one sentence gives way to no other
            return None
        window_s = min(SENTENCE_WINDOW_S, manifest.window_s)
    if not manifest.min_s <= window_s <= manifest.window_s:
        limit = manifest.min_s if window_s < manifest.min_s else manifest.window_s
        detail = f"window_s: {window_s:g} s; {manifest.min_s:g} to {manifest.window_s:g} s are this model's"
        raise ProblemError("limit-exceeded", detail, field="window_s", limit=limit)
    return CurvePolicy(window_s, window_s / HOPS_A_WINDOW if hop_s is None else hop_s)


def curve_ranges(services: ModelServices, samples: int, policy: CurvePolicy, field: str) -> list[tuple[int, int]]:
    """The policy's windows of a decoded clip of so many samples. Raises ProblemError when they are too many."""
    manifest, most = services.engine.manifest, services.settings.max_curve_points
    rate = manifest.sample_rate
    points = 1 + max(0.0, samples / rate - policy.window_s) / policy.hop_s
    if points > most:
        detail = f"{field}: {int(points)} windows of {policy.window_s:g} s each {policy.hop_s:g} s; at most {most}"
        raise ProblemError("limit-exceeded", detail, field="hop_s", limit=most)
    return plan_windows(samples, sample_rate=rate, window_s=policy.window_s, hop_s=policy.hop_s, min_s=manifest.min_s)


class CurvesRoom:
    """Whether all curves of one request could ever wait for the encoder together, each with its clip.

    One that could not would be refused on an idle service too, and its caller would come again for ever.
    """

    def __init__(self, services: ModelServices) -> None:
        self._engine = services.engine
        self._windowed_s = 0.0

    def take(self, samples: int, ranges: list[tuple[int, int]], field: str) -> None:
        """Count a clip of so many samples and its curve's windows. Raises ProblemError."""
        rate, most = self._engine.manifest.sample_rate, self._engine.most_windowed_s
        own_s = sum(stop - start for start, stop in ranges) / rate
        self._windowed_s += own_s + self._engine.windowed_s(samples / rate)
        if self._windowed_s > most:
            detail = f"{field}: the clips and curves of one request may come to {most:g} s in windows"
            raise ProblemError("limit-exceeded", detail, field="hop_s", limit=most)


async def embed_curve(
    services: ModelServices,
    samples: NDArray[np.float32],
    whole: ClipResult,
    ranges: list[tuple[int, int]],
    deadline: float,
) -> ClipResult:
    """A decoded clip in a curve's windows, all of them or none. Raises the engine's errors."""
    if len(ranges) == 1:
        return whole
    found = await services.engine.embed_windows(samples, ranges, deadline=deadline)
    return ClipResult(found.windows, found.vectors, whole.pooled)
