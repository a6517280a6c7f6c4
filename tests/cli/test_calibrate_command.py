"""`calibrate`, and `inspect` on what it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import typer

from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.cli import calibrate, inspect
from edge_runtime.errors import CalibrationError, UsageError


@pytest.fixture
def folder(tmp_path: Path, classifier: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "m.onnx").write_bytes(classifier)
    for name, seed in (("c", 0), ("h", 1)):
        np.savez(tmp_path / f"{name}.npz", x=np.random.default_rng(seed).normal(size=(8, 4)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a verb in the folder; what it prints on stdout."""

    def run(verb: Any, *words: str) -> str:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(verb.command)
        typer.main.get_command(app).main(list(words), standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture
def calibrated(run: Callable[..., str]) -> Callable[..., Any]:
    """Runs `calibrate` on the model; its JSON document."""
    data = ("--calibration", "c.npz", "--held-out", "h.npz")
    return lambda *words: json.loads(run(calibrate, "m.onnx", *data, "--json", *words))


def test_it_says_where_the_table_is_and_what_it_took(folder, calibrated):
    made = calibrated()
    table = CalibrationTable.read(folder / made["table"])
    assert Path(made["table"]) == Path(made["folder"]) / "entropy.cache"
    assert (made["tensors"], made["samples"], made["reused"]) == (len(table.scales), 8, False)
    assert made["nbytes"] == (folder / made["table"]).stat().st_size
    assert made["seconds"] > 0
    assert calibrated()["reused"] is True


def test_the_table_of_an_algorithm_goes_to_a_file_with_the_header_of_a_version(folder, calibrated):
    made = calibrated("--algorithm", "max", "--output", "o.cache", "--tensorrt-version", "8.5.2")
    assert made["table"] == "o.cache"
    assert made["algorithm"] == "max"
    assert (folder / "o.cache").read_text().startswith("TRT-8502-EntropyCalibration2\nx: ")
    assert (folder / made["folder"] / "max.cache").read_text() == (folder / "o.cache").read_text()


def test_all_activations_are_more_tensors(calibrated):
    assert (calibrated()["tensors"], calibrated("--all-activations")["tensors"]) == (2, 4)


def test_a_person_gets_a_table(run):
    text = run(calibrate, "m.onnx", "--calibration", "c.npz", "--held-out", "h.npz")
    assert "entropy.cache" in text.replace("\n", "").replace("│", "").replace(" ", "")


def test_shapes_name_and_largest_batch_are_taken(calibrated):
    made = calibrated("--name", "other", "--max-batch", "2", "--shape", "x=1x4,2x4,2x4", "--calib-cache", "cc")
    assert made["folder"].startswith("cc/other/")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["m.txt", "--calibration", "c.npz"], UsageError),
        (["m.onnx", "--calibration", "c.npz", "--algorithm", "kl"], Exception),
    ],
)
def test_wrong_usage_is_refused(run, words, error):
    with pytest.raises(error):
        run(calibrate, *words)


@pytest.mark.parametrize("part", ["", "histograms.npz"])
def test_inspect_gives_the_numbers_of_every_algorithm(run, calibrated, part):
    made = calibrated()
    document = json.loads(run(inspect, str(Path(made["folder"]) / part), "--json"))
    assert document["samples"] == 8
    assert [tensor["tensor"] for tensor in document["tensors"]] == ["x", "r"]
    algorithms = document["tensors"][0]["algorithms"]
    assert sorted(algorithms) == ["entropy", "max", "mse", "percentile"]
    assert algorithms["max"]["dynamic_range"] == pytest.approx(document["tensors"][0]["amax"])
    assert algorithms["max"]["share_clipped"] == 0.0


def test_inspect_plots_histograms_and_tables(run, calibrated):
    made = calibrated()
    assert "█" in run(inspect, made["folder"])
    assert "█" in run(inspect, made["table"])


def test_inspect_refuses_damaged_histograms(folder, run, calibrated):
    path = folder / calibrated()["folder"] / "histograms.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CalibrationError, match="not a sound file of histograms"):
        run(inspect, str(path.parent))


def test_the_folder_of_a_model_shows_its_newest_calibration(folder, calibrated, run):
    made = Path(calibrated()["folder"])
    np.savez(folder / "c.npz", x=np.random.default_rng(7).normal(size=(9, 4)).astype(np.float32))
    newest = Path(calibrated()["folder"])
    assert newest != made
    assert json.loads(run(inspect, str(made.parent), "--json"))["calibration"] == str(newest)


@pytest.mark.parametrize("name", ["m.onnx", "table.txt", "folder.cache", "link.cache"])
def test_what_is_no_cache_is_never_replaced(folder, calibrated, name):
    (folder / "folder.cache").mkdir()
    (folder / "link.cache").symlink_to(folder / "m.onnx")
    before = (folder / "m.onnx").read_bytes()
    with pytest.raises(UsageError, match=name):
        calibrated("--output", name)
    assert (folder / "m.onnx").read_bytes() == before


def test_a_version_that_is_none_is_told_before_any_work(folder, calibrated):
    with pytest.raises(Exception, match=r"expected major\.minor\.patch"):
        calibrated("--tensorrt-version", "abc")
    assert not (folder / "calib_cache").exists()
