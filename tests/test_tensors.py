from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, InvalidRequestError
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

RANGE = ShapeRange((1, 3, 8), (2, 3, 8), (4, 3, 16))
SIGNATURE = Signature(
    (
        TensorSpec("ids", DType.INT64, (-1, 3, -1), ("batch", "", "sequence")),
        TensorSpec("mask", DType.INT64, (-1, 3, -1), ("batch", "", "sequence")),
    ),
    (TensorSpec("y", DType.FP32, (-1, 2)),),
    {"ids": RANGE, "mask": RANGE},
)


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (DType.INT32, (1, 3, 8), "expected data type INT64, got INT32"),
        (DType.INT64, (5, 3, 8), "batch 5 is over max_batch_size 4"),
        (DType.INT64, (1, 4, 8), "expected shape 1x3x8..2x3x8..4x3x16"),
        (DType.INT64, (1, 3, 0), "expected shape"),
        (DType.INT64, (1, 3), "expected shape"),
        (DType.INT64, (2**64, 3, 8), "over max_batch_size"),
        (DType.INT64, (-1, 3, 8), "expected shape"),
    ],
)
def test_an_input_outside_the_signature_is_refused(dtype: DType, shape: tuple, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        SIGNATURE.check_input("ids", dtype, shape)


def test_an_unknown_name_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(InvalidRequestError, match="valid: ids, mask"):
        SIGNATURE.check_input("idz", DType.INT64, (1, 3, 8))
    with pytest.raises(InvalidRequestError, match="valid: y"):
        SIGNATURE.output("z")


def test_axes_of_one_name_have_one_size() -> None:
    SIGNATURE.check_shapes({"ids": (1, 3, 8), "mask": (1, 3, 8)})
    with pytest.raises(InvalidRequestError, match="axis 'sequence' is 9, but 8 on input 'ids'"):
        SIGNATURE.check_shapes({"ids": (1, 3, 8), "mask": (1, 3, 9)})
    with pytest.raises(InvalidRequestError, match="'mask' is missing"):
        SIGNATURE.check_shapes({"ids": (1, 3, 8)})


def test_max_batch_size_needs_a_dynamic_axis_0_everywhere() -> None:
    assert SIGNATURE.max_batch_size == 4
    fixed = Signature(SIGNATURE.inputs, (TensorSpec("y", DType.FP32, (2,)),), SIGNATURE.profile)
    assert fixed.max_batch_size == 0


@pytest.mark.parametrize("shapes", [((0,), (1,), (1,)), ((2,), (1,), (3,)), ((1,), (4,), (3,)), ((1,), (1, 1), (1,))])
def test_a_shape_range_is_ordered_positive_and_of_one_rank(shapes: tuple) -> None:
    with pytest.raises(ConfigError):
        ShapeRange(*shapes)


@pytest.mark.parametrize("dtype", list(DType))
def test_every_data_type_has_its_numpy_type(dtype: DType) -> None:
    assert DType.from_numpy(np.zeros(1, dtype.numpy).dtype) is dtype


def test_numpy_types_without_a_tensor_type_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="complex128"):
        DType.from_numpy(np.dtype(complex))
