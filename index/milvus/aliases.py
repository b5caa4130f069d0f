"""Names of collections, and where in Milvus they live: a name is an alias, which Milvus gives to one at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from index.errors import CollectionNotFound, StorageFailed
from index.milvus.connection import Link
from index.milvus.media import SharedMedia
from index.milvus.reads import Home
from index.milvus.transaction_log import Log
from index.validate import is_collection_name


class Homes:
    """Finds, makes and removes collections. What a collection is never changes, so it is asked for once."""

    def __init__(self, link: Link, log: Log, media: SharedMedia | None, prefix: str) -> None:
        self._link, self._log, self._media, self._prefix = link, log, media, prefix
        self._known: dict[str, Home] = {}

    def there(self, name: str) -> bool:
        """Whether a collection has this name."""
        return self._link.resolve(self._alias(name)) is not None

    def remove(self, name: str, home: Home) -> None:
        """Delete a collection with all it holds: first its name, so that nobody finds it half there."""
        self._link.unname(self._alias(name))
        self._erase(home.name)

    def find(self, name: str) -> Home:
        """Where the collection of this name lives now. Raises CollectionNotFound."""
        found = self._link.resolve(self._alias(name)) if is_collection_name(name) else None
        if found is None:
            raise CollectionNotFound(name)
        if found not in self._known:
            facts = self._log.facts(found)
            if facts is None:
                raise CollectionNotFound(name)
            self._known[found] = Home(found, facts["dim"], facts["identity"])
        return self._known[found]

    def make(self, facts: dict[str, Any]) -> bool:
        """Make a collection, then give it its name; False if another replica was first."""
        home = f"{self._prefix}_c_{uuid.uuid4().hex}"
        self._log.set_facts(home, facts)
        self._link.create_segments(home, facts["dim"])
        if self._link.name(home, self._alias(facts["name"])):
            return True
        self._erase(home)
        return False

    def _erase(self, home: str) -> None:
        self._link.drop(home)
        self._log.erase(home)
        if self._media is not None:
            self._media.remove_all(home)
        self._known.pop(home, None)

    def forget_if_gone(self, home: str) -> bool:
        """A change of a collection that was deleted meanwhile leaves a row in the log, and maybe a file."""
        if home in self._link.collections():
            return False
        self._log.erase(home)
        if self._media is not None:
            self._media.remove_all(home)
        return True

    def _alias(self, name: str) -> str:
        return f"{self._prefix}_n_{name.encode().hex()}"

    @contextmanager
    def still(self, name: str, home: Home) -> Iterator[None]:
        """A failure because the collection was deleted meanwhile is CollectionNotFound."""
        try:
            yield
        except StorageFailed as error:
            if self._link.resolve(self._alias(name)) != home.name:
                raise CollectionNotFound(name) from error
            raise
