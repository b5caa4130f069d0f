"""Audio inside JSON: `data:` URIs (RFC 2397), the only kind of URI that the service opens by itself."""

from __future__ import annotations

import base64
import binascii
import re

from service.audio.limits import AudioError

# The media type is short in practice; the bound keeps a hostile one from being scanned.
_HEAD = re.compile(r"data:(?P<media_type>[^,;]{0,127})(?P<parameters>(?:;[^,;]{0,127}){0,8}),", re.IGNORECASE)
_BLANKS = " \t\r\n"
_NO_BLANKS = str.maketrans("", "", _BLANKS)


def parse_data_uri(uri: str, *, max_bytes: int | None = None) -> tuple[str, bytes]:
    """Media type (lower case, "application/octet-stream" when the URI names none) and bytes of a base64 `data:` URI.

    Raises AudioError "bad_data_uri" for anything else, and "too_large" before decoding more than `max_bytes`.
    """
    head = _HEAD.match(uri)
    if head is None:
        raise AudioError("bad_data_uri", "audio in JSON is a data URI: data:audio/wav;base64,...")
    if head["parameters"].lower().split(";")[-1].strip() != "base64":
        raise AudioError("bad_data_uri", "the data URI must be base64: data:audio/wav;base64,...")
    payload = uri[head.end() :]
    if max_bytes is not None and len(payload) // 4 * 3 > max_bytes + 3:
        detail = f"the data URI holds about {len(payload) // 4 * 3} bytes; at most {max_bytes} are accepted"
        raise AudioError("too_large", detail, limit=max_bytes)
    # Looking for what is rarely there costs a tenth of writing the payload anew without it.
    if any(blank in payload for blank in _BLANKS):
        payload = payload.translate(_NO_BLANKS)
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AudioError("bad_data_uri", f"the data URI is not valid base64: {error}") from error
    return head["media_type"].strip().lower() or "application/octet-stream", data
