"""Samples from .npz files: both forms, targets, and every way in which a file can be wrong."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.npz import NpzSource
from edge_runtime.errors import DataError
from edge_runtime.tensors import DType, TensorSpec

X = TensorSpec("x", DType.FP32, (-1, 3, 4))
IDS = TensorSpec("ids", DType.INT64, (-1, -1))
T = TensorSpec("t", DType.FP32, ())


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path / "data.npz"


def read(path: Path, *inputs: TensorSpec) -> list:
    source = NpzSource(path, inputs)
    samples = list(source)
    assert source.count() == len(samples)
    return samples


def test_rows_of_an_array_of_the_models_rank_are_samples_of_batch_1(tmp_path):
    samples = read(saved(tmp_path, x=numbers(5, 3, 4)), X)
    assert [sample.feeds["x"].shape for sample in samples] == [(1, 3, 4)] * 5
    assert np.array_equal(np.concatenate([sample.feeds["x"] for sample in samples]), numbers(5, 3, 4))


def test_entries_of_an_array_of_one_rank_more_are_whole_feeds(tmp_path):
    samples = read(saved(tmp_path, x=numbers(5, 2, 3, 4)), X)
    assert np.array_equal(np.stack([sample.feeds["x"] for sample in samples]), numbers(5, 2, 3, 4))


def test_a_fixed_batch_takes_that_many_rows_a_sample(tmp_path):
    samples = read(saved(tmp_path, x=numbers(6, 4), label=np.arange(6)), TensorSpec("x", DType.FP32, (2, 4)))
    assert [sample.feeds["x"].shape for sample in samples] == [(2, 4)] * 3
    assert [sample.label.tolist() for sample in samples] == [[0, 1], [2, 3], [4, 5]]


def test_rows_that_dont_fill_a_fixed_batch_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'x' has 5 rows, expected a multiple of the batch, 2"):
        read(saved(tmp_path, x=numbers(5, 4)), TensorSpec("x", DType.FP32, (2, 4)))


@pytest.mark.parametrize("x", [numbers(5, 3, 4), numbers(5, 2, 3, 4)], ids=["rows", "whole feeds"])
def test_a_scalar_input_has_one_number_a_sample_in_both_forms(tmp_path, x):
    samples = read(saved(tmp_path, t=numbers(5), x=x), T, X)
    assert [sample.feeds["t"].shape for sample in samples] == [()] * 5
    assert [float(sample.feeds["t"]) for sample in samples] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_compression_and_memory_order_dont_matter(tmp_path, save, order):
    save(tmp_path / "d.npz", x=np.asarray(numbers(5, 3, 4), order=order))
    rows = [sample.feeds["x"] for sample in read(tmp_path / "d.npz", X)]
    assert np.array_equal(np.concatenate(rows), numbers(5, 3, 4))
    assert all(row.flags.c_contiguous for row in rows)


def test_a_source_can_be_read_again_and_by_two_readers_at_once(tmp_path):
    source = NpzSource(saved(tmp_path, x=numbers(4, 3, 4)), [X])
    pairs = list(zip(source, source))
    assert len(pairs) == 4
    assert all(np.array_equal(a.feeds["x"], b.feeds["x"]) for a, b in pairs)


def test_reading_holds_one_sample_not_the_file(tmp_path):
    path = saved(tmp_path, x=np.zeros((400, 3, 4, 1000), np.float32))
    tracemalloc.start()
    for _ in NpzSource(path, [TensorSpec("x", DType.FP32, (-1, 3, 4, 1000))]):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 10


def test_targets_go_with_their_rows(tmp_path):
    path = saved(tmp_path, **{"x": numbers(3, 3, 4), "label": np.array([7, 8, 9]), "expected/y": numbers(3, 2)})
    samples = read(path, X)
    assert [sample.label.tolist() for sample in samples] == [[7], [8], [9]]
    assert [sample.expected["y"].tolist() for sample in samples] == [[[0, 1]], [[2, 3]], [[4, 5]]]


def test_labels_of_whole_feeds_have_one_row_a_feed(tmp_path):
    samples = read(saved(tmp_path, x=numbers(2, 3, 3, 4), label=np.array([[1, 2, 3], [4, 5, 6]])), X)
    assert [sample.label.tolist() for sample in samples] == [[1, 2, 3], [4, 5, 6]]


def test_inputs_named_like_targets_are_inputs(tmp_path):
    specs = [TensorSpec("label", DType.FP32, (-1, 2)), TensorSpec("expected/y", DType.FP32, (-1, 2))]
    (sample, _) = read(saved(tmp_path, **{"label": numbers(2, 2), "expected/y": numbers(2, 2)}), *specs)
    assert sorted(sample.feeds) == ["expected/y", "label"]
    assert sample.label is None
    assert sample.expected is None


@pytest.mark.parametrize(
    ("given_type", "spec"),
    [
        (np.float64, X),
        (np.float16, X),
        (">f4", X),
        (np.int32, TensorSpec("x", DType.INT64, (-1, 3, 4))),
        (np.uint8, TensorSpec("x", DType.INT32, (-1, 3, 4))),
    ],
)
def test_types_that_the_input_can_hold_are_converted(tmp_path, given_type, spec):
    samples = read(saved(tmp_path, x=numbers(2, 3, 4).astype(given_type)), spec)
    assert {sample.feeds["x"].dtype for sample in samples} == {spec.dtype.numpy}
    assert samples[1].feeds["x"][0, 0].tolist() == [12, 13, 14, 15]


@pytest.mark.parametrize("given_type", [np.int64, np.uint8, np.bool_, np.complex64, "U3", "M8[s]"])
def test_types_that_would_lose_or_mean_something_else_are_refused(tmp_path, given_type):
    with pytest.raises(DataError, match=r"'x' has type .*, expected float32; convert it with .astype\('float32'\)"):
        read(saved(tmp_path, x=np.zeros((2, 3, 4)).astype(given_type)), X)


@pytest.mark.parametrize("given_type", ["int64", "uint32", "bool", "float32"])
def test_an_integer_input_refuses_what_isnt_an_integer_it_can_hold(tmp_path, given_type):
    with pytest.raises(DataError, match=f"type {given_type}, expected int32"):
        read(saved(tmp_path, x=np.zeros((2, 3), given_type)), TensorSpec("x", DType.INT32, (-1, 3)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": numbers(2, 3, 4)}, "no array for the model's input 'x'; valid: X"),
        ({"x": numbers(2, 3, 4), "lable": np.arange(2)}, "array 'lable' is no input .* did you mean 'label'"),
        ({"x": numbers(2, 3, 4), "expected/": numbers(2)}, "array 'expected/' is no input"),
        ({"x": numbers(2, 3)}, r"shape \[2, 3\], expected \[\?, 3, 4\] with the samples along axis 0, or \[\?, \?, 3"),
        ({"x": numbers(2, 4, 4)}, r"a sample has shape \[1, 4, 4\], expected \[\?, 3, 4\]"),
        ({"x": numbers(2, 0, 3, 4)}, r"a sample has shape \[0, 3, 4\]"),
        ({"x": numbers(0, 3, 4)}, "no sample; expected at least one"),
        ({"x": numbers(2, 3, 4), "label": np.arange(3)}, "'label' has shape .3., expected 2 samples"),
        ({"x": numbers(2, 3, 4), "label": np.array(1)}, "'label' has shape .., expected 2 samples"),
        ({"x": numbers(2, 3, 4), "label": numbers(2)}, "'label' has type float32, expected class ids"),
        ({"x": numbers(2, 3, 4), "expected/y": np.array(["a", "b"])}, "'expected/y' has type <U1, expected numbers"),
        ({"x": np.array([[None]])}, "'x' holds Python objects"),
        ({"x": np.zeros(2, [("a", "f4")])}, "'x' holds Python objects or records"),
    ],
)
def test_arrays_that_dont_fit_are_named(tmp_path, arrays, message):
    path = saved(tmp_path, **arrays)
    with pytest.raises(DataError, match=message) as error:
        NpzSource(path, [X]).count()
    assert str(path) in str(error.value)


def test_inputs_with_different_sample_counts_are_refused(tmp_path):
    with pytest.raises(DataError, match="'ids' has 4 samples, expected 3 as in 'x'"):
        read(saved(tmp_path, x=numbers(3, 3, 4), ids=np.zeros((4, 7), np.int64)), X, IDS)


def test_mixed_forms_are_refused(tmp_path):
    with pytest.raises(DataError, match="'ids' has samples along the batch axis, 'x' a whole feed"):
        read(saved(tmp_path, x=numbers(3, 1, 3, 4), ids=np.zeros((3, 7), np.int64)), X, IDS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["x", "expected/y"])
def test_values_that_arent_finite_are_named_with_their_sample(tmp_path, name, value):
    arrays = {"x": numbers(3, 3, 4), "expected/y": numbers(3, 3, 4)}
    arrays[name][2, 1, 3] = value
    with pytest.raises(DataError, match=rf"sample 2: array '{name}' is {value} at index \[0, 1, 3\]"):
        read(saved(tmp_path, **arrays), X)


def test_a_double_beyond_float32_is_refused(tmp_path):
    with pytest.raises(DataError, match="is inf"):
        read(saved(tmp_path, x=np.full((1, 3, 4), 1e300)), X)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("ask", [list, NpzSource.count])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content, ask):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"d\.npz: not a sound \.npz file"):
        ask(NpzSource(tmp_path / "d.npz", [X]))


@pytest.mark.parametrize("ask", [list, NpzSource.count, NpzSource.key, NpzSource.verified_key])
def test_a_missing_file_or_a_folder_is_refused(tmp_path, ask):
    for path in (tmp_path, tmp_path / "absent.npz"):
        with pytest.raises(DataError, match="no such file"):
            ask(NpzSource(path, [X]))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x": b"text"}, "not a sound .npz file"),
        ({"x.npy": b"\x93NUMPY\x03\x00"}, "version"),
        ({"x.npy": None, "x": None}, "'x' is there twice"),
    ],
)
def test_hand_made_archives_are_refused(tmp_path, members, message):
    array = io.BytesIO()
    np.save(array, numbers(2, 3, 4))
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, array.getvalue() if data is None else data)
    with pytest.raises(DataError, match=message):
        list(NpzSource(tmp_path / "d.npz", [X]))


def test_a_header_that_promises_more_than_there_is_allocates_nothing(tmp_path):
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 3, 4)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", array.getvalue())
    with pytest.raises(DataError, match="the file is damaged"):
        list(NpzSource(tmp_path / "d.npz", [X]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_damaged_bytes_are_noticed_or_harmless_but_never_crash(tmp_path, changes, is_compressed):
    (np.savez_compressed if is_compressed else np.savez)(tmp_path / "d.npz", x=numbers(2, 3, 4), label=np.arange(2))
    data = bytearray((tmp_path / "d.npz").read_bytes())
    for position, value in changes:
        data[position % len(data)] = value
    (tmp_path / "d.npz").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            samples = list(NpzSource(tmp_path / "d.npz", [X]))
        except DataError:
            return
    assert np.array_equal(np.concatenate([sample.feeds["x"] for sample in samples]), numbers(2, 3, 4))


def test_the_key_is_the_files_digest(tmp_path):
    source = NpzSource(saved(tmp_path, x=numbers(2, 3, 4)), [X])
    before = source.key()
    assert before == source.key() == source.verified_key()
    saved(tmp_path, x=numbers(2, 3, 4) + 1)
    assert before["kind"] == "npz"
    assert source.key()["sha256"] != before["sha256"]
