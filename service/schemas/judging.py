"""Classification and scoring: what a clip sounds like, and how well it fits a caption."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from service.schemas.common import (
    EXAMPLE_AUDIO,
    EXAMPLE_IDENTITY,
    AudioUri,
    Listed,
    RequestModel,
    ResponseModel,
    answer,
    example,
)
from service.schemas.details import AttributeScore, CurvePoint, ScoreOptions, SentenceScore, TurnScore


def _as_prompts(value: Any) -> Any:
    if isinstance(value, list):
        if not all(isinstance(label, str) for label in value):
            raise ValueError("a list of labels holds texts")
        if len(set(value)) != len(value):
            raise ValueError("a label is given twice")
        return {label: [label] for label in value}
    if isinstance(value, dict):
        prompts = {label: [prompt] if isinstance(prompt, str) else prompt for label, prompt in value.items()}
        wrong = next((label for label, texts in prompts.items() if not _are_texts(texts)), None)
        # As in lists, what is wrong is told of the first.
        return prompts if wrong is None else {wrong: prompts[wrong]}
    return value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


Labels = Annotated[
    dict[str, Annotated[Listed[str], Field(min_length=1)]],
    BeforeValidator(_as_prompts),
    Field(min_length=2),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
                {
                    "type": "object",
                    "minProperties": 2,
                    "additionalProperties": {
                        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
                    },
                },
            ],
            "description": "Labels that are prompts themselves, or prompts (one or several, averaged) by label.",
            "examples": [["whispering", "shouting"]],
        }
    ),
]


class ClassifyOptions(RequestModel):
    """What to choose between."""

    model_config = example({"preset": "emotion"})

    preset: str | None = Field(None, max_length=64, description="A label set of the model: see GET /v1/models.")
    labels: Labels | None = None

    @model_validator(mode="after")
    def _one_label_set(self) -> ClassifyOptions:
        if (self.preset is None) == (self.labels is None):
            raise ValueError("give either `preset` or `labels`")
        return self


class ClassifyRequest(ClassifyOptions):
    """Choose a label for each clip."""

    model_config = example({"audio": EXAMPLE_AUDIO, "preset": "emotion"})

    audio: AudioUri | None = None
    inputs: Listed[AudioUri] | None = Field(None, min_length=1, description="Several clips instead of `audio`.")

    @model_validator(mode="after")
    def _one_source(self) -> ClassifyRequest:
        if (self.audio is None) == (self.inputs is None):
            raise ValueError("give either `audio` or `inputs`")
        return self


class ClipLabels(ResponseModel):
    """The label of one clip."""

    model_config = answer(
        {
            "label": "calm",
            "probabilities": {"calm": 0.81, "angry": 0.19},
            "cosines": {"calm": 0.37, "angry": 0.31},
            "match_probabilities": {"calm": 0.72, "angry": 0.12},
            "duration_s": 3.2,
        }
    )

    label: str = Field(description="The most probable label.")
    probabilities: dict[str, float] = Field(description="By label, at the model's temperature; they add up to 1.")
    cosines: dict[str, float] = Field(description="By label, as measured.")
    match_probabilities: dict[str, float] | None = Field(
        None,
        description="By label: the calibrated probability that it describes the clip at all. They don't add up to 1: "
        "all are low where none of the labels fits. Null for a model without a calibration of labels.",
    )
    duration_s: float


class ClassifyResponse(ResponseModel):
    """One result a clip, in the order of the request."""

    model_config = answer(
        {
            "results": [ClipLabels.model_json_schema()["examples"][0]],
            "identity": EXAMPLE_IDENTITY,
            "truncated": [],
        }
    )

    results: list[ClipLabels]
    identity: str
    truncated: list[str] = Field(description="Labels with a prompt that was cut at the model's length.")


class Pair(RequestModel):
    """A clip and how it should sound."""

    model_config = example({"audio": EXAMPLE_AUDIO, "caption": "an old man whispers"})

    audio: AudioUri
    caption: str


class ScoreRequest(ScoreOptions):
    """Score clips against their captions."""

    model_config = example({"pairs": [{"audio": EXAMPLE_AUDIO, "caption": "an old man whispers"}], "curve": False})

    pairs: Listed[Pair] = Field(min_length=1)


class PairScore(ResponseModel):
    """How well a clip fits its caption."""

    model_config = answer({"cosine": 0.39, "match_probability": 0.8, "percentile": 97.5, "duration_s": 3.2})

    cosine: float = Field(description="Between the clip's pooled embedding and the caption's, -1 to 1.")
    match_probability: float = Field(description="Calibrated probability that caption and clip belong together.")
    percentile: float | None = Field(
        description="Percent of mismatched pairs that fit worse, among held-out clips and captions where the model has "
        "their table, else among its reference captions with this clip; 50 is chance. Null where it has neither."
    )
    duration_s: float
    curve: list[CurvePoint] | None = Field(None, description="One point a window; with `sentences` too.")
    sentences: list[SentenceScore] | None = Field(None, description="In the caption's order, when asked for.")
    turns: list[TurnScore] | None = Field(None, description="Between its sentences, when asked for.")
    attributes: list[AttributeScore] | None = Field(None, description="The least fitting first, when asked for.")


class ScoreResponse(ResponseModel):
    """One result a pair, in the order of the request. The same clip and caption score the same, always."""

    model_config = answer(
        {"results": [PairScore.model_json_schema()["examples"][0]], "identity": EXAMPLE_IDENTITY, "truncated": []}
    )

    results: list[PairScore]
    identity: str
    truncated: list[int] = Field(description="Positions of captions that were cut at the model's length.")
