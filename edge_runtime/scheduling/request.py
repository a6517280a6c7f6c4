"""A request on its way through the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping

import numpy as np

from edge_runtime.tensors import Feeds

Outputs = Mapping[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True, eq=False)
class Request:
    """Checked inputs, and what becomes of the outcome.

    `encode` is called on the thread that ran the request, with outputs that are views on the slot's memory and hold
    until it returns. `emit` is then called once, on any thread, with what `encode` made or with an `EdgeRuntimeError`;
    never for a request that was withdrawn.
    """

    inputs: Feeds
    encode: Callable[[Outputs], Any]
    emit: Callable[[Any], None]
    arrival_ns: int
    rows: int = 1
