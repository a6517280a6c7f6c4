"""Tables of made-up calls."""

from __future__ import annotations

import numpy as np

from edge_runtime.profiler.calls import CallTable
from edge_runtime.profiler.stages import ARRIVAL, COMPUTED, COPIED_IN, END, READY, WAITED, WIDTH

MS = 1_000_000


def table(latencies_ms, gap_ms=0.0, delays_ms=None, queued_ms=None) -> CallTable:
    """Calls one after another, `gap_ms` apart; all of a call but its queue is compute."""
    stamps, now_ns = np.zeros((len(latencies_ms), WIDTH), np.int64), 0
    for row, latency_ms in enumerate(latencies_ms):
        queued_ns = round((queued_ms or {}).get(row, 0) * MS)
        stamps[row, ARRIVAL] = now_ns
        stamps[row, READY : COPIED_IN + 1] = now_ns + queued_ns
        now_ns += round(latency_ms * MS)
        stamps[row, COMPUTED : END + 1] = now_ns
        stamps[row, WAITED] = -1 if delays_ms is None else round(delays_ms.get(row, 0) * MS)
        now_ns += round(gap_ms * MS)
    return CallTable(stamps, np.zeros(len(stamps), np.int32))
