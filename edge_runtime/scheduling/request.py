"""A request on its way through the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Union

import numpy as np

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.tensors import Feeds

Outputs = Mapping[str, "np.ndarray[Any, Any]"]
Outcome = Union[Outputs, EdgeRuntimeError]


@dataclass(eq=False)
class Request:
    """Checked inputs, and where the outcome goes.

    `emit` is called exactly once, by the thread that ran the request or gave it up. Outputs are views on the slot's
    memory and hold until `emit` returns. `is_cancelled` may be set by another thread until the run begins.
    """

    inputs: Feeds
    emit: Callable[[Outcome], None]
    arrival_ns: int
    rows: int = 1
    is_cancelled: bool = field(default=False, init=False)

    def cancel(self) -> None:
        """Says that nobody waits any more: if it doesn't run yet, it won't."""
        self.is_cancelled = True
