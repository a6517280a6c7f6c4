"""Where a server listens, and by which protocol."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_runtime.client.credentials import NO_CREDENTIALS, Credentials
from edge_runtime.errors import ConfigError

PROTOCOLS = ("http", "grpc")
_SCHEMES = {"http": ("http", False), "https": ("http", True), "grpc": ("grpc", False), "grpcs": ("grpc", True)}
_MAX_PATH_NBYTES = 107
_EXPECTED = "expected http://HOST:PORT, grpc://HOST:PORT, https:// or grpcs:// for TLS, or unix:///PATH"


@dataclass(frozen=True)
class Address:
    """Protocol, host and port of a server, and what it is shown; `path` goes before every HTTP route.

    With a `socket_path` the server is on this machine, and host and port say nothing.
    """

    protocol: str
    host: str
    port: int
    path: str = ""
    socket_path: str = ""
    is_secure: bool = False
    credentials: Credentials = NO_CREDENTIALS

    @property
    def authority(self) -> str:
        """`HOST:PORT`, an IPv6 host in brackets; `localhost` on a Unix socket."""
        if self.socket_path:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        if self.socket_path:
            return f"unix://{self.socket_path}"
        return f"{self.protocol}{'s' if self.is_secure else ''}://{self.authority}{self.path}"


def address_from_url(url: str, protocol: str | None = None, credentials: Credentials = NO_CREDENTIALS) -> Address:
    """The address in `http[s]://HOST:PORT`, `grpc[s]://HOST:PORT`, `unix:///PATH` or `HOST:PORT`.

    Where the URL doesn't say it, `protocol` does; without one it is HTTP.

    Raises:
        ConfigError: another form or protocol, or one that isn't `protocol`.
    """
    if protocol not in (None, *PROTOCOLS):
        raise ConfigError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    if url.startswith("unix:"):
        return Address(protocol or "http", "", 0, socket_path=_socket_path(url), credentials=credentials)
    try:
        parts = urlsplit(url if "://" in url else f"{protocol or 'http'}://{url}")
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as error:
        raise ConfigError(f"server address {url!r}: {error}; {_EXPECTED}") from None
    path = parts.path.rstrip("/")
    spoken, is_secure = _SCHEMES.get(parts.scheme, ("", False))
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc) and (not path or spoken == "http")
    if not spoken or not host or not port or not is_plain or not _is_printable(url):
        raise ConfigError(f"server address {url!r}: {_EXPECTED}")
    if protocol not in (None, spoken):
        raise ConfigError(f"server address {url!r}: expected protocol {protocol}, got {spoken}; leave one out")
    return Address(spoken, host, port, path, is_secure=is_secure, credentials=credentials)


def _socket_path(url: str) -> str:
    path = url[len("unix://") :]
    if not url.startswith("unix:///") or not _is_printable(url) or path.endswith("/"):
        raise ConfigError(f"server address {url!r}: {_EXPECTED}")
    if len(path) > _MAX_PATH_NBYTES:
        raise ConfigError(
            f"server address {url!r}: expected a path of at most {_MAX_PATH_NBYTES} bytes, got {len(path)}; "
            "let the server listen on a shorter one"
        )
    return path


def _is_printable(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url
