"""When calls ran: how many were done by a moment, and whether sampling keeps step with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DataError

Floats = npt.NDArray[np.float64]

_SHORTEST_S = 1e-6  # a call's least share of time: of less, differences of seconds are known too roughly
_HARMONICS = 4  # up to so many readings a call; with more the shape of a call is seen
_MANY = 50  # calls between two readings
_LOCKED = 0.6  # by chance under one in 1,000 with 20 readings: exp(-n R^2), J. W. S. Rayleigh's test


class CallTimes:
    """Starts and ends of calls, in seconds since `origin_ns`; calls may overlap.

    Args:
        calls_ns: one row (start, end) for each call, in any order, on the clock of the samples.
        origin_ns: what the seconds count from.

    Raises:
        DataError: it isn't that, or a call ends before it starts.
    """

    def __init__(self, calls_ns: Any, origin_ns: int) -> None:
        rows = np.asarray(calls_ns, np.int64)
        rows = rows.reshape(-1, 2) if rows.size == 0 else rows
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise DataError(f"calls have shape {list(rows.shape)}; expected a start and an end for each: [n, 2]")
        starts, ends = (rows - origin_ns).T / 1e9
        if np.any(ends < starts):
            raise DataError(f"call {int(np.argmax(ends < starts))} ends before it starts; expected times of one clock")
        self._starts_s: Floats = np.sort(starts)
        self._pace(starts, np.maximum(ends, starts + _SHORTEST_S))

    def __len__(self) -> int:
        return len(self._starts_s)

    @property
    def first_start_s(self) -> float:
        """When the first call started; of no calls there is none."""
        return float(self._starts_s[0])

    @property
    def last_end_s(self) -> float:
        """When the last call ended."""
        return float(self._moments_s[-1])

    def done_by(self, at_s: Floats) -> Floats:
        """How many calls were done at each moment; one under way counts by the share of its time that is over."""
        done: Floats = np.interp(at_s, self._moments_s, self._done)
        return done

    def is_in_step(self, at_s: Floats) -> bool:
        """Whether moments fall at the same one to four points of each call again and again.

        Not looked at where over 50 calls go between two moments: a sensor averages over some of them at least. And such
        calls are made in step by Python itself, whose lock the thread that samples gets at one point of a short call.
        """
        index = np.searchsorted(self._starts_s, at_s, "right") - 1
        inside = (index >= 0) & (index < len(self._starts_s) - 1)
        start, end = self._starts_s[index[inside]], self._starts_s[index[inside] + 1]
        if not len(start) or len(at_s) < 2 or np.median(end - start) * _MANY < np.median(np.diff(at_s)):
            return False
        phases = 2j * np.pi * (at_s[inside] - start) / (end - start)
        return any(abs(np.exp(k * phases).mean()) > _LOCKED for k in range(1, _HARMONICS + 1))

    def _pace(self, starts: Floats, ends: Floats) -> None:
        """Calls done as a piecewise linear function: a call adds one over its duration to the slope while it runs."""
        pace = 1 / (ends - starts)
        moments, slopes = np.concatenate([starts, ends]), np.concatenate([pace, -pace])
        order = np.argsort(moments, kind="stable")
        self._moments_s: Floats = moments[order]
        slope = np.cumsum(slopes[order])[:-1]
        self._done: Floats = np.concatenate([[0.0], np.cumsum(slope * np.diff(self._moments_s))])
