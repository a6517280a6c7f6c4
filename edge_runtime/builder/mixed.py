"""Which groups of nodes to leave in float until an INT8 plan is accurate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, FrozenSet, List, Sequence

# What a group costs in float beside its multiply-accumulates, as a share of the model's: conversions at its edges.
_EDGE_COST = 1e-3
_RETURNS = 6


@dataclass(frozen=True)
class GroupError:
    """A group of nodes, the error that quantising it alone makes at the outputs, and its share of the work.

    `error` is the error's energy over the float outputs' energy, of the worst output; infinite if that isn't finite.
    `macs` is the group's share of the model's multiply-accumulates.
    """

    group: str
    kind: str
    nodes: FrozenSet[str]
    error: float
    macs: float

    @property
    def gain(self) -> float:
        """Error that goes away for each unit of speed that is lost, when the group stays in float."""
        return self.error / (self.macs + _EDGE_COST)


def kept_float(
    errors: Sequence[GroupError], passes: Callable[[FrozenSet[str]], bool], min_int8: float
) -> FrozenSet[str] | None:
    """The nodes to leave in float so that `passes(nodes)` holds; None if that takes too many.

    Groups are left in float in the order of `gain`, which assumes that errors add up: as many as it takes, found by
    doubling and halving, for each call of `passes` measures a plan. Then the costliest of them are tried in INT8
    again, one by one. The groups in INT8 keep at least `min_int8` of the multiply-accumulates of all groups.
    """
    ordered = _affordable(sorted(errors, key=lambda group: (-group.gain, group.macs, group.group)), min_int8)
    count = _fewest(lambda count: passes(_nodes(ordered[:count])), len(ordered))
    if count is None:
        return None
    kept = ordered[:count]
    for group in sorted(kept[:-1], key=lambda group: -group.macs)[:_RETURNS]:
        fewer = [other for other in kept if other is not group]
        if passes(_nodes(fewer)):
            kept = fewer
    return _nodes(kept)


def _affordable(ordered: Sequence[GroupError], min_int8: float) -> List[GroupError]:
    """The groups, in order, that may be in float together; one at least stays in INT8."""
    room = (1 - min_int8) * sum(group.macs for group in ordered)
    found = []
    for group in ordered:
        if group.macs <= room:
            found.append(group)
            room -= group.macs
    return found if len(found) < len(ordered) else found[:-1]


def _fewest(passes: Callable[[int], bool], most: int) -> int | None:
    """The least count from 1 to `most` that passes, if passing is monotone; a passing one in any case."""
    low, high = 0, min(1, most)
    while high and not passes(high):
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    if not high:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _nodes(groups: Sequence[GroupError]) -> FrozenSet[str]:
    return frozenset(node for group in groups for node in group.nodes)
