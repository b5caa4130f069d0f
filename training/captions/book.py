"""The prompts, read from files: what is asked can be changed without touching code, and its hash keys the ledger."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROMPTS = Path(__file__).parent / "prompt_files"
_FIELD = re.compile(r"\{\{(\w+)\}\}")


class PromptError(ValueError):
    """A prompt file cannot be used; the message names the file and the fault."""


@dataclass(frozen=True)
class Prompt:
    """A system text and a user text, with `{{fields}}` to fill in."""

    name: str
    system: str
    user: str

    @classmethod
    def load(cls, name: str, folder: Path | None = None) -> Prompt:
        """`name`.md of `folder`, or of ours where it has none. Raises PromptError for a folder without any prompt."""
        known = sorted(file.name for file in PROMPTS.glob("*.md"))
        if folder is not None and not any((folder / file).exists() for file in known):
            raise PromptError(f"{folder} holds none of {', '.join(known)}")
        own = (folder or PROMPTS) / f"{name}.md"
        return _read(own if own.exists() else PROMPTS / f"{name}.md")

    def fill(self, **fields: str) -> Prompt:
        """With its fields filled in. Raises PromptError for a field that is not given."""

        def put(match: re.Match[str]) -> str:
            if match[1] not in fields:
                raise PromptError(f"{self.name}: nothing to put for {{{{{match[1]}}}}}")
            return fields[match[1]]

        # Blank lines that an empty field leaves behind go.
        user = re.sub(r"\n{3,}", "\n\n", _FIELD.sub(put, self.user)).strip()
        return Prompt(self.name, _FIELD.sub(put, self.system), user)

    def hash(self, *more: object) -> str:
        """sha256 hex over both texts and whatever else decides the answer."""
        told = "\x1f".join([self.system, self.user, *map(str, more)])
        return hashlib.sha256(told.encode()).hexdigest()


@cache
def _read(path: Path) -> Prompt:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PromptError(f"{path}: {error.strerror or error}") from error
    match = re.fullmatch(r"\s*# system\n(.*?)\n# user\n(.*)", text, re.DOTALL)
    if match is None:
        raise PromptError(f"{path}: a prompt has a part under '# system' and one under '# user'")
    return Prompt(path.stem, match[1].strip(), match[2].strip())
