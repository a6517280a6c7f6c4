"""Listening sockets that the service manager has opened for this process, by systemd's protocol `sd_listen_fds`."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field
from typing import Dict, List, Mapping

from edge_runtime.errors import ConfigError
from edge_runtime.server.addresses import address_text
from edge_runtime.server.settings import ServerSettings

NAMES = ("http", "grpc", "unix")

_FIRST = 3
_MOST_DIGITS = 6
_REMEDY = (
    "expected ListenStream= sockets with FileDescriptorName= http, grpc or unix, each once; "
    "mend the socket units, or write them anew: edge-runtime install-unit --sockets"
)


@dataclass(frozen=True)
class PassedSockets:
    """Sockets that listen already, by what is spoken there: `http`, `grpc`, or `unix` for all on a Unix socket."""

    by_name: Mapping[str, socket.socket] = field(default_factory=dict)

    def settings(self, settings: ServerSettings) -> ServerSettings:
        """The settings with the addresses of these sockets in place of their own.

        Raises:
            ConfigError: a transport can't take over a socket.
        """
        if "grpc" in self.by_name and settings.grpc_transport != "own":
            raise ConfigError("socket 'grpc' of the service manager: grpc_transport grpcio can't take it over; use own")
        return settings.model_copy(update={name: _address(each) for name, each in self.by_name.items()})


NO_SOCKETS = PassedSockets()


def passed_sockets(
    environ: Mapping[str, str] = os.environ, pid: int | None = None, first: int = _FIRST
) -> PassedSockets:
    """The sockets that were passed to this process, from descriptor `first` on; they block no more, nor are inherited.

    Raises:
        ConfigError: one isn't what it has to be.
    """
    if environ.get("LISTEN_PID") != str(os.getpid() if pid is None else pid):
        return NO_SOCKETS
    text = environ.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise ConfigError(f"LISTEN_FDS={text[:80]!r}: expected a number of sockets; {_REMEDY}")
    count, names = int(text), environ.get("LISTEN_FDNAMES", "").split(":")
    if len(names) != count:
        names = [*names, *["unknown"] * count][:count]
    found: Dict[str, socket.socket] = {}
    with contextlib.ExitStack() as undo:
        for number, name in enumerate(names, first):
            if name not in NAMES or name in found:
                twice = "is there twice" if name in found else f"has the name {name!r}"
                raise ConfigError(f"descriptor {number} of the service manager {twice}; {_REMEDY}")
            found[name] = _listening(number, name)
            undo.callback(found[name].close)
        undo.pop_all()
    return PassedSockets(found)


def _listening(number: int, name: str) -> socket.socket:
    what = f"socket {name!r} of the service manager (descriptor {number})"
    try:
        passed = socket.socket(fileno=number)  # which asks the kernel for family, kind and protocol
    except OSError as error:
        raise ConfigError(f"{what}: isn't a socket ({error.strerror}); {_REMEDY}") from None
    problems: List[str] = []
    is_unix = passed.family == socket.AF_UNIX
    if is_unix != (name == "unix") or passed.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
        problems.append(f"has the family {_name(passed.family)}")
    if passed.type != socket.SOCK_STREAM:
        problems.append(f"has the type {_name(passed.type)}")
    elif not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        problems.append("doesn't listen (Accept=yes, or a connection)")
    if is_unix and not (isinstance(passed.getsockname(), str) and passed.getsockname()):
        problems.append("has no path")
    if problems:
        passed.close()
        raise ConfigError(f"{what}: {' and '.join(problems)}; {_REMEDY}")
    passed.setblocking(False)
    passed.set_inheritable(False)
    return passed


def _name(value: int) -> str:
    return getattr(value, "name", str(value))


def _address(passed: socket.socket) -> str:
    name = passed.getsockname()
    return name if isinstance(name, str) else address_text(*name[:2])
