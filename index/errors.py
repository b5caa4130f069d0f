"""Every error this room raises, in one hierarchy, so that a caller can map each to its own answer."""

# The names say what happened, as callers read them in `except`; an Error suffix would add nothing.
# ruff: noqa: N818

from __future__ import annotations

from collections.abc import Sequence


class IndexingError(Exception):
    """Base of all errors of the index."""


class CollectionNotFound(IndexingError):
    """No collection has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"collection {name!r} does not exist")
        self.name = name


class CollectionExists(IndexingError):
    """The name is taken by a collection that another backend or process made in between."""

    def __init__(self, name: str) -> None:
        super().__init__(f"collection {name!r} already exists")
        self.name = name


class ItemNotFound(IndexingError):
    """The collection holds no item of this id."""

    def __init__(self, collection: str, item_id: str) -> None:
        super().__init__(f"collection {collection!r} has no item {item_id!r}")
        self.collection = collection
        self.item_id = item_id


class MediaNotKept(IndexingError):
    """The item is there, but its original audio was not kept."""

    def __init__(self, collection: str, item_id: str) -> None:
        super().__init__(f"the audio of item {item_id!r} in collection {collection!r} was not kept")
        self.collection = collection
        self.item_id = item_id


class IdentityMismatch(IndexingError):
    """The vectors come from another embedding identity than the collection's: their cosines would mean nothing."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"the collection is bound to embedding identity {expected!r}, not {got!r}")
        self.expected = expected
        self.got = got


class DimensionMismatch(IndexingError):
    """A vector has another number of dimensions than the collection."""

    def __init__(self, expected: int, got: int, field: str = "vector") -> None:
        super().__init__(f"{field}: expected {expected} dimensions, got {got}")
        self.expected = expected
        self.got = got
        self.field = field


class InvalidInput(IndexingError):
    """A value that may not be stored or searched for; `field` says which, `limit` the bound where there is one."""

    def __init__(self, field: str, message: str, limit: float | None = None) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
        self.limit = limit


class MetadataTooLarge(InvalidInput):
    """An item's metadata takes more bytes as JSON than the store allows."""


class InvalidName(InvalidInput):
    """A collection's name or an item's id that could not be addressed later."""


class InvalidCursor(IndexingError):
    """The page cursor was not issued by this collection's listing."""


class FilterError(IndexingError):
    """The filter is not of the filter language; `field` is the path of the part at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class UnknownField(IndexingError):
    """The filter names a metadata field that no item of the collection has."""

    def __init__(self, field: str, known: Sequence[str]) -> None:
        names = ", ".join(repr(name) for name in known) or "none"
        super().__init__(f"no item has the metadata field {field!r}; known fields: {names}")
        self.field = field
        self.known = list(known)


class StoreLocked(IndexingError):
    """Another process (or another store in this one) owns the data folder."""


class StoreClosed(IndexingError):
    """The store was closed and serves no more calls."""


class StorageFailed(IndexingError):
    """The disk refused (full, read-only, damaged): nothing of the call was stored."""


class StorageFull(StorageFailed):
    """There is no room: nothing of the call was stored, and trying again helps only after something was deleted."""


class BuildFailed(IndexingError):
    """An index could not be built; the one in use goes on serving."""

    def __init__(self, how: str, complaint: str = "") -> None:
        super().__init__(f"the index build {how}" + (f": {complaint.strip()}" if complaint.strip() else ""))
