"""Fingerprints, overlap, parts and batches of samples."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.examination import examined
from edge_runtime.calibration.npz import NpzSource
from edge_runtime.calibration.sample import BLANK, Sample, content_sha256, row_fingerprints
from edge_runtime.calibration.samples import batched, split
from edge_runtime.errors import DataError
from edge_runtime.tensors import DType, TensorSpec


class Listed:
    def __init__(self, samples: list[Sample], knows_count: bool = True) -> None:
        self.samples = samples
        self.knows_count = knows_count

    def key(self) -> dict[str, Any]:
        return {"kind": "list"}

    def verified_key(self, content: str | None = None) -> dict[str, Any]:
        return {"kind": "list", "verified": content or "read"}

    def count(self) -> int | None:
        return len(self.samples) if self.knows_count else None

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def row(value: float, **more: Any) -> Sample:
    return Sample({"x": np.full((1, 2), value, np.float32)}, **more)


def fingerprints(samples) -> Iterator[bytes]:
    return (fingerprint for sample in samples for fingerprint in row_fingerprints(sample))


def overlap(calibration, held_out) -> int:
    return examined(held_out).rows_in(examined(calibration))


def rows_of(samples) -> list[float]:
    return [float(value) for sample in samples for value in sample.feeds["x"][:, 0]]


def test_fingerprints_are_of_rows_so_batching_doesnt_change_them():
    samples = [row(value) for value in (1, 2, 3)]
    assert list(fingerprints(batched(samples, 2))) == list(fingerprints(samples))
    assert len(set(fingerprints(samples))) == 3


def test_fingerprints_tell_types_names_and_shapes_apart():
    ones = np.ones((1, 4), np.float32)
    feeds = [{"x": ones}, {"y": ones}, {"x": ones.astype(np.int32)}, {"x": ones.reshape(1, 2, 2)}]
    assert len({next(fingerprints([Sample(feed)])) for feed in feeds}) == 4


@pytest.mark.parametrize(
    "feeds",
    [{"x": np.zeros((3, 2)), "t": np.zeros(())}, {"x": np.zeros((3, 2)), "y": np.zeros((2, 2))}],
    ids=["a scalar", "other rows"],
)
def test_a_feed_without_a_common_axis_has_one_fingerprint(feeds):
    assert len(list(fingerprints([Sample(feeds)]))) == 1


def test_axis_0_of_a_model_without_batch_axis_isnt_taken_apart(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3, 4), np.float32))
    source = NpzSource(tmp_path / "d.npz", [TensorSpec("x", DType.FP32, (3, 4))])
    assert len(list(fingerprints(source))) == 2


def test_overlap_counts_held_out_rows_that_are_calibration_rows():
    assert overlap([row(1), row(2)], [row(2), row(3), row(2)]) == 2
    assert overlap([row(1)], [row(2)]) == 0


def test_numbers_that_are_equal_have_one_fingerprint():
    assert overlap([row(0.0, label=None), row(1)], [row(-0.0), row(1)]) == 1
    pairs = [np.array([[value, 5.0]], np.float32) for value in (0.0, -0.0)]
    assert overlap([Sample({"x": pairs[0]})], [Sample({"x": pairs[1]})]) == 1


@pytest.mark.parametrize(("shape", "padded"), [((1, 5), (1, 9)), ((1, 3, 5), (1, 3, 9)), ((1, 3, 5), (1, 4, 5))])
def test_padding_makes_no_other_row(shape, padded):
    ids = np.random.default_rng(0).integers(1, 9, shape)
    wide = np.zeros(padded, ids.dtype)
    wide[tuple(map(slice, shape))] = ids
    assert overlap([Sample({"ids": ids, "mask": ids * 0 + 1})], [Sample({"ids": wide, "mask": (wide > 0) * 1})]) == 1


def test_zeros_in_front_and_between_are_content():
    rows = ([1, 2, 0], [0, 1, 2], [1, 0, 2])
    assert len(set(fingerprints(Sample({"x": np.array([values])}) for values in rows))) == 3


def test_rows_of_zeros_overlap_nothing():
    blank = Sample({"x": np.zeros((1, 4)), "t": np.zeros((1,))})
    assert list(fingerprints([blank])) == [BLANK]
    assert overlap([blank], [blank]) == 0
    assert overlap([Sample({"x": np.zeros((1, 4)), "t": np.ones((1,))})] * 2, [blank]) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 1), min_size=4, max_size=4), st.lists(st.integers(-1, 1), min_size=4, max_size=4))
def test_rows_of_one_shape_have_equal_fingerprints_only_if_they_are_equal(one, other):
    found = list(
        fingerprints(Sample({"x": np.array([values], np.float16).reshape(1, 2, 2)}) for values in (one, other))
    )
    assert (found[0] == found[1]) == (one == other)


def test_labels_are_no_part_of_a_fingerprint_but_of_the_content():
    labelled, plain = row(1, label=np.array([1])), row(1)
    assert overlap([labelled], [plain]) == 1
    assert content_sha256([labelled]) != content_sha256([plain])


def test_the_content_digest_knows_sample_borders_and_order():
    a, b = row(1), row(2)
    joined = list(batched([a, b], 2))
    assert len({content_sha256(samples) for samples in ([a, b], [b, a], joined, [a])}) == 4


@settings(max_examples=50)
@given(st.integers(2, 30), st.integers(2, 6))
def test_a_split_parts_every_sample_and_counts_them(n, every):
    calibration, held_out = split(Listed([row(i) for i in range(n)]), every)
    assert rows_of(held_out) == list(range(0, n, every))
    assert sorted(rows_of(calibration) + rows_of(held_out)) == list(range(n))
    assert (calibration.count(), held_out.count()) == (len(list(calibration)), len(list(held_out)))
    assert overlap(calibration, held_out) == 0


def test_the_parts_of_a_split_have_keys_of_their_own():
    keys = [(part.key(), part.verified_key()) for part in split(Listed([row(1)]))]
    assert keys[0] != keys[1]
    assert all(key["source"] == {"kind": "list"} for key, _ in keys)
    assert all(verified["source"]["verified"] == "read" for _, verified in keys)


def test_what_is_known_of_a_source_isnt_read_again_for_its_parts():
    parts = split(Listed([row(1)]))
    assert [part.verified_key("known")["source"]["verified"] for part in parts] == ["known"] * 2


def test_parts_of_a_source_of_unknown_length_have_none_either():
    assert [part.count() for part in split(Listed([row(1)], knows_count=False))] == [None, None]


def test_one_sample_cant_be_split():
    calibration, _ = split(Listed([row(1)]))
    with pytest.raises(DataError, match="give two"):
        list(calibration)


@pytest.mark.parametrize("part", [0, 1])
def test_a_sequence_isnt_parted(part):
    follows = row(1, is_sequence=True)
    with pytest.raises(DataError, match=r"follow from each other, so every 4th .* give held-out data apart"):
        list(split(Listed([follows] * 8))[part])


def test_a_sequence_is_never_batched():
    batches = list(batched([row(1), *[row(2, is_sequence=True)] * 3, row(3), row(4)], 8))
    assert [len(batch.feeds["x"]) for batch in batches] == [1, 1, 1, 1, 2]
    assert [batch.is_sequence for batch in batches] == [False, True, True, True, False]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 5), max_size=12), st.integers(1, 8))
def test_batches_keep_all_rows_in_order_and_their_size(counts, size):
    samples = [Sample({"x": np.full((count, 2), i, np.float32)}) for i, count in enumerate(counts)]
    batches = list(batched(samples, size))
    assert rows_of(batches) == rows_of(samples)
    assert all(batch.rows <= max(size, *counts) for batch in batches)
    assert all(a.rows + b.rows > size for a, b in zip(batches, batches[1:]))


def test_targets_are_batched_with_their_rows():
    samples = [row(i, label=np.array([i]), expected={"y": np.full((1, 3), i)}) for i in range(4)]
    (batch,) = batched(samples, 4)
    assert batch.label.tolist() == [0, 1, 2, 3]
    assert batch.expected["y"][:, 0].tolist() == [0, 1, 2, 3]


def test_samples_of_other_shapes_or_targets_start_a_new_batch():
    wide = Sample({"x": np.zeros((1, 5), np.float32)})
    odd_target = row(1, expected={"y": np.zeros(3)})
    samples = [row(1), row(2), wide, wide, row(3, label=np.array([1])), row(4), odd_target, odd_target, row(5)]
    assert [batch.rows for batch in batched(samples, 9)] == [2, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("shape", [(1, 2), ()])
def test_nothing_is_batched_if_an_input_has_no_dynamic_batch_axis(shape):
    inputs = [TensorSpec("x", DType.FP32, (-1, 2)), TensorSpec("y", DType.FP32, shape)]
    assert len(list(batched([row(1), row(2)], 8, inputs))) == 2
    assert len(list(batched([row(1), row(2)], 8, inputs[:1]))) == 1
