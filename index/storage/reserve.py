"""Room kept free on the disk for deletes: on a full one even they need a little, and nothing else makes room."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from index.errors import StorageFull

_MOST_BYTES: Final = 8 * 1024 * 1024
_LEAST_BYTES: Final = 256 * 1024
_FIRST_SHARE, _LATER_SHARE = 16, 2
"""Of the free space, at most one part in so many: a small disk is not taken up by what is kept for its end."""


class Reserve:
    """A file of up to 8 MiB that is given up when a delete finds no room, and taken again when there is some."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._take(_FIRST_SHARE)

    def _take(self, share: int) -> None:
        """Allocate the file unless it is there; a disk that has no room for it is left as it is."""
        with suppress(OSError):
            if self._path.exists():
                return
            size = min(_MOST_BYTES, shutil.disk_usage(self._path.parent).free // share)
            if size < _LEAST_BYTES:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, size)
                else:
                    os.write(descriptor, bytes(size))
            except OSError:
                self._path.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)

    def for_delete(self, delete: Callable[[], None]) -> None:
        """Delete; where the disk is full, once more with the reserve given up. Raises what `delete` does."""
        try:
            delete()
        except StorageFull:
            with self._lock:
                if not self._path.exists():
                    raise
                self._path.unlink()
                delete()
        self._take(_LATER_SHARE)
