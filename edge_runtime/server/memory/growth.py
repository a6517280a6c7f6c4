"""By how much memory grows while a model is loaded."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edge_runtime.device.files import text_of, whole_number
from edge_runtime.device.memory import read_memory

_RESET_PEAK = b"5"
_PEAK_SLACK_NBYTES = 1 << 20


class MemoryGrowth:
    """Memory from here on: this process's, at its peak; or the machine's, where a GPU or another process has it.

    Args:
        of_machine: whether to look at what the whole machine has left, in place of this process.
        root: where /proc is.
    """

    def __init__(self, of_machine: bool, root: Path = Path("/")) -> None:
        self._of_machine = of_machine
        self._root = root
        self._forget_peak()
        resident_nbytes, peak_nbytes = self._process()
        self._sees_peak = peak_nbytes - resident_nbytes <= _PEAK_SLACK_NBYTES
        self._before_nbytes = self._left_nbytes() if of_machine else resident_nbytes

    def nbytes(self) -> int:
        """How much was taken since it began; 0 where that can't be told."""
        if self._of_machine:
            return max(0, self._before_nbytes - self._left_nbytes())
        resident_nbytes, peak_nbytes = self._process()
        return max(0, (peak_nbytes if self._sees_peak else resident_nbytes) - self._before_nbytes)

    def _left_nbytes(self) -> int:
        return read_memory(self._root).memory_available_nbytes or 0

    def _process(self) -> tuple[int, int]:
        """What is resident of this process, and what was at its peak."""
        fields = dict(line.partition(":")[::2] for line in text_of(self._root / "proc/self/status").splitlines())
        resident, peak = ((whole_number(fields.get(name, "").strip()[:-2]) or 0) << 10 for name in ("VmRSS", "VmHWM"))
        return resident, peak

    def _forget_peak(self) -> None:
        with contextlib.suppress(OSError):  # then what is resident afterwards has to do
            handle = os.open(self._root / "proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(handle, _RESET_PEAK)
            finally:
                os.close(handle)
