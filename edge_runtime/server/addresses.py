"""Where a server may listen: addresses that others reach need TLS and a way to tell who asks."""

from __future__ import annotations

import ipaddress
import socket
from typing import Container, Tuple

from edge_runtime.errors import ConfigError
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.unix_socket import UnixListener

LABELS = {"http": "HTTP", "grpc": "gRPC"}


def tcp_address(text: str, what: str) -> Tuple[str, int]:
    """Host and port of `HOST:PORT`; the host is an IP address.

    Raises:
        ConfigError: another form.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"{what} address {text!r}: expected HOST:PORT, such as 127.0.0.1:8000")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        raise ConfigError(
            f"{what} address {text!r}: expected an IP address as host, or localhost; 0.0.0.0 is every address"
        ) from None


def address_text(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an IP address."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def check_access(settings: ServerSettings) -> None:
    """Refuses what would let strangers in, or let others read along.

    Raises:
        ConfigError: an address that others reach lacks TLS, or a way to tell who asks; or half of TLS is set.
    """
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise ConfigError("TLS needs both --tls-certificate and --tls-key")
    has_tls = settings.tls_certificate is not None
    if settings.tls_client_ca is not None and not has_tls:
        raise ConfigError("--tls-client-ca needs --tls-certificate and --tls-key")
    if has_tls and settings.grpc_transport != "own":
        raise ConfigError("TLS isn't spoken by grpc_transport grpcio; use own")
    for name, label in LABELS.items():
        text = getattr(settings, name)
        if is_loopback(tcp_address(text, label)[0]):
            continue
        missing = [] if has_tls else ["TLS (--tls-certificate and --tls-key)"]
        if settings.tokens is None and settings.tls_client_ca is None:
            missing.append("tokens (--tokens) or clients' certificates (--tls-client-ca)")
        if missing:
            raise ConfigError(
                f"{label} address {text!r}: others reach it, which needs {' and '.join(missing)}; "
                "or listen on 127.0.0.1 or a Unix socket"
            )


def check_free(settings: ServerSettings, passed: Container[str] = ()) -> None:
    """Finds out before anything is loaded whether another server has the addresses; binding them still decides.

    Those of `passed` are this server's already.

    Raises:
        ConfigError: one can't be bound.
    """
    for name, label in LABELS.items():
        if name in passed:
            continue
        host, port = tcp_address(getattr(settings, name), label)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                raise unbindable(name, host, port, error) from error
    if settings.unix is not None and "unix" not in passed:
        listener = UnixListener(settings.unix)
        listener.socket.close()
        listener.close()


def unbindable(name: str, host: str, port: int, error: OSError) -> ConfigError:
    """The error for an address that can't be bound; `name` is its flag's."""
    reason = error.strerror or str(error)
    return ConfigError(
        f"{LABELS[name]} address {address_text(host, port)}: can't be bound ({reason}); "
        f"choose another: --{name} HOST:PORT"
    )
