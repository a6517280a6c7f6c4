"""Energy per inference as reports hold it, or why it isn't given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from edge_runtime.profiler.energy_baseline import Baseline


@dataclass(frozen=True)
class Estimate:
    """Energy in mJ and its standard error; the sensor's own accuracy isn't in it."""

    value: float
    standard_error: float

    def record(self) -> Dict[str, float]:
        """As a report holds it."""
        return {"value": float(f"{self.value:.6g}"), "standard_error": float(f"{self.standard_error:.3g}")}

    def text(self) -> str:
        """In words."""
        return f"{self.value:,.4g} ± {self.standard_error:.2g} mJ"


@dataclass(frozen=True)
class Window:
    """Where the energy was taken from; `gaps` are steps in it that were left out, `covered_s` is what is left."""

    from_ns: int
    to_ns: int
    samples: int
    gaps: int
    covered_s: float


@dataclass(frozen=True)
class EnergyResult:
    """Energy per inference. What is None is told in `refused`; `note` says which limit was lowered."""

    total_kind: str | None = None
    rails: Tuple[str, ...] = ()
    baseline: Baseline | None = None
    window: Window | None = None
    inferences: float | None = None
    gross_mj: Estimate | None = None
    net_mj: Estimate | None = None
    refused: str | None = None
    note: str | None = None

    def record(self, origin_ns: int) -> Dict[str, Any]:
        """As a report holds it, with times since `origin_ns`."""
        window = self.window
        return {
            "total_kind": self.total_kind,
            "rails": list(self.rails),
            "baseline": None if self.baseline is None else self.baseline.record(),
            "window": None
            if window is None
            else {
                "from_s": round((window.from_ns - origin_ns) / 1e9, 6),
                "to_s": round((window.to_ns - origin_ns) / 1e9, 6),
                "samples": window.samples,
                "gaps": window.gaps,
                "covered_s": round(window.covered_s, 6),
            },
            "inferences": None if self.inferences is None else round(self.inferences, 3),
            "gross_mj": None if self.gross_mj is None else self.gross_mj.record(),
            "net_mj": None if self.net_mj is None else self.net_mj.record(),
            "refused": self.refused,
            "note": self.note,
        }

    def rows(self) -> List[Tuple[str, str]]:
        """Label and text of each figure, for a terminal."""
        rows: List[Tuple[str, str]] = []
        if self.total_kind is not None:
            rows.append(("power", f"{self.total_kind}: {', '.join(self.rails)}"))
        if self.baseline is not None:
            idle = self.baseline
            text = f"{idle.mean_mw:,.0f} ± {idle.standard_error_mw:.2g} mW ({idle.samples:,} samples)"
            rows.append(("idle power", text))
        if self.gross_mj is not None and self.window is not None and self.inferences is not None:
            gaps = f", {self.window.gaps} gaps left out" if self.window.gaps else ""
            over = f"{self.inferences:,.0f} inferences in {self.window.covered_s:.1f} s{gaps}"
            rows.append(("energy per inference, gross", f"{self.gross_mj.text()} ({over})"))
        if self.net_mj is not None:
            rows.append(("energy per inference, net of idle", self.net_mj.text()))
        rows.extend([("energy", f"not given: {self.refused}")] if self.refused is not None else [])
        rows.extend([("energy, note", self.note)] if self.note is not None else [])
        return rows
