"""Loads plans for which there is memory, and measures what they take of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator

from edge_runtime.plan.store import StoredPlan
from edge_runtime.server.memory.growth import MemoryGrowth
from edge_runtime.server.memory.ledger import MemoryLedger, Need
from edge_runtime.server.memory.needs import CPU, MemoryNeeds, estimated_need, need_key


class Admission:
    """Loads plans one beside the other as far as memory goes; any thread may use it.

    Args:
        ledger: what there is, and who has it.
        needs: what plans take.
        in_process: whether engines run in this process; else the whole machine's memory is looked at.
        root: where /proc is.
    """

    def __init__(
        self, ledger: MemoryLedger, needs: MemoryNeeds, in_process: bool = True, root: Path = Path("/")
    ) -> None:
        self.ledger = ledger
        self._needs = needs
        self._in_process = in_process
        self._root = root
        self._has_gpu = False

    def need(self, stored: StoredPlan, slots: int) -> Need:
        """What a plan needs, as far as it is known."""
        manifest = stored.manifest
        opens_gpu = manifest.backend.device != CPU and not self._has_gpu
        return self._needs.measured(need_key(manifest, slots)) or estimated_need(manifest, opens_gpu)

    def is_to_measure(self, stored: StoredPlan, slots: int) -> bool:
        """Whether it should be loaded alone, for what it takes would be known from then on."""
        return self._needs.are_kept and self._needs.measured(need_key(stored.manifest, slots)) is None

    @contextlib.contextmanager
    def admitted(self, stored: StoredPlan, slots: int) -> Iterator[None]:
        """A block in which a plan is loaded; what it took is kept, if nothing else was loaded meanwhile.

        Raises:
            InsufficientMemoryError: there isn't enough.
        """
        manifest = stored.manifest
        key = need_key(manifest, slots)
        need = self.need(stored, slots)
        self._has_gpu = self._has_gpu or manifest.backend.device != CPU
        with self.ledger.admitted(manifest.name, need) as stay:
            is_here = self._in_process and manifest.backend.device == CPU
            growth = MemoryGrowth(not is_here, self._root)
            yield
            if stay.is_alone and not stay.need.is_measured:
                # A plan's bytes are in memory beside what is made of them, which a look afterwards can't see.
                nbytes = growth.nbytes() + (0 if is_here else manifest.total_nbytes)
                self._needs.learn(key, max(nbytes, manifest.total_nbytes))
                stay.need = self._needs.measured(key) or stay.need
