"""OpenAI's embeddings request and answer, so that its clients work unchanged, plus `modality` for audio."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from service.schemas.common import EXAMPLE_IDENTITY, Listed, RequestModel, ResponseModel, answer


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise ValueError("token ids are not accepted: send text")
    return value


_TEXT: Final[dict[str, Any]] = {"type": "string", "pattern": r"\S"}
Input = Annotated[
    Listed[str],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}],
            "description": "One text or several; with `modality: audio`, clips as data URIs.",
        }
    ),
]


class EmbeddingRequest(RequestModel):
    """OpenAI's request. Members that its client may send and we don't know are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra={"examples": [{"input": "a calm older woman, speaking slowly", "model": "clsp-small"}]},
    )

    input: Input
    model: str | None = Field(None, max_length=256, description="The served model's name; another one is a 404.")
    modality: Literal["text", "audio"] = Field("text", description="What `input` holds.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Lists of numbers, or base64 of little-endian float32."
    )
    dimensions: int | None = Field(None, description="Only the model's own number of dimensions is served.")
    user: str | None = Field(None, description="Ignored.")


class Embedding(ResponseModel):
    """One unit vector."""

    model_config = answer({"object": "embedding", "index": 0, "embedding": [0.031, -0.052]})

    object: Literal["embedding"] = "embedding"
    index: int = Field(description="Position in `input`.")
    embedding: list[float] | str = Field(description="Unit vector; base64 when asked for.")


class EmbeddingUsage(ResponseModel):
    """Text tokens that were read; audio counts none."""

    model_config = answer({"prompt_tokens": 9, "total_tokens": 9})

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(ResponseModel):
    """OpenAI's answer, with the identity of the embeddings and which texts were too long for the model."""

    model_config = answer(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.031, -0.052]}],
            "model": "clsp-small",
            "usage": {"prompt_tokens": 9, "total_tokens": 9},
            "identity": EXAMPLE_IDENTITY,
            "truncated": [],
        }
    )

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    identity: str = Field(description="Embeddings are comparable only under one identity.")
    truncated: list[int] = Field(description="Positions of texts that were cut at the model's length.")
