"""What is measured of a model before it is served: how long runs take, and whether requests may share one."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.engine.engine import Engine, Slot
from edge_runtime.errors import BackendError, DeviceLostError
from edge_runtime.tensors import DType, Shape, fill, float32_from_bfloat16

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Clock = Callable[[], int]

_RUNS = 20
_ENOUGH_NS = 20_000_000  # so long is measured at most, but for the second run


@dataclass(frozen=True)
class RunTime:
    """Nanoseconds of some runs of one plan of a chain at a number of rows: the longest, and the median."""

    segment: int
    rows: int
    longest_ns: int
    usual_ns: int


@dataclass(frozen=True)
class Measured:
    """How long runs take, and whether rows of one run are independent of each other."""

    times: Tuple[RunTime, ...]
    has_independent_rows: bool


def measure(engine: Engine, is_batching: bool, clock: Clock = time.perf_counter_ns) -> Measured:
    """Runs a warmed engine some times at its usual shapes: at one row, and where batches may be, at up to the largest.

    A model that can't run on made-up inputs is left unmeasured, which is logged.
    """
    times: List[RunTime] = []
    largest = engine.signature.max_batch_size
    sizes = _sizes(largest) if is_batching and largest > 1 else [1]
    with engine.slot() as slot:
        try:
            for rows in sizes:
                times += _timed(engine, slot, rows, clock)
            is_independent = is_batching and largest > 1 and _has_independent_rows(engine, slot)
        except DeviceLostError:
            raise
        except BackendError as error:  # a size or a divisor that is fed in can't be zero
            logger.info("model %s: its runs aren't timed before it is served: %s", engine.info.name, error)
            return Measured((), False)
    if is_batching and largest > 1 and not is_independent:
        logger.warning("model %s: rows of one run depend on each other: requests won't share runs", engine.info.name)
    return Measured(tuple(times), is_independent)


def _sizes(largest: int) -> List[int]:
    sizes = [1]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    return sizes if sizes[-1] == largest else [*sizes, largest]


def _shapes(engine: Engine, rows: int) -> Dict[str, Shape]:
    usual = {name: limits.optimum for name, limits in engine.signature.profile.items()}
    if not engine.signature.max_batch_size:
        return usual
    least = max(limits.minimum[0] for limits in engine.signature.profile.values())
    return {name: (max(rows, least), *shape[1:]) for name, shape in usual.items()}


def _timed(engine: Engine, slot: Slot, rows: int, clock: Clock) -> List[RunTime]:
    """The times of some runs, for each segment."""
    count = engine.segment_count
    found: List[List[int]] = [[] for _ in range(count)]
    for _ in range(_RUNS):
        for name, shape in _shapes(engine, rows).items():
            fill(slot.bind(name, shape), 0)
        for segment in range(count):
            start_ns = clock()
            run_segment(slot, segment, count)
            found[segment].append(clock() - start_ns)
        if len(found[0]) > 1 and sum(map(sum, found)) > _ENOUGH_NS:
            break
    return [RunTime(index, rows, max(ns), sorted(ns)[(len(ns) - 1) // 2]) for index, ns in enumerate(found)]


def run_segment(slot: Any, segment: int, count: int) -> Dict[str, Array] | None:
    """Runs one plan of a chain, or the only one; the last one gives the outputs."""
    return slot.run() if count == 1 else slot.run_segment(segment)  # type: ignore[no-any-return]


def _has_independent_rows(engine: Engine, slot: Slot) -> bool:
    """Whether two different rows come out of one run as they come out of two."""
    alone = [_outputs(engine, slot, (value,)) for value in (0, 1)]
    together = _outputs(engine, slot, (0, 1))
    for name, both in together.items():
        rows = [outputs[name] for outputs in alone]
        if both.shape[:1] != (2,) or any(row.shape != (1, *both.shape[1:]) for row in rows):
            return False
        if both.dtype == DType.BYTES.numpy:
            if not np.array_equal(both, np.concatenate(rows)):
                return False
            continue
        expected = _floats(np.concatenate(rows))
        tolerance = 1e-2 * max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
        if not np.allclose(_floats(both), expected, rtol=0, atol=tolerance, equal_nan=True):
            return False
    return True


def _floats(values: Array) -> Array:
    is_bfloat16 = values.dtype == DType.BF16.numpy
    return (float32_from_bfloat16(values) if is_bfloat16 else values).astype(np.float64)


def _outputs(engine: Engine, slot: Slot, values: Sequence[int]) -> Dict[str, Array]:
    for name, shape in _shapes(engine, len(values)).items():
        memory = slot.bind(name, shape)
        for index, value in enumerate(values):
            fill(memory[index : index + 1], value)
    for segment in range(engine.segment_count):
        outputs = run_segment(slot, segment, engine.segment_count)
    return {name: array.copy() for name, array in (outputs or {}).items()}
