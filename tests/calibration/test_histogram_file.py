"""Files of histograms: exact round trips, and nothing trusted that isn't sound."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_runtime.calibration.histogram import Histogram
from edge_runtime.calibration.histogram_file import StoredHistograms, read_histograms, write_histograms
from edge_runtime.errors import CalibrationError

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8), hnp.arrays(np.float32, st.integers(1, 30), elements=FLOATS), min_size=1, max_size=4
)


def stored(arrays: dict[str, np.ndarray], key: str = "k") -> StoredHistograms:
    histograms = {name: Histogram(name) for name in arrays}
    for name, values in arrays.items():
        histograms[name].update(values, 0)
    return StoredHistograms(histograms, 3, key)


def state(found: StoredHistograms) -> list:
    return [
        (name, h.name, h.exponent, h.amax, h.total, h.zeros, h.counts.tolist()) for name, h in found.histograms.items()
    ]


@settings(max_examples=15, deadline=None)
@given(ARRAYS.filter(lambda arrays: all(name.isprintable() for name in arrays)))
def test_a_round_trip_keeps_everything(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("h") / "made" / "histograms.npz"
    written = stored(arrays)
    write_histograms(path, written)
    found = read_histograms(path)
    assert state(found) == state(written)
    assert (found.samples, found.key) == (3, "k")
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def content() -> dict[str, np.ndarray]:
    """The arrays of a sound file, to spoil."""
    fields = {"format": 1, "key": "k", "samples": 2, "tensors": ["a", "b"]}
    counts = np.zeros((2, 4096), np.uint8)
    counts[0, [0, 3072]] = 4, 1
    counts[1, 0] = 5
    return {
        "header": np.frombuffer(json.dumps(fields).encode(), np.uint8),
        "amax": np.array([1.5, 0.0]),
        "zeros": np.array([2, 5]),
        "counts": counts,
    }


def read(tmp_path, content: dict[str, np.ndarray], save=np.savez) -> StoredHistograms:
    save(tmp_path / "h.npz", **content)
    return read_histograms(tmp_path / "h.npz")


def test_the_file_that_gets_spoilt_is_sound(tmp_path, content):
    assert [h.amax for h in read(tmp_path, content).histograms.values()] == [1.5, 0.0]


def header(**changes: object) -> np.ndarray:
    fields = {"format": 1, "key": "k", "samples": 2, "tensors": ["a", "b"], **changes}
    return np.frombuffer(json.dumps(fields).encode(), np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {"header": np.frombuffer(b"no json", np.uint8)},
        {"header": np.frombuffer(b"[" * 100_000, np.uint8)},
        {"header": np.frombuffer(b"[]", np.uint8)},
        {"header": header(format=2)},
        {"header": header(key=1)},
        {"header": header(samples=0)},
        {"header": header(samples=True)},
        {"header": header(tensors="ab")},
        {"header": header(tensors=["a", "a"])},
        {"header": header(tensors=["a", 1])},
        {"header": header(tensors=["a", ""])},
        {"header": header(tensors=["a", "b", "c"])},
        {"amax": np.array([1.5])},
        {"amax": np.array([1.5, 1.5])},
        {"amax": np.array([2.5, 0.0])},
        {"amax": np.array([-1.5, 0.0])},
        {"amax": np.array([np.nan, 0.0])},
        {"amax": np.array([np.inf, 0.0])},
        {"amax": np.array([0.0, 0.0])},
        {"amax": np.array(["a", "b"])},
        {"amax": np.array([1.5, None])},
        {"zeros": np.array([5, 5])},
        {"zeros": np.array([-1, 5])},
        {"zeros": np.array([2, 4])},
        {"counts": np.zeros((2, 4096), np.uint8)},
        {"counts": np.full((2, 4096), -1)},
        {"counts": np.full((2, 4096), 2**63, np.uint64)},
        {"counts": np.zeros((2, 100), np.uint8)},
        {"counts": np.array(3, np.uint8)},
        {"more": np.zeros(1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_is_wrong_is_refused(tmp_path, content, change):
    with pytest.raises(CalibrationError, match=r"h\.npz: not a sound file of histograms"):
        read(tmp_path, {**content, **change})


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path, content):
    with pytest.raises(CalibrationError, match="wrong compression"):
        read(tmp_path, content, np.savez_compressed)


def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "h.npz", "w") as archive:
        for name, array in content.items():
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", member.getvalue().replace(b"(2, 4096)", b"(9999999999, 4096)"))
    with pytest.raises(CalibrationError, match="not a sound file"):
        read_histograms(tmp_path / "h.npz")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_never_trusted(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("h") / "h.npz"
    written = stored({"a": np.arange(20, dtype=np.float32), "b": np.zeros(3, np.float32)})
    write_histograms(path, written)
    sound = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del sound[data.draw(st.integers(0, len(sound) - 1)) :]
    else:
        sound[data.draw(st.integers(0, len(sound) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(sound)
    with contextlib.suppress(CalibrationError):
        assert state(read_histograms(path)) == state(written)  # a flip in a time stamp, say


@pytest.mark.parametrize("kind", ["absent", "folder", "empty", "pipe"])
def test_what_is_no_file_of_histograms_is_refused(tmp_path, kind):
    path = tmp_path / "h.npz"
    {"absent": lambda: None, "folder": path.mkdir, "empty": path.touch, "pipe": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(CalibrationError, match=r"h\.npz"):
        read_histograms(path)


def test_a_folder_that_cant_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CalibrationError, match="can't be written"):
        write_histograms(tmp_path / "file" / "h.npz", stored({"a": np.ones(1, np.float32)}))
