"""The served model, as OpenAI lists models, with the facts a caller needs about its embeddings."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from service.schemas.common import EXAMPLE_IDENTITY, ResponseModel, answer

_MODEL: Final[dict[str, Any]] = {
    "id": "clsp-small",
    "object": "model",
    "created": 0,
    "owned_by": "clsp-service",
    "version": "0.1.0",
    "licence": "Apache-2.0",
    "identity": EXAMPLE_IDENTITY,
    "scoring": "5b1d0c8a6f0e4f0c9d3a",
    "embedding_dim": 384,
    "sample_rate": 16000,
    "window_s": 10.0,
    "hop_s": 5.0,
    "min_s": 0.25,
    "max_tokens": 128,
    "logit_scale": 20.0,
    "presets": {"gender": ["female", "male"]},
}


class ModelInfo(ResponseModel):
    """A model that this service runs."""

    model_config = answer(_MODEL)

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Always 0: the bundle's version tells models apart, not a clock.")
    owned_by: str
    version: str
    licence: str
    identity: str = Field(description="Embeddings are comparable only under one identity.")
    scoring: str = Field(
        description="Changes with the calibration and the release: scores of one clip are the same only under one."
    )
    embedding_dim: int
    sample_rate: int = Field(description="Rate that audio is resampled to, Hz.")
    window_s: float = Field(description="Maximum length of a window, seconds; longer clips are cut.")
    hop_s: float = Field(description="Distance between windows, seconds.")
    min_s: float = Field(description="Minimum length of a clip, seconds.")
    max_tokens: int = Field(
        description="Maximum length of a text, tokens; longer texts are cut, and the answer says so."
    )
    logit_scale: float = Field(description="Cosines times this are the logits of classification.")
    presets: dict[str, list[str]] = Field(description="Label sets for POST /v1/classify.")


class ModelList(ResponseModel):
    """The models of this service: one."""

    model_config = answer({"object": "list", "data": [_MODEL]})

    object: Literal["list"] = "list"
    data: list[ModelInfo]
