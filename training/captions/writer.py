"""Attributes of a clip to many varied English captions, each of which can say which claims it makes.

Everything a caption states was measured or labelled. The same facts and seed always give the same captions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from training.captions import lexicon
from training.captions.attributes import extremity
from training.captions.lexicon import join, sentence, with_article
from training.captions.profiles import PREFIX, fitting, profile_facts, profiles
from training.captions.prompts import CHILD_UNDER, MINOR, prompts

Kind = Literal["global", "fine", "prompt", "hedged", "burst", "listener", "query"]

NOUNS: dict[str | None, list[str]] = {
    "male": ["man", "male speaker", "male voice", "guy", "gentleman", "man's voice", "male talker"],
    "female": ["woman", "female speaker", "female voice", "lady", "woman's voice", "female talker"],
    None: ["speaker", "person", "voice", "talker", "individual"],
}
YOUNG: dict[str | None, list[str]] = {
    "male": ["boy", "young boy", "little boy"],
    "female": ["little girl", "small girl", "young girl"],
    None: ["child", "kid", "young child", "child speaker"],
}
PRONOUN: dict[str | None, list[str]] = {
    "male": ["he", "the man"],
    "female": ["she", "the woman"],
    None: ["the speaker"],
}
VERBS = ["speaking", "talking", "speaking", "talking away"]
HEDGED = 2  # captions for each profile that a clip fits
ORDER = ("phonation", "pitch", "rate", "effort", "expressiveness", "brightness", "dynamics", "pauses")


@dataclass(frozen=True)
class Facts:
    """What is known of a clip. `first`, `second` and `change` describe a style that changes half-way."""

    attributes: Mapping[str, str]
    gender: str | None = None
    age: int | None = None
    emotion: str | None = None
    accent: str | None = None
    first: Mapping[str, str] = field(default_factory=dict)
    second: Mapping[str, str] = field(default_factory=dict)
    change: Mapping[str, str] = field(default_factory=dict)
    minor: str | None = None  # a child's sex


@dataclass(frozen=True)
class Caption:
    """One caption. `claims` maps what it states (`pitch`, `first.rate`, `change.effort`, `gender`) to the value."""

    text: str
    kind: Kind
    claims: dict[str, str]


def write(facts: Facts, *, seed: str, short: int = 3, fine: int = 3) -> list[Caption]:
    """Up to `short` global and `fine` fine-grained captions, known labels' prompts, two hedged a fitting profile."""
    rng = random.Random(seed)
    found: dict[str, Caption] = {}
    for kind, count in (("global", short), ("fine", fine)):
        for _ in range(count * 3):
            if sum(c.kind == kind for c in found.values()) >= count:
                break
            made = _Writer(facts, rng).short() if kind == "global" else _Writer(facts, rng).fine()
            if made is not None:
                found.setdefault(made.text, made)
    for text, claims in prompts(facts.gender, facts.age, facts.emotion, rng, facts.minor):
        found.setdefault(text, Caption(text, "prompt", claims))
    whole = {a: v for a, v in facts.attributes.items() if a not in facts.change}
    for profile in fitting(profile_facts(whole, facts.emotion)):
        for _ in range(HEDGED):
            hedged = _Writer(facts, rng).hedged(profile)
            found.setdefault(hedged.text, hedged)
    return list(found.values())


class _Writer:
    """State of one caption while it is written: what it has claimed, and so should not repeat."""

    def __init__(self, facts: Facts, rng: random.Random) -> None:
        self.facts = facts
        self.rng = rng
        self.claims: dict[str, str] = {}
        # A whole-clip average is no truth about a clip that changes: those attributes are told half by half.
        self.stable = {a: v for a, v in facts.attributes.items() if a not in facts.change and a in ORDER}

    def short(self) -> Caption | None:
        rng = self.rng
        names = self._pick(rng.choice((1, 2, 2, 3)))
        adjectives = [n for n in names if rng.random() < 0.5]
        rest = [n for n in names if n not in adjectives]
        feeling = self._emotion("adj") if self.facts.emotion and (not names or rng.random() < 0.7) else None
        if not (names or feeling or self.facts.change):
            return None
        noun = self._noun()
        frame = rng.randrange(5)
        words = [*([feeling] if feeling else []), *(self._say(n, "adj") for n in adjectives)]
        if frame == 0 and names:  # tags
            rng.shuffle(words)
            text = ", ".join([*words, *(self._bare(n) for n in rest), noun])
            return self._done(text if rng.random() < 0.5 else sentence(text), "global")
        if frame == 1 and words and not rest:
            return self._done(sentence(f"{self._the(noun)} {rng.choice(['sounds', 'is'])} {join(words)}"), "global")
        head = " ".join(filter(None, [", ".join(words), noun]))
        if frame == 2 and rest:
            text = f"{with_article(head)} with {join(self._say(n, 'np') for n in rest)}"
        elif rest:
            verb = rng.choice(["speaks", "talks", *VERBS])
            text = f"{with_article(head)} {verb} {join(self._say(n, 'adv') for n in rest)}"
        else:
            text = with_article(head) if rng.random() < 0.4 else f"{with_article(head)} {rng.choice(VERBS)}"
        if self.facts.change and (not (names or feeling) or rng.random() < 0.7):
            text += f", and {self._changing()}"
        elif rng.random() < 0.1:
            text = f"{rng.choice(['this is', 'we hear', 'here is', 'listen to'])} {text}"
        return self._done(sentence(text), "global")

    def fine(self) -> Caption | None:
        rng = self.rng
        names = self._pick(rng.choice((3, 4, 5, 6)))
        if len(names) + 2 * bool(self.facts.change) < 2:
            return None
        sentences = [self._opening(names)]
        rest = [n for n in names if n not in self.claims]
        if self.facts.change:
            rest, later = rest[: rng.choice((1, 2))], rest[2:]
            sentences += self._clauses(rest)
            sentences += self._over_time()
            rest = later if rng.random() < 0.3 else []
        sentences += self._clauses(rest)
        if self.facts.emotion and ("emotion" not in self.claims or rng.random() < 0.3):
            sentences.append(self._impression())
        return self._done(" ".join(sentences), "fine")

    def hedged(self, profile: str) -> Caption:
        rng = self.rng
        words = rng.choice(profiles()[profile].words)
        noun = self._noun()
        names = self._pick(rng.choice((0, 0, 1)))
        tail = f", {rng.choice(VERBS[:2])} {join(self._say(n, 'adv') for n in names)}" if names else ""
        text = rng.choice(
            [
                f"{with_article(noun)} sounding {words}{tail}",
                f"{with_article(noun)} who may be {words}{tail}",
                f"{with_article(noun)} who seems {words}{tail}",
                f"{self._the(noun)} comes across as {words}{tail}",
                f"{with_article(noun)} in what may be {with_article(words)} tone{tail}",
                f"{with_article(noun)} that sounds {words}{tail}",
            ]
        )
        self.claims[PREFIX + profile] = "yes"
        return self._done(sentence(text), "hedged")

    def _opening(self, names: list[str]) -> str:
        rng = self.rng
        lead = [n for n in names if n in ("phonation", "pitch", "rate", "effort", "expressiveness")][
            : rng.choice((1, 2))
        ]
        feeling = self._emotion("adj") if self.facts.emotion and rng.random() < 0.4 else None
        noun = self._noun()
        if rng.random() < 0.5 and lead:
            adjective = self._say(lead[0], "adj")
            head = with_article(" ".join(filter(None, [", ".join(filter(None, [feeling, adjective])), noun])))
            lead = lead[1:]
        else:
            head = with_article(" ".join(filter(None, [feeling, noun])))
        lead_text = [self._emotion("adv")] if self.facts.emotion and not feeling and rng.random() < 0.6 else []
        lead_text += [self._say(n, "adv") for n in lead]
        accent = self._accent()
        verb = rng.choice(["speaks", "is speaking", "talks", "delivers the words", "can be heard speaking"])
        return sentence(" ".join(filter(None, [head, verb, join(lead_text) if lead_text else "", accent])))

    def _clauses(self, names: list[str]) -> list[str]:
        rng = self.rng
        made: list[str] = []
        names = list(names)
        while names:
            take, names = names[: rng.choice((1, 2, 2))], names[2:] if len(names) > 2 else []
            if len(take) == 1 and rng.random() < 0.4:
                pronoun = rng.choice(PRONOUN[self._gender_said()])
                made.append(sentence(f"{pronoun} speaks {self._say(take[0], 'adv')}"))
            elif len(take) == 2 and rng.random() < 0.35:
                made.append(sentence(f"{self._say(take[0], 'clause')}, with {self._say(take[1], 'np')}"))
            else:
                link = rng.choice([" and ", ", and ", "; ", ", while "])
                made.append(sentence(link.join(self._say(n, "clause") for n in take)))
        return made

    def _over_time(self) -> list[str]:
        rng = self.rng
        start = [self._part("first", n) for n in self._told("first")]
        middle = [self._change(n) for n in rng.sample(sorted(self.facts.change), min(2, len(self.facts.change)))]
        end = [self._part("second", n) for n in self._told("second")]
        opener = rng.choice(["At first,", "To begin with,", "In the beginning,", "Initially,", "In the first half,"])
        turn = rng.choice(
            ["Then", "Half-way through,", "After that,", "In the middle of the clip,", "Later on,", "Partway in,"]
        )
        close = rng.choice(["By the end,", "Towards the end,", "In the second half,", "From there on,", "Finally,"])
        made = [f"{opener} {join(start)}."] if start else []
        made.append(f"{turn} {join(middle)}.")
        if end and rng.random() < 0.7:
            made.append(f"{close} {join(end)}.")
        else:
            self.claims = {k: v for k, v in self.claims.items() if not k.startswith("second.")}
        return made

    def _told(self, part: str) -> list[str]:
        values = self.facts.first if part == "first" else self.facts.second
        return [n for n in ORDER if n in self.facts.change and n in values][:2]

    def _part(self, part: str, name: str) -> str:
        value = (self.facts.first if part == "first" else self.facts.second)[name]
        self.claims[f"{part}.{name}"] = value
        return self.rng.choice(lexicon.attribute_words()[name][value]["clause"])

    def _change(self, name: str) -> str:
        direction = self.facts.change[name]
        self.claims[f"change.{name}"] = direction
        return self.rng.choice(lexicon.change_words()[name][direction])

    def _changing(self) -> str:
        change = self._change(self.rng.choice(sorted(self.facts.change)))
        return f"{self.rng.choice(['then', 'half-way through', 'later', 'towards the end'])} {change}"

    def _impression(self) -> str:
        noun, adjective = self._emotion("noun"), self._emotion("adj")
        options = [
            f"The overall tone conveys {noun}",
            f"The voice is full of {noun}",
            f"{noun} colours the delivery",
            f"The speaker sounds {adjective}",
            f"{self.rng.choice(PRONOUN[self._gender_said()])} sounds {adjective}",
        ]
        return sentence(self.rng.choice(options))

    def _pick(self, count: int) -> list[str]:
        """Attributes to mention: what stands out comes more often, in an order of its own."""
        pool = {n: extremity(v) + 0.15 for n, v in self.stable.items() if v in lexicon.attribute_words()[n]}
        chosen: list[str] = []
        while pool and len(chosen) < count:
            name = self.rng.choices(list(pool), weights=list(pool.values()))[0]
            chosen.append(name)
            del pool[name]
        return chosen

    def _say(self, name: str, form: str) -> str:
        value = self.stable[name]
        self.claims[name] = value
        return self.rng.choice(lexicon.attribute_words()[name][value][form])

    def _bare(self, name: str) -> str:
        phrase = self._say(name, "np")
        return phrase.split(" ", 1)[1] if phrase.startswith(("a ", "an ")) else phrase

    def _emotion(self, form: str) -> str:
        assert self.facts.emotion is not None
        self.claims["emotion"] = self.facts.emotion
        return self.rng.choice(lexicon.emotion_words()[self.facts.emotion][form])

    def _noun(self) -> str:
        if self.facts.age is not None and self.facts.age < CHILD_UNDER and self.rng.random() < 0.8:
            self.claims["child"] = "yes"
            own = self.facts.minor if self.rng.random() < 0.5 else None
            if own is not None:
                self.claims[MINOR] = own
            return self.rng.choice(YOUNG[own])
        if self.facts.gender is None or self.rng.random() < 0.2:
            return self.rng.choice(NOUNS[None])
        self.claims["gender"] = self.facts.gender
        return self.rng.choice(NOUNS[self.facts.gender])

    def _gender_said(self) -> str | None:
        return self.claims.get("gender")

    def _the(self, noun: str) -> str:
        return with_article(noun) if self.rng.random() < 0.5 else f"the {noun}"

    def _accent(self) -> str:
        accent = self.facts.accent
        if accent is None or self.rng.random() > 0.3:
            return ""
        self.claims["accent"] = accent
        return f"with {with_article(accent)} accent"

    def _done(self, text: str, kind: Kind) -> Caption:
        return Caption(text, kind, dict(self.claims))
