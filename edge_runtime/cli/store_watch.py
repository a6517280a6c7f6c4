"""What changed in a store, looked for each second: so it reads as little as it can."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Tuple

from edge_runtime.errors import PlanError
from edge_runtime.plan.names import MODEL_NAME
from edge_runtime.plan.store import CURRENT, PlanStore, pointed_version
from edge_runtime.server.loads import Stamp

_SETTLED_S = 3.0  # longer than the coarsest clock of a file system ticks (FAT: 2 s)

Times = Tuple[int, ...]


class _Seen(NamedTuple):
    """A model's stamp, the times of its files that it was read at, and since when those are the same."""

    stamp: Stamp | None
    times: Times
    since_s: float


class StoreWatch:
    """Stamps of a store's models; those whose files haven't changed for some seconds aren't read again.

    Args:
        root: the store's folder.
        clock: seconds, monotonic.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = str(root)
        self._store = PlanStore(root)
        self._clock = clock
        self._seen: Dict[str, _Seen] = {}

    def stamps(self) -> Dict[str, Stamp]:
        """The models of the store, each with what changes when another version is served, or put there anew.

        Raises:
            PlanError: the store can't be read.
        """
        try:
            with os.scandir(self._root) as entries:
                names = [entry.name for entry in entries if MODEL_NAME.fullmatch(entry.name) and entry.is_dir()]
        except OSError as error:
            raise PlanError(f"{self._root}: can't be read ({error.strerror})") from None
        self._seen = {name: self._look(name) for name in names}
        return {name: seen.stamp for name, seen in self._seen.items() if seen.stamp is not None}

    def _look(self, name: str) -> _Seen:
        seen, now_s = self._seen.get(name), self._clock()
        times = self._times(name, "" if seen is None or seen.stamp is None else seen.stamp.version)
        is_same = seen is not None and seen.times == times
        if seen is not None and is_same and now_s - seen.since_s >= _SETTLED_S:
            return seen
        stamp = self._read(name)
        times = self._times(name, "" if stamp is None else stamp.version)
        return _Seen(stamp, times, seen.since_s if seen is not None and seen.times == times else now_s)

    def _read(self, name: str) -> Stamp | None:
        """Of a model without versions there is none; of one of which none can be served, one that says so."""
        try:
            versions = self._store.versions(name)
            if not versions:
                return None
            version = str(pointed_version(Path(self._root, name), versions))
        except PlanError:
            return Stamp("")
        return Stamp(version, _changed_ns(f"{self._root}/{name}/{version}"))

    def _times(self, name: str, version: str) -> Times:
        folder = f"{self._root}/{name}"
        return tuple(map(_changed_ns, (folder, f"{folder}/{CURRENT}", f"{folder}/{version}")))


def _changed_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  (a Path costs more than this)
    except OSError:
        return 0
