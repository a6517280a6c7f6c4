"""What is told of models' memory: in the metrics and on the live page."""

from __future__ import annotations

from typing import Any, Dict

from edge_runtime.server.memory.ledger import MemoryLedger
from edge_runtime.server.prometheus import Families, Family, labels_of


def memory_families(ledger: MemoryLedger) -> Families:
    """What loaded models need, and what loads keep to."""
    needs = [
        (labels_of(model=name, how="measured" if need.is_measured else "estimated"), need.nbytes)
        for name, need in sorted(ledger.held.items())
    ]
    reserve = [("", ledger.limits.reserve_nbytes)]
    yield Family("edge_runtime_model_memory_need_bytes", "gauge", "Memory that a loaded model needs", needs)
    yield Family("edge_runtime_memory_reserve_bytes", "gauge", "Memory that loads leave free", reserve)
    if ledger.limits.budget_nbytes is not None:
        budget = [("", ledger.limits.budget_nbytes)]
        yield Family("edge_runtime_memory_budget_bytes", "gauge", "Memory that all models may need", budget)


def memory_record(ledger: MemoryLedger) -> Dict[str, Any]:
    """The same, as JSON has it."""
    return {
        "needed_nbytes": sum(need.nbytes for need in ledger.held.values()),
        "reserve_nbytes": ledger.limits.reserve_nbytes,
        "budget_nbytes": ledger.limits.budget_nbytes,
    }
