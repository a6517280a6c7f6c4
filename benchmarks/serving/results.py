"""What a run measured, and the figures of each round that are made of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, List, Sequence

from serving.latencies import Load, Series, best, figure_of


@dataclass(frozen=True)
class Cell:
    """One load: a server asked for one net on one way; `raw_p50_us` is the engine's alone, at that time."""

    round: int
    server: str
    way: str
    net: str
    concurrency: int
    load: Load
    raw_p50_us: float

    @property
    def overhead_us(self) -> float:
        """What serving adds to the engine's own p50."""
        return self.load.p50_us - self.raw_p50_us


@dataclass(frozen=True)
class Footprint:
    """One start of a server: seconds to the first right answer, memory of all its processes, cores used when idle.

    `foreign_cores` is what everything else on the machine used in that time.
    """

    round: int
    server: str
    start_s: float
    pss_idle_bytes: int
    pss_loaded_bytes: int
    idle_cores: float
    foreign_cores: float
    processes: int


@dataclass(frozen=True)
class Ceiling:
    """Runs a second of the engine alone on all cores, one process each."""

    round: int
    net: str
    per_s: float


@dataclass
class Results:
    """All that was measured; `skipped` says why a server, or a way of one, wasn't."""

    cells: List[Cell] = field(default_factory=list)
    footprints: List[Footprint] = field(default_factory=list)
    ceilings: List[Ceiling] = field(default_factory=list)
    raws: List[Cell] = field(default_factory=list)
    skipped: Dict[str, str] = field(default_factory=dict)

    def series(self, server: str, way: str, net: str, concurrency: int, value: Callable[[Cell], float]) -> Series:
        """A figure of one kind of cell in each round."""
        kind = (server, way, net, concurrency)
        return {
            cell.round: value(cell)
            for cell in self.cells
            if (cell.server, cell.way, cell.net, cell.concurrency) == kind
        }

    def overhead_us(self, server: str, way: str, net: str) -> Series:
        """What serving adds to the p50 of one request at a time."""
        return self.series(server, way, net, 1, lambda cell: cell.overhead_us)

    def per_s(self, servers: Sequence[str], ways: Sequence[str], net: str) -> Series:
        """Requests a second at 16 at once, of the best of these servers and ways."""
        kinds = [(server, way) for server in servers for way in ways]
        return best([self.series(*kind, net, 16, lambda cell: cell.load.per_s) for kind in kinds], is_least=False)

    def tail(self, server: str, way: str, net: str) -> Series:
        """p99 over p50 at 16 at once."""
        return self.series(server, way, net, 16, lambda cell: cell.load.p99_us / cell.load.p50_us)

    def footprint(self, server: str, value: Callable[[Footprint], float]) -> Series:
        """A figure of a server's starts in each round."""
        return {each.round: value(each) for each in self.footprints if each.server == server}

    def ceiling(self, net: str) -> Series:
        """What all cores can do without serving, in each round: the mean of the times it was measured."""
        rounds: Dict[int, List[float]] = {}
        for each in self.ceilings:
            if each.net == net:
                rounds.setdefault(each.round, []).append(each.per_s)
        return {number: sum(found) / len(found) for number, found in rounds.items()}

    def raw_p50_us(self, net: str) -> float | None:
        """The engine's own p50: the median of all times it was measured."""
        values = [cell.load.p50_us for cell in self.raws if cell.net == net]
        figure = figure_of(dict(enumerate(values)))
        return None if figure is None else figure.median

    def record(self) -> Dict[str, Any]:
        """As the JSON file has it."""
        return asdict(self)
