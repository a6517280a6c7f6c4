"""A client's credentials from the environment: a token on a command line could be read by everybody."""

from __future__ import annotations

from dataclasses import fields
from typing import Mapping

from edge_runtime.client.credentials import Credentials
from edge_runtime.config import environment_layer
from edge_runtime.errors import ConfigError, nearest


def credentials_from(environ: Mapping[str, str]) -> Credentials:
    """What `EDGE_RUNTIME_CLIENT__TOKEN`, `__CA`, `__CERTIFICATE` and `__KEY` say.

    Raises:
        ConfigError: another name, or a value that can't be used.
    """
    found = {key: str(value) for key, value in environment_layer(environ, ("client",)).get("client", {}).items()}
    valid = [field.name for field in fields(Credentials)]
    for key in found:
        if key not in valid:
            raise ConfigError(f"environment variable EDGE_RUNTIME_CLIENT__{key.upper()}: {nearest(key, valid)}")
    return Credentials(**found)
