"""From uploaded audio to embedded clips: decoding in threads, encoding by the engine, errors that name the clip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio.to_thread
from starlette.datastructures import UploadFile

from service.api.deps import Services
from service.audio import Clip, decode
from service.audio_limits import AudioError
from service.data_uri import parse_data_uri
from service.engine import ClipResult
from service.errors import ProblemError

CLIPS_IN_FLIGHT: Final = 4
"""Clips of one request between decoding and encoding: the encoder stays fed, decoded audio stays bounded."""
_MEDIA_TYPES: Final = {
    "WAV": "audio/wav",
    "WAVEX": "audio/wav",
    "RF64": "audio/wav",
    "FLAC": "audio/flac",
    "OGG": "audio/ogg",
    "MP3": "audio/mpeg",
}


@dataclass(frozen=True)
class ClipSource:
    """Audio that a request brought. `field` is its place in the request; `read` is called once, in a thread."""

    field: str
    filename: str | None
    read: Callable[[], bytes]


@dataclass(frozen=True)
class EmbeddedClip:
    """A clip and its embeddings; `data` are the uploaded bytes, where asked for."""

    duration_s: float
    sha256: str
    media_type: str
    data: bytes | None
    result: ClipResult


def uploaded_clip(upload: UploadFile, field: str, services: Services) -> ClipSource:
    """A file of a multipart body."""
    most = services.audio_limits.max_bytes

    def read() -> bytes:
        if (upload.size or 0) > most:  # before it is copied from the spooled file into memory
            raise AudioError("too_large", f"{upload.size} bytes; at most {most} are accepted", limit=most)
        return upload.file.read()

    return ClipSource(field, upload.filename, read)


def inline_clip(uri: str, field: str, services: Services, *, filename: str | None = None) -> ClipSource:
    """A data URI of a JSON body."""
    return ClipSource(field, filename, lambda: parse_data_uri(uri, max_bytes=services.audio_limits.max_bytes)[1])


async def embed_clips(
    services: Services, sources: Sequence[ClipSource], *, deadline: float, keep_bytes: bool = False
) -> list[EmbeddedClip]:
    """Decode and embed clips; results in the order of `sources`.

    Raises AudioError with `field` set at the first clip that is refused, ProblemError when all of them together are
    too long, and the engine's errors. What was not begun then is dropped.
    """
    in_flight = asyncio.Semaphore(CLIPS_IN_FLIGHT)
    total_s = 0.0

    async def embed(source: ClipSource) -> EmbeddedClip:
        nonlocal total_s
        async with in_flight:
            clip, data = await _decode(services, source)
            total_s += clip.duration_s
            most = services.settings.max_request_audio_s
            if total_s > most:
                detail = f"{source.field}: the clips of one request may last {most:g} s together"
                raise ProblemError("limit-exceeded", detail, field=source.field, limit=most)
            with services.metrics.stage("encode"):
                result = await services.engine.embed_clip(clip.samples, deadline=deadline)
        return EmbeddedClip(
            clip.duration_s, clip.sha256, _MEDIA_TYPES[clip.format], data if keep_bytes else None, result
        )

    tasks = [asyncio.create_task(embed(source)) for source in sources]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _decode(services: Services, source: ClipSource) -> tuple[Clip, bytes]:
    def work() -> tuple[Clip, bytes]:
        data = source.read()
        return decode(data, services.audio_limits), data

    with services.metrics.stage("decode"):
        try:
            clip, data = await anyio.to_thread.run_sync(work, limiter=services.decoding)
        except AudioError as error:
            error.field = source.field
            raise
    services.metrics.audio_seconds.inc(clip.duration_s)
    return clip, data
