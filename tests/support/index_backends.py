"""Both backends of the index behind one call, so that the tests of the interface run on each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index.backend import Store
from index.local.store import LocalStore
from index.milvus.connection import MilvusSettings
from index.milvus.index import MilvusStore
from index.types import NewItem
from tests.support.index_oracle import clip
from tests.support.milvus import RUN

BACKENDS = ["local", "milvus"]


@dataclass(frozen=True)
class Backend:
    """Opens stores of one kind: the same data for the same folder."""

    kind: str
    uri: str = ""
    run: str = RUN

    def open(self, folder: Path, *, keep_media: bool = True, **options: Any) -> Store:
        """A store on the folder; Milvus keeps all but the media elsewhere, under a name that the folder gives."""
        if self.kind == "local":
            return LocalStore(folder, keep_media=keep_media)
        prefix = self.run + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        settings = MilvusSettings(uri=self.uri, prefix=prefix, index_type="FLAT", **options)
        return MilvusStore(settings, media=folder / "media" if keep_media else None)


def group(number: int, size: int = 4) -> list[NewItem]:
    """Items that only make sense together: all of one vector and one number."""
    return [clip(f"i{i}", [number] * (1 + number % 3), 16, {"number": number}) for i in range(size)]
