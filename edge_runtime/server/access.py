"""Who may use the server: the one check that every request of every protocol passes before it is routed."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Hashable

from edge_runtime.errors import ConfigError, PermissionDeniedError, UnauthenticatedError
from edge_runtime.server.clients import Owners, peer_of
from edge_runtime.server.newcomers import Newcomers, most_newcomers
from edge_runtime.server.settings import ServerSettings
from edge_runtime.wire.tokens import Token, Tokens, parsed_tokens

_MAX_FILE_NBYTES = 1 << 20


class Access:
    """The tokens that hold now, and what was refused for want of one; all connections of a server share it."""

    def __init__(self, path: Path | None = None, has_client_certificates: bool = False) -> None:
        self._path = path
        self._has_client_certificates = has_client_certificates
        self._owners = Owners()
        self.newcomers = Newcomers(most_newcomers(), need_tokens=path is not None)
        self.tokens = self.read()
        self.refused: Dict[str, int] = {"UNAUTHENTICATED": 0, "PERMISSION_DENIED": 0}

    def read(self) -> Tokens | None:
        """The tokens that the file has now; None where no token is asked for.

        Raises:
            ConfigError: it can't be read, or something else than tokens is in it.
        """
        return None if self._path is None else _tokens_in(self._path)

    def visitor(self, transport: Any) -> Visitor:
        """Who is at the other end of a connection that was just accepted."""
        connection = transport.get_extra_info("socket")
        if connection is None:
            return Visitor(self, is_local=False, is_owner=False)
        if connection.family == socket.AF_UNIX:
            return Visitor(self, is_local=True, is_owner=self._owners.have(peer_of(connection)))
        return Visitor(self, is_local=False, is_owner=False, number=connection.fileno())

    @property
    def is_anybody_admin(self) -> bool:
        """Whether all who reach a TCP listener may administer: there is nothing by which to tell them apart."""
        return self.tokens is None and not self._has_client_certificates


@dataclass(frozen=True)
class Visitor:
    """The client of one connection.

    Attributes:
        is_local: it came over the Unix socket, whose file says who may.
        is_owner: it is root, or the user whom the server runs as, by the Unix socket's word.
        number: the connection's file descriptor, by which it is known as long as it is a newcomer's.
    """

    access: Access
    is_local: bool
    is_owner: bool
    number: int = -1

    def check(self, authorization: bytes | None, is_administrative: bool, is_from_page: bool = False) -> Hashable:
        """Passes a request that may be answered; whose it is, if its token says so, as `clients.client_of` has it.

        Args:
            authorization: its Authorization header, or metadata.
            is_administrative: whether it needs the right to administer.
            is_from_page: whether a browser sends it for a web page, and it does more than ask: any page may have a
                browser on this machine do so.

        Raises:
            UnauthenticatedError: it needs a token, and has none that is valid.
            PermissionDeniedError: it administers, and may not; or it is a web page's, which has no token.
        """
        tokens = self.access.tokens
        if tokens is None and not is_administrative and not is_from_page:
            return None
        token = None if tokens is None else tokens.find(authorization)
        if token is None and tokens is not None and not self.is_local:
            self.access.refused["UNAUTHENTICATED"] += 1
            raise UnauthenticatedError("a valid token is needed: Authorization: Bearer TOKEN")
        if is_from_page and token is None:
            self.access.refused["PERMISSION_DENIED"] += 1
            raise PermissionDeniedError("web pages may not do this; it has an Origin header, and no token")
        if is_administrative and not self._may_administer(token):
            self.access.refused["PERMISSION_DENIED"] += 1
            raise PermissionDeniedError("this needs the right to administer: a token with it, or the server's own user")
        if token is None:
            return None
        self.access.newcomers.end(self.number)
        return "token", token.name

    def _may_administer(self, token: Token | None) -> bool:
        if token is not None and token.is_admin:
            return True
        return self.is_owner if self.is_local else self.access.is_anybody_admin


def access_of(settings: ServerSettings) -> Access:
    """The access that settings ask for.

    Raises:
        ConfigError: the file of tokens can't be used.
    """
    path = None if settings.tokens is None else Path(settings.tokens)
    return Access(path, settings.tls_client_ca is not None)


def _tokens_in(path: Path) -> Tokens:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not be waited for
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE_NBYTES + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(f"tokens {path}: can't be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise ConfigError(f"tokens {path}: isn't a regular file; expected a line for each token")
    if len(data) > _MAX_FILE_NBYTES:
        raise ConfigError(f"tokens {path}: over {_MAX_FILE_NBYTES} bytes; expected a line for each token")
    if mode & 0o022:
        raise ConfigError(f"tokens {path}: others than its owner may write it; chmod go-w {path}")
    try:
        return parsed_tokens(data.decode(), f"tokens {path}")
    except UnicodeDecodeError as error:
        raise ConfigError(f"tokens {path}: isn't text; expected a line for each token") from error
