"""Tables as spreadsheets save them: which encoding, and what stands between two cells."""

from __future__ import annotations

import codecs
from pathlib import Path

_SEPARATORS = (",", ";", "\t", "|")


class SourceError(ValueError):
    """A set cannot be read; the message names the file and the line."""


def decode_table(data: bytes, source: Path) -> str:
    """The text of a table: UTF-8, UTF-16 with its mark ("Unicode text"), or cp1252, which Excel writes in the West.

    cp1252 is what is tried when it is not UTF-8, since UTF-8 is never met by chance. Raises SourceError.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        tried = ["utf-16"]
    elif b"\0" in data[:200]:
        raise SourceError(f"{source}: not a table: it holds NUL bytes; save it as CSV (UTF-8)")
    else:
        tried = ["utf-8-sig", "cp1252"]
    for encoding in tried:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise SourceError(f"{source}: neither UTF-8, UTF-16 nor cp1252; save it as CSV (UTF-8)")


def separator_of(text: str, usual: str) -> str:
    """What separates the names in the header: the usual, unless only another is there (Europe's semicolons)."""
    header = text.lstrip().split("\n", 1)[0]
    found = max(_SEPARATORS, key=header.count)
    return usual if usual in header or not header.count(found) else found
