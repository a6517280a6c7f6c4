"""Inputs for a benchmark when the user has none: random values in shapes that the model takes."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigError
from edge_runtime.tensors import DYNAMIC, DType, Shape, Signature, TensorSpec, bfloat16_from_float32, element_count

Array = npt.NDArray[Any]

_MAX_ELEMENTS = 2**28


def random_feeds(specs: Sequence[TensorSpec], shapes: Mapping[str, Shape], seed: int) -> Dict[str, Array]:
    """Normal floats, and zeros and ones for every other data type: valid as token, mask and index alike.

    Strings are "0" and "1".
    """
    rng = np.random.default_rng(seed)
    return {spec.name: _random(rng, spec.dtype, shapes[spec.name]) for spec in specs}


def _random(rng: np.random.Generator, dtype: DType, shape: Shape) -> Array:
    values = rng.standard_normal(shape) if dtype.is_float else rng.integers(0, 2, shape)
    if dtype is DType.BF16:
        return bfloat16_from_float32(np.asarray(values))
    if dtype is DType.BYTES:
        return np.asarray(values).astype("S1").astype(dtype.numpy)
    return np.asarray(values).astype(dtype.numpy)


def profile_shapes(signature: Signature, batch: int | None) -> Dict[str, Shape]:
    """Each input's usual shape, with `batch` samples if the model has a batch axis (None: 1, or the profile's fewest).

    Raises:
        ConfigError: the model has no batch axis, or wasn't built for that many samples.
    """
    rows = signature.profile
    if not signature.max_batch_size:
        if batch is not None:
            raise ConfigError(f"batch {batch}: the model has no batch axis; leave the batch size out")
        return {name: row.optimum for name, row in rows.items()}
    fewest = max(row.minimum[0] for row in rows.values())
    chosen = fewest if batch is None else batch
    if not fewest <= chosen <= signature.max_batch_size:
        raise ConfigError(f"batch {chosen}: expected {fewest} to {signature.max_batch_size}, as the plan was built for")
    return {name: (chosen, *row.optimum[1:]) for name, row in rows.items()}


def served_shapes(specs: Sequence[TensorSpec], batch: int | None) -> Dict[str, Shape]:
    """A shape for each input that a server's metadata describes: `batch` samples (None: 1) where axis 0 is dynamic.

    Raises:
        ConfigError: another axis is dynamic, so that only the user knows its size, or there is no batch axis.
    """
    has_batch_axis = all(spec.shape and spec.shape[0] == DYNAMIC for spec in specs)
    if batch is not None and not has_batch_axis:
        raise ConfigError(f"batch {batch}: the model has no batch axis; leave the batch size out")
    shapes = {spec.name: (batch or 1, *spec.shape[1:]) if has_batch_axis else spec.shape for spec in specs}
    for name, shape in shapes.items():
        if DYNAMIC in shape or element_count(shape) > _MAX_ELEMENTS:
            raise ConfigError(f"input {name!r}: the server says shape {list(shape)}; give the inputs to measure with")
    return shapes
