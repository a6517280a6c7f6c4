"""The report on a calibration: numbers, plots, and the folder that it reads."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.calibration.histogram import Histogram
from edge_runtime.calibration.histogram_file import HISTOGRAMS_FILE, StoredHistograms, write_histograms
from edge_runtime.calibration.report import CalibrationReport, column_counts, log_bars, read_report, sparkline
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.errors import CalibrationError


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram("t")
    histogram.update(values.astype(np.float32), 0)
    return histogram


RAMP = histogram_of(np.repeat(np.arange(1, 21), np.arange(20, 0, -1)) - 0.5)


def test_columns_count_every_value_but_zeros():
    assert column_counts(RAMP) == list(range(20, 0, -1))
    padded = histogram_of(np.append(np.arange(1, 21) - 0.5, np.zeros(100)))
    assert column_counts(padded) == [1] * 20


def test_the_plot_falls_with_the_counts_and_is_cut_at_the_threshold():
    assert sparkline(RAMP, None).startswith("██")
    assert sparkline(RAMP, None).endswith("▄▄▃")
    assert sparkline(RAMP, RAMP.amax / 2).index("|") == len(sparkline(RAMP, None)) / 2
    assert sparkline(RAMP, 2 * RAMP.amax).endswith("|")


def test_nothing_but_zeros_is_an_empty_plot():
    assert sparkline(histogram_of(np.zeros(3)), 1.0).strip() == ""


def test_bars_grow_with_the_logarithm():
    assert [len(bar) for bar in log_bars([1.0, 10.0, 100.0, 0.0])] == [1, 11, 20, 0]
    assert [len(bar) for bar in log_bars([5.0])] == [1]
    assert log_bars([]) == []


def test_the_record_has_what_each_algorithm_makes_of_a_tensor():
    tables = {"max": CalibrationTable({"t": RAMP.amax / 127}), "mse": CalibrationTable({"t": 12 / 127})}
    (record,) = CalibrationReport(4, {"t": RAMP}, tables).record()
    assert (record["tensor"], record["amax"], record["values"], record["zeros"]) == ("t", 19.5, 210, 0)
    assert record["algorithms"]["max"]["share_clipped"] == 0.0
    assert record["algorithms"]["mse"]["share_clipped"] == pytest.approx(sum(range(1, 9)) / 210)
    assert record["algorithms"]["mse"]["dynamic_range"] == pytest.approx(12)


def test_a_folder_is_reported_with_the_tables_that_it_has(tmp_path):
    write_histograms(tmp_path / HISTOGRAMS_FILE, StoredHistograms({"t": RAMP}, 4, "k"))
    CalibrationTable({"t": 0.5, "other": 1.0}).write(tmp_path / "entropy.cache")
    report = read_report(tmp_path)
    assert report.samples == 4
    assert report.ranges("t") == {"entropy": 63.5}


def test_a_damaged_table_in_the_folder_is_an_error(tmp_path):
    write_histograms(tmp_path / HISTOGRAMS_FILE, StoredHistograms({"t": RAMP}, 4, "k"))
    (tmp_path / "mse.cache").write_text("damaged")
    with pytest.raises(CalibrationError, match=r"mse\.cache"):
        read_report(tmp_path)
