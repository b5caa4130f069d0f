"""A stage's recipe: everything that an end-to-end run depends on, in one YAML file with a `stage` section."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from training.model import ClspConfig
from training.trainer.heads.recipe import Recipe, StartPart, read_recipe
from training.yaml_file import read_yaml


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageStart(StartPart):
    """Starting weights: each tower's, or a whole checkpoint, ours or the released one's."""

    official: str | None = Field(None, description="folder of the released checkpoint's safetensors")

    @model_validator(mode="after")
    def _one_origin(self) -> "StageStart":
        if sum(map(bool, (self.checkpoint, self.official, self.speech or self.text))) > 1:
            raise ValueError("start takes checkpoint, official, or towers: one of the three")
        return self


class AudioPart(_Part):
    """What is heard and said, and how it comes together in batches."""

    min_s: float = Field(2.0, ge=0.25, description="shorter clips are left out; the paper trains on 2 to 30 s")
    max_s: float = Field(30.0, gt=0, description="longer clips are left out")
    batch_s: float = Field(800.0, gt=0, description="padded seconds of audio a batch and process")
    max_clips: int | None = Field(None, ge=2, description="most clips a batch and process")
    buckets: int = Field(30, ge=2, description="duration buckets, of equal total duration")
    buffer: int = Field(20000, ge=1, description="cuts that the sampler holds: memory against shuffling")
    drop_last: bool = Field(True, description="leave out the incomplete batches at an epoch's end")
    workers: int = Field(0, ge=0, description="processes that load audio; 0 loads in the training process")
    global_kinds: tuple[str, ...] = Field(("global",), description="kinds of captions that count as global")
    fine_kinds: tuple[str, ...] = Field(("fine",), description="kinds of captions that count as fine-grained")
    channel: dict[str, float] = Field({}, description="chances of room, noise, eq, band, codec, level; {} is off")


class StagePart(_Part):
    """Which of the paper's stages, for how long. The schedule is P(task 1) = max(floor, start - fall * t / over)."""

    number: Literal[1, 2]
    steps: int = Field(ge=1)
    task_start: float = 0.95
    task_fall: float = 0.45
    task_over: int = Field(10000, ge=1)
    task_floor: float = 0.50
    hard_negatives: float = Field(0.0, ge=0, le=1, description="chance that a clip brings a caption with one swap")
    claims: bool = Field(
        True, description="others' captions whose claims are true of a clip are right too; false is the paper's loss"
    )
    max_logit_scale: float = Field(100.0, gt=1)


class AdamWPart(_Part):
    """AdamW; vectors and scalars do not decay."""

    kind: Literal["adamw"] = "adamw"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    clip: float = Field(2.0, gt=0, description="largest norm of the gradient")


class ScaledAdamPart(_Part):
    """The paper's optimiser, see training.trainer.scaled_adam."""

    kind: Literal["scaled_adam"]
    lr: float = 0.045
    betas: tuple[float, float] = (0.9, 0.98)
    scale_lr: float = Field(0.1, description="rate of a tensor's scale, relative to that of its direction")
    clip: float = Field(2.0, gt=0, description="largest norm of the gradient, in medians of recent ones")


class CosinePart(_Part):
    """Linear warm-up, then a cosine to a hundredth of the peak."""

    kind: Literal["cosine"] = "cosine"
    warmup: int = Field(100, ge=0)


class ConstantPart(_Part):
    """Linear warm-up, then the peak."""

    kind: Literal["constant"]
    warmup: int = Field(100, ge=0)


class EdenPart(_Part):
    """Eden, see training.trainer.schedules."""

    kind: Literal["eden"]
    steps: float = Field(7500.0, gt=0)
    epochs: float = Field(3.5, gt=0)
    warmup: int = Field(500, ge=0)
    warmup_start: float = Field(0.5, ge=0, le=1)


class TowerPart(_Part):
    """How one tower learns: whole, not at all, or through low-rank adapters that are merged into the checkpoint."""

    tune: Literal["full", "frozen", "lora"] = "full"
    lr_scale: float = Field(1.0, gt=0, description="the tower's learning rate, as a multiple of the optimiser's")
    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: str = Field("", description="regular expression that an adapted linear layer's name holds; '' is all")

    @field_validator("targets")
    @classmethod
    def _is_an_expression(cls, targets: str) -> str:
        try:
            re.compile(targets)
        except re.error as error:
            raise ValueError(f"{targets!r} is no regular expression: {error}") from error
        return targets


class TowersPart(_Part):
    """Both towers; heads and temperature always learn, at the optimiser's own rate."""

    speech: TowerPart = TowerPart(lr_scale=0.0222)
    text: TowerPart = TowerPart()


class RunPart(_Part):
    """What changes nothing of the result but how it is reached, watched and kept. `precision` is the exception."""

    precision: Literal["no", "bf16", "fp16"] = "no"
    log_every: int = Field(50, ge=1)
    save_every: int = Field(1000, ge=1, description="steps between states that a run can resume from")
    validate_every: int = Field(1000, ge=1)
    validate_clips: int = Field(1000, ge=2, description="clips of the dev split that choose the best weights")
    ema: float = Field(0.999, ge=0, lt=1, description="moving average of the weights that is validated; 0 is off")
    last: int = Field(0, ge=0, description="average of so many last validated weights competes at the end; 0 is off")


class WindowPart(_Part):
    """How the exported bundle cuts long recordings, seconds."""

    window_s: float = Field(30.0, gt=0, allow_inf_nan=False)
    hop_s: float = Field(15.0, gt=0)
    min_s: float = Field(0.25, gt=0)

    @model_validator(mode="after")
    def _all_is_heard(self) -> "WindowPart":
        if not self.hop_s <= self.window_s:
            raise ValueError(f"hop_s {self.hop_s:g} above window_s {self.window_s:g} would leave audio unheard")
        return self


class StageRecipe(_Part):
    """One end-to-end run. Without `model` it is the paper's network."""

    name: str
    version: str
    licence: str
    seed: int = 7
    model: ClspConfig = ClspConfig()
    start: StageStart
    data: AudioPart = AudioPart()
    stage: StagePart
    towers: TowersPart = TowersPart()
    optimiser: Annotated[AdamWPart | ScaledAdamPart, Field(discriminator="kind")] = AdamWPart()
    schedule: Annotated[CosinePart | ConstantPart | EdenPart, Field(discriminator="kind")] = CosinePart()
    run: RunPart = RunPart()
    window: WindowPart = WindowPart()
    provenance: dict[str, Any] = {}


def read_any_recipe(path: Path) -> Recipe | StageRecipe:
    """A recipe of either trainer: one with a `stage` section runs end to end, one with `train` on cached features.

    Raises OSError, YamlError, or ValueError naming the field.
    """
    raw = read_yaml(path)
    if isinstance(raw, dict) and "stage" in raw:
        return StageRecipe.model_validate(raw)
    return read_recipe(path)
