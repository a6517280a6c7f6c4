"""The key of encrypted plans: 32 random bytes, as 64 hex digits in a file that only root or this user can read."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

from edge_runtime.errors import ConfigError
from edge_runtime.plan.files import make_folder, sync_folder
from edge_runtime.plan.keys import check_key_name, write_new
from edge_runtime.plan.secret_file import secret_text
from edge_runtime.plan.trust import trust_settings

CREDENTIAL = "plan.key"
VARIABLE = "EDGE_RUNTIME_PLAN_KEY"
ID_NBYTES = 8

_NBYTES = 32
_MORE_THAN_OWNER_READ = 0o377


@dataclass(frozen=True)
class PlanKey:
    """A device's key, of which only the id is ever shown."""

    raw: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        """What names the key in files that it opens."""
        return hashlib.sha256(b"edge_runtime plan key\0" + self.raw).digest()[:ID_NBYTES]


def new_plan_key() -> PlanKey:
    """A new key."""
    return PlanKey(os.urandom(_NBYTES))


def plan_key(environ: Mapping[str, str] = os.environ, file: Path | None = None) -> PlanKey:
    """This device's key: credential `plan.key`, else the file of `[trust] plan_key`, else `EDGE_RUNTIME_PLAN_KEY`.

    `file` is looked at in place of that of the settings.

    Raises:
        ConfigError: there is none, others could read it, or it isn't a key.
    """
    file = Path(trust_settings(environ).plan_key) if file is None else file
    text, source = secret_text(CREDENTIAL, file, VARIABLE, environ, forbidden=_MORE_THAN_OWNER_READ)
    if not re.fullmatch(rf"[0-9a-f]{{{2 * _NBYTES}}}\n?", text):
        raise ConfigError(f"{source}: expected a key of plans, {2 * _NBYTES} hex digits; edge-runtime keygen makes one")
    return PlanKey(bytes.fromhex(text.strip()))


def write_plan_key(key: PlanKey, name: str, folder: Path) -> Path:
    """Writes `NAME.key` into a folder, which is made if it isn't there; gives its path.

    Raises:
        ConfigError: it is there already, or can't be written.
    """
    path = folder / f"{check_key_name(name)}.key"
    if os.path.lexists(path):
        raise ConfigError(f"{path}: is there already, and a key is never replaced; use another name or folder")
    try:
        make_folder(folder)
        write_new(path, f"{key.raw.hex()}\n", 0o400)
        sync_folder(folder)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror})") from error
    return path
