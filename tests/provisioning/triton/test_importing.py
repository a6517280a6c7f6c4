"""Configurations of many kinds, all of them made up, each beside the same small ONNX: x f32[batch, 4] -> scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

import edge_runtime
from edge_runtime.builder.builder import BuildOptions
from edge_runtime.builder.recipe import load_recipe
from edge_runtime.errors import ConfigError
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.quantize import fold_weights, insert_qdq
from edge_runtime.provisioning.triton.importing import (
    COMPLETE,
    INCOMPLETE,
    REFUSED,
    ImportedModel,
    ImportOptions,
    import_repository,
)

IO = 'input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } output { name: "scores" data_type: TYPE_FP32 dims: [ 3 ] }'
DETECTOR = f"""name: "m"
platform: "onnxruntime_onnx"
max_batch_size: 8
{IO}
instance_group [ {{ count: 2 kind: KIND_GPU gpus: [ 0 ] }} ]
dynamic_batching {{
  preferred_batch_size: [ 2, 4 ]
  max_queue_delay_microseconds: 500
  priority_levels: 2
  default_priority_level: 2
  default_queue_policy {{ default_timeout_microseconds: 20000 max_queue_size: 64 }}
}}
model_warmup {{ name: "zeros" batch_size: 4 inputs {{ key: "x" value {{ dims: 4 zero_data: true }} }} }}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "2" }} }}
"""
ACCELERATED = f"""backend: "onnxruntime" max_batch_size: 4 {IO}
optimization {{ execution_accelerators {{ gpu_execution_accelerator [ {{
  name: "tensorrt"
  parameters {{ key: "precision_mode" value: "INT8" }}
  parameters {{ key: "int8_calibration_table_name" value: "/cache/t.cache" }}
  parameters {{ key: "int8_use_native_calibration_table" value: "1" }}
  parameters {{ key: "max_workspace_size_bytes" value: "1073741825" }}
  parameters {{ key: "trt_builder_optimization_level" value: "2" }}
  parameters {{ key: "trt_profile_min_shapes" value: "x:1x4" }}
  parameters {{ key: "trt_profile_opt_shapes" value: "x:3x4" }}
  parameters {{ key: "trt_profile_max_shapes" value: "x:4x4" }}
}} ] }} }}"""
TABLE = "TRT-8603-EntropyCalibration2\nx: 3c010204\nh: 3d010204\nr: 3d010204\nscores: 3d810204\n"


class Repository:
    """A model repository with one ONNX in every version's folder."""

    def __init__(self, root: Path, model: bytes) -> None:
        self.root = root / "models"
        self.output = root / "engines"
        self._model = model

    def add(
        self, config: str | None, name: str = "m", versions: tuple[int, ...] = (1,), file: str = "model.onnx"
    ) -> Path:
        folder = self.root / name
        for version in versions:
            (folder / str(version)).mkdir(parents=True)
            (folder / str(version) / file).write_bytes(self._model)
        if config is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.pbtxt").write_text(config)
        return folder

    def imported(self, *names: str, **options: Any) -> ImportedModel:
        model, *_ = import_repository(self.root, names, ImportOptions(self.output, **options)).models
        return model

    def tables(self) -> dict[str, Any]:
        """The tables of the one recipe, without what is the default."""
        return load_recipe(self.output / "m.toml", environ={}).tables.model_dump(exclude_unset=True, by_alias=True)


@pytest.fixture
def repository(tmp_path: Path, classifier: bytes) -> Repository:
    return Repository(tmp_path, classifier)


def fates(model: ImportedModel) -> dict[str, tuple[str, str]]:
    return {one.path: (one.outcome, one.text) for one in model.fields}


def test_a_detector_with_dynamic_batching_builds_and_answers(repository: Repository, tmp_path: Path) -> None:
    repository.add(DETECTOR)
    model = repository.imported()
    assert (model.outcome, model.action, model.version) == (COMPLETE, "written", 1)
    assert repository.tables() == {
        "model": {"path": "../models/m/1/model.onnx", "max_batch": 8},
        "input": {"x": {"min": (1, 4), "opt": (4, 4), "max": (8, 4)}},
        "precision": {"policy": "fp32"},
        "serving": {"batching": "on", "priority": 2, "deadline_ms": 20},
    }
    outcomes = {path: outcome for path, (outcome, _) in fates(model).items()}
    assert outcomes["dynamic_batching.max_queue_delay_microseconds"] == "lost"
    assert outcomes['parameters["intra_op_thread_count"]'] == "lost"
    assert outcomes["model_warmup[0]"] == "not needed"
    assert sorted(set(outcomes.values())) == ["honoured", "lost", "not needed"]
    built = edge_runtime.build(repository.output / "m.toml", BuildOptions(repository.output, tmp_path / "calib"))
    with edge_runtime.load(built) as engine:
        assert engine.signature.max_batch_size == 8


def test_a_tensorrt_accelerator_with_a_calibration_table_builds(repository: Repository, tmp_path: Path) -> None:
    folder = repository.add(ACCELERATED)
    (folder / "1" / "t.cache").write_text(TABLE)
    assert repository.imported().outcome == COMPLETE
    tables = repository.tables()
    assert tables["input"] == {"x": {"min": (1, 4), "opt": (3, 4), "max": (4, 4)}}
    assert tables["backend"] == {"workspace_mib": 1025, "optimization_level": 2}
    assert tables["precision"] == {"policy": "int8"}
    assert tables["calibration"] == {"table": "../models/m/1/t.cache"}
    built = edge_runtime.build(repository.output / "m.toml", BuildOptions(repository.output, tmp_path / "calib"))
    assert built.manifest.precision == "int8"


def test_int8_of_nodes_in_the_onnx_is_kept_as_it_is(repository: Repository, tmp_path: Path, classifier: bytes) -> None:
    scales = dict.fromkeys(("x", "h", "r", "scores"), 0.05)
    quantised = fold_weights(insert_qdq(model_from_bytes(classifier, "m"), scales, frozenset()))
    folder = repository.add(ACCELERATED)
    (folder / "1" / "model.onnx").write_bytes(quantised.serialize())
    model = repository.imported()
    assert (model.outcome, repository.tables()["precision"]) == (COMPLETE, {"policy": "fp32"})
    assert any("Q/DQ" in text for _, text in fates(model).values())
    built = edge_runtime.build(repository.output / "m.toml", BuildOptions(repository.output, tmp_path / "calib"))
    assert b"QuantizeLinear" in (built.folder / "model.onnx").read_bytes()


def test_int8_without_a_table_is_incomplete_and_says_what_to_add(repository: Repository) -> None:
    repository.add(ACCELERATED)
    model = repository.imported()
    assert (model.outcome, model.action) == (INCOMPLETE, "written")
    assert "[calibration]" in model.reasons[0]
    assert model.text.splitlines()[1].startswith("# Missing: [calibration]")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, {"model": {"max_batch": 4}, "precision": {"policy": "fp32"}}),
        ("", {"model": {"max_batch": 4}, "precision": {"policy": "fp32"}}),
        (f"max_batch_size: 0 {IO}", {"model": {"max_batch": 4}, "precision": {"policy": "fp32"}}),
        ('input { name: "x" dims: [ -1, 4 ] }', {"model": {}, "precision": {"policy": "fp32"}}),
        ('input { name: "x" dims: [ 2, 4 ] }', {"input": {"x": {"shape": (2, 4)}}}),
        ("instance_group { kind: KIND_CPU count: 3 }", {"backend": {"name": "onnxruntime"}}),
        ("instance_group { gpus: [ 1 ] }", {"backend": {"device": "gpu:1"}}),
        (
            "instance_group { secondary_devices { device_id: 1 } }",
            {"backend": {"device": "dla:1"}, "precision": {"policy": "fp16"}},
        ),
        ("dynamic_batching { default_queue_policy { timeout_action: DELAY } }", {"serving": {"batching": "on"}}),
    ],
)
def test_what_a_configuration_says_is_what_the_recipe_has(
    repository: Repository, config: str | None, expected: dict[str, Any]
) -> None:
    repository.add(config)
    assert repository.imported().outcome == COMPLETE
    tables = repository.tables()
    del tables["model"]["path"]
    assert expected.items() <= tables.items()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('platform: "ensemble" ensemble_scheduling { step { model_name: "a" } step { model_name: "b" } }', r"\(a, b\)"),
        ('backend: "python"', "backend 'python'"),
        ('backend: "dali"', "backend 'dali' isn't ONNX"),
        ("sequence_batching { direct { } }", "sequence batching"),
        ('backend: "vllm" model_transaction_policy { decoupled: true }', "vllm' isn't ONNX.*; it is decoupled"),
        ('batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" source_input: "x" }', r"batch_input \(n\)"),
        ('input { name: "x" data_type: TYPE_STRING dims: 4 }', "'x' is BYTES in the configuration and FP32"),
        ('max_batch_size: 2 input { name: "x" data_type: TYPE_FP16 dims: 4 }', "FP16 in the configuration and FP32"),
        ('max_batch_size: 2 input { name: "X" dims: 4 }', "no input 'X'.*'x'"),
        ('max_batch_size: 2 input { name: "x" dims: 5 }', r"\[-1, 5\] by the configuration and \[-1, 4\] in the ONNX"),
        ('name: "../x"', "'../x' differs from the folder's"),
        ('default_model_filename: "../m.onnx"', "default_model_filename '../m.onnx'"),
        ("version_policy { specific { versions: [ 2 ] } }", "wants 2, folders that are numbers: 1"),
        ("max_batch_size: x", "config.pbtxt:1: "),
        ("dynamic_batching { default_priority_level: 18446744073709551616 }", "config.pbtxt:1: "),
    ],
)
def test_a_model_that_can_not_be_one_is_refused_with_its_reasons_and_the_others_are_imported(
    repository: Repository, config: str, problem: str
) -> None:
    repository.add(config)
    repository.add(None, "other")
    report = import_repository(repository.root, (), ImportOptions(repository.output))
    first, second = report.models
    assert (first.outcome, second.outcome, report.is_complete) == (REFUSED, COMPLETE, False)
    (reason,) = first.reasons
    assert re.search(problem, reason), reason
    assert "\n" not in reason
    assert [path.name for path in repository.output.iterdir()] == ["other.toml"]


@pytest.mark.parametrize(
    ("policy", "version", "outcome"),
    [
        ("", 3, "lost"),
        ("version_policy { latest { num_versions: 2 } }", 3, "lost"),
        ("version_policy { specific { versions: [ 1 ] } }", 1, "honoured"),
        ("version_policy { all { } }", 3, "lost"),
    ],
)
def test_the_version_is_the_highest_that_the_policy_serves(
    repository: Repository, policy: str, version: int, outcome: str
) -> None:
    folder = repository.add(policy, versions=(1, 3))
    (folder / "0").mkdir()
    (folder / "configs").mkdir()
    model = repository.imported()
    assert (model.version, model.onnx) == (version, folder / str(version) / "model.onnx")
    assert fates(model)["version_policy"][0] == outcome


def test_a_plan_is_imported_by_the_onnx_beside_it_and_refused_without(repository: Repository) -> None:
    folder = repository.add(f'platform: "tensorrt_plan" max_batch_size: 4 {IO}', file="model.plan")
    assert "put the ONNX that it was built from beside it" in repository.imported().reasons[0]
    (folder / "1" / "detector.onnx").write_bytes((folder / "1" / "model.plan").read_bytes())
    model = repository.imported()
    assert (model.outcome, fates(model)["platform"][0]) == (COMPLETE, "lost")
    assert repository.tables()["precision"] == {"policy": "auto"}


def test_sizes_that_nobody_gives_are_missing_and_the_build_names_them(repository: Repository, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "w"])
    y = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", "w"])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["scores"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = repository.add('max_batch_size: 2 input { name: "x" dims: -1 }')
    onnx.save(model, folder / "1" / "model.onnx")
    found = repository.imported()
    assert (found.outcome, found.action) == (INCOMPLETE, "written")
    with pytest.raises(ConfigError, match=r"input 'x' .* give its sizes"):
        edge_runtime.build(repository.output / "m.toml", BuildOptions(repository.output, tmp_path / "calib"))
    (folder / "config.pbtxt").write_text('max_batch_size: 2 input { name: "x" dims: 7 }')
    assert repository.imported(force=True).outcome == COMPLETE
    assert repository.tables()["input"] == {"x": {"min": (1, 7), "opt": (1, 7), "max": (2, 7)}}


@pytest.mark.parametrize(("batch", "outcome"), [(1, COMPLETE), (2, REFUSED)])
def test_a_batch_that_the_onnx_fixes_may_be_one(repository: Repository, batch: int, outcome: str) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    folder = repository.add(f'max_batch_size: {batch} input {{ name: "x" dims: 4 }}')
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "1" / "model.onnx")
    assert repository.imported().outcome == outcome


def test_settings_of_the_server_are_the_largest_and_the_others_are_told(repository: Repository) -> None:
    repository.add("instance_group { count: 2 } instance_group { count: 1 }", "a")
    repository.add("instance_group { count: 1 }", "b")
    report = import_repository(repository.root, (), ImportOptions())
    assert report.settings == {"slots": 3}
    assert [fates(model)["instance_group[0].count"][0] for model in report.models] == ["honoured", "lost"]
    assert not repository.output.exists()


def test_a_recipe_does_not_depend_on_what_is_imported_with_it(repository: Repository) -> None:
    repository.add("instance_group { count: 1 }")
    assert repository.imported().action == "written"
    repository.add("instance_group { count: 2 }", "n")
    assert repository.imported().action == "unchanged"


def test_a_recipe_that_is_there_is_only_replaced_by_force(repository: Repository) -> None:
    repository.add(DETECTOR)
    assert [repository.imported().action for _ in range(2)] == ["written", "unchanged"]
    (repository.output / "m.toml").write_text("mine")
    kept = repository.imported()
    assert (kept.outcome, kept.action) == (REFUSED, "none")
    assert "--force" in kept.reasons[0]
    assert (repository.output / "m.toml").read_text() == "mine"
    assert repository.imported(force=True).action == "written"
    assert [path.name for path in repository.output.iterdir()] == ["m.toml"]


def odd_name(model: bytes) -> bytes:
    """The same ONNX, whose input has a name that neither TOML nor a shell likes."""
    proto = onnx.load_from_string(model)
    proto.graph.input[0].name = proto.graph.node[0].input[0] = 'x "]\n\x7f#'
    return proto.SerializeToString()


def test_names_of_inputs_are_quoted(repository: Repository, classifier: bytes) -> None:
    folder = repository.add("max_batch_size: 2 dynamic_batching { preferred_batch_size: 2 }")
    (folder / "1" / "model.onnx").write_bytes(odd_name(classifier))
    assert repository.imported().outcome == COMPLETE
    assert list(repository.tables()["input"]) == ['x "]\n\x7f#']
