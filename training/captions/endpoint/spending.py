"""What a model's answers have cost, counted over all pools that share the account, and held against the budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from training.captions.endpoint.answers import Answer, Usage
from training.captions.endpoint.errors import EndpointStoppedError
from training.captions.endpoint.settings import EndpointSettings

CHARACTERS = 4  # of English a token, about
WAV_BYTES_PER_S = 32_000  # 16 kHz, mono, 16 bits: how clips are sent


class Spending:
    """One account of one model. It may outlive a pool: a budget is meant for all that a start of a command asks."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self.usage = Usage()
        self.estimated = False  # whether some of it had to be guessed

    @property
    def cost(self) -> float:
        """What the answers so far cost, by the prices of the settings."""
        used = self.usage
        return price(self._settings, used.text_in, used.audio_in, used.out)

    def add(self, answer: Answer, messages: Sequence[Mapping[str, Any]]) -> None:
        """Charges an answer to these messages, by a guess where the endpoint does not tell its tokens."""
        told, guess = answer.usage, guessed(answer, messages, self._settings)
        text, audio = told.text_in, told.audio_in
        if not text and not audio:
            text, audio = guess.text_in, guess.audio_in
        elif not audio:
            # Many endpoints count audio among the prompt's tokens and do not say how many of them it is.
            audio = min(text, guess.audio_in)
            text -= audio
        self.estimated |= not (told.text_in or told.audio_in) or not told.out
        self.usage += Usage(text, audio, told.out or guess.out)

    def exceeded(self) -> EndpointStoppedError | None:
        """Why nothing more may be asked; None while there is money left."""
        budget = self._settings.max_cost
        if not budget or self.cost < budget:
            return None
        how = "; tokens that the endpoint did not tell are estimated" if self.estimated else ""
        return EndpointStoppedError(
            f"the budget of {budget:g} for one start is spent ({self.cost:.4f}{how}); another start has it anew"
        )


def price(settings: EndpointSettings, text_in: float, audio_in: float, out: float) -> float:
    """What so many tokens cost; the settings' prices are of a million."""
    return (text_in * settings.input_price + audio_in * settings.audio_price + out * settings.output_price) / 1e6


def guessed(answer: Answer, messages: Sequence[Mapping[str, Any]], settings: EndpointSettings) -> Usage:
    """About the tokens of a question and its answer, on the dear side: thoughts are billed and not seen."""
    text = audio = 0.0
    for part in _parts(messages):
        if isinstance(part, str):
            text += len(part) / CHARACTERS
        elif "text" in part:
            text += len(part["text"]) / CHARACTERS
        else:
            sent = part["input_audio"]["data"] if "input_audio" in part else part["audio_url"]["url"]
            audio += len(sent) * 3 / 4 / WAV_BYTES_PER_S * settings.audio_tokens_per_s
    out = max(settings.answer_tokens, len(answer.text) / CHARACTERS)
    return Usage(round(text), round(audio), round(out))


def _parts(messages: Sequence[Mapping[str, Any]]) -> Iterable[Any]:
    for message in messages:
        content = message["content"]
        yield from [content] if isinstance(content, str) else content
