"""A request on its way through the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Hashable, Mapping

import numpy as np

from edge_runtime.tensors import Feeds

DELIVERED: Any = object()
Outputs = Mapping[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class Period:
    """A declared periodic stream: its requests arrive at least `period_ns` apart, each with `deadline_ns` from then on.

    `key` names it among all streams of the server.
    """

    key: Hashable
    period_ns: int
    deadline_ns: int


class Request:
    """Checked inputs of one inference, when it must be done, and what becomes of the outcome.

    `encode` is called on the thread that ran the request, with outputs that are views on the slot's memory and hold
    until it returns. `emit` is then called once, on the thread of the scheduler's owner, with what `encode` made or
    with an `EdgeRuntimeError`; never for a request that was withdrawn.

    `deliver`, where there is one, is called before that on the thread that ran the request, if that isn't the owner's:
    it sends what it can of what `encode` made, and gives what is left, which is what `emit` then gets; `DELIVERED`, if
    nothing is. There is no hurry with that `emit` then.

    Attributes:
        model: whose service times count.
        inputs: arrays by name, views on the transport's own buffer, which holds until `emit` is called, or the
            answer delivered.
        rows: how many samples, at least 1.
        group: requests of one model and one group (not None) may share a run, along axis 0.
        arrival_ns: when its first byte came, by the scheduler's clock.
        deadline_ns: when its answer must be there, by the same clock; None if there is no hurry.
        priority: 1 is served first; 0 is the default, which is served last.
        stream: the periodic stream that it belongs to.
        client: whose it is, among all who share a model fairly.
        is_counted: whether it is somebody's: what the server asks itself is no part of any statistics.
        is_light: whether `encode` takes some microseconds only.
        slot: memory of its own that holds its inputs already and takes its outputs (an engine's slot, beside those of
            the pool); None: a slot of the pool, into which the inputs are copied.
    """

    __slots__ = (
        "arrival_ns",
        "client",
        "deadline_ns",
        "deliver",
        "emit",
        "encode",
        "group",
        "inputs",
        "is_counted",
        "is_light",
        "model",
        "priority",
        "rows",
        "slot",
        "stream",
    )

    def __init__(
        self,
        model: str,
        inputs: Feeds,
        encode: Callable[[Outputs], Any],
        emit: Callable[[Any], None],
        arrival_ns: int,
        rows: int = 1,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.encode = encode
        self.emit = emit
        self.arrival_ns = arrival_ns
        self.rows = rows
        self.client: Hashable = None
        self.group: Hashable | None = None
        self.deadline_ns: int | None = None
        self.priority = 0
        self.stream: Period | None = None
        self.slot: Any = None
        self.is_counted = True
        self.is_light = True
        self.deliver: Callable[[Any], Any] | None = None
