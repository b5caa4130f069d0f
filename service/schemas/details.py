"""What a score can be taken apart into: windows over time, sentences of the caption, attributes it claims."""

from __future__ import annotations

from pydantic import Field, model_validator

from service.schemas.common import RequestModel, ResponseModel, Segment, answer, example


class ScoreOptions(RequestModel):
    """What to answer with beside the score itself."""

    model_config = example({"sentences": True, "attributes": True})

    curve: bool = Field(False, description="The cosine of each window.")
    sentences: bool = Field(
        False,
        description="The caption's sentences: a curve for each, when it holds, and when one gives way to the next.",
    )
    attributes: bool = Field(False, description="The attributes that the caption names, each against its opposites.")
    window_s: float | None = Field(
        None,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Length of a window of the curves, seconds; the model's own at most, and unless given. "
        "Where the caption has several `sentences`, 3 s unless given.",
    )
    hop_s: float | None = Field(
        None,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Distance between windows, seconds; at most `window_s`. A quarter of `window_s` where only that is "
        "given.",
    )

    @model_validator(mode="after")
    def _overlapping(self) -> ScoreOptions:
        if self.hop_s is not None and self.window_s is None:
            raise ValueError("`hop_s` needs `window_s` beside it")
        if self.hop_s is not None and self.window_s is not None and self.hop_s > self.window_s:
            raise ValueError("`hop_s` above `window_s` would leave gaps")
        return self


class CurvePoint(Segment):
    """The cosine of one window."""

    model_config = answer({"start_s": 0.0, "end_s": 10.0, "cosine": 0.39})

    cosine: float


class SentenceScore(ResponseModel):
    """One sentence of the caption."""

    model_config = answer(
        {"text": "A man whispers", "cosine": 0.31, "curve": [0.42, 0.18], "holds": [{"start_s": 0.0, "end_s": 10.8}]}
    )

    text: str
    cosine: float = Field(description="Of the sentence with the clip as a whole.")
    curve: list[float] = Field(description="Of the sentence with each window of `curve`.")
    holds: list[Segment] = Field(
        description="When it holds: where its curve is in the upper of its two levels; all the time or never where the "
        "curve is flat."
    )


class TurnScore(ResponseModel):
    """The moment at which one sentence gives way to the next, if they hold one after the other."""

    model_config = answer({"at_s": 10.9, "before": 0, "after": 1, "strength": 3.1})

    at_s: float
    before: int = Field(description="Position in `sentences`.")
    after: int
    strength: float = Field(description="How clearly, in logits; under 1 it may be noise.")


class AttributeScore(ResponseModel):
    """One attribute that the caption claims, against its opposites."""

    model_config = answer(
        {
            "family": "rate",
            "value": "fast",
            "phrase": "very fast",
            "negated": False,
            "margin": -1.7,
            "probability": 0.15,
            "heard": "slow",
            "cosines": {"slow": 0.4, "normal": 0.3, "fast": 0.3},
        }
    )

    family: str
    value: str
    phrase: str = Field(description="The caption's words for it.")
    negated: bool = Field(description="Whether the caption says that it is not so.")
    margin: float = Field(description="Logit of the claim over its opposites; negative where they fit the clip better.")
    probability: float = Field(description="The margin as a probability; 0.5 is indifferent.")
    heard: str = Field(description="The value of this family that fits the clip best.")
    cosines: dict[str, float] = Field(description="By value of the family.")
