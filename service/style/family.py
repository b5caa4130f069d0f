"""What a question about a voice is: its answers, the words that claim them, and the sentences that ask for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """One answer. `words` are regular expressions for the texts that claim it; `predicates` follow a subject."""

    name: str
    words: tuple[str, ...]
    predicates: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One question about a voice. After `elsewhere`, a regular expression, its words are about something else."""

    name: str
    values: tuple[Value, ...]
    elsewhere: str = ""

    def value(self, name: str) -> Value:
        """A value by name. Raises KeyError."""
        return next(value for value in self.values if value.name == name)
