"""Options of one model behind an OpenAI-compatible chat API; keys come from the environment only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import httpx
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from training.captions.endpoint.secrets import bare

Role = Literal["annotator", "verifier", "judge"]
MAX_TOKENS: Mapping[Role, int] = {"annotator": 512, "verifier": 4096, "judge": 4096}


class EndpointSettings(BaseSettings):
    """Where a model is asked, how fast, how patiently and at what price.

    Field `x` of the annotator is read from `CLSP_ANNOTATOR_X`, of the verifier from `CLSP_VERIFIER_X`, of the judge
    from `CLSP_JUDGE_X`. Raises pydantic.ValidationError naming the field.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    # Where
    base_url: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="API roots, such as http://host:8000/v1; several (comma separated) share the work."
    )
    model: str = Field("", description="Model name as the endpoint knows it.")
    api_key: SecretStr | None = Field(None, description="Bearer key; none is sent when empty.")

    # How it is asked
    audio_part: Literal["input_audio", "audio_url"] = Field(
        "input_audio", description="How audio travels: OpenAI's input_audio, or vLLM's audio_url with a data URI."
    )
    structured: Literal["json_schema", "json_object", "none"] = Field(
        "json_schema", description="How a JSON answer is asked for; none relies on the prompt."
    )
    temperature: float = Field(0.6, ge=0, le=2, description="Sampling temperature.")
    top_p: float = Field(0.95, gt=0, le=1, description="Nucleus sampling.")
    max_tokens: int = Field(
        0,
        ge=0,
        description="Maximum length of an answer, tokens; 0 is 512 for the "
        "annotator and 4096, thoughts included, for others.",
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description='JSON that joins each request; null removes a field: `{"max_tokens": null, "top_k": 20}`.',
    )
    max_audio_s: float = Field(30.0, gt=0, description="Maximum length of a stretch of a clip that is sent, seconds.")

    # How fast
    concurrency: int = Field(16, ge=1, description="Requests under way at once, for each base URL.")
    requests_per_minute: float = Field(
        0.0, ge=0, description="Maximum number of requests a minute for each base URL; 0: no limit."
    )

    # How patiently
    timeout_s: float = Field(120.0, gt=0, description="Maximum wait for one answer, seconds.")
    connect_timeout_s: float = Field(10.0, gt=0, description="Maximum wait for a connection, seconds.")
    attempts: int = Field(6, ge=1, description="Attempts at one request that faults and time-outs may use up.")
    patience_s: float = Field(1800.0, gt=0, description="Maximum time that one request may wait out rate limits, s.")
    backoff_s: float = Field(1.0, gt=0, description="First pause where the server names none; doubles, seconds.")
    backoff_max_s: float = Field(60.0, gt=0, description="Maximum such pause, seconds.")
    failures_in_a_row: int = Field(20, ge=1, description="Requests given up in a row after which the run stops.")
    max_answer_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="Maximum size of an answer that is read, bytes."
    )

    # At what price
    input_price: float = Field(0.0, ge=0, description="Price of a million text input tokens.")
    audio_price: float = Field(0.0, ge=0, description="Price of a million audio input tokens.")
    output_price: float = Field(0.0, ge=0, description="Price of a million output tokens.")
    audio_tokens_per_s: float = Field(12.5, gt=0, description="Audio tokens of a second; 12.5 in Qwen3-Omni.")
    answer_tokens: int = Field(120, ge=1, description="Tokens that a usual answer has, for the estimate.")
    answer_s: float = Field(3.0, gt=0, description="Seconds that a usual answer takes, for the estimate.")
    max_cost: float = Field(0.0, ge=0, description="Spending at which a start of the run stops; 0: no limit.")

    @field_validator("base_url", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(part.strip().rstrip("/") for part in parts if part.strip())

    @field_validator("base_url")
    @classmethod
    def _http(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            try:
                told = httpx.URL(url)
            except httpx.InvalidURL as error:
                # The reason quotes what it takes for a port, which may be a password's beginning.
                why = "what stands before its @ has to be percent-encoded" if "@" in url else str(error)
                raise ValueError(f"{bare(url)!r} is not a URL: {why}") from error
            if told.scheme not in ("http", "https") or not told.host or (told.port or 1) > 65535:
                raise ValueError(f"{bare(url)!r} is not an http(s) URL with a host, such as http://host:8000/v1")
        return urls

    @field_validator("api_key")
    @classmethod
    def _printable(cls, key: SecretStr | None) -> SecretStr | None:
        told = key.get_secret_value().strip() if key else ""
        if not (told.isascii() and told.isprintable()):
            raise ValueError("a key is plain ASCII in one line")  # the key itself is never told
        return SecretStr(told) if told else None

    @classmethod
    def of(cls, role: Role, **given: Any) -> EndpointSettings:
        """Settings of a role: what is given (and not None), then the environment, then the defaults."""
        known = {name: value for name, value in given.items() if value not in (None, (), [])}
        found = cls(_env_prefix=f"CLSP_{role.upper()}_", **known)
        return found if found.max_tokens else found.model_copy(update={"max_tokens": MAX_TOKENS[role]})

    def require(self, role: Role) -> EndpointSettings:
        """Itself, when nothing is missing: where, which model, the prices of a budget. Raises ValueError naming it."""
        for field, option in (("base_url", "base-url"), ("model", "model")):
            if not getattr(self, field):
                raise ValueError(f"the {role} needs CLSP_{role.upper()}_{field.upper()} (or --{option})")
        if self.max_cost and not (self.input_price or self.audio_price or self.output_price):
            prefix = f"CLSP_{role.upper()}"
            raise ValueError(
                f"{prefix}_MAX_COST needs a price, or nothing is ever spent: {prefix}_INPUT_PRICE, _AUDIO_PRICE or "
                "_OUTPUT_PRICE"
            )
        return self
