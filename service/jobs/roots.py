"""The only folders of the server that jobs may read, and how they are read: no path and no link leads out of them.

Every component below a root is opened relative to the one before and never through a symbolic link, so there is no
moment between a check and its use in which somebody could swap one for the other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from service.core.manifest import is_clutter
from service.jobs.errors import SourceError

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking, because opening a pipe would wait for somebody to write to it.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
MAX_DEPTH: Final = 64


@dataclass(frozen=True)
class Place:
    """Something below a root: the root's name, and the components from there. No component is "", "." or ".."."""

    root: str
    parts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join((self.root, *self.parts))

    def below(self, name: str) -> Place:
        """What a relative path means here. Raises SourceError where it leads out of the root."""
        parts = list(self.parts)
        for part in PurePosixPath(_clean(name)).parts:
            if part == "/":
                raise SourceError(f"{name!r} is an absolute path; write it relative")
            if part != "..":
                parts.append(part)
            elif parts:
                parts.pop()
            else:
                raise SourceError(f"{name!r} leads out of the root {self.root!r}")
        return Place(self.root, tuple(parts))


@dataclass(frozen=True)
class Found:
    """An entry of a folder: a file, or a name that is there and must not be read, with the reason."""

    place: Place
    refused: str | None = None


class Roots:
    """Named folders. Paths are written `name/sub/folder`; blocking, for use in threads."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)

    @property
    def names(self) -> list[str]:
        """The roots' names."""
        return sorted(self._folders)

    def place(self, path: str) -> Place:
        """What a caller's path names; nothing is looked at. Raises SourceError."""
        first, *rest = PurePosixPath(_clean(path)).parts or ("",)
        if first not in self._folders:
            known = ", ".join(self.names)
            raise SourceError(f"{path!r} does not begin with the name of a root; there are: {known}")
        return Place(first).below("/".join(rest))

    def is_folder(self, place: Place) -> bool:
        """Whether it is a folder. Raises SourceError where there is nothing, or no regular file."""
        try:
            with self._opened(place, _DIRECTORY):
                return True
        except SourceError:
            with self.open(place):
                return False

    def open(self, place: Place) -> IO[bytes]:
        """A regular file, for reading. Raises SourceError."""
        descriptor = self._open(place, _FILE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SourceError(f"{place} is not a file")
        return os.fdopen(descriptor, "rb")

    def read(self, place: Place, *, most: int) -> bytes:
        """A file's bytes; one more than `most` where it is longer, which is for the caller to refuse."""
        with self.open(place) as file:
            return file.read(most + 1)

    def walk(self, place: Place, wanted: Callable[[str], bool]) -> Iterator[Found]:
        """Files below a folder whose names are `wanted`, by name, without clutter; links are found, never followed.

        Raises SourceError where the folder itself cannot be read; one further down is refused by name.
        """
        with self._opened(place, _DIRECTORY) as folder, os.scandir(folder.descriptor) as listed:
            entries = sorted((one.name, one.is_symlink(), one.is_dir(follow_symlinks=False)) for one in listed)
        for name, is_link, is_folder in entries:
            here = Place(place.root, (*place.parts, name))
            if is_clutter(name) or not (is_folder or wanted(name)):
                continue
            if not _is_text(name):
                yield Found(Place(place.root, (*place.parts, repr(name))), "its name is not valid UTF-8")
            elif is_link:
                yield Found(here, "a link, which is never followed")
            elif not is_folder:
                yield Found(here)
            elif len(here.parts) > MAX_DEPTH:
                yield Found(here, f"it is more than {MAX_DEPTH} folders deep")
            else:
                try:
                    yield from self.walk(here, wanted)
                except SourceError as error:
                    yield Found(here, str(error))

    def _opened(self, place: Place, flags: int) -> _Descriptor:
        return _Descriptor(self._open(place, flags))

    def _open(self, place: Place, flags: int) -> int:
        """A descriptor of the last component, reached from the root step by step."""
        steps: Sequence[str] = place.parts
        try:
            descriptor = os.open(self._folders[place.root], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for number, name in enumerate(steps, 1):
                with _Descriptor(descriptor):
                    descriptor = os.open(name, flags if number == len(steps) else _DIRECTORY, dir_fd=descriptor)
        except (OSError, ValueError) as error:
            link = getattr(error, "errno", None) == errno.ELOOP
            reason = "a link, which is never followed" if link else getattr(error, "strerror", None) or str(error)
            raise SourceError(f"{place} cannot be read: {reason}") from error
        except KeyError:
            raise SourceError(f"{place.root!r} is not the name of a root") from None
        return descriptor


class _Descriptor:
    """A file descriptor that is closed at the end of a block."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> _Descriptor:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _clean(path: str) -> str:
    if "\0" in path or not _is_text(path):
        raise SourceError("the path holds characters that no path has")
    return path


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
