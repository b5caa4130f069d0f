"""Adding clips to a collection: from files or JSON to vectors, then into the store, all of them or none."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter

from index.errors import IdentityMismatch
from index.types import CollectionKind, MediaBlob, NewItem, NewSegment
from index.validate import check_item_id, check_metadata, composed
from service.api.body import FILES_SCHEMA, Form, is_multipart, parse_json, read_form, read_json, uploaded_clip
from service.api.deps import ENGINE_CALL, CollectionPath, ServicesDep, problems, request_body
from service.core.problems import ProblemError
from service.http.auth import require_write
from service.schemas import AddedItem, AddItemsRequest, AddItemsResponse, FormMetadata
from service.schemas import NewItem as RequestedItem
from service.schemas.items import FileMetadata
from service.usecases.checks import check_count
from service.usecases.clip_embedding import ClipSource, EmbeddedClip, embed_clips, inline_clip
from service.usecases.item_builder import clip_item
from service.usecases.open_store import store_limits
from service.usecases.services import Services
from service.usecases.vectors import unit_vector

router = APIRouter(prefix="/v1/collections/{collection}/items", tags=["items"])

_METADATA: Final = TypeAdapter(dict[str, Any])
_FORM_METADATA: Final = TypeAdapter(FormMetadata)
_FORM: Final = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": FILES_SCHEMA,
        "metadata": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": 'JSON: an object for all files, or `{"items": [{"file", "id", "filename", "metadata"}]}`.',
            "examples": ['{"gender": "female"}'],
        },
    },
}


@dataclass(frozen=True)
class _Wanted:
    """An item to be made: where it and its parts stand in the request, and its audio or its own vector."""

    field: str
    metadata_field: str
    id: str | None
    filename: str | None
    metadata: dict[str, Any]
    clip: ClipSource | None
    given: RequestedItem | None = None


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(require_write)],
    responses=problems(
        *ENGINE_CALL,
        "unknown-collection",
        "identity-mismatch",
        "dimension-mismatch",
        "too-many-parts",
        "audio-too-large",
        "storage-failed",
        "storage-full",
    ),
    openapi_extra=request_body(AddItemsRequest, form=_FORM),
)
async def add_items(collection: CollectionPath, request: Request, services: ServicesDep) -> AddItemsResponse:
    """Add or replace clips, all of them or none. When this answers, they are on disk.

    An item without an id gets its file's name, or else the start of its content's SHA-256.
    """
    info = await services.own_collection(collection)
    most = services.settings.max_parts
    if is_multipart(request):
        async with read_form(request, fields=("metadata",), max_files=most) as form:
            wanted = await _from_form(form, services)
            return await _add(services, info, wanted, services.deadline())
    body = await read_json(request, AddItemsRequest, multipart=True)
    check_count("items", body.items, most, slug="too-many-parts", setting="CLSP_MAX_PARTS")
    return await _add(services, info, _from_json(body, services), services.deadline())


def _from_json(body: AddItemsRequest, services: Services) -> list[_Wanted]:
    wanted = []
    for i, item in enumerate(body.items):
        field = f"items[{i}]"
        audio = item.audio
        clip = inline_clip(audio, f"{field}.audio", services, filename=item.filename) if audio is not None else None
        item_id = item.id or _base_name(item.filename)
        given = None if clip else item
        wanted.append(_Wanted(field, f"{field}.metadata", item_id, item.filename, item.metadata, clip, given))
    return wanted


async def _from_form(form: Form, services: Services) -> list[_Wanted]:
    text = form.one("metadata")
    shared: dict[str, Any] = {}
    entries: dict[str, tuple[int, FileMetadata]] = {}
    if text:
        shared = await parse_json(text, _METADATA, field="metadata")
        listed = shared.get("items")
        # A metadata field that is itself named "items" holds scalars; entries for files are objects.
        if isinstance(listed, list) and all(isinstance(entry, dict) for entry in listed):
            parsed = await parse_json(text, _FORM_METADATA, field="metadata")
            entries, shared = _by_file(parsed, {composed(upload.filename or "") for upload in form.files}), {}
    wanted = []
    for i, upload in enumerate(form.files):
        field = f"files[{i}]"
        name = _base_name(upload.filename)
        clip = uploaded_clip(upload, field, services)
        if (named := composed(upload.filename or "")) in entries:
            k, entry = entries[named]
            place = f"metadata.items[{k}]"
            name = _base_name(entry.filename) or name
            wanted.append(_Wanted(place, f"{place}.metadata", entry.id or name, name, entry.metadata, clip))
        else:
            wanted.append(_Wanted(field, "metadata", name, name, shared, clip))
    return wanted


def _by_file(parsed: FormMetadata, names: set[str]) -> dict[str, tuple[int, FileMetadata]]:
    entries: dict[str, tuple[int, FileMetadata]] = {}
    for k, entry in enumerate(parsed.items):
        field = f"metadata.items[{k}].file"
        name = composed(entry.file)
        if name not in names:
            raise ProblemError("invalid-request", f"{field}: no file of this name was uploaded", field=field)
        if name in entries:
            raise ProblemError("invalid-request", f"{field}: this file has an entry already", field=field)
        entries[name] = (k, entry)
    return entries


def _base_name(filename: str | None) -> str | None:
    """The name without folders, of either kind of separator; None where nothing is left of it."""
    return composed(posixpath.basename((filename or "").replace("\\", "/"))) or None


async def _add(
    services: Services, info: CollectionKind, wanted: Sequence[_Wanted], deadline: float
) -> AddItemsResponse:
    _check(services, wanted)  # what can be refused without decoding is refused first
    vectors = [None if one.given is None else _given_item(one, info) for one in wanted]
    sources = [one.clip for one in wanted if one.clip is not None]
    keep = services.settings.keep_media
    clips = iter(await embed_clips(services, sources, deadline=deadline, keep_bytes=keep, bulk=True))
    items = [_clip_item(one, next(clips)) if item is None else item for one, item in zip(wanted, vectors, strict=True)]
    _check_distinct(wanted, [item.id for item in items])
    created = await services.in_store("write", services.store.upsert, info.name, items, identity=info.identity)
    return AddItemsResponse(
        items=[
            AddedItem(id=item.id, created=made, segments=len(item.segments), duration_s=item.duration_s)
            for item, made in zip(items, created, strict=True)
        ],
        identity=info.identity,
    )


def _check(services: Services, wanted: Sequence[_Wanted]) -> None:
    _check_distinct(wanted, [one.id for one in wanted])
    limits = store_limits(services.settings)
    for one in wanted:
        if one.id is not None:
            check_item_id(one.id, f"{one.field}.id")
        check_metadata(one.metadata, limits, one.metadata_field)


def _check_distinct(wanted: Sequence[_Wanted], ids: Sequence[str | None]) -> None:
    seen: dict[str, str] = {}
    for one, item_id in zip(wanted, ids, strict=True):
        field = f"{one.field}.id"
        if item_id is not None and item_id in seen:
            detail = f"{field}: {item_id!r} is the id of {seen[item_id]} too"
            raise ProblemError("invalid-request", detail, field=field)
        if item_id is not None:
            seen[item_id] = one.field


def _given_item(wanted: _Wanted, info: CollectionKind) -> NewItem:
    """An item whose vector the caller computed, under the same identity."""
    given = wanted.given
    assert given is not None and given.embedding is not None and given.duration_s is not None
    if given.identity != info.identity:
        raise IdentityMismatch(info.identity, str(given.identity))
    vector = unit_vector(given.embedding, info.dim, f"{wanted.field}.embedding")
    sha256 = hashlib.sha256(vector.tobytes()).hexdigest()
    return NewItem(
        id=wanted.id or sha256[:16],
        segments=[NewSegment(0.0, given.duration_s, vector)],
        metadata=wanted.metadata,
        duration_s=given.duration_s,
        content_sha256=sha256,
        filename=wanted.filename,
        media=None,
    )


def _clip_item(wanted: _Wanted, clip: EmbeddedClip) -> NewItem:
    return clip_item(
        wanted.id or clip.sha256[:16],
        clip.result.windows,
        clip.result.vectors,
        metadata=wanted.metadata,
        duration_s=clip.duration_s,
        content_sha256=clip.sha256,
        filename=wanted.filename,
        media=MediaBlob(clip.data, clip.media_type) if clip.data is not None else None,
    )
