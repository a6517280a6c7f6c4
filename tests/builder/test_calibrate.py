"""Calibrating a model: once for each model and data, for all algorithms, with nothing foreign trusted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.builder.calibrate import Calibration, calibrate
from edge_runtime.builder.recipe import make_recipe
from edge_runtime.calibration.calibrator import ALGORITHMS
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.errors import CalibrationError, ConfigError, DataError, UnsupportedModelError

ROWS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


class Notes:
    """Progress that keeps the notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.steps = 0

    def stage(self, name: str, total: int | None = None) -> None:
        pass

    def advance(self, steps: int = 1) -> None:
        self.steps += steps

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def folder(tmp_path: Path, classifier: bytes) -> Path:
    (tmp_path / "m.onnx").write_bytes(classifier)
    np.savez(tmp_path / "c.npz", x=ROWS)
    np.savez(tmp_path / "h.npz", x=ROWS + 1)
    return tmp_path


def run(folder: Path, notes: Notes | None = None, all_activations: bool = False, **tables: Any) -> Calibration:
    content = {"model": {"path": "m.onnx"}, "calibration": {"data": "c.npz"}, "held_out": {"data": "h.npz"}, **tables}
    recipe = make_recipe(content, "m", folder, environ={})
    return calibrate(recipe, folder / "cc", notes, all_activations)


def write(folder: Path, nodes: list, inputs: dict[str, list], outputs: dict[str, list], weights: dict) -> None:
    def infos(shapes: dict[str, list]) -> list:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", infos(inputs), infos(outputs), initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")


def test_what_gets_quantised_is_counted_over_all_samples(folder):
    made = run(folder)
    assert {name: histogram.total for name, histogram in made.histograms.items()} == {"x": 48, "r": 192}
    assert made.stored.samples == 12
    assert made.histograms["x"].amax == float(np.abs(ROWS).max())


def test_without_held_out_data_a_quarter_isnt_calibrated_on(folder):
    notes = Notes()
    assert run(folder, notes, held_out={}).stored.samples == notes.steps == 9
    assert any("every fourth" in text for text in notes.texts)


def test_every_algorithm_has_a_table_beside_the_histograms(folder):
    made = run(folder)
    tables = made.tables(make_recipe({"model": {"path": "m.onnx"}}, "m", folder, environ={}).tables.calibration)
    assert sorted(tables) == sorted(ALGORITHMS)
    assert sorted(path.name for path in made.folder.iterdir()) == sorted(
        ["histograms.npz", *(f"{name}.cache" for name in ALGORITHMS)]
    )
    assert all(CalibrationTable.read(made.folder / f"{name}.cache") == table for name, table in tables.items())
    assert made.folder.parent == folder / "cc" / "m"


def test_unchanged_model_and_data_arent_counted_again(folder):
    first, notes = run(folder), Notes()
    again = run(folder, notes, calibration={"data": "c.npz", "algorithm": "mse", "percentile": 99.0})
    assert (first.is_reused, again.is_reused, notes.steps) == (False, True, 0)
    assert again.folder == first.folder
    assert again.histograms["r"].counts.tolist() == first.histograms["r"].counts.tolist()


@pytest.mark.parametrize("change", ["model", "data", "shapes", "tensors"])
def test_another_model_data_shape_or_choice_of_tensors_is_counted_anew(folder, change):
    first = run(folder)
    tables: dict[str, Any] = {}
    if change == "model":
        proto = onnx.load(str(folder / "m.onnx"))
        weight = proto.graph.initializer[0]
        weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
        onnx.save(proto, str(folder / "m.onnx"))
    elif change == "data":
        np.savez(folder / "c.npz", x=2 * ROWS)
    elif change == "shapes":
        tables["input"] = {"x": {"min": [1, 4], "opt": [1, 4], "max": [3, 4]}}
    again = run(folder, all_activations=change == "tensors", **tables)
    assert not again.is_reused
    assert again.folder != first.folder


@pytest.mark.parametrize("damage", ["truncated", "garbage", "foreign", "pipe"])
def test_a_damaged_or_foreign_file_is_counted_anew_with_a_note(folder, damage):
    path = run(folder).folder / "histograms.npz"
    sound = path.read_bytes()
    if damage == "foreign":
        np.savez(folder / "c.npz", x=2 * ROWS)
        foreign = run(folder).folder / "histograms.npz"
        np.savez(folder / "c.npz", x=ROWS)
        path.write_bytes(foreign.read_bytes())
    elif damage == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_bytes(sound[:-100] if damage == "truncated" else b"garbage")
    notes = Notes()
    again = run(folder, notes)
    assert not again.is_reused
    assert any(str(path) in text for text in notes.texts)
    assert path.read_bytes() == sound


def test_all_activations_have_a_scale_with_those_that_get_quantised_first(folder):
    made = run(folder, all_activations=True)
    assert list(made.histograms) == ["x", "r", "h", "scores"]


def test_activations_that_arent_quantised_may_be_infinite_and_are_left_out(folder):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Div", ["y", "zero"], ["masked"]),
        helper.make_node("Softsign", ["masked"], ["z"]),
    ]
    weights = {"w": np.ones((4, 2), np.float32), "zero": np.float32(0)}
    write(folder, nodes, {"x": ["n", 4]}, {"y": ["n", 2], "z": ["n", 2]}, weights)
    notes = Notes()
    assert list(run(folder, notes, all_activations=True).histograms) == ["x", "y"]
    assert any("2 activations that aren't quantised get no scale" in text for text in notes.texts)
    assert "masked" in notes.texts[-1]


def test_a_quantised_activation_that_is_infinite_names_tensor_and_sample(folder):
    nodes = [helper.make_node("Reciprocal", ["x"], ["i"]), helper.make_node("MatMul", ["i", "w"], ["y"])]
    write(folder, nodes, {"x": ["n", 4]}, {"y": ["n", 2]}, {"w": np.ones((4, 2), np.float32)})
    rows = ROWS.copy()
    rows[7, 2] = 0
    np.savez(folder / "c.npz", x=rows)
    with pytest.raises(CalibrationError, match="tensor 'i' is infinite at sample 7"):
        run(folder)


def test_a_smallest_batch_above_one_is_kept_to(folder):
    made = run(folder, input={"x": {"min": [4, 4], "opt": [4, 4], "max": [8, 4]}})
    assert made.histograms["x"].total == 48


def test_a_model_with_nothing_to_quantise_is_refused(folder):
    write(folder, [helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 4]}, {"y": ["n", 4]}, {})
    with pytest.raises(UnsupportedModelError, match="INT8 would change nothing"):
        run(folder)


def test_a_recipe_without_data_is_refused(folder):
    with pytest.raises(ConfigError, match=r"needs calibration data; give --calibration"):
        run(folder, calibration={}, held_out={})


def test_data_that_the_audit_refuses_isnt_calibrated_on(folder):
    np.savez(folder / "c.npz", x=np.ones((12, 4), np.float32))
    with pytest.raises(CalibrationError, match="model 'm'"):
        run(folder)


def test_a_sample_outside_the_profile_is_refused(folder):
    np.savez(folder / "c.npz", x=ROWS[:, :3])
    with pytest.raises(DataError, match=r"expected \[\?, 4\]"):
        run(folder)
