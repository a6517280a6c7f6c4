"""Which model gives way to another that needs memory: the one that was idle longest, if that is of any use."""

from __future__ import annotations

from typing import Mapping, Sequence

from edge_runtime.server.memory.ledger import Need
from edge_runtime.server.models import ServedModel


def next_to_give_way(
    models: Sequence[ServedModel], needs: Mapping[str, Need], short_nbytes: int, idle_s: float
) -> ServedModel | None:
    """The model that was idle longest, and for `idle_s` at least; None if all those together don't have what is short.

    Pinned models never give way, nor do those of which anything is under way.
    """
    idle = {each: each.idle_ns for each in models if not each.is_pinned and each.name in needs}
    candidates = [each for each, idle_ns in idle.items() if idle_ns and idle_ns >= idle_s * 1e9]
    if sum(needs[each.name].nbytes for each in candidates) < short_nbytes:
        return None
    return max(candidates, key=lambda each: idle[each]) if candidates else None
