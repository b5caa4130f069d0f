"""What no message may tell: the key, and what stands before the @ of a URL."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

import httpx

HIDDEN = "[hidden]"
_USER_INFO = re.compile(r"//[^/?#\s]*@")


def bare(url: str) -> str:
    """A URL without user name and password, also where these hold what no URL may and it is none for that."""
    return re.sub(r"//.*@", "//", url)


def secrets_of(key: str, url: str) -> tuple[str, ...]:
    """Whatever a server may have been told in confidence, in the forms in which it may echo it."""
    told = httpx.URL(url)
    # A user without a password is a token.
    own = [key, told.password or told.username]
    if told.userinfo:
        pair = f"{told.username}:{told.password}".encode()
        own += [told.userinfo.decode("ascii", "replace"), base64.b64encode(pair).decode()]
    return tuple(sorted({secret for secret in own if secret}, key=len, reverse=True))


def hidden(text: str, secrets: Iterable[str]) -> str:
    """A server's words without what it was told in confidence."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _USER_INFO.sub("//", text)
