"""The calibration table and TensorRT's cache text."""

from __future__ import annotations

import contextlib
import math
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.table import CalibrationTable, import_table
from edge_runtime.errors import CalibrationError

NAMES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n"), min_size=1)
SCALES = st.floats(0, float(np.finfo(np.float32).max), width=32).map(abs)
GOLDEN = "TRT-8205-EntropyCalibration2\ninput: 3b810a13\n(Unnamed Layer* 64) [Shuffle]_output: 0\n"


def test_a_cache_of_tensorrt_is_read():
    table = CalibrationTable.from_cache_text(GOLDEN, "golden")
    assert table.scales["input"] == pytest.approx(0.5001 / 127, rel=1e-4)
    assert table.scales["(Unnamed Layer* 64) [Shuffle]_output"] == 0.0
    assert table.algorithm == "EntropyCalibration2"


def test_the_cache_is_written_as_tensorrt_does_with_padded_hex():
    text = CalibrationTable.from_cache_text(GOLDEN, "golden").to_cache_text("8.2.5")
    assert text == GOLDEN.replace(": 0\n", ": 00000000\n")


@settings(max_examples=150)
@given(st.dictionaries(NAMES, SCALES), st.sampled_from(["EntropyCalibration2", "MinMaxCalibration"]))
def test_a_round_trip_keeps_every_bit_name_and_order(scales, algorithm):
    table = CalibrationTable(scales, algorithm)
    again = CalibrationTable.from_cache_text(table.to_cache_text(), "text")
    assert again == table
    assert list(again.scales) == list(scales)
    assert [struct.pack(">f", value) for value in again.scales.values()] == [
        struct.pack(">f", value) for value in scales.values()
    ]


@pytest.mark.parametrize(
    ("version", "number"),
    [("7.1.3", 7103), ("8.2.5", 8205), ("8.5.2.2", 8502), ("10.3.0", 100300), ("10.14.1.48", 101401), ("11.4", 110400)],
)
def test_the_version_in_the_header_follows_tensorrts_rule(version, number):
    assert CalibrationTable({}).to_cache_text(version) == f"TRT-{number}-EntropyCalibration2\n"


@pytest.mark.parametrize("version", ["", "10", "v10.3.0", "10.x", "\u0663.\u0664"])
def test_a_version_that_is_none_is_refused(version):
    with pytest.raises(CalibrationError, match="expected major"):
        CalibrationTable({}).to_cache_text(version)


@pytest.mark.parametrize("name", ["a:0", "a: 3b810a13", " a ", ":", "a\tb", "(x) [y]_output", "ünï", "a\r", "\u2028"])
def test_odd_names_survive(name):
    table = CalibrationTable({name: 0.5, "other": 0.25})
    assert CalibrationTable.from_cache_text(table.to_cache_text(), "text") == table


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        ("TRT-8205-X\r\na: 3f800000\r\n", {"a": 1.0}),
        ("TRT-8205-X\n\na:3F800000", {"a": 1.0}),
        ("TRT-8205-X\na: 1\n", {"a": 2.0**-149}),
        ("TRT-8205-X", {}),
        ("TRT-8205-X \t\n  \na:3f800000 \t\n", {"a": 1.0}),
        ("TRT-8205-X\n(Unnamed Layer* 3) [Shuffle]_output: 0\n", {"(Unnamed Layer* 3) [Shuffle]_output": 0.0}),
        ("TRT-8205-X\nmodel/conv:0: 3f800000\na b:c d: 0\n", {"model/conv:0": 1.0, "a b:c d": 0.0}),
    ],
    ids=["CRLF", "blank line, no blank, no end", "unpadded", "header only", "trailing", "unnamed", "colons and blanks"],
)
def test_lenient_forms_are_read(text, scales):
    assert CalibrationTable.from_cache_text(text, "text").scales == scales


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line is ''"),
        ("a: 3f800000\n", "expected TRT-<version>-<algorithm>"),
        ("\ufeffTRT-8205-X\n", "not a calibration cache"),
        ("TRT--X\n", "not a calibration cache"),
        ("TRT-\u0663-X\n", "not a calibration cache"),
        ("\x00\x01\x02" * 100, "not a calibration cache"),
        ("TRT-8205-X\na 3f800000\n", "line 2: got 'a 3f800000'"),
        ("TRT-8205-X\n: 3f800000\n", "line 2"),
        ("TRT-8205-X\na: \n", "line 2"),
        ("TRT-8205-X\na: 0x3f80\n", "line 2"),
        ("TRT-8205-X\na: 3f_80\n", "line 2"),
        ("TRT-8205-X\na: -1\n", "line 2"),
        ("TRT-8205-X\na: \uff13f800000\n", "line 2"),
        ("TRT-8205-X\na: 3f8000000\n", "line 2"),
        ("TRT-8205-X\nb: 0\na: 7fc00000\n", "line 3: tensor 'a' has scale nan"),
        ("TRT-8205-X\na: 7f800000\n", "scale inf"),
        ("TRT-8205-X\na: ff800000\n", "scale -inf"),
        ("TRT-8205-X\na: bf800000\n", "scale -1.0"),
        ("TRT-8205-X\na: 80000000\n", "scale -0.0"),
        ("TRT-8205-X\na: 0\na: 0\n", "line 3: tensor 'a' is there twice"),
    ],
)
def test_hostile_text_is_refused_with_its_place(text, message):
    with pytest.raises(CalibrationError, match=message) as error:
        CalibrationTable.from_cache_text(text, "some.cache")
    assert str(error.value).startswith("some.cache")


@settings(max_examples=150)
@given(st.text() | st.text().map(lambda tail: "TRT-1-X\n" + tail))
def test_any_text_is_a_table_or_a_calibration_error(text):
    try:
        table = CalibrationTable.from_cache_text(text, "text")
    except CalibrationError:
        return
    assert CalibrationTable.from_cache_text(table.to_cache_text(), "text") == table


@pytest.mark.parametrize("scale", [-1.0, -0.0, math.nan, math.inf, 1e39])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(CalibrationError, match="tensor 'a' has scale"):
        CalibrationTable({"a": scale})


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800"])
def test_a_name_that_the_cache_cant_hold_is_refused(name):
    with pytest.raises(CalibrationError, match="can't hold this name"):
        CalibrationTable({name: 1.0})


def test_scales_are_float32_values_and_the_tables_own():
    given = {"a": 0.1}
    table = CalibrationTable(given)
    given["a"] = 2.0
    assert table.scales == {"a": float(np.float32(0.1))}


@pytest.mark.parametrize("algorithm", ["EntropyCalibration2", "EntropyCalibration", "MinMaxCalibration", "Legacy_1"])
def test_the_header_of_any_algorithm_is_stamped_with_another_version(algorithm):
    table = CalibrationTable.from_cache_text(f"TRT-8601-{algorithm}\na: 3c010a14\n", "text")
    assert table.to_cache_text("10.3.0") == f"TRT-100300-{algorithm}\na: 3c010a14\n"


def test_a_byte_order_mark_in_a_file_is_passed_over(tmp_path):
    (tmp_path / "t.cache").write_bytes(b"\xef\xbb\xbfTRT-8205-X\r\na: 3f800000\r\n")
    assert CalibrationTable.read(tmp_path / "t.cache").scales == {"a": 1.0}


@settings(max_examples=150)
@given(st.binary() | st.binary().map(lambda tail: b"TRT-8601-X\n" + tail))
def test_any_bytes_are_a_table_or_a_calibration_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.cache"
    path.write_bytes(content)
    with contextlib.suppress(CalibrationError):
        table = CalibrationTable.read(path)
        assert CalibrationTable.from_cache_text(table.to_cache_text(), "text") == table


@pytest.mark.parametrize("kind", ["folder", "pipe", "too large"])
def test_what_cant_be_a_cache_is_refused_unread(tmp_path, kind):
    path = tmp_path / "t.cache"
    if kind == "too large":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(CalibrationError, match=r"isn't a file|over 64 MiB"):
        CalibrationTable.read(path)


@pytest.fixture
def foreign(tmp_path):
    """A cache as trtexec --calib leaves it, of a network with more tensors than get Q/DQ."""
    path = tmp_path / "foreign.cache"
    path.write_text(GOLDEN + "conv_1: 3f800000\nzeros: 0\ntiny: 1\n")
    return path


def test_a_foreign_cache_gives_the_wanted_scales_and_says_what_it_lacks(foreign):
    table, missing = import_table(foreign, ["conv_1", "conv_2", "input"])
    assert table.scales == {"conv_1": 1.0, "input": pytest.approx(0.5001 / 127, rel=1e-4)}
    assert missing == ("conv_2",)


def test_a_foreign_scale_becomes_usable(foreign):
    scales = import_table(foreign, ["zeros", "tiny"])[0].scales
    assert scales == {"zeros": float(np.float32(1 / 127)), "tiny": 2.0**-126}


def test_a_cache_of_another_model_is_refused_with_the_nearest_name(foreign):
    with pytest.raises(CalibrationError, match=r"none of the 2 that need a scale.*did you mean 'conv_1'"):
        import_table(foreign, ["conv1", "conv2"])


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "made" / "t.cache"
    for scale in (1.0, 2.0):
        CalibrationTable({"a": scale}).write(path)
        assert CalibrationTable.read(path).scales == {"a": scale}
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.cache"
    CalibrationTable({"a": 1.0}).write(path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CalibrationError, match=r"can't be written \(No space left"):
        CalibrationTable({"a": 2.0}).write(path)
    assert CalibrationTable.read(path).scales == {"a": 1.0}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00binary", b""])
def test_a_file_that_is_no_cache_is_refused(tmp_path, content):
    path = tmp_path / "t.cache"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CalibrationError, match=r"t\.cache"):
        CalibrationTable.read(path)
