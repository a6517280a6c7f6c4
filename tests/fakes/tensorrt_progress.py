"""The phases that a fake build reports, nested as TensorRT nests them."""

from __future__ import annotations

from typing import Any, List

from fakes.tensorrt_binding import call_back
from fakes.tensorrt_board import log


class Progress:
    """Tells the progress monitor of a configuration, if it has one, and listens to its answer."""

    def __init__(self, module: Any, logger: Any, config: Any) -> None:
        self._monitor = config._settings.get("progress_monitor") if hasattr(module, "IProgressMonitor") else None
        self._logger = logger

    def run(self, layers: List[str]) -> bool:
        """Goes through the phases of a build; False where it was cancelled."""
        if self._monitor is None:
            return True
        root = "Building engine"
        self._start(root, None, 3)
        is_going = (
            self._phase("Cloning network graph", root, len(layers) + 2)
            and self._step(root, 0)
            and self._phase("Preparing graph for optimization", root, 4)
            and self._step(root, 1)
            and self._timed(root, len(layers))
            and self._step(root, 2)
        )
        self._finish(root)
        if not is_going:
            log(self._logger, "ERROR", "IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (by the monitor)")
        return is_going

    def _timed(self, root: str, layers: int) -> bool:
        outer = "Computing profile costs"
        self._start(outer, root, 1)
        is_going = self._phase("Timing graph nodes", outer, max(layers, 1)) and self._step(outer, 0)
        self._finish(outer)
        return is_going

    def _phase(self, name: str, parent: str, steps: int) -> bool:
        self._start(name, parent, steps)
        is_going = all(self._step(name, step) for step in range(steps))
        self._finish(name)
        return is_going

    def _start(self, name: str, parent: str | None, steps: int) -> None:
        call_back(lambda: self._monitor.phase_start(name, parent, steps), "phase_start")

    def _finish(self, name: str) -> None:
        call_back(lambda: self._monitor.phase_finish(name), "phase_finish")

    def _step(self, name: str, step: int) -> bool:
        return bool(call_back(lambda: self._monitor.step_complete(name, step), "step_complete", False))
