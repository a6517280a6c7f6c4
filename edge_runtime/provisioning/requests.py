"""What a server asks of the builder: a file with a model's name in a folder that both can write."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

from edge_runtime.errors import ConfigError
from edge_runtime.plan.names import MODEL_NAME


@dataclass(frozen=True)
class Requests:
    """The requests in a folder; `models` are those of a right name, `strays` what else lies there.

    Only names count: no file is opened, and no link followed. Names that begin with a dot are somebody's own.
    """

    folder: Path
    models: Tuple[str, ...] = ()
    strays: Tuple[str, ...] = ()

    def clear(self, names: Tuple[str, ...]) -> List[str]:
        """Removes requests; gives what is left of them, which would be asked for without an end.

        What isn't a file or a link goes only if it is an empty folder.
        """
        return [name for name in names if not _is_removed(self.folder / name)]


def read_requests(folder: Path) -> Requests:
    """The requests that are there now; none where there is no such folder.

    Raises:
        ConfigError: it can't be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except FileNotFoundError:
        return Requests(folder)
    except OSError as error:
        raise ConfigError(f"--requests {folder}: can't be read ({error.strerror}); expected a folder") from None
    models = tuple(name for name in names if MODEL_NAME.fullmatch(name) and _is_file(folder / name))
    return Requests(folder, models, tuple(name for name in names if name not in models))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_removed(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            return False
        with contextlib.suppress(OSError):
            path.rmdir()
    return not os.path.lexists(path)
