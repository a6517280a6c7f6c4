from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest

from edge_runtime.builder.recipe import Recipe, load_recipe, make_recipe
from edge_runtime.errors import ConfigError

MODEL: Dict[str, Any] = {"model": {"path": "m.onnx"}}


def recipe(tables: Dict[str, Any], flags: Dict[str, Any] | None = None, **environ: str) -> Recipe:
    return make_recipe({**MODEL, **tables}, "m", Path("/r"), flags, environ)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"calibration": {"table": "t.cache", "tables": {"max": "m.cache"}}}, "either `table` or `tables`"),
        ({"calibration": {"algorithm": "max", "tables": {"max": "m.cache"}}}, "leave `algorithm` out"),
        ({"calibration": {"tables": {"magic": "m.cache"}}}, "expected one of entropy"),
        ({"modle": {}}, "unknown key 'modle': did you mean 'model'"),
        ({"model": {"path": "m.onnx", "nam": "x"}}, "unknown key 'model.nam': did you mean 'name'"),
        ({"input": {"x": {"mni": [1]}}}, "unknown key 'input.x.mni': did you mean 'min'"),
        ({"model": {}}, "give either `path`, or `package` with `file`"),
        ({"model": {"path": "m", "package": "p", "file": "f"}}, "give either `path`"),
        ({"input": {"x": {"min": [1]}}}, "all of `min`, `opt` and `max`"),
        ({"input": {"x": {"shape": [1], "min": [1], "opt": [1], "max": [1]}}}, "give either `shape`"),
        ({"input": {"x": {"shape": [1, 2], "axes": ["a"]}}}, "one entry for each dimension"),
        ({"calibration": {"data": "lines.csv"}}, "neither an .npz file nor module:function"),
        ({"held_out": {"data": "h.npz", "arguments": {"a": 1}}}, "belong to module:function"),
        ({"precision": {"policy": "int4"}}, "expected one of auto, fp32, fp16, int8 \\(got 'int4'\\)"),
        ({"metric": {"name": "speed"}}, "expected accuracy, cosine, mse, max-abs or module:function"),
        ({"gate": {"max_drop": -1}}, "gate.max_drop"),
        ({"backend": {"device": "tpu"}}, "backend.device"),
        ({"backend": {"workspace_mib": 10**23}}, "backend.workspace_mib: .*1048576"),
        ({"backend": {"memory_limit_mib": 1 << 21}}, "backend.memory_limit_mib: .*1048576"),
        ({"backend": {"workspace_mib": True}}, "backend.workspace_mib"),
        ({"backend": {"optimization_level": True}}, "backend.optimization_level"),
        ({"backend": {"version_compatible": "yes"}}, "expected true or false"),
        ({"backend": {"plugin_ops": ["*"]}}, "expected names of operators"),
        ({"backend": {"plugin_ops": [""]}}, "expected names of operators"),
    ],
)
def test_a_wrong_table_is_named_with_what_is_valid(tables: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(tables)


def test_flags_win_over_the_environment_which_wins_over_the_recipe() -> None:
    tables = {"gate": {"max_drop": 0.1, "min_gain": 0.2}, "precision": {"policy": "fp32"}}
    environ = {"EDGE_RUNTIME_GATE__MAX_DROP": "0.2", "EDGE_RUNTIME_PRECISION__POLICY": "fp16"}
    made = recipe(tables, {"precision": {"policy": "int8"}}, **environ).tables
    assert (made.gate.max_drop, made.gate.min_gain, made.precision.policy) == (0.2, 0.2, "int8")


def test_a_variable_can_set_numbers_and_truths() -> None:
    environ = {"EDGE_RUNTIME_BACKEND__WORKSPACE_MIB": "512", "EDGE_RUNTIME_BACKEND__VERSION_COMPATIBLE": "True"}
    made = recipe({}, **environ).tables.backend
    assert (made.workspace_mib, made.version_compatible) == (512, True)


def test_other_data_does_not_inherit_the_arguments_of_the_old() -> None:
    tables = {"calibration": {"data": "lines:all", "arguments": {"half": 1}, "max_clipped": 0.5}}
    made = recipe(tables, {"calibration": {"data": "c.npz"}}).tables.calibration
    assert (made.data, made.arguments, made.max_clipped) == ("c.npz", {}, 0.5)


def test_a_fixed_shape_replaces_a_range_and_the_other_way_round() -> None:
    ranged = {"min": [1, 2], "opt": [1, 2], "max": [4, 2]}
    made = recipe({"input": {"x": ranged}}, {"input": {"x": {"shape": [3, 2]}}}).tables.input["x"]
    assert (made.shape, made.minimum) == ((3, 2), None)
    made = recipe({"input": {"x": {"shape": [3, 2]}}}, {"input": {"x": ranged}}).tables.input["x"]
    assert (made.shape, made.maximum) == (None, (4, 2))


def test_an_environment_variable_reaches_an_input_whatever_its_case() -> None:
    tables = {"input": {"Image": {"min": [1], "opt": [1], "max": [4]}}}
    assert recipe(tables, EDGE_RUNTIME_INPUT__IMAGE__MAX="[8]").tables.input["Image"].maximum == (8,)


def test_the_models_name_is_the_files_unless_given(tmp_path: Path) -> None:
    (tmp_path / "night-watch.toml").write_text('[model]\npath = "m.onnx"\n')
    assert load_recipe(tmp_path / "night-watch.toml", environ={}).name == "night-watch"
    assert recipe({"model": {"path": "m.onnx", "name": "other"}}).name == "other"
    with pytest.raises(ConfigError, match=r"set \[model\] name"):
        make_recipe(MODEL, "no/such", Path(), environ={})


def test_paths_start_at_the_recipe() -> None:
    assert recipe({}).path("a/m.onnx") == Path("/r/a/m.onnx")
    assert recipe({}).path("/b/m.onnx") == Path("/b/m.onnx")


def test_every_recipe_in_the_repository_is_valid() -> None:
    recipes = list((Path(__file__).parents[2] / "engines").glob("*.toml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path, environ={}).name == path.stem
