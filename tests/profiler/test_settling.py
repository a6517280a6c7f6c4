from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.profiler.settling import settling

MS = 1_000_000


@pytest.mark.parametrize(
    ("latencies_ms", "calls"),
    [
        ([2] * 20, 0),
        ([20, 9, 9, 9] + [2] * 30, 2),
        ([9] * 8 + [2] * 30, 6),
        ([2, 2, 2, 50] + [2] * 30, 0),
        ([50, *range(40, 0, -1)], None),
        ([2] * 9, None),
        ([7], None),
    ],
)
def test_calls_before_latency_is_what_it_stays(latencies_ms, calls):
    found = settling(np.array(latencies_ms) * MS)
    assert found.calls == calls
    assert found.slowest_ms == max(latencies_ms)
    assert ("raise --warm-up" in found.text) == (calls is None)
