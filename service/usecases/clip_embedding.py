"""From uploaded audio to embedded clips: decoding in threads, encoding by the engine, errors that name the clip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from service.audio.data_uri import parse_data_uri
from service.audio.decode import MEDIA_TYPES, Clip
from service.audio.fetch import is_url
from service.audio.limits import AudioError
from service.core.problems import ProblemError
from service.engine import ClipResult
from service.usecases.curves import CurvePolicy, CurvesRoom, curve_ranges, embed_curve
from service.usecases.services import ModelServices

CLIPS_IN_FLIGHT: Final = 4
"""Clips of one request between decoding and encoding: the encoder stays fed, decoded audio stays bounded."""


@dataclass(frozen=True)
class ClipSource:
    """Audio that a request brought. `field` is its place in the request; `read` is called once, in a thread.

    `remote`: reading waits for another machine.
    """

    field: str
    filename: str | None
    read: Callable[[], bytes]
    remote: bool = False


@dataclass(frozen=True)
class EmbeddedClip:
    """A clip and its embeddings; `data` are the uploaded bytes, `curve` the windows of a policy, where asked for."""

    duration_s: float
    sha256: str
    media_type: str
    data: bytes | None
    result: ClipResult
    curve: ClipResult | None = None


def inline_clip(uri: str, field: str, services: ModelServices, *, filename: str | None = None) -> ClipSource:
    """Audio of a JSON body: a data URI, or an address to fetch it from where the operator allows that."""
    if is_url(uri):
        return ClipSource(field, filename, lambda: services.fetcher.fetch(uri), remote=True)
    most = services.audio_limits.max_bytes
    return ClipSource(field, filename, lambda: parse_data_uri(uri, max_bytes=most)[1])


async def embed_clips(
    services: ModelServices,
    sources: Sequence[ClipSource],
    *,
    deadline: float,
    keep_bytes: bool = False,
    bulk: bool = False,
    curves: Sequence[CurvePolicy | None] = (),
) -> list[EmbeddedClip]:
    """Decode and embed clips, those with a policy in `curves` in its windows too; results in the order of `sources`.

    `bulk` lets the clips of others go first.

    Raises AudioError with `field` set at the first clip that is refused, ProblemError when all of them together, or
    their curves, are too long, and the engine's errors: before anything is read or decoded where there is no time for
    it. What was not begun then is dropped.
    """
    if sources:
        services.engine.check_speech(deadline=deadline, bulk=bulk)
        services.decoding.check(deadline=deadline, bulk=bulk)
    in_flight = asyncio.Semaphore(CLIPS_IN_FLIGHT)
    total_s = 0.0
    curves_room = CurvesRoom(services)
    admitted = False

    async def embed(source: ClipSource, curve: CurvePolicy | None) -> EmbeddedClip:
        nonlocal total_s, admitted
        async with in_flight:
            clip, data = await _decode(services, source, deadline, bulk=bulk)
            total_s += clip.duration_s
            most = services.settings.max_request_audio_s
            if total_s > most:
                detail = f"{source.field}: the clips of one request may last {most:g} s together"
                raise ProblemError("limit-exceeded", detail, field=source.field, limit=most)
            ranges = [] if curve is None else curve_ranges(services, len(clip.samples), curve, source.field)
            if ranges:
                curves_room.take(len(clip.samples), ranges, source.field)
            # Once one clip of a request is accepted, refusing another would throw the first away.
            known, admitted = admitted, True
            with services.metrics.stage("encode"):
                result = await services.engine.embed_clip(
                    clip.samples, key=clip.sha256, deadline=deadline, bulk=bulk, admitted=known
                )
                over_time = await embed_curve(services, clip.samples, result, ranges, deadline) if ranges else None
        return EmbeddedClip(
            clip.duration_s, clip.sha256, MEDIA_TYPES[clip.format], data if keep_bytes else None, result, over_time
        )

    policies = curves or [None] * len(sources)
    if len(sources) == 1:
        return [await embed(sources[0], policies[0])]
    tasks = [asyncio.create_task(embed(*one)) for one in zip(sources, policies, strict=True)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _decode(services: ModelServices, source: ClipSource, deadline: float, *, bulk: bool) -> tuple[Clip, bytes]:
    with services.metrics.stage("decode"):
        try:
            clip, data = await services.decoding.decode(source.read, deadline=deadline, remote=source.remote, bulk=bulk)
        except AudioError as error:
            error.field = source.field
            raise
    services.metrics.audio_seconds.inc(clip.duration_s)
    return clip, data
