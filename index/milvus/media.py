"""Original audio beside Milvus: files in a folder that all replicas share, one file an item version.

A file belongs to one version and is never shared between items, so that replicas need not agree before removing one.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from index.local.database import storage_errors
from index.storage.durable_files import fsync_folder


class SharedMedia:
    """`folder/<collection>/<name>`, whole and synced before anything refers to it."""

    def __init__(self, folder: Path) -> None:
        """Make the folder. Raises StorageFailed."""
        self._folder = folder
        with storage_errors():
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, home: str, name: str) -> Path:
        return self._folder / home / name

    def keep(self, home: str, name: str, data: bytes) -> None:
        """Write a file, durably. Raises StorageFailed."""
        with storage_errors():
            target = self.path(home, name)
            target.parent.mkdir(exist_ok=True)
            unfinished = target.with_name(f".{name}.{uuid.uuid4().hex}")
            try:
                with unfinished.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
            fsync_folder(target.parent)

    def remove(self, home: str, names: Iterable[str]) -> None:
        """Remove files that nothing refers to any more; what cannot be removed only takes room."""
        for name in names:
            with suppress(OSError):
                self.path(home, name).unlink(missing_ok=True)

    def remove_all(self, home: str) -> None:
        """Remove what a deleted collection kept."""
        shutil.rmtree(self._folder / home, ignore_errors=True)
