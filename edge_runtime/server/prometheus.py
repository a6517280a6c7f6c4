"""Prometheus text: samples grouped by metric, as the format wants them."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple, Union

from edge_runtime.server.latencies import cumulative
from edge_runtime.server.statistics import Counted

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_BOUNDS_MS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


Number = Union[int, float]


class Family(NamedTuple):
    """A metric with what it says of itself, and its samples by their labels."""

    name: str
    kind: str
    help: str
    samples: Sequence[Tuple[str, Number]]


Families = Iterable[Family]


def labels_of(**values: str) -> str:
    """Labels as the format has them."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items())


class MetricsPage:
    """A page that grows; `helps` says of each metric what it is."""

    def __init__(self, helps: Mapping[str, str]) -> None:
        self._helps = dict(helps)
        self._families: Dict[str, List[str]] = {}

    def add(self, name: str, kind: str, labels: str, value: Number, suffix: str = "") -> None:
        """Adds a sample of a metric, which is a `counter`, `gauge` or `histogram`."""
        head = [f"# HELP {name} {self._helps[name]}", f"# TYPE {name} {kind}"]
        family = self._families.setdefault(name, head)
        text = f"{value:.10g}" if isinstance(value, float) else str(value)
        family.append(f"{name}{suffix}{{{labels}}} {text}" if labels else f"{name}{suffix} {text}")

    def add_families(self, families: Families) -> None:
        """Adds metrics that bring their own help."""
        for family in families:
            self._helps[family.name] = family.help
            for labels, value in family.samples:
                self.add(family.name, family.kind, labels, value)

    def add_histogram(self, name: str, labels: str, counted: Counted) -> None:
        """Adds the latencies that were counted, in milliseconds."""
        bounds_ns = [round(bound * 1e6) for bound in _BOUNDS_MS]
        for bound, count in zip(_BOUNDS_MS, cumulative(counted.latencies, bounds_ns)):
            self.add(name, "histogram", f'{labels},le="{bound:g}"', count, "_bucket")
        self.add(name, "histogram", f'{labels},le="+Inf"', counted.totals.success, "_bucket")
        self.add(name, "histogram", labels, counted.totals.success_ns // 1_000_000, "_sum")
        self.add(name, "histogram", labels, counted.totals.success, "_count")

    def text(self) -> str:
        """The page."""
        return "".join(f"{line}\n" for family in self._families.values() for line in family)
