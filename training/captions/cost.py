"""What a run will ask for, take and cost, told before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import soundfile

from training.captions.annotator import Kind
from training.captions.book import Prompt
from training.captions.endpoint import EndpointSettings
from training.captions.endpoint.spending import CHARACTERS, price

LOOKED_INTO = 50  # files whose headers are read where the manifest has no durations
UNKNOWN_S = 10.0
PASSING = 0.8  # captions that reach the verifier after the filters: a guess that errs on the dear side
ANSWER_OF_CHECK = 60  # tokens of a verdict or a grade, thoughts left out


@dataclass(frozen=True)
class Estimate:
    """Calls, tokens, seconds and price. Upper bounds: answers that the ledger has are not asked for again."""

    clips: int
    audio_s: float
    calls: int
    text_tokens: float
    audio_tokens: float
    output_tokens: float
    seconds: float
    price: float


def measure_manifest(rows: Iterable[Mapping[str, Any]], max_s: float) -> tuple[int, float]:
    """(clips, seconds of audio that would be heard) of a manifest, in one pass. Clips count up to `max_s`."""
    clips, known, total, looked = 0, 0, 0.0, 0
    for row in rows:
        clips += 1
        duration = row.get("duration_s")
        if duration is None and looked < LOOKED_INTO:
            looked += 1
            try:
                duration = soundfile.info(row["path"]).duration
            except (OSError, RuntimeError, ValueError):
                continue
        if duration is not None:
            known += 1
            total += min(float(duration), max_s)
    mean = total / known if known else min(UNKNOWN_S, max_s)
    return clips, total + mean * (clips - known)


def of_annotation(clips: int, audio_s: float, counts: Mapping[Kind, int], options: EndpointSettings) -> Estimate:
    """Captions by an endpoint: the clip is heard anew for every caption."""
    each = sum(counts.values())
    prompts = sum(_tokens(Prompt.load(kind)) * count for kind, count in counts.items())
    return _estimate(clips, audio_s, clips * each, clips * prompts, audio_s * each, options.answer_tokens, options)


def of_verification(clips: int, counts: Mapping[Kind, int], caption_tokens: int, options: EndpointSettings) -> Estimate:
    """The verifier reads every caption that the filters leave."""
    calls = round(clips * sum(counts.values()) * PASSING)
    text = calls * (_tokens(Prompt.load("verify")) + caption_tokens)
    return _estimate(clips, 0.0, calls, text, 0.0, max(ANSWER_OF_CHECK, options.answer_tokens), options)


def of_judging(clips: int, audio_s: float, grades: int, pairs: int, options: EndpointSettings) -> Estimate:
    """`grades` gradings and `pairs` comparisons of every clip."""
    text = clips * (grades * (_tokens(Prompt.load("judge")) + 120) + pairs * (_tokens(Prompt.load("compare")) + 240))
    each = grades + pairs
    return _estimate(clips, audio_s, clips * each, text, audio_s * each, ANSWER_OF_CHECK, options)


def lines(estimate: Estimate, options: EndpointSettings) -> list[tuple[str, str]]:
    """(name, value) pairs for people."""
    priced = options.input_price or options.audio_price or options.output_price
    return [
        ("clips", f"{estimate.clips:,} ({estimate.audio_s / 3600:.2f} h of audio)"),
        ("requests, at most", f"{estimate.calls:,}"),
        ("tokens in", f"{estimate.text_tokens:,.0f} text, {estimate.audio_tokens:,.0f} audio"),
        ("tokens out", f"{estimate.output_tokens:,.0f}"),
        ("time", f"about {_time(estimate.seconds)} at {options.concurrency} requests at once an endpoint"),
        ("price", f"about {estimate.price:,.2f}" if priced else "unknown: no prices are set"),
    ]


def _estimate(
    clips: int, audio_s: float, calls: int, text: float, heard_s: float, answer: int, options: EndpointSettings
) -> Estimate:
    audio, out = heard_s * options.audio_tokens_per_s, float(calls * answer)
    places = max(1, len(options.base_url))
    seconds = calls * options.answer_s / (options.concurrency * places)
    if options.requests_per_minute:
        seconds = max(seconds, 60 * calls / (options.requests_per_minute * places))
    return Estimate(clips, audio_s, calls, text, audio, out, seconds, price(options, text, audio, out))


def _tokens(prompt: Prompt) -> int:
    return (len(prompt.system) + len(prompt.user)) // CHARACTERS


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
