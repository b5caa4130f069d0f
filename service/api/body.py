"""Reads request bodies: JSON into a model, or multipart into files and fields, each refused with the field's name."""

from __future__ import annotations

import errno
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

import anyio.to_thread
import numpy as np
from fastapi import Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.audio.limits import AudioError
from service.core.problems import ProblemError, validation_problem
from service.usecases.clip_embedding import ClipSource
from service.usecases.services import ModelServices

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

INLINE_BYTES: Final = 512 * 1024
"""JSON up to this size is parsed where it is, which costs less than handing it to a thread: it holds a window of
16-bit sound, whose one long string takes 0.2 ms."""
_EXTENDED_NAME: Final = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", re.IGNORECASE)
_PLAIN_NAME: Final = re.compile(rb';\s*filename\s*=\s*(?:"[^"]*"|[^;]*)', re.IGNORECASE)
_CONTROL: Final = bytes(range(32))
VALUE_MARKS: Final = b",[{"
"""Each value of a JSON text, but for the first, has one of these before it. Base64 holds none of them."""
COUNTED_AT_ONCE: Final = 64 * 1024
"""Bytes whose comparison stays in a core's cache."""
MAX_FIELD_BYTES: Final = 1024 * 1024
"""Largest text field of a form, bytes; it bounds the values in one, too."""
FILE_FIELDS: Final = ("files", "file")
FILES_SCHEMA: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "string", "format": "binary"},
    "description": "The clips.",
}


@dataclass(frozen=True)
class Form:
    """A multipart body: uploaded files in order, and the other fields' texts by name."""

    files: list[UploadFile]
    fields: dict[str, list[str]]

    def one(self, name: str) -> str | None:
        """The text of a field that may be given once. Raises ProblemError when it is repeated."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise ProblemError("invalid-request", f"{name}: given {len(values)} times", field=name, limit=1)
        return values[0] if values else None


def media_type(request: Request) -> str:
    """The body's media type without parameters, lower case; "" where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_multipart(request: Request) -> bool:
    """Whether the body is a form with files."""
    return media_type(request) == "multipart/form-data"


async def read_json(request: Request, model: type[M], *, optional: bool = False, multipart: bool = False) -> M:
    """Read a JSON body. With `optional`, no body means the model's defaults.

    `multipart` says whether the route takes forms too, for the message. Raises ProblemError: `unsupported-media-type`,
    `body-too-large` for more values than settings allow, `malformed-body`, or `invalid-request` with the field.
    """
    _refuse_encoded(request)
    kind = media_type(request)
    is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if kind and not is_json:
        raise _unsupported(kind, "application/json", "multipart/form-data" if multipart else None)
    body = await request.body()
    if not body and optional:
        return model()
    if body and not kind:
        raise _unsupported("none", "application/json", "multipart/form-data" if multipart else None)
    return await parse_json(body, _adapter(model), max_values=request.app.state.settings.max_json_values)


@lru_cache
def _adapter(model: type[M]) -> TypeAdapter[M]:
    return TypeAdapter(model)


async def parse_json(
    data: bytes | str, adapter: TypeAdapter[T], *, field: str = "", max_values: int | None = None
) -> T:
    """Parse and validate JSON, in a thread where it is large. `field` is the part of the request that it came in.

    Raises ProblemError: `body-too-large` for more than `max_values`, `malformed-body`, or `invalid-request` with the
    field.
    """
    if len(data) <= INLINE_BYTES:
        return _validated(data, adapter, field, max_values)
    return await anyio.to_thread.run_sync(_validated, data, adapter, field, max_values)


def _validated(data: bytes | str, adapter: TypeAdapter[T], field: str, max_values: int | None) -> T:
    if max_values is not None and isinstance(data, bytes) and _has_more_values(data, max_values):
        detail = f"the body holds more than {max_values} JSON values (each comma, `[` and `{{` counts as one)"
        raise ProblemError("body-too-large", detail, field="body", limit=max_values)
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        errors: list[dict[str, Any]] = [dict(item) for item in error.errors(include_url=False, include_input=False)]
        raise validation_problem(errors, prefix=field) from error


def _has_more_values(data: bytes, most: int) -> bool:
    """Whether JSON may hold more values than `most`: each takes dozens of times its bytes, and the loop, to parse."""
    if len(data) <= most:
        return False
    found, text = 0, np.frombuffer(data, np.uint8)
    for begin in range(0, len(text), COUNTED_AT_ONCE):
        piece = text[begin : begin + COUNTED_AT_ONCE]
        found += sum(int(np.count_nonzero(piece == mark)) for mark in VALUE_MARKS)
        if found > most:
            return True
    return False


class _WholeForm(MultiPartParser):
    ended = False

    def on_headers_finished(self) -> None:
        """Read `filename*` too (RFC 5987), which says what `filename` can only spell in ASCII."""
        part = self._current_part
        disposition: bytes = part.content_disposition or b""
        if extended := _EXTENDED_NAME.search(disposition):
            name = unquote_to_bytes(extended[1]).translate(None, _CONTROL).replace(b"\\", b"/").replace(b'"', b"'")
            others = _PLAIN_NAME.sub(b"", disposition[: extended.start()] + disposition[extended.end() :])
            part.content_disposition = others + b'; filename="' + name + b'"'
        super().on_headers_finished()

    def on_end(self) -> None:
        self.ended = True

    async def parse_whole(self) -> FormData:
        """The form. Raises MultiPartException where its end is missing: what was lost may be a file, or metadata."""
        form = await self.parse()
        if not self.ended:
            await form.close()
            raise MultiPartException("it stops before its closing boundary")
        return form


@asynccontextmanager
async def read_form(request: Request, *, fields: Iterable[str], max_files: int) -> AsyncIterator[Form]:
    """Read a multipart body; its temporary files live as long as the context.

    Raises ProblemError: `malformed-body`, `unsupported-media-type`, `too-many-parts`, `storage-full` where the
    temporary files have no room, or `invalid-request` with the field.
    """
    _refuse_encoded(request)
    _refuse_charset(request)
    known = (*FILE_FIELDS, *fields)
    parser = _WholeForm(
        request.headers, request.stream(), max_files=max_files, max_fields=max_files + 16, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse_whole()
    except MultiPartException as error:
        raise _form_problem(error, max_files) from error
    except OSError as error:
        detail = f"the server has nowhere to put the upload: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ProblemError("storage-full", detail) from error
        raise ProblemError("storage-failed", detail, headers={"Retry-After": "1"}) from error
    try:
        yield await _sort(form, known)
    finally:
        await form.close()


async def _sort(form: FormData, known: tuple[str, ...]) -> Form:
    files: list[UploadFile] = []
    texts: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if name not in known:
            expected = ", ".join(known)
            detail = f"{name[:80]}: unknown form field; known: {expected}"
            raise ProblemError("invalid-request", detail, field=name[:80])
        if name not in FILE_FIELDS:
            texts.setdefault(name, []).append(await _text(name, value))
        elif isinstance(value, UploadFile):
            files.append(value)
        else:
            raise ProblemError("invalid-request", f"{name}: send a file (with a filename), not text", field=name)
    if not files:
        raise ProblemError("invalid-request", "files: at least one file is needed", field="files", limit=1)
    return Form(files, texts)


async def _text(name: str, value: UploadFile | str) -> str:
    """A text field; clients may send it as a file part, to give it a media type."""
    if isinstance(value, str):
        return value
    if (value.size or 0) > MAX_FIELD_BYTES:
        raise ProblemError("body-too-large", f"{name}: at most 1 MiB", field=name, limit=MAX_FIELD_BYTES)
    try:
        return (await value.read()).decode()
    except UnicodeDecodeError as error:
        raise ProblemError("invalid-request", f"{name}: not UTF-8", field=name) from error


def _form_problem(error: MultiPartException, max_files: int) -> ProblemError:
    message = error.message
    if message.startswith("Too many"):
        return ProblemError("too-many-parts", f"files: {message}", field="files", limit=max_files)
    if message.startswith("Part exceeded"):
        return ProblemError("body-too-large", f"a form field is too large: {message}", limit=MAX_FIELD_BYTES)
    return ProblemError("malformed-body", f"the multipart body is malformed: {message}", field="body")


def _unsupported(kind: str, *expected: str | None) -> ProblemError:
    accepted = " or ".join(name for name in expected if name)
    detail = f"Content-Type is {kind[:80]}; send {accepted}"
    return ProblemError("unsupported-media-type", detail, field="Content-Type", limit=accepted)


def _refuse_charset(request: Request) -> None:
    # Some of Python's codecs make no text, and some make what cannot be written down again.
    _, options = parse_options_header(request.headers["content-type"])
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in ("utf-8", "utf8"):
        detail = f"the form's charset is {charset[:80]}; send utf-8"
        raise ProblemError("unsupported-media-type", detail, field="Content-Type", limit="utf-8")


def _refuse_encoded(request: Request) -> None:
    # A compressed body could unfold to any size, past the limit on bytes.
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        detail = "send the body as it is, without Content-Encoding"
        raise ProblemError("unsupported-media-type", detail, field="Content-Encoding", limit="identity")


def uploaded_clip(upload: UploadFile, field: str, services: ModelServices) -> ClipSource:
    """A file of a multipart body."""
    most = services.audio_limits.max_bytes

    def read() -> bytes:
        if (upload.size or 0) > most:  # before it is copied from the spooled file into memory
            raise AudioError("too_large", f"{upload.size} bytes; at most {most} are accepted", limit=most)
        return upload.file.read()

    return ClipSource(field, upload.filename, read)
