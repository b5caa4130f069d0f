"""Types that several requests share: names, audio as data URIs, metadata, and the problem document."""

from __future__ import annotations

import base64
import io
import math
import wave
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from index.errors import InvalidName
from index.validate import MAX_ID_CHARS, check_item_id, composed

EXAMPLE_IDENTITY: Final = "clsp-small@0.1.0:9f2c51d07a4e"


def _example_audio() -> str:
    """The smallest clip that is accepted, so that the examples of the manual work as they stand: 0.26 s of a tone."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 1, 4000, 0, "NONE", ""))
        file.writeframes(bytes(128 + round(60 * math.sin(0.1 * math.pi * i)) for i in range(1040)))
    return f"data:audio/wav;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


EXAMPLE_AUDIO: Final = _example_audio()


T = TypeVar("T")
Listed = Annotated[list[T], Field(fail_fast=True)]
"""A list in a request, wrong as a whole with its first wrong entry: all together cost hundreds of times the request."""
MAX_MEMBERS: Final = 64
"""More than any request has; each unknown one would be told of, at what that costs."""


class RequestModel(BaseModel):
    """A request body: unknown members and wrong types are refused, since a slip must not pass for a default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _few_members(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_MEMBERS:
            raise ValueError(f"{len(value)} members; at most {MAX_MEMBERS} are accepted")
        return value


class ResponseModel(BaseModel):
    """An answer. Members may be added in a minor version; none is removed or renamed."""


def example(value: dict[str, Any]) -> ConfigDict:
    """Configuration of a request model: unknown members are refused, and the OpenAPI page shows `value`."""
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [value]})


def answer(value: dict[str, Any]) -> ConfigDict:
    """Configuration of a response model, whose example on the OpenAPI page is `value`."""
    return ConfigDict(json_schema_extra={"examples": [value]})


CollectionName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$"),
    Field(description="Name of a collection: 1 to 64 letters, digits, `_`, `.` or `-`.", examples=["voices"]),
]


def _check_item_id(value: str) -> str:
    try:
        return check_item_id(composed(value))
    except InvalidName as error:
        raise ValueError(error.message) from error


ItemId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ID_CHARS, pattern=r"^[^/\x00-\x1f\x7f-\x9f\u2028\u2029]*$"),
    AfterValidator(_check_item_id),
    Field(description="Id of an item: printable characters other than `/`.", examples=["a01"]),
]

AudioUri = Annotated[
    str,
    Field(
        description="A clip as a data URI: WAV, FLAC, OGG, MP3, M4A ..., base64; or an address of CLSP_URL_ALLOW.",
        examples=[EXAMPLE_AUDIO],
        json_schema_extra={"format": "uri"},
    ),
]
Vector = Annotated[
    Listed[FiniteFloat],
    Field(min_length=1, max_length=65536, description="An embedding; it is scaled to unit length."),
]


_SCALAR: Final[dict[str, Any]] = {"type": ["string", "number", "boolean", "null"]}
Metadata = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "Flat fields to filter by: strings, finite numbers, booleans, null, or lists of those.",
            "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
            "examples": [{"speaker": "p225", "gender": "female", "age": 23, "tags": ["calm"]}],
        }
    ),
]
"""What a value may be is checked by the index, which stores it (`index.validate.check_metadata`)."""


class Segment(ResponseModel):
    """A stretch of a clip."""

    model_config = answer({"start_s": 5.0, "end_s": 15.0})

    start_s: float = Field(description="Start, seconds from the beginning of the clip.", examples=[5.0])
    end_s: float = Field(description="End, seconds from the beginning of the clip.", examples=[15.0])


class Health(ResponseModel):
    """Whether the process lives or can serve."""

    model_config = answer({"status": "ok"})

    status: str = Field(description="`ok`, or why not.")


class Problem(BaseModel):
    """RFC 9457 problem document: what went wrong, where in the request, and which limit was broken."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:clsp-service:error:invalid-audio",
                    "title": "Invalid audio",
                    "status": 422,
                    "detail": "items[0].audio: 0.1 s is shorter than 0.25 s",
                    "field": "items[0].audio",
                    "limit": 0.25,
                    "request_id": "0b0f8b6e3f5c4bb2a0f3a55a5f0c6d0e",
                }
            ]
        },
    )

    type: str = Field(description="Stable name of the error; clients switch on it.")
    title: str = Field(description="The same for every error of this type.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request.")
    field: str | None = Field(None, description="The part of the request that is wrong.")
    limit: float | str | None = Field(None, description="The limit that was broken.")
    request_id: str | None = Field(None, description="The X-Request-ID of this answer, as in the log.")
