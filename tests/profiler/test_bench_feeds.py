from __future__ import annotations

import numpy as np
import pytest
from fakes.dtypes import PLAIN

from edge_runtime.errors import ConfigError
from edge_runtime.profiler.feeds import profile_shapes, random_feeds, served_shapes
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec


def signature(minimum=(1, 3), optimum=(4, 3), maximum=(8, 3)):
    limits = ShapeRange(minimum, optimum, maximum)
    specs = [TensorSpec(name, DType.FP32, limits.spec_shape) for name in "xy"]
    return Signature((specs[0],), (specs[1],), {"x": limits})


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize("shape", [(), (0,), (50, 2)])
def test_random_inputs_have_the_type_and_shape_and_are_the_same_for_a_seed(dtype, shape):
    spec = TensorSpec("x", dtype, shape)
    first, again = (random_feeds((spec,), {"x": shape}, seed=3)["x"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first.dtype, first.shape) == (dtype.numpy, shape)
    if not dtype.is_float:
        assert set(first.ravel().tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("minimum", "batch", "expected"), [((1, 3), None, 1), ((2, 3), None, 2), ((1, 3), 8, 8), ((2, 3), 2, 2)]
)
def test_a_batch_is_the_one_given_or_the_smallest(minimum, batch, expected):
    assert profile_shapes(signature(minimum), batch) == {"x": (expected, 3)}


def test_a_model_without_a_batch_axis_has_its_usual_shape():
    fixed = signature((2, 1), (2, 5), (2, 9))
    assert profile_shapes(fixed, None) == {"x": (2, 5)}
    with pytest.raises(ConfigError, match="no batch axis"):
        profile_shapes(fixed, 2)


@pytest.mark.parametrize("batch", [1, 9])
def test_a_batch_outside_the_profile_is_refused(batch):
    with pytest.raises(ConfigError, match=f"batch {batch}: expected 2 to 8"):
        profile_shapes(signature((2, 3)), batch)


@pytest.mark.parametrize(
    ("shapes", "batch", "expected"),
    [
        ([(-1, 3)], None, [(1, 3)]),
        ([(-1, 3), (-1,)], 5, [(5, 3), (5,)]),
        ([(2, 3)], None, [(2, 3)]),
        ([()], None, [()]),
    ],
)
def test_served_shapes_take_a_batch(shapes, batch, expected):
    specs = [TensorSpec(f"x{i}", DType.FP32, shape) for i, shape in enumerate(shapes)]
    assert list(served_shapes(specs, batch).values()) == expected


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [([(-1, -1)], None), ([(-1, 3), (3, 1)], None), ([(2, 3)], 2), ([()], 1), ([(-1, 2**62)], None)],
)
def test_shapes_that_only_the_user_knows_are_refused(shapes, batch):
    specs = [TensorSpec(f"x{i}", DType.FP32, shape) for i, shape in enumerate(shapes)]
    with pytest.raises(ConfigError):
        served_shapes(specs, batch)
