"""What a CLSP is made of: one validated config that names both towers and the heads."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import from_json


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ZipformerConfig(_Config):
    """The paper's speech tower (arXiv 2310.11230 in the sizes of arXiv 2510.25955).

    Lists hold one value a stack; a single number stands for all stacks.
    """

    kind: Literal["zipformer"] = "zipformer"
    feature_dim: int = 128
    downsampling_factor: tuple[int, ...] = (1, 2, 4, 8, 4, 2, 1)
    num_encoder_layers: tuple[int, ...] = (1, 2, 3, 4, 1, 1, 1)
    encoder_dim: tuple[int, ...] = (1280,) * 7
    encoder_unmasked_dim: tuple[int, ...] = (768,) * 7
    query_head_dim: tuple[int, ...] = (32,) * 7
    value_head_dim: tuple[int, ...] = (12,) * 7
    pos_head_dim: tuple[int, ...] = (4,) * 7
    pos_dim: int = 48
    num_heads: tuple[int, ...] = (8,) * 7
    feedforward_dim: tuple[int, ...] = (3840,) * 7
    cnn_module_kernel: tuple[int, ...] = (31, 31, 15, 15, 15, 31, 31)
    output_downsampling_factor: Literal[1, 2] = 2
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _one_value_a_stack(cls, values: dict[str, Any]) -> dict[str, Any]:
        factors = values.get("downsampling_factor", cls.model_fields["downsampling_factor"].default)
        stacks = len(factors) if isinstance(factors, list | tuple) else 1
        per_stack = {name for name, field in cls.model_fields.items() if field.annotation == tuple[int, ...]}
        spread = {
            name: (value,) * stacks for name, value in values.items() if name in per_stack and isinstance(value, int)
        }
        return {**values, **spread}

    @model_validator(mode="after")
    def _same_number_of_stacks(self) -> "ZipformerConfig":
        stacks = len(self.downsampling_factor)
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != stacks:
                raise ValueError(f"{name} has {len(value)} values for {stacks} stacks")
        return self

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled vector: the widest stack's."""
        return max(self.encoder_dim)


class WhisperConfig(_Config):
    """A Whisper-style speech tower: the first `layers` of an encoder, with layer-wise statistics as its pooling."""

    kind: Literal["whisper"] = "whisper"
    mel_bins: int = 80
    dim: int = 512
    heads: int = 8
    feedforward_dim: int = 2048
    layers: int = Field(4, ge=1)
    max_positions: int = 1500
    pool_layers: tuple[int, ...] = Field((1, 2, 3, 4), description="layers that are pooled; 0 is the encoder's input")
    channel_norm: float = Field(0.0, ge=0, le=1, description="share of the clip's mean log-mel that is taken out")

    @model_validator(mode="after")
    def _layers_exist(self) -> "WhisperConfig":
        if not self.pool_layers or not set(self.pool_layers) <= set(range(self.layers + 1)):
            raise ValueError(f"pool_layers {self.pool_layers} must name layers 0 to {self.layers}")
        return self

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled vector: mean and deviation of each pooled layer."""
        return 2 * self.dim * len(self.pool_layers)


class TextConfig(_Config):
    """A text tower: RoBERTa pooled by its first token's pooler, or a MiniLM-style BERT pooled by the mean."""

    kind: Literal["roberta", "minilm"] = "roberta"
    vocab_size: int = 50265
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | None = 2

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens. RoBERTa numbers positions from pad_token_id + 1."""
        return self.max_position_embeddings - (self.pad_token_id + 1 if self.kind == "roberta" else 0)


class HeadConfig(_Config):
    """`paper`: two MLP blocks. `residual`: standardised input, a linear path and an MLP beside it."""

    kind: Literal["paper", "residual"] = "paper"
    hidden: int = 1024
    dropout: float = Field(0.1, ge=0, lt=1)


SpeechConfig = Annotated[ZipformerConfig | WhisperConfig, Field(discriminator="kind")]


class ClspConfig(_Config):
    """A whole CLSP: towers, heads and the width of the joint space."""

    speech: SpeechConfig = ZipformerConfig()
    text: TextConfig = TextConfig()
    joint_dim: int = 512
    speech_head: HeadConfig = HeadConfig()
    text_head: HeadConfig = HeadConfig()

    @classmethod
    def from_recipe_json(cls, path: Path) -> "ClspConfig":
        """Read the flat hyper-parameter file of the paper's recipe (`roberta` holds the text tower's).

        Raises OSError, ValueError (pydantic.ValidationError) when the file is absent or wrong.
        """
        try:
            raw = from_json(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        match raw:
            case {"roberta": dict(text), "joint_dim": joint, **speech}:
                return cls(
                    speech=ZipformerConfig.model_validate(speech),
                    text=TextConfig.model_validate(text),
                    joint_dim=joint,
                )
        raise ValueError(f"{path} is no recipe: an object with joint_dim and, in roberta, the text tower's sizes")
