"""The key by which a builder signs what it publishes: the device's own on a device, a vendor's on a host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Mapping

from edge_runtime.plan.keys import VARIABLE, PrivateKey, find_private_key
from edge_runtime.plan.secret_file import CREDENTIALS
from edge_runtime.plan.signature import signer
from edge_runtime.plan.store import Signer

CREDENTIAL = "signing.key"


def found_key(key: Path | None, environ: Mapping[str, str] = os.environ) -> PrivateKey | None:
    """The key that is named or that systemd hands over; None where there is neither.

    Raises:
        ConfigError: it isn't there, others could read it, or it isn't a key.
    """
    folder = environ.get(CREDENTIALS)
    is_handed_over = bool(folder) and os.path.lexists(Path(folder or "", CREDENTIAL))
    if key is None and not is_handed_over and not environ.get(VARIABLE):
        return None
    return find_private_key(CREDENTIAL, key, environ)


def found_signer(key: Path | None, pack_sha256: str = "", environ: Mapping[str, str] = os.environ) -> Signer | None:
    """What signs with that key; None where there is none.

    Raises:
        ConfigError: it isn't there, others could read it, or it isn't a key.
    """
    private = found_key(key, environ)
    return None if private is None else signer(private, pack_sha256)
