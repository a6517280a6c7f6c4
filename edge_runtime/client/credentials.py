"""What a client shows of itself to a server, and which servers it trusts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.errors import ConfigError


@dataclass(frozen=True)
class Credentials:
    """A token, and files of TLS (all PEM).

    Attributes:
        token: the server's, for `Authorization: Bearer`; None: none is sent.
        ca: authorities that the server's certificate may come from; None: those that the system trusts.
        certificate: the client's own certificate chain, for servers with mutual TLS.
        key: its key.
    """

    token: str | None = field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ConfigError("token: expected printable ASCII text")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("certificate and key: expected both, or neither")

    @property
    def authorization(self) -> str | None:
        """The value of an Authorization header; None for none."""
        return None if self.token is None else f"Bearer {self.token}"

    def context(self) -> ssl.SSLContext:
        """TLS for HTTP.

        Raises:
            ConfigError: a file can't be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"TLS files {self._files()}: can't be used ({error.strerror or error})") from error
        return context

    def pem(self, path: str | None) -> bytes | None:
        """The bytes of one of the files; None for none.

        Raises:
            ConfigError: it can't be read.
        """
        if path is None:
            return None
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"TLS file {path}: can't be read ({error.strerror})") from error

    def _files(self) -> str:
        return ", ".join(path for path in (self.ca, self.certificate, self.key) if path is not None) or "of the system"


NO_CREDENTIALS = Credentials()
