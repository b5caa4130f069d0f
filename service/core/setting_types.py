"""Settings that have parts: a caller's key, and a folder that jobs may read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scope = Literal["read", "write"]
_ROOT_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"
_KEY = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,64}):(?P<scopes>[a-z]+(?:\+[a-z]+)*):(?P<digest>[0-9a-f]{64})")


class ApiKey(BaseModel):
    """One caller's key at rest: who, what they may do, and the hex SHA-256 of the secret, never the secret."""

    model_config = ConfigDict(frozen=True)

    name: str
    scopes: frozenset[Scope]
    sha256: str

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _KEY.fullmatch(value.strip())
        if match is None:
            raise ValueError("an API key is written name:scope[+scope]:sha256hex, with scopes read and write")
        return {"name": match["name"], "scopes": match["scopes"].split("+"), "sha256": match["digest"]}


class IngestRoot(BaseModel):
    """A folder of the server that jobs may read, and the name that stands for it in paths."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=_ROOT_NAME)
    path: Path

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if not isinstance(value, str | Path):
            return value
        name, equals, path = str(value).partition("=")
        return {"name": name, "path": path} if equals else {"name": Path(value).name, "path": value}
