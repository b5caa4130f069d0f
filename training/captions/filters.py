"""Deterministic rules for captions: pure functions from a text to the rule that it breaks, with the words that do.

They are the paper's filters (one line, a length band, one speaker, no quotation, no background, no statements of
absence) and those that audio models make necessary: refusals, cut-off answers, preambles, guesses, loops, foreign
scripts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from training.captions import filter_words as words


@dataclass(frozen=True)
class Said:
    """A caption and what the rules may know: `transcript` is what was spoken, where the manifest tells."""

    text: str
    lengths: tuple[int, int]
    finish: str = "stop"
    refused: bool = False
    transcript: str | None = None


@dataclass(frozen=True)
class Fault:
    """A broken rule and the words or number by which it shows."""

    rule: str
    detail: str


Rule = Callable[[Said], str | None]


def empty(said: Said) -> str | None:
    """Nothing was said."""
    return "no text" if not re.search(r"\w", said.text) and not said.refused else None


def refusal(said: Said) -> str | None:
    """The model declined."""
    return (said.text[:80] or "refused") if said.refused else _worded(words.REFUSAL, said.text)


def truncated(said: Said) -> str | None:
    """The answer hit its token limit, or a long caption stops in the middle of a sentence."""
    if said.finish == "length":
        return "the token limit was reached"
    unfinished = said.lengths[1] > 300 and len(said.text) > 100 and said.text[-1:] not in ".!?…)"
    return f"ends in {said.text[-20:]!r}" if unfinished else None


def preamble(said: Said) -> str | None:
    """It speaks of itself or to us instead of describing."""
    return _worded(words.PREAMBLE, said.text)


def one_line(said: Said) -> str | None:
    """One line of plain prose."""
    return "more than one line" if re.search(r"[\r\n\u2028]", said.text) else _found(words.MARKDOWN, said.text)


def script(said: Said) -> str | None:
    """English only."""
    return _found(words.FOREIGN, said.text)


def length(said: Said) -> str | None:
    """Within the band of its kind, in characters."""
    low, high = said.lengths
    return f"{len(said.text)} characters, {low} to {high} are wanted" if not low <= len(said.text) <= high else None


def one_speaker(said: Said) -> str | None:
    """One voice only."""
    return _worded(words.SPEAKERS, said.text)


def quotation(said: Said) -> str | None:
    """No spoken words, neither in quotation marks nor four in a row of what was spoken."""
    found = _found(words.QUOTES, said.text)
    if found or not said.transcript:
        return found
    spoken, told = _words(said.transcript), _words(said.text)
    runs = {tuple(spoken[i : i + 4]) for i in range(len(spoken) - 3)}
    return next((" ".join(told[i : i + 4]) for i in range(len(told) - 3) if tuple(told[i : i + 4]) in runs), None)


def content(said: Said) -> str | None:
    """How it is said, never what."""
    return _worded(words.CONTENT, said.text)


def background(said: Said) -> str | None:
    """The voice, not the room or the recording."""
    return _worded(words.BACKGROUND, said.text)


def absence(said: Said) -> str | None:
    """What is there, never what is missing."""
    return _worded(words.ABSENCE, said.text)


def guess(said: Said) -> str | None:
    """What is heard, no speculation."""
    return _worded(words.GUESS, said.text)


def repetition(said: Said) -> str | None:
    """No loops: three times the same four words, or the same sentence twice."""
    told = _words(said.text)
    runs = Counter(tuple(told[i : i + 4]) for i in range(len(told) - 3))
    worst = max(runs, key=lambda run: runs[run], default=None)
    if worst is not None and runs[worst] >= 3:
        return " ".join(worst)
    sentences = Counter(s.strip().lower() for s in re.split(r"[.!?]", said.text) if len(s.strip()) > 15)
    return next((sentence for sentence, count in sentences.items() if count > 1), None)


# The first that a caption breaks names its fault: from what is no caption at all to matters of style.
RULES: Mapping[str, Rule] = {
    "empty": empty,
    "refusal": refusal,
    "repetition": repetition,
    "truncated": truncated,
    "script": script,
    "preamble": preamble,
    "one_line": one_line,
    "quotation": quotation,
    "content": content,
    "one_speaker": one_speaker,
    "background": background,
    "absence": absence,
    "guess": guess,
    "length": length,
}


def check(said: Said, rules: Sequence[str] = tuple(RULES)) -> Fault | None:
    """The first broken rule in the order of RULES, or None for a caption that may stay."""
    for name in rules:
        detail = RULES[name](said)
        if detail is not None:
            return Fault(name, detail)
    return None


def faults(said: Said) -> list[Fault]:
    """Every broken rule."""
    found = ((name, rule(said)) for name, rule in RULES.items())
    return [Fault(name, detail) for name, detail in found if detail is not None]


def tidy(text: str) -> str:
    """What cannot hurt is mended rather than thrown out: outer quotation marks around the whole, doubled blanks."""
    text = re.sub(r"[ \t\u00a0]+", " ", text.strip())
    if len(text) > 1 and (text[0], text[-1]) in {('"', '"'), ("“", "”")} and not re.search('["“”]', text[1:-1]):
        text = text[1:-1].strip()
    return text


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match.group(0).strip() or match.group(0) if match else None


def _worded(pattern: re.Pattern[str], text: str) -> str | None:
    """The same for patterns of words, in which every apostrophe is one; the detail is as it was written."""
    match = pattern.search(text.translate(words.APOSTROPHES))
    return text[slice(*match.span())].strip() if match else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)*", text.translate(words.APOSTROPHES).lower())
