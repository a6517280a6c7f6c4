from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, InvalidRequestError
from edge_runtime.tensors import (
    DType,
    ShapeRange,
    Signature,
    TensorSpec,
    bfloat16_from_float32,
    filled,
    float32_from_bfloat16,
)

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


def test_elements_of_bytes_have_a_least_size_and_bfloat16_is_not_uint16() -> None:
    assert (DType.BYTES.itemsize, DType.BF16.itemsize) == (4, 2)
    assert DType.from_numpy(np.dtype(np.uint16)) is DType.UINT16


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (-2.5, 0xC020),
        (1 + 2**-8, 0x3F80),  # half way, to the even one
        (1 + 3 * 2**-8, 0x3F82),
        (1 + 2**-8 + 2**-20, 0x3F81),
        (3.4e38, 0x7F80),
        (-np.inf, 0xFF80),
        (1e-40, 0x0001),
        (-0.0, 0x8000),
    ],
)
def test_floats_become_the_nearest_bfloat16(value: float, bits: int) -> None:
    assert bfloat16_from_float32(np.array(value, np.float32)).view(np.uint16) == bits


def test_every_bfloat16_is_a_float_and_back() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(DType.BF16.numpy).reshape(256, 256)
    floats = float32_from_bfloat16(values)
    again = bfloat16_from_float32(floats).view(np.uint16)
    is_nan = np.isnan(floats)
    np.testing.assert_array_equal(again[~is_nan], values.view(np.uint16)[~is_nan])
    assert np.isnan(float32_from_bfloat16(bfloat16_from_float32(floats[is_nan]))).all()


@pytest.mark.parametrize(
    ("dtype", "expected"), [(DType.BYTES, [b"", b"1"]), (DType.INT8, [0, 1]), (DType.BOOL, [0, 1])]
)
def test_memory_is_filled_with_0_and_1_of_its_type(dtype: DType, expected: list) -> None:
    assert [filled((2,), dtype, number).tolist() for number in (0, 1)] == [[value] * 2 for value in expected]


def test_memory_of_bfloat16_is_filled_with_its_own_0_and_1() -> None:
    assert [float32_from_bfloat16(filled((2, 1), DType.BF16, n)).tolist() for n in (0, 1)] == [[[0], [0]], [[1], [1]]]
