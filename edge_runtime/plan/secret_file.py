"""Where secrets come from: systemd's credentials, else a file that nobody else can read, else the environment.

Never from a command line, which everybody can read; nothing here quotes what it reads. A process that has a secret
makes no core dumps.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Mapping, Tuple

from edge_runtime.device.core_dumps import forbid_core_dumps
from edge_runtime.errors import ConfigError

logger = logging.getLogger(__name__)

CREDENTIALS = "CREDENTIALS_DIRECTORY"

_MAX_NBYTES = 64 << 10
_OF_OTHERS = 0o007  # systemd may hand its credentials over by an ACL, whose mask shows as bits of the group


def secret_text(
    name: str, file: Path | None, variable: str, environ: Mapping[str, str], forbidden: int = 0o077
) -> Tuple[str, str]:
    """The text of a secret and its source: `$CREDENTIALS_DIRECTORY/NAME`, `file`, or an environment variable.

    `forbidden` are bits of the file's mode that it may not have.

    Raises:
        ConfigError: it is nowhere, or others than root and this user could read or write it.
    """
    forbid_core_dumps()
    folder = environ.get(CREDENTIALS)
    if folder and os.path.lexists(Path(folder, name)):
        return read_secret(Path(folder, name), _OF_OTHERS), f"credential {name}"
    if file is not None and os.path.lexists(file):
        return read_secret(file, forbidden), str(file)
    if environ.get(variable):
        logger.warning(
            "%s: a secret in the environment can be read by whoever sees this process; "
            "use a credential of systemd or a file",
            variable,
        )
        return environ[variable], f"environment variable {variable}"
    places = [f"credential {name} of systemd", *([] if file is None else [str(file)]), f"${variable}"]
    raise ConfigError(f"no key: looked for {', '.join(places)}; put it there (edge-runtime keygen makes keys)")


def read_secret(path: Path, forbidden: int) -> str:
    """The text of a file whose mode has none of the `forbidden` bits, and that belongs to root or to this user.

    Raises:
        ConfigError: it can't be read, or isn't such a file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:  # noqa: PTH123  (a descriptor, opened without following links)
            _check_private(os.fstat(handle), path, forbidden)
            return file.read(_MAX_NBYTES).decode()
    except OSError as error:
        raise ConfigError(f"key {path}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"key {path}: expected text; edge-runtime keygen makes one") from None


def _check_private(status: os.stat_result, path: Path, forbidden: int) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"key {path}: expected a file that is no link")
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"key {path}: expected it to belong to root or to user {os.geteuid()}, got user {status.st_uid}; chown it"
        )
    if mode & forbidden:
        allowed = 0o600 & ~forbidden
        raise ConfigError(
            f"key {path}: expected mode {allowed:o} or less, got {mode:o}; chmod {allowed:o} {path}, "
            "and make a new key if others could read it"
        )
