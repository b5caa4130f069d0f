"""Clips by URL: off unless an operator lists addresses, never from a private network, and from where was checked.

A service that fetches what callers name can be made to reach what only it can reach (SSRF). So: a list of allowed
prefixes; every hop of a redirect is held against it; a name is resolved once, every address it has must be public, and
the address that was checked is the one that is connected (a name that changes in between gains nothing).
"""

from __future__ import annotations

import ipaddress
import posixpath
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import httpcore

from service.audio.limits import AudioError
from service.settings import Settings

MAX_HOPS: Final = 3
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MAX_URL_CHARS: Final = 2048
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PORTS: Final = {"http": 80, "https": 443}


def is_url(text: str) -> bool:
    """Whether a text is an address to fetch rather than the audio itself."""
    return text[:8].lower().startswith(("http://", "https://"))


class _Until(httpcore.NetworkStream):
    """A connection whose every step may take what is left until `end`: a timeout alone starts anew with each byte."""

    def __init__(self, stream: httpcore.NetworkStream, end: float) -> None:
        self._stream, self._end = stream, end

    def _left(self) -> float:
        return max(0.001, self._end - time.monotonic())

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes. Raises ReadTimeout, at once where the time is over."""
        if time.monotonic() > self._end:
            raise httpcore.ReadTimeout
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send them. Raises WriteTimeout."""
        self._stream.write(buffer, self._left())

    def close(self) -> None:
        """End the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection, encrypted."""
        return _Until(self._stream.start_tls(ssl_context, server_hostname, self._left()), self._end)

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._stream.get_extra_info(info)


class _CheckedNetwork(httpcore.SyncBackend):
    """Connects to addresses that were checked, and to nothing else, until `end`."""

    def __init__(self, private: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network], end: float) -> None:
        self._private, self._end = private, end

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve once, check all, connect to the first. TLS still verifies the certificate against the name."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise AudioError("url_failed", "the name of the URL's host cannot be resolved") from error
        addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise AudioError("url_refused", "the URL's host is not on the public internet")
        stream = super().connect_tcp(addresses[0], port, timeout, local_address, socket_options)
        return _Until(stream, self._end)

    def _allowed(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        # ::ffff:127.0.0.1, 2002:7f00:1:: and the like are their IPv4 address in disguise.
        inner = [getattr(ip, name, None) for name in ("ipv4_mapped", "sixtofour")]
        if ip.version == 6 and ip in _NAT64:
            inner.append(ipaddress.ip_address(int(ip) & 0xFFFFFFFF))
        for one in [ip, *(hidden for hidden in inner if hidden is not None)]:
            if any(one.version == network.version and one in network for network in self._private):
                continue
            if not one.is_global or one.is_multicast or one.is_reserved:
                return False
        return True


class Fetcher:
    """Reads clips from allowed addresses. Thread-safe; `fetch` blocks, so call it where clips are decoded.

    Args:
        allow: prefixes; scheme, host and port must be the same, and the path must lie below.
        private_networks: networks that are allowed although they are not public.
        timeout_s: for all hops together.
    """

    def __init__(
        self, allow: Sequence[str], *, private_networks: Sequence[str] = (), timeout_s: float = 10.0, max_bytes: int
    ) -> None:
        self._allow = [urlsplit(prefix) for prefix in allow]
        self._private = [ipaddress.ip_network(network) for network in private_networks]
        self._timeout_s, self._max_bytes = timeout_s, max_bytes

    @classmethod
    def from_settings(cls, settings: Settings) -> Fetcher:
        """As the operator wants it."""
        return cls(
            settings.url_allow,
            private_networks=settings.url_private_networks,
            timeout_s=settings.url_timeout_s,
            max_bytes=settings.max_audio_bytes,
        )

    def fetch(self, url: str) -> bytes:
        """The bytes at a URL. Raises AudioError: `url_refused`, `url_failed` or `too_large`."""
        end = time.monotonic() + self._timeout_s
        network = _CheckedNetwork(self._private, end)
        # No pool is kept: a connection that outlives the check of its address would be reused unchecked.
        with httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(), network_backend=network, max_keepalive_connections=0
        ) as pool:
            for _ in range(MAX_HOPS + 1):
                self._check(url)
                try:
                    location, data = self._get(pool, url, end)
                except (httpcore.TimeoutException, TimeoutError) as error:
                    raise self._timed_out() from error
                except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ConnectError, OSError) as error:
                    raise AudioError("url_failed", "the URL cannot be fetched: the connection failed") from error
                if location is None:
                    return data
                url = urljoin(url, location)
        raise AudioError("url_refused", f"the URL redirects more than {MAX_HOPS} times", limit=MAX_HOPS)

    def _check(self, url: str) -> None:
        if not self._allow:
            raise AudioError("url_refused", "this service fetches no URLs; send the audio as a data URI or a file")
        if len(url) > _MAX_URL_CHARS:
            detail = f"the URL has {len(url)} characters; at most {_MAX_URL_CHARS} are accepted"
            raise AudioError("url_refused", detail, limit=_MAX_URL_CHARS)
        try:
            parts = urlsplit(url)
            allowed = any(_lies_below(parts, prefix) for prefix in self._allow)
        except ValueError:
            allowed = False
        if not allowed:
            raise AudioError("url_refused", "the URL, or where it redirects to, is not among CLSP_URL_ALLOW")

    def _get(self, pool: httpcore.ConnectionPool, url: str, end: float) -> tuple[str | None, bytes]:
        """Where it redirects to, or None and the body."""
        left = max(0.001, end - time.monotonic())
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), left)
        headers = {"Accept": "audio/*, */*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "clsp-service"}
        extensions = {"timeout": timeouts}
        with pool.stream("GET", _ascii(url), headers=list(headers.items()), extensions=extensions) as response:
            answered = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in answered:
                return answered[b"location"].decode("latin-1"), b""
            if response.status != 200:
                raise AudioError("url_failed", f"the URL answers with status {response.status}")
            if answered.get(b"content-encoding", b"identity").lower() != b"identity":
                raise AudioError("url_failed", "the URL answers with compressed content")
            data = bytearray()
            for part in response.iter_stream():
                data += part
                if len(data) > self._max_bytes:
                    detail = f"the URL holds more than {self._max_bytes} bytes"
                    raise AudioError("too_large", detail, limit=self._max_bytes)
            return None, bytes(data)

    def _timed_out(self) -> AudioError:
        return AudioError("url_failed", f"the URL took longer than {self._timeout_s:g} s", limit=self._timeout_s)


def _ascii(url: str) -> str:
    if not url.isascii():
        raise AudioError("url_refused", "the URL must be ASCII: encode what is not")
    return url


def _lies_below(parts: SplitResult, prefix: SplitResult) -> bool:
    if parts.scheme != prefix.scheme or parts.hostname != prefix.hostname or parts.username is not None:
        return False
    if (parts.port or _PORTS[parts.scheme]) != (prefix.port or _PORTS[prefix.scheme]):
        return False
    path = unquote(parts.path)
    if "\\" in path or "\0" in path or posixpath.normpath(path or "/") != (path.rstrip("/") or "/"):
        return False  # "..", "//" and the like: what lies below depends on who reads it
    base = prefix.path if prefix.path.endswith("/") else prefix.path + "/"
    return path.startswith(base) or path == prefix.path
