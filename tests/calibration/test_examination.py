"""What one pass over samples finds."""

from __future__ import annotations

from typing import Iterator

import numpy as np
import pytest

from edge_runtime.calibration.examination import examined
from edge_runtime.calibration.sample import Sample, content_sha256
from edge_runtime.errors import DataError


def sample(*values: float, **more) -> Sample:
    return Sample({"x": np.array([[value, value + 1] for value in values], np.float32)}, **more)


def test_one_pass_finds_everything():
    samples = [sample(1), sample(2, 3), sample(1)]
    reads = iter(samples)
    found = examined(reads)
    assert (found.samples, found.rows, found.duplicates) == (3, 4, 1)
    assert found.content_sha256 == content_sha256(samples)
    assert found.first is samples[0]
    assert (found.inputs["x"].low, found.inputs["x"].high, found.inputs["x"].rows) == (1, 4, 4)


@pytest.mark.parametrize(
    ("calibration", "held_out", "shared"),
    [
        ([sample(1), sample(2)], [sample(2, 3), sample(2)], 2),
        ([sample(1)], [sample(2)], 0),
        ([sample(0, -1)], [sample(-0.0)], 1),
        ([Sample({"x": np.zeros((1, 2))})], [Sample({"x": np.zeros((3, 2))})], 0),
    ],
)
def test_rows_in_another_set_are_those_that_overlap(calibration, held_out, shared):
    assert examined(held_out).rows_in(examined(calibration)) == shared


def test_held_out_samples_are_measured_against_the_calibration_ones():
    calibration = examined([sample(1), sample(5)])
    assert examined([sample(3), sample(6)], calibration).inputs["x"].outside == 0.25


def test_a_sample_of_a_sequence_is_one_row():
    assert examined([sample(1, 2, is_sequence=True)] * 2).rows == 2


def test_inputs_of_other_sizes_are_rows_of_one_input():
    def samples() -> Iterator[Sample]:
        for width in (3, 5, 9):
            yield Sample({"x": np.ones((1, 3, width), np.float32), "t": np.float32(width)})

    found = examined(samples())
    assert (found.rows, found.inputs["x"].values_per_row, found.inputs["t"].high) == (3, 17, 9)


def test_no_sample_is_an_error():
    with pytest.raises(DataError, match="no sample was given"):
        examined([])
