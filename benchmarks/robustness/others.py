"""How much of the machine others used while something was measured."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Tuple

from serving.processes import Tree, busy_s

FOREIGN_CORES = 0.25  # from so many in use by others on, a server can't answer for what isn't held


class Others:
    """Watches the cores that neither a server, nor this process, nor its children that have ended use."""

    def __init__(self, server: Tree) -> None:
        self._server = server
        self._begin = self._now()

    def cores(self) -> float:
        """Cores in use since the begin, on average."""
        passed_s, all_s, own_s = (after - before for before, after in zip(self._begin, self._now()))
        return max(0.0, all_s - own_s) / passed_s

    def _now(self) -> Tuple[float, float, float]:
        used = os.times()
        own_s = used.user + used.system + used.children_user + used.children_system + self._server.cpu_s()
        return time.monotonic(), busy_s(Path("/proc/stat").read_text()), own_s
