"""TLS of a server: its certificate, and that of a client where it must have one."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from edge_runtime.errors import ConfigError


def server_context(certificate: Path, key: Path, client_ca: Path | None, protocol: str) -> ssl.SSLContext:
    """TLS 1.3 with a certificate chain and its key, both PEM, for one ALPN protocol (`http/1.1` or `h2`).

    With `client_ca`, clients must have a certificate that one of these authorities has signed (mutual TLS).

    Raises:
        ConfigError: a file can't be read, isn't PEM, doesn't fit the others, or lets everybody read the key.
    """
    for what, path in (("certificate", certificate), ("key", key), ("client CA", client_ca)):
        if path is not None:
            _check_readable(what, path)
    if stat.S_IMODE(key.stat().st_mode) & stat.S_IRWXO:
        raise ConfigError(f"TLS key {key}: everybody may read it; chmod o= {key}, and have a new one made")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise ConfigError(
            f"TLS certificate {certificate} and key {key}: can't be used ({reason}); "
            "expected PEM files, the chain with the server's own certificate first, and its key without a password"
        ) from error
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise ConfigError(f"TLS client CA {client_ca}: no PEM certificates in it") from error
    return context


def _check_readable(what: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"TLS {what} {path}: can't be read ({error.strerror})") from error


def _no_password() -> str:
    """Else OpenSSL asks for it on the terminal."""
    return ""
