from __future__ import annotations

from pathlib import Path
from typing import List

import numpy as np
import pytest

from edge_runtime.calibration.npz import NpzSource
from edge_runtime.calibration.npz_writer import write_samples
from edge_runtime.calibration.sample import Sample, content_sha256
from edge_runtime.errors import DataError
from edge_runtime.tensors import DType, TensorSpec

INPUTS = (TensorSpec("x", DType.FP32, (-1, 3)), TensorSpec("n", DType.INT64, ()))


def samples(count: int, rows: int = 2) -> List[Sample]:
    rng = np.random.default_rng(count)
    return [
        Sample(
            {"x": rng.normal(size=(rows, 3)).astype(np.float32), "n": np.array(index)},
            np.arange(rows),
            {"y": rng.normal(size=(rows, 5))},
            is_batch=False,
        )
        for index in range(count)
    ]


def test_what_is_written_reads_as_the_same_samples(tmp_path: Path) -> None:
    written = samples(5)
    assert write_samples(tmp_path / "h.npz", iter(written)) == 5
    read = list(NpzSource(tmp_path / "h.npz", INPUTS))
    assert content_sha256(read) == content_sha256(written)
    with np.load(tmp_path / "h.npz") as archive:
        np.testing.assert_array_equal(archive["x"][4], written[4].feeds["x"])
    assert [path.name for path in tmp_path.iterdir()] == ["h.npz"]


def test_the_same_samples_are_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_samples(tmp_path / name, samples(3))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ([], "no held-out sample"),
        ([*samples(1), *samples(1, rows=3)], r"sample 1: array 'x': expected float32 \[2, 3\].*got float32 \[3, 3\]"),
        ([*samples(1), Sample(samples(1)[0].feeds)], "label.*got none|expected/y.*got none"),
        ([Sample({"label": np.zeros(1)}, np.zeros(1, int))], "an input of the model and a target"),
    ],
)
def test_samples_that_one_file_cant_hold_are_refused(tmp_path: Path, wrong: List[Sample], text: str) -> None:
    with pytest.raises(DataError, match=text):
        write_samples(tmp_path / "h.npz", wrong)
    assert not (tmp_path / "h.npz").exists()
