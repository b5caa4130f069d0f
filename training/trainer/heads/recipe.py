"""A recipe: everything that a training run depends on, in one YAML file."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.captions.writer import Kind
from training.model import ClspConfig
from training.yaml_file import read_yaml

Kinds = dict[Kind, float]
"""How often captions of each kind are drawn."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StartPart(_Part):
    """Starting weights of the towers: a folder, or `package:NAME/folder`; None starts from scratch."""

    speech: str | None = None
    text: str | None = None
    checkpoint: str | None = Field(None, description="a whole checkpoint of ours to go on from, instead of towers")
    tokenizer: str = Field(description="folder or package that holds tokenizer.json")


class DataPart(_Part):
    """Which captions are drawn, and how often each kind."""

    kinds: Kinds = {"global": 1.0, "fine": 1.0, "prompt": 0.5}
    source_weights: dict[str, float] = Field({}, description="how often a source's clips are drawn; 1 unless named")
    balance: tuple[str, ...] = Field(
        (), description="facts whose values are drawn equally often among a source's clips: emotion, burst, child"
    )
    max_s: float = 10.0


class TrainPart(_Part):
    """Optimisation. `tune` names towers whose weights move; the others are encoded once and cached."""

    tune: tuple[Literal["speech", "text"], ...] = ()
    steps: int = 3000
    batch: int = 256
    captions: int = Field(2, description="captions drawn a clip and step: 1 is the paper's stage 1, 2 its stage 2")
    lr: float = 1e-3
    tower_lr: float = 1e-5
    warmup: int = 100
    weight_decay: float = 0.05
    ema: float = Field(0.999, ge=0, lt=1)
    feature_noise: float = Field(0.1, description="noise on standardised frozen features, in their deviations")
    max_logit_scale: float = 50.0
    bf16: bool = Field(False, description="multiply in bfloat16 where the CPU can; losses and weights stay in fp32")
    wording_weight: float = Field(0.0, ge=0, description="weight of the loss among captions of one meaning")
    centre_share: float = Field(0.0, ge=0, le=1, description="share of the mean output that a last bias takes off")

    @model_validator(mode="after")
    def _centres_frozen_features(self) -> "TrainPart":
        if self.centre_share and "speech" in self.tune:
            raise ValueError("centre_share needs a frozen speech tower, whose features are at hand")
        return self


class SoupMember(_Part):
    """One run of a soup: what it does otherwise than the recipe. Initial heads are the recipe's in every member."""

    seed: int | None = Field(None, description="order of the data, dropout and noise")
    kinds: Kinds | None = Field(None, description="captions, in place of data.kinds")
    weight: float = Field(1.0, gt=0, description="share in the mean, relative to the others")


class Recipe(_Part):
    """One training run, or several whose weights are averaged."""

    name: str
    version: str
    licence: str
    seed: int = 7
    model: ClspConfig
    start: StartPart
    data: DataPart = DataPart()
    train: TrainPart = TrainPart()
    soup: tuple[SoupMember, ...] = Field((), description="runs whose weights are averaged (arXiv 2203.05482)")
    provenance: dict[str, Any] = {}

    @model_validator(mode="after")
    def _stirs_heads_alone(self) -> "Recipe":
        if self.soup and self.train.tune:
            raise ValueError("soup averages heads of frozen towers: train.tune must be empty")
        return self


def read_recipe(path: Path) -> Recipe:
    """Read and validate a recipe. Raises OSError, YamlError, or ValueError naming the field."""
    return Recipe.model_validate(read_yaml(path))
