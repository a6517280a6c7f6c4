"""A run: rounds over all servers, each round in the reverse order of the last, the engine alone before each server."""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence, TypeVar

from serving import raw
from serving.nets import Net
from serving.results import Cell, Results
from serving.servers import Server
from serving.turn import Plan, Turn, take_turn
from serving.ways import UnavailableError

Say = Callable[[str], None]
T = TypeVar("T")


def order_of(round_number: int, names: Sequence[T]) -> List[T]:
    """The order of a round, counted from 0: A B, B A, A B, ..."""
    return list(names) if round_number % 2 == 0 else list(reversed(names))


def measure(servers: Sequence[Server], nets: Sequence[Net], plan: Plan, results: Results, say: Say) -> None:
    """All rounds, into `results`: what is there is whole whenever this is interrupted."""
    for number in range(plan.rounds):
        for server in order_of(number, servers):
            if server.name in results.skipped:
                continue
            say(f"round {number + 1} of {plan.rounds}: {server.label}")
            known = set(results.skipped)
            raws = measure_raw(nets, plan, number, server, results)
            try:
                take_turn(Turn(number, server, nets, plan, results, raws))
            except UnavailableError as error:
                results.skipped[server.name] = str(error)
            except RuntimeError as error:
                results.skipped[f"{server.name}, round {number + 1}"] = str(error)
            for what in sorted(set(results.skipped) - known):
                say(f"  {what}: {results.skipped[what]}")


def measure_raw(nets: Sequence[Net], plan: Plan, number: int, server: Server, results: Results) -> Dict[str, float]:
    """The engine's own p50 in us, by net."""
    loads = raw.measure(nets, plan.seconds)
    results.raws += [Cell(number, server.name, "raw", name, 1, load, load.p50_us) for name, load in loads.items()]
    return {name: load.p50_us for name, load in loads.items()}
