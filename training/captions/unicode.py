"""Text that can be written: JSON may spell half of a character, which no file, database or endpoint takes."""

from __future__ import annotations

import re
from typing import Any

_LONE = re.compile("[\ud800-\udfff]")


def scrubbed(value: Any) -> Any:
    """A value of JSON without lone surrogates, keys included: each becomes U+FFFD."""
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [scrubbed(part) for part in value]
    if isinstance(value, dict):
        return {scrubbed(name): scrubbed(part) for name, part in value.items()}
    return value
