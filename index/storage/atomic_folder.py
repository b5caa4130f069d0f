"""Folders that are made whole or not at all: beside a name that is free, or inside an empty folder that is there.

A mount point cannot be replaced by a folder made beside it, nor may its neighbours always be written; so what is made
for a folder that exists is made in `.partial` within it and moved up, the entry that makes it a whole one at the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from index.errors import StorageFailed
from index.storage.durable_files import fsync_folder, fsync_tree

PARTIAL = ".partial"
# In it: what is about to be moved up, so that a later attempt knows what one that was killed has left.
_MOVING = "moving.json"
# File systems put it into their own root; nobody calls such a disk anything but empty.
_OF_THE_DISK = frozenset({"lost+found"})


def whole_folder(target: Path, last: str) -> AbstractContextManager[Path]:
    """A folder to fill: `target` holds its entries once the block ended well and all is on the disk, else nothing.

    Args:
        target: missing, or empty but for what an attempt that was killed has left, which is removed.
        last: the entry that is moved up after all others where `target` is there: without it, it is not whole.

    Raises:
        StorageFailed: something is at `target`.
        OSError: the disk refused.
    """
    if not target.exists():
        return _beside(target)
    if not target.is_dir() or _names_in(target) - _OF_THE_DISK - set(_left_in(target, last)):
        raise StorageFailed(f"{target} already exists; give the name of a folder that does not, or of an empty one")
    return _inside(target, last)


def check_whole(folder: Path, last: str) -> None:
    """Raise StorageFailed where filling `folder` began and never ended."""
    if (folder / PARTIAL).is_dir() and not (folder / last).exists():
        raise StorageFailed(f"{folder} holds a part of a restored backup; restore it again, or empty the folder")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        fsync_tree(partial)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    fsync_folder(target.parent)


@contextmanager
def _inside(target: Path, last: str) -> Iterator[Path]:
    partial = target / PARTIAL
    _remove(target, _left_in(target, last))
    names: list[str] = []
    try:
        partial.mkdir()
        yield partial
        # Folders before files: a catalog whose audio has not come yet would be taken for a damaged one.
        names = sorted(_names_in(partial), key=lambda name: (name == last, not (partial / name).is_dir(), name))
        (partial / _MOVING).write_text(json.dumps(names), "utf-8")
        fsync_tree(partial)
        for name in names:
            if name == last:
                fsync_folder(target)
            (partial / name).rename(target / name)
        fsync_folder(target)
    except BaseException:
        _remove(target, [*reversed(names), PARTIAL])
        raise
    shutil.rmtree(partial, ignore_errors=True)


def _names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def _left_in(target: Path, last: str) -> list[str]:
    """What an attempt that was killed has left in a folder, in the order in which it can be removed."""
    if not (target / PARTIAL).is_dir() or (target / last).exists():
        return []
    try:
        moving = json.loads((target / PARTIAL / _MOVING).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        moving = []
    return [*reversed(moving), PARTIAL]


def _remove(target: Path, names: Sequence[str]) -> None:
    for name in names:
        entry = target / name
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
