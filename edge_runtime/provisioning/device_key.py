"""The key by which a builder signs what it publishes: the device's own on a device, a vendor's on a host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Mapping

from edge_runtime.plan.keys import VARIABLE, find_private_key
from edge_runtime.plan.secret_file import CREDENTIALS
from edge_runtime.plan.signature import signer
from edge_runtime.plan.store import Signer

CREDENTIAL = "signing.key"


def found_signer(key: Path | None, pack_sha256: str = "", environ: Mapping[str, str] = os.environ) -> Signer | None:
    """What signs with the key that is named or that systemd hands over; None where there is neither.

    Raises:
        ConfigError: it isn't there, others could read it, or it isn't a key.
    """
    folder = environ.get(CREDENTIALS)
    is_handed_over = bool(folder) and os.path.lexists(Path(folder or "", CREDENTIAL))
    if key is None and not is_handed_over and not environ.get(VARIABLE):
        return None
    return signer(find_private_key(CREDENTIAL, key, environ), pack_sha256)
