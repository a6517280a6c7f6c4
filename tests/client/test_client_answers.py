from __future__ import annotations

import json

import numpy as np
import pytest
from fakes.dtypes import PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.client.answers import (
    Origin,
    array_from_bytes,
    array_from_list,
    input_specs,
    json_object,
    tensor_rows,
    tensor_spec,
)
from edge_runtime.errors import RemoteError
from edge_runtime.tensors import DType, TensorSpec

ORIGIN = Origin("http://made-up:1", 200)


def octets(data: bytes):
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("text", [b"", b"nope", b"[1]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"a": 1} trailing'])
def test_what_is_no_json_object_is_a_broken_answer(text):
    with pytest.raises(RemoteError, match="http://made-up:1: broken answer") as caught:
        json_object(octets(text), ORIGIN)
    assert caught.value.status == 200


@pytest.mark.parametrize(
    "rows",
    [None, {}, "x", [1], [{}], [{"name": 1}], [{"name": "a"}, {"name": "a"}], [{"name": ["a"]}]],
)
def test_malformed_descriptions_are_a_broken_answer(rows):
    with pytest.raises(RemoteError, match="broken answer"):
        tensor_rows({"outputs": rows}, "outputs", ORIGIN)


@pytest.mark.parametrize(
    "change",
    [
        {"datatype": "STRING"},
        {"datatype": None},
        {"datatype": ["FP32"]},
        {"shape": None},
        {"shape": "1"},
        {"shape": [-1]},
        {"shape": [1.0]},
        {"shape": [True]},
        {"shape": [2**63]},
    ],
)
def test_an_unknown_data_type_or_shape_is_a_broken_answer(change):
    row = {"name": "y", "datatype": "FP32", "shape": [1], **change}
    with pytest.raises(RemoteError, match="broken answer: tensor 'y'"):
        tensor_spec(row, 0, ORIGIN)


def test_inputs_are_read_from_metadata():
    metadata = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [-1, 3]}]}
    assert input_specs(metadata, "s") == (TensorSpec("x", DType.INT64, (-1, 3)),)
    with pytest.raises(RemoteError):
        input_specs({}, "s")


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_bytes_become_an_array_that_the_caller_owns(dtype, shape):
    value = np.ones(shape, dtype.numpy)
    data = octets(b"\0" + value.tobytes())[1:]
    result = array_from_bytes(data, TensorSpec("y", dtype, shape), ORIGIN)
    np.testing.assert_array_equal(result, value)
    assert result.dtype == dtype.numpy
    assert result.flags.writeable
    assert result.flags.aligned


@pytest.mark.parametrize("nbytes", [0, 11, 13, 24])
def test_another_number_of_bytes_is_a_broken_answer(nbytes):
    with pytest.raises(RemoteError, match=f"has {nbytes} bytes, not 12"):
        array_from_bytes(octets(bytes(nbytes)), TensorSpec("y", DType.FP32, (3,)), ORIGIN)


def test_a_huge_shape_is_compared_and_never_allocated():
    with pytest.raises(RemoteError, match="broken answer"):
        array_from_bytes(octets(b""), TensorSpec("y", DType.FP32, (2**62, 2**62)), ORIGIN)


def test_a_bool_is_true_for_any_byte_but_zero():
    assert array_from_bytes(octets(b"\0\1\2"), TensorSpec("y", DType.BOOL, (3,)), ORIGIN).tolist() == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("data", "dtype", "shape", "expected"),
    [
        ([1, 2.5], DType.FP32, (2,), [1, 2.5]),
        ([[1, 2], [3, 4]], DType.UINT8, (2, 2), [[1, 2], [3, 4]]),
        ([1, 2, 3, 4], DType.INT64, (2, 2), [[1, 2], [3, 4]]),
        ([True, False], DType.BOOL, (2,), [True, False]),
        ([2**64 - 1], DType.UINT64, (1,), [2**64 - 1]),
        ([[1], [2**64 - 1]], DType.UINT64, (2, 1), [[1], [2**64 - 1]]),
        ([7], DType.INT32, (), 7),
        ([], DType.FP16, (0, 3), np.zeros((0, 3)).tolist()),
    ],
)
def test_lists_become_arrays(data, dtype, shape, expected):
    result = array_from_list(data, TensorSpec("y", dtype, shape), ORIGIN)
    assert (result.tolist(), result.dtype, result.shape) == (expected, dtype.numpy, shape)


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (None, DType.FP32),
        ({}, DType.FP32),
        ("ab", DType.FP32),
        ([1], DType.FP32),
        ([[1], [2, 3]], DType.FP32),
        ([1, "2"], DType.FP32),
        ([1, None], DType.FP32),
        ([1, 2.5], DType.INT32),
        ([1, 256], DType.UINT8),
        ([-1, 1], DType.UINT64),
        ([2**64, 1], DType.UINT64),
        ([2**64 - 1, -1], DType.UINT64),
        ([2**64 - 1, 1.5], DType.UINT64),
        ([1, 1], DType.BOOL),
        ([10**400, 1], DType.FP32),
    ],
)
def test_lists_that_are_no_such_tensor_are_a_broken_answer(data, dtype):
    with pytest.raises(RemoteError, match="broken answer: output 'y'"):
        array_from_list(data, TensorSpec("y", dtype, (2,)), ORIGIN)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "datatype", "shape"]), inner),
    max_leaves=8,
)


@given(content=st.dictionaries(st.sampled_from(["inputs", "outputs"]), JSON), data=JSON)
@settings(max_examples=150, deadline=None)
def test_nothing_but_a_remote_error_comes_of_any_json(content, data):
    try:
        input_specs(json_object(octets(json.dumps(content).encode()), ORIGIN), "s")
        array_from_list(data, TensorSpec("y", DType.INT8, (2,)), ORIGIN)
    except RemoteError:
        pass


TWO = TensorSpec("y", DType.BYTES, (2,))


def test_elements_become_bytes_in_an_array_of_objects():
    result = array_from_bytes(octets(b"\1\0\0\0a\0\0\0\0"), TWO, ORIGIN)
    assert (result.dtype, result.tolist()) == (np.dtype(object), [b"a", b""])


@pytest.mark.parametrize("data", [b"", b"\1\0\0\0a", b"\1\0\0\0a\2\0\0\0b", b"\0" * 9, b"\xff" * 8])
def test_elements_that_do_not_fit_are_a_broken_answer(data):
    with pytest.raises(RemoteError, match="broken answer: output 'y': "):
        array_from_bytes(octets(data), TWO, ORIGIN)


def test_elements_of_a_huge_shape_are_never_made():
    with pytest.raises(RemoteError, match="broken answer"):
        array_from_bytes(octets(bytes(16)), TensorSpec("y", DType.BYTES, (2**62, 2**62)), ORIGIN)


@pytest.mark.parametrize("data", [["a", "é"], [["a"], ["é"]], [b"a", "é".encode()]])
def test_a_list_of_text_or_bytes_becomes_bytes(data):
    assert array_from_list(data, TWO, ORIGIN).tolist() == [b"a", "é".encode()]


@pytest.mark.parametrize("data", [None, "ab", ["a"], ["a", 1], [["a"], "b"], ["a", "b", "c"], []])
def test_a_list_that_is_no_such_text_is_a_broken_answer(data):
    with pytest.raises(RemoteError, match="broken answer: output 'y'"):
        array_from_list(data, TWO, ORIGIN)


def test_bfloat16_becomes_floats():
    result = array_from_bytes(octets(b"\x80\x3f\0\xc0"), TensorSpec("y", DType.BF16, (2, 1)), ORIGIN)
    assert (result.dtype, result.tolist()) == (np.float32, [[1], [-2]])
    with pytest.raises(RemoteError, match="its data isn't BF16"):
        array_from_list([1.0], TensorSpec("y", DType.BF16, (1,)), ORIGIN)
