"""The original audio, one file a content hash: on disk before the catalog refers to it, gone after the last item is."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from index.local.database import storage_errors
from index.storage.durable_files import fsync_folder


@dataclass(frozen=True)
class StagedMedia:
    """Bytes already on the disk under a temporary name."""

    sha256: str
    path: Path


class MediaFolder:
    """Files named by the sha256 of their bytes, so that the same clip in two collections is kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staging = folder / "staging"
        with storage_errors():
            self._staging.mkdir(parents=True, exist_ok=True)
            fsync_folder(folder)

    def path(self, sha256: str) -> Path:
        """Where the media lies, or would lie."""
        return self._folder / sha256[:2] / sha256

    def stage(self, data: bytes) -> StagedMedia:
        """Write and fsync bytes beside the store; slow, needs no lock, refers to nothing yet."""
        with storage_errors():
            path = self._staging / uuid.uuid4().hex
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        return StagedMedia(hashlib.sha256(data).hexdigest(), path)

    def publish(self, staged: StagedMedia) -> None:
        """Give staged bytes their final name, durably. The caller holds the writer's transaction."""
        with storage_errors():
            target = self.path(staged.sha256)
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                fsync_folder(self._folder)
            staged.path.replace(target)
            fsync_folder(target.parent)

    def discard(self, staged: Iterable[StagedMedia]) -> None:
        """Remove what was staged and not published."""
        for one in staged:
            with suppress(OSError):
                one.path.unlink(missing_ok=True)

    def remove(self, sha256: str) -> None:
        """Remove media that no item refers to any more; to lose this removal in a crash only costs a sweep."""
        with suppress(OSError):
            self.path(sha256).unlink(missing_ok=True)

    def sweep(self, in_use: set[str]) -> int:
        """Remove staged leftovers and every file that no item refers to; returns how many."""
        with storage_errors():
            doomed = list(self._staging.iterdir())
            for shard in self._folder.iterdir():
                if shard != self._staging and shard.is_dir():
                    doomed.extend(file for file in shard.iterdir() if file.name not in in_use)
            for file in doomed:
                file.unlink(missing_ok=True)
        return len(doomed)
