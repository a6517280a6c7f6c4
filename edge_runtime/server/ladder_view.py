"""What is told of a model's ladder: on the metrics page and in the live record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from edge_runtime.server.prometheus import MetricsPage, labels_of
from edge_runtime.server.statistics import Totals

_OURS = "edge_runtime_ladder_"


@dataclass(frozen=True)
class LadderView:
    """A ladder at one moment, its rungs from the model itself down.

    Attributes:
        rung: the place in `rungs` of what runs new requests.
        why: what made it step there; "" for a model that never did.
        since_s: for how long.
        return_dwell_s: how long it must be calm before the next return.
        totals: counters of each rung.
        switches: how often it went from one to another, and for which reason.
    """

    rungs: Tuple[str, ...]
    rung: int
    why: str
    since_s: float
    return_dwell_s: float
    totals: Tuple[Totals, ...]
    switches: Mapping[Tuple[str, str, str], int]

    def record(self) -> Dict[str, Any]:
        """As the live document has it."""
        return {
            "rungs": [
                {"name": name, "answered": each.success, "late": each.late, "refused": each.failures["REJECTED"]}
                for name, each in zip(self.rungs, self.totals)
            ],
            "rung": self.rung,
            "name": self.rungs[self.rung],
            "why": self.why,
            "since_s": round(self.since_s, 1),
            "return_dwell_s": self.return_dwell_s,
            "switches": sum(self.switches.values()),
        }

    def add_to(self, page: MetricsPage, model: str, version: str) -> None:
        """Adds it to a metrics page."""
        labels = labels_of(model=model, version=version)
        page.add(f"{_OURS}rung", "gauge", labels, self.rung)
        page.add(f"{_OURS}return_dwell_seconds", "gauge", labels, self.return_dwell_s)
        for (source, target, reason), count in sorted(self.switches.items()):
            step = f"{labels},{labels_of(**{'from': source, 'to': target, 'reason': reason})}"
            page.add(f"{_OURS}switches_total", "counter", step, count)
        for name, each in zip(self.rungs, self.totals):
            of_rung = f"{labels},{labels_of(rung=name)}"
            page.add(f"{_OURS}answers_total", "counter", of_rung, each.success)
            for how, count in (("refused", each.failures["REJECTED"]), ("late", each.late)):
                page.add(f"{_OURS}missed_total", "counter", f"{of_rung},{labels_of(how=how)}", count)


LADDER_HELP: Mapping[str, str] = {
    f"{_OURS}rung": "Which rung of its ladder runs a model's new requests; 0 is the model itself",
    f"{_OURS}return_dwell_seconds": "How long all must be calm before a model returns by one rung",
    f"{_OURS}switches_total": "Switches from one rung to another, by what made them",
    f"{_OURS}answers_total": "Requests that a rung answered",
    f"{_OURS}missed_total": "Requests that a rung refused, or answered after their deadline",
}
