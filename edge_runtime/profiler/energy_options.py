"""What has to be there before an energy is given."""

from __future__ import annotations

from dataclasses import dataclass

_SLOW_STEP_S = 0.5
_MIN_RUN_S, _MIN_RUN_SLOWLY_SAMPLED_S = 30.0, 60.0


@dataclass(frozen=True)
class EnergyOptions:
    """Limits below which no number is given.

    Attributes:
        min_run_s: shortest run; None is 30 s, and 60 s where samples come every half second or less often. A
            lower one is noted in the result.
        min_samples: fewest readings in the window.
        min_inferences: fewest calls in the window; those at its edges count by their time, which is only roughly
            their energy.
        max_error_ratio: most that 95 % of the results may lie off, of the energy, gross and net alike.
        interval_s: how often samples should come, if known.
    """

    min_run_s: float | None = None
    min_samples: int = 20
    min_inferences: float = 20.0
    max_error_ratio: float = 0.05
    interval_s: float | None = None

    def shortest_run_s(self, step_s: float) -> float:
        """The limit that holds for samples that come every `step_s`."""
        return _usual_run_s(step_s) if self.min_run_s is None else self.min_run_s

    def lowered(self, step_s: float) -> str | None:
        """Which limits are below the usual ones, in words."""
        lowered = [
            f"{name} {given:g} in place of {normal:g}"
            for name, given, normal in (
                ("shortest run in s", self.shortest_run_s(step_s), _usual_run_s(step_s)),
                ("fewest readings", self.min_samples, USUAL.min_samples),
                ("fewest inferences", self.min_inferences, USUAL.min_inferences),
            )
            if given < normal
        ]
        if self.max_error_ratio > USUAL.max_error_ratio:
            lowered.append(f"an error of {self.max_error_ratio:.0%} in place of {USUAL.max_error_ratio:.0%}")
        return f"limits were lowered: {', '.join(lowered)}" if lowered else None


USUAL = EnergyOptions()


def _usual_run_s(step_s: float) -> float:
    return _MIN_RUN_SLOWLY_SAMPLED_S if step_s >= _SLOW_STEP_S else _MIN_RUN_S
