"""How far a build has come, and how it is cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict

from edge_runtime.builder.tensorrt.calibrator import StoredErrors
from edge_runtime.tensorrt_api import TensorRT

OnFraction = Callable[[float], None]


@dataclass
class _Phase:
    """Steps done and in all, and the share of the step under way that phases inside it have taken so far."""

    done: int
    steps: int
    taken: float = 0.0

    def share(self, inside: float) -> float:
        """What is done of the phase, when the phase inside its step has come so far."""
        if self.done >= self.steps:
            return 1.0
        return (self.done + self.taken + (1 - self.taken) / 2 * inside) / self.steps


class PhaseTree:
    """The share of a build that is done, from 0 to 1, which never falls.

    A phase has steps, and any number of phases may lie in one of them, one after the other: each takes half of what is
    left of the step.
    """

    def __init__(self) -> None:
        self._phases: Dict[str, _Phase] = {}  # from the outermost to the innermost
        self._highest = 0.0

    def start(self, phase: str, steps: int) -> None:
        """A phase of so many steps begins inside the step under way."""
        self._phases[phase] = _Phase(0, max(steps, 1))

    def advance(self, phase: str, step: int) -> float:
        """A phase has done the step of this number, counted from 0; the share that is done now."""
        found = self._phases.get(phase)
        if found is not None:
            found.done, found.taken = max(step + 1, found.done), 0.0
        share = 0.0
        for outer in reversed(list(self._phases.values())):
            share = outer.share(share)
        self._highest = max(self._highest, share)
        return self._highest

    def finish(self, phase: str) -> float:
        """A phase is over, whether it counted its last steps or not; the share that is done now."""
        names = list(self._phases)
        if self._phases.pop(phase, None) is not None:
            place = names.index(phase)
            if place:
                outer = self._phases[names[place - 1]]
                outer.taken += (1 - outer.taken) / 2
            elif len(names) == 1:
                self._highest = 1.0
        return self._highest


def make_monitor(
    library: TensorRT, on_fraction: OnFraction, is_cancelled: Callable[[], bool], errors: StoredErrors
) -> Any:
    """An `IProgressMonitor` that tells the share that is done, and stops the build once `is_cancelled` says so."""
    base = library.module.IProgressMonitor
    tree = PhaseTree()

    class Monitor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            errors.guarded(lambda: tree.start(phase_name, num_steps), None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            def told() -> bool:
                on_fraction(tree.advance(phase_name, step))
                return not is_cancelled()

            return errors.guarded(told, False)

        def phase_finish(self, phase_name: str) -> None:
            errors.guarded(lambda: on_fraction(tree.finish(phase_name)), None)

    return Monitor()
