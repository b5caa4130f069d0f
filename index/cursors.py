"""Page cursors: the last id of a page, opaque to callers so that what is in it can change."""

from __future__ import annotations

import base64
import binascii

from index.errors import InvalidCursor

_VERSION = b"1:"


def encode(last_id: str) -> str:
    """The cursor of the page after the item `last_id`; safe in a URL."""
    return base64.urlsafe_b64encode(_VERSION + last_id.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The id that `encode` was given. Raises InvalidCursor."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        last_id = raw.removeprefix(_VERSION).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor("the cursor is not one of this service") from error
    # What does not encode back to itself was not issued here.
    if not raw.startswith(_VERSION) or not last_id or encode(last_id) != cursor:
        raise InvalidCursor("the cursor is not one of this service")
    return last_id
