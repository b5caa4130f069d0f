"""Whole files: copied or linked, checked by checksum, and on the disk before anything says so."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHUNK = 4 << 20


def checksums(path: Path) -> list[int]:
    """One checksum every 4 MiB, so that several cores can work at it."""

    def one(start: int) -> int:
        with path.open("rb") as file:
            file.seek(start)
            return zlib.crc32(file.read(CHUNK))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, range(0, path.stat().st_size, CHUNK)))


def sha256_of(path: Path) -> str:
    """Hex digits over the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_file(path: Path) -> None:
    """Make the file's bytes survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Make names created or changed in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make every file and name below the folder survive a power cut."""
    for path, _, names in os.walk(folder):
        for name in names:
            fsync_file(Path(path, name))
        fsync_folder(Path(path))


def link_or_copy(source: Path, target: Path) -> None:
    """Give an immutable file a second name, or on another file system a second copy. Raises FileNotFoundError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
