from __future__ import annotations

import numpy as np
import pytest
from fakes.dtypes import PLAIN

from edge_runtime.client.request import infer_request
from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, bfloat16_from_float32


def tensor(value):
    (only,) = infer_request("m", {"x": value}, None, None, None).inputs
    return only


@pytest.mark.parametrize("dtype", PLAIN)
def test_every_data_type_is_sent_as_its_bytes(dtype):
    value = np.array([[0, 1], [1, 0]], dtype.numpy)
    sent = tensor(value)
    assert (sent.dtype, sent.shape, sent.data.tobytes()) == (dtype, (2, 2), value.tobytes())


@pytest.mark.parametrize("kind", ["u2", "i4", "u8", "f2", "f4", "f8"])
def test_big_endian_arrays_are_sent_little_endian(kind):
    sent = tensor(np.array([1, 2, 3], ">" + kind))
    assert sent.data.tobytes() == np.array([1, 2, 3], "<" + kind).tobytes()


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12)[::-2],
        np.broadcast_to(np.float32(2), (2, 3)),
        np.asfortranarray([[1, 2], [3, 4]]),
    ],
)
def test_non_contiguous_arrays_are_sent_in_c_order(value):
    sent = tensor(value)
    assert (sent.shape, sent.data.tobytes()) == (value.shape, value.tobytes())


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_scalars_and_empty_arrays_keep_their_shape(shape):
    sent = tensor(np.ones(shape, np.float32))
    assert (sent.shape, sent.data.size) == (shape, 4 * int(np.prod(shape)))


def test_a_fitting_array_is_not_copied():
    value = np.arange(6, dtype=np.float32)
    assert np.shares_memory(tensor(value).data, value)


@pytest.mark.parametrize("value", [[1.0], 1.0, None, b"x", np.float32(1)])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(InvalidRequestError, match="input 'x': expected a NumPy array"):
        tensor(value)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(2, complex),
        np.zeros(1, "M8[s]"),
        np.zeros(1, "f4,i4"),
        np.zeros(1, np.longdouble),
    ],
)
def test_arrays_that_no_tensor_can_hold_are_refused(value):
    with pytest.raises(InvalidRequestError, match=r"input 'x': data type .* has no tensor type"):
        tensor(value)


@pytest.mark.parametrize(
    "value",
    [np.array(["é", "ab"]), np.array(["é".encode(), b"ab"]), np.array(["é", b"ab"], object), np.array("é")],
    ids=["text", "bytes", "objects", "scalar"],
)
def test_strings_are_sent_as_lengths_and_utf8(value):
    sent = tensor(value)
    expected = b"\2\0\0\0\xc3\xa9" + (b"\2\0\0\0ab" if value.shape else b"")
    assert (sent.dtype, sent.shape, sent.data.tobytes()) == (DType.BYTES, value.shape, expected)


@pytest.mark.parametrize(("value", "text"), [(None, "got NoneType"), (1, "got int"), ("\ud800", "sent as UTF-8")])
def test_an_element_that_is_no_string_is_refused_by_its_index(value, text):
    with pytest.raises(InvalidRequestError, match=f"input 'x': element 1.*{text}"):
        tensor(np.array(["a", value], object))


def test_bfloat16_is_sent_as_its_bits():
    sent = tensor(bfloat16_from_float32(np.array([[1.0, -2.0]], np.float32)))
    assert (sent.dtype, sent.shape, sent.data.tobytes()) == (DType.BF16, (1, 2), b"\x80\x3f\0\xc0")


def test_bfloat16_of_ml_dtypes_is_sent_too():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    sent = tensor(np.array([1.0], ml_dtypes.bfloat16))
    assert (sent.dtype, sent.data.tobytes()) == (DType.BF16, b"\x80\x3f")


@pytest.mark.parametrize(
    "arguments",
    [
        (1, {}, None, None, None),
        ("m", {2: np.zeros(1)}, None, None, None),
        ("m", {}, [3], None, None),
        ("m", {}, None, 1, None),
        ("m", {}, None, None, 5),
        ("\ud800", {}, None, None, None),
    ],
)
def test_names_that_are_no_sendable_strings_are_refused(arguments):
    with pytest.raises(InvalidRequestError):
        infer_request(*arguments)
