"""The data and metrics that `benchmarks/precision.py` measures on."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_runtime.builder.data import data_of
from edge_runtime.builder.recipe import load_recipe
from edge_runtime.graph.model import load_model

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "benchmarks" / "precision"


@pytest.fixture(scope="module")
def module():
    """Imports a data module, or the benchmark itself, by its name."""

    def load(name):
        sys.path.insert(0, str(RECIPES))
        try:
            if name != "precision":
                return importlib.import_module(name)
            spec = importlib.util.spec_from_file_location("precision_benchmark", ROOT / "benchmarks" / "precision.py")
            loaded = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = loaded
            spec.loader.exec_module(loaded)
            return loaded
        finally:
            sys.path.remove(str(RECIPES))

    return load


def answers(path, feeds):
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, each))) for each in feeds]


def labelled(pairs):
    return [SimpleNamespace(label=label) for _, label in pairs]


@pytest.mark.parametrize("name", ["det", "rec", pytest.param("magika", marks=pytest.mark.slow), "minilm"])
def test_the_data_of_a_recipe_fit_its_model(name, real_path):
    data = data_of(load_recipe(RECIPES / f"{name}.toml", environ={}), load_model(real_path(name)).inputs)
    for source in (data.calibration, data.held_out):
        assert all(sample.rows == 1 for sample in itertools.islice(source, 2))


@pytest.mark.parametrize(
    ("name", "function", "count"),
    [
        ("text_lines", "lines", 8),
        ("text_pages", "pages", 2),
        pytest.param("library_files", "files", 8, marks=pytest.mark.slow),
    ],
)
def test_data_are_the_same_each_time_and_other_than_those_of_the_other_half(name, function, count, module):
    make = getattr(module(name), function)
    first, again, other = (
        [np.concatenate([array.ravel() for array in _feeds(item).values()]).tobytes() for item in make(half, count)]
        for half in ("held_out", "held_out", "calibration")
    )
    assert first == again
    assert len(set(first + other)) == 2 * count


def _feeds(item):
    return item[0] if isinstance(item, tuple) else item


def test_a_recogniser_that_is_right_has_no_errors_and_each_wrong_character_counts(module, real_path):
    real_path("rec")
    lines = module("text_lines")
    pairs = list(lines.lines("held_out", 4))
    steps = np.stack([np.concatenate([pair[1][0], [0]]).repeat(2) for pair in pairs])
    steps[:, 1::2] = 0  # a blank between any two, so that equal neighbours stay two
    scores = np.eye(6625, dtype=np.float32)[steps]
    outputs = [{"y": row[None]} for row in scores]
    assert lines.error_rate(outputs, labelled(pairs)) == 0
    outputs[0] = {"y": scores[:1, 2:]}
    count = sum(int((label > 0).sum()) for _, label in pairs)
    assert lines.error_rate(outputs, labelled(pairs)) == 1 / count


def test_f1_counts_what_is_missed_and_what_is_made_up(module):
    pages = module("text_pages")
    truth = np.array([[[100, 100, 200, 120], [100, 200, 260, 224]]])
    found = np.zeros((1, 1, 480, 480), np.float32)
    found[0, 0, 106:114, 106:194] = 0.9
    sample = [SimpleNamespace(label=truth)]
    assert pages.f1([{"y": found}], sample) == pytest.approx(2 / 3)
    found[0, 0, 207:217, 107:253] = 0.9
    assert pages.f1([{"y": found}], sample) == 1
    found[0, 0, 300:310, 300:400] = 0.9
    assert pages.f1([{"y": found}], sample) == pytest.approx(4 / 5)
    assert pages.f1([{"y": np.zeros_like(found)}], sample) == 0


@given(mask=arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_components_are_those_of_a_flood_fill(module, mask):
    expected, left = [], {tuple(place) for place in np.argwhere(mask).tolist()}
    while left:
        region, waiting = [], [left.pop()]
        while waiting:
            row, column = waiting.pop()
            region.append((column, row, column + 1, row + 1))
            near = {(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            waiting.extend(near)
        sides = list(zip(*region))
        expected.append([min(sides[0]), min(sides[1]), max(sides[2]), max(sides[3])])
    assert sorted(module("text_pages")._components(mask).tolist()) == sorted(expected)


@pytest.mark.parametrize(
    ("content", "head", "tail"),
    [
        (b" \n import os\n", b"import os\n", b" \n import os"),
        (b"a" + b"b" * 5000 + b"c", b"a" + b"b" * 1023, b"b" * 1023 + b"c"),
        (b"", b"", b""),
    ],
)
def test_magika_sees_both_ends_of_a_file_without_white_space(content, head, tail, module):
    tokens = module("library_files").features(content)
    assert tokens[: len(head)].tolist() == list(head)
    assert tokens[2048 - len(tail) :].tolist() == list(tail)
    assert (tokens[len(head) : 2048 - len(tail)] == 256).all()


def test_magika_takes_python_for_python(module, real_path):
    named = itertools.islice(module("library_files").named_files("held_out"), 60)
    feeds = [{"bytes": tokens[None]} for path, tokens in named if path.suffix == ".py"]
    path = real_path("magika")
    names = json.loads(path.with_name("config.min.json").read_text())["target_labels_space"]
    types = [names[outputs["target_label"].argmax()] for outputs in answers(path, feeds)]
    assert types.count("python") >= 0.95 * len(types)


@pytest.mark.parametrize(
    ("name", "data", "metric", "bounds"),
    [("rec", "text_lines:lines", "error_rate", (0, 0.05)), ("det", "text_pages:pages", "f1", (0.96, 1))],
)
def test_the_float_model_is_good_on_rendered_text(name, data, metric, bounds, module, real_path):
    source, function = data.split(":")
    pairs = list(getattr(module(source), function)("held_out", 10))
    outputs = answers(real_path(name), [feeds for feeds, _ in pairs])
    assert bounds[0] <= getattr(module(source), metric)(outputs, labelled(pairs)) <= bounds[1]


def test_the_committed_sentences_are_many_and_each_is_in_one_file(module):
    calibration, held_out = (
        dict(np.load(ROOT / "tests" / "data" / f"sentences_{half}.npz")) for half in ("calibration", "held_out")
    )
    assert len(calibration["input_ids"]) >= 64
    assert len(held_out["input_ids"]) >= 300
    rows = [tuple(row) for data in (calibration, held_out) for row in data["input_ids"].tolist()]
    assert len(set(rows)) == len(rows)
    for data in (calibration, held_out):
        assert ((data["input_ids"] != 0) == data["attention_mask"]).all()
        assert len(set(data["attention_mask"].sum(axis=1).tolist())) > 5


def test_the_float_model_keeps_its_own_neighbours(module, real_path):
    held_out = dict(np.load(ROOT / "tests" / "data" / "sentences_held_out.npz"))
    labels = held_out.pop("label")
    feeds = {name: array.astype(np.int64) for name, array in held_out.items()}
    outputs = answers(real_path("minilm"), [feeds])
    kept = module("sentences").kept_neighbours
    assert kept(outputs, [SimpleNamespace(label=labels)]) >= 0.99
    labels[:, 1] = np.roll(labels[:, 1], 1)
    assert kept(outputs, [SimpleNamespace(label=labels)]) < 0.1


def test_neighbours_are_those_among_the_samples_however_often_they_were_drawn(module):
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    labels = np.array([[0, 1], [1, 0], [2, 3], [3, 0]])  # the last one's neighbour was another
    kept = module("sentences").kept_neighbours
    for picks, expected in (((0, 1, 2, 3), 3 / 4), ((1, 0, 1, 0, 3, 3), 4 / 6), ((0, 2), 1), ((2, 3, 3), 1)):
        outputs = [{"461": vectors[[pick]]} for pick in picks]
        assert kept(outputs, [SimpleNamespace(label=labels[[pick]]) for pick in picks]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "score", "keeps"),
    [("cls", 0.981, True), ("cls", 0.979, False), ("cls", float("nan"), False)],
)
def test_a_score_is_held_against_floats(name, score, keeps, module):
    assert module("precision").TARGETS[name].keeps(score, 0.99) is keeps


@pytest.mark.parametrize(("score", "keeps"), [(0.014, True), (0.016, False), (float("nan"), False)])
def test_an_error_rate_may_be_half_as_much_again(score, keeps, module):
    assert module("precision").TARGETS["rec"].keeps(score, 0.01) is keeps
