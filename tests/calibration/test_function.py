"""Samples from a function of the user's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.calibration.function import FunctionSource
from edge_runtime.errors import BackendError, ConfigError, DataError
from edge_runtime.tensors import DType, TensorSpec

INPUTS = [TensorSpec("x", DType.FP32, (-1, 2))]


def source(folder: Path, body: str, arguments: dict | None = None, version: str | None = None) -> FunctionSource:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (folder / "made.py").write_text(f"import numpy as np\ndef samples(n=1):\n    x = np.zeros((1, 2), 'f4')\n{lines}\n")
    return FunctionSource("made:samples", arguments or {}, version, folder, INPUTS)


@pytest.mark.parametrize(
    ("item", "label", "expected"),
    [
        ("{'x': x}", None, None),
        ("({'x': x}, 3)", [3], None),
        ("({'x': x}, [3])", [3], None),
        ("({'x': x}, None)", None, None),
        ("({'x': x}, {'label': np.array([3]), 'expected/y': np.ones(1)})", [3], [1.0]),
        ("({'x': x}, {'expected/y': np.ones(1)})", None, [1.0]),
    ],
)
def test_feeds_come_alone_with_a_label_or_with_targets(tmp_path, item, label, expected):
    (sample,) = source(tmp_path, f"yield {item}")
    assert sample.feeds["x"].shape == (1, 2)
    assert (sample.label if label is None else sample.label.tolist()) == label
    assert (sample.expected if expected is None else sample.expected["y"].tolist()) == expected


def test_arguments_reach_the_function(tmp_path):
    assert len(list(source(tmp_path, "return [{'x': x}] * n", {"n": 3}))) == 3


def test_a_buffer_that_the_function_fills_again_is_copied(tmp_path):
    samples = list(source(tmp_path, "for i in range(3):\n    x[:] = i\n    yield {'x': x}"))
    assert [float(sample.feeds["x"][0, 0]) for sample in samples] == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yield {'x': x}\nyield {'y': x}", "sample 1: no array for the model's input 'x'"),
        ("yield {'x': x, 'z': x}", "sample 0: array 'z' is no input"),
        ("yield {'x': x.astype('i8')}", "sample 0: array 'x' has type int64, expected float32"),
        ("yield {'x': x[0]}", r"sample 0: array 'x' has shape \[2\], expected \[\?, 2\]"),
        ("yield {'x': x[:, :1]}", r"sample 0: array 'x' has shape \[1, 1\]"),
        ("yield {'x': x + np.nan}", "sample 0: array 'x' is nan"),
        ("yield {'x': [[1, 2], [3]]}", "sample 0: array 'x'"),
        ("yield {'x': object()}", "sample 0: array 'x' has type object"),
        ("yield ({'x': x}, 1.5)", "'label' has type float64, expected class ids"),
        ("yield ({'x': x}, {'lable': 1})", "'lable' is no input .* did you mean 'label'"),
        ("yield ({'x': x}, {'expected/y': np.array([np.nan])})", "'expected/y' is nan"),
        ("yield x", "sample 0 is of type ndarray, expected a mapping of feeds"),
        ("yield ({'x': x}, 1, 2)", "sample 0 is of type tuple"),
        ("return {'x': x}", "sample 0 is of type str"),
        ("return None", "returned None, expected samples"),
        ("return []", "yielded no sample"),
        ("raise KeyError('gone')", "'made:samples' failed: KeyError: 'gone'"),
        ("yield {'x': x}\n1 / 0", "failed: ZeroDivisionError: division by zero"),
    ],
)
def test_what_doesnt_fit_names_the_function_and_the_sample(tmp_path, body, message):
    with pytest.raises(DataError, match=message) as error:
        list(source(tmp_path, body))
    assert "made:samples" in str(error.value)


def test_the_cause_of_a_failure_is_kept(tmp_path):
    with pytest.raises(DataError) as error:
        list(source(tmp_path, "raise OSError('disk')"))
    assert isinstance(error.value.__cause__, OSError)


def test_the_key_is_had_without_running_the_module(tmp_path):
    (tmp_path / "made.py").write_text("raise SystemExit('was run')")
    key = FunctionSource("made:samples", {"n": 2}, "v1", tmp_path, INPUTS).key()
    assert json.loads(json.dumps(key)) == key
    assert (key["module"], key["function"], key["arguments"], key["data_version"]) == (
        "made",
        "samples",
        {"n": 2},
        "v1",
    )


def test_each_part_of_the_key_tells_sources_apart(tmp_path):
    keys = [source(tmp_path, "yield 1", *rest).key() for rest in ((), ({"n": 1},), ({"n": 2},), ({}, "v2"))]
    keys.append(source(tmp_path, "yield 2").key())
    assert len({json.dumps(key) for key in keys}) == 5


def test_arguments_that_json_cant_carry_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="arguments must be JSON values"):
        source(tmp_path, "yield 1", {"n": object()}).key()


def test_the_verified_key_sees_data_that_the_module_doesnt_show(tmp_path):
    (tmp_path / "n.txt").write_text("1")
    path = str(tmp_path / "n.txt")
    reading = source(tmp_path, f"import pathlib\nyield {{'x': x + float(pathlib.Path({path!r}).read_text())}}")
    key, verified = reading.key(), reading.verified_key()
    assert verified == reading.verified_key() != key
    (tmp_path / "n.txt").write_text("2")
    assert reading.key() == key
    assert reading.verified_key()["content_sha256"] != verified["content_sha256"]


def test_a_digest_that_is_known_spares_a_run(tmp_path):
    assert source(tmp_path, "raise OSError").verified_key("abc")["content_sha256"] == "abc"


def stateful(folder: Path, body: str, answer=lambda feeds: {"y": feeds["x"] + 1}) -> FunctionSource:
    return replace(source(folder, body), answer=answer)


@pytest.mark.parametrize("item", ["{'x': x}", "({'x': x}, 3)", "({'x': x}, {'label': 3})"])
def test_a_function_feeds_the_models_states_on(tmp_path, item):
    samples = list(stateful(tmp_path, f"for _ in range(4):\n    outputs = yield {item}\n    x = outputs['y']"))
    assert [float(sample.feeds["x"][0, 0]) for sample in samples] == [0, 1, 2, 3]
    assert [(sample.is_sequence, sample.rows) for sample in samples] == [(True, None)] * 4


def test_answers_are_asked_for_only_when_the_next_sample_is(tmp_path):
    asked = []
    source = stateful(tmp_path, "while True: yield {'x': x}", lambda feeds: asked.append(feeds) or {})
    samples = iter(source)
    next(samples)
    assert not asked
    next(samples)
    assert len(asked) == 1


@pytest.mark.parametrize("body", ["return [{'x': x}]", "return iter([{'x': x}])"])
def test_what_takes_no_answers_is_refused(tmp_path, body):
    with pytest.raises(DataError, match=r"expected a generator .* write: outputs = yield feeds"):
        list(stateful(tmp_path, body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("outputs = yield {'x': x}\nyield {'x': outputs['z']}", "failed: KeyError: 'z'"),
        ("outputs = yield {'x': x}\nyield {'x': outputs['y'][0]}", r"sample 1: array 'x' has shape \[2\]"),
        ("return\nyield", "yielded no sample"),
    ],
)
def test_a_stateful_function_that_fails_is_named(tmp_path, body, message):
    with pytest.raises(DataError, match=f"'made:samples'.*{message}"):
        list(stateful(tmp_path, body))


def test_an_error_of_the_model_isnt_the_functions(tmp_path):
    def answer(feeds):
        raise BackendError("out of memory")

    with pytest.raises(BackendError, match="out of memory"):
        list(stateful(tmp_path, "yield {'x': x}", answer))


@pytest.mark.parametrize("spec", ["made", "made:", ":samples", "a b:c", "../made:samples", "made:samples:x", "a..b:c"])
def test_a_spec_that_isnt_module_and_function_is_refused(tmp_path, spec):
    with pytest.raises(ConfigError, match="expected module:function"):
        FunctionSource(spec, {}, None, tmp_path, INPUTS)
