from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, List

import pytest
from onnx import TensorProto, helper

from edge_runtime.builder.recipe import BackendTable
from edge_runtime.builder.tensorrt import attempts
from edge_runtime.builder.tensorrt.attempts import Attempts
from edge_runtime.builder.tensorrt.build_plan import OutOfMemoryError, OverLimitError
from edge_runtime.builder.tensorrt.network import ParseError
from edge_runtime.builder.tensorrt.request import BuildRequest, Built
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.errors import BackendError
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.tensors import ShapeRange

NANO = DeviceInfo("jetson", "NVIDIA Jetson Nano", "aarch64", "Cortex-A57", "tegra210", "Nano 4GB")


class Notes:
    def __init__(self) -> None:
        self.notes: List[str] = []
        self.done = 0

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, steps: int = 1) -> None:
        self.done += steps

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """What the builds were asked for; one with over 70 MiB of workspace, or under 50, runs out of memory."""
    seen: List[Any] = []

    class Child:
        def __init__(self, line: str, options: Any) -> None:
            from edge_runtime.builder.tensorrt.request import request_from_json

            seen.append(request_from_json(line))

        def result(self, advance: Any) -> Any:
            advance(1000)
            workspace = seen[-1].workspace_nbytes
            if not 50 << 20 < workspace < 70 << 20:
                raise OutOfMemoryError("the build was killed")
            return Built((), ()).record()

    monkeypatch.setattr(attempts, "BuildChild", Child)
    return seen


def attempts_of(model: bytes, notes: Notes, **table: Any) -> Attempts:
    return Attempts(model_from_bytes(model, "m"), BackendTable(**table), NANO, notes, "fp16 with tensorrt 8.2.1")


def request(folder: Path) -> BuildRequest:
    return BuildRequest("tensorrt_rtx", str(folder / "m.onnx"), str(folder / "m.plan"), {}, True)


def test_a_build_is_tried_again_with_less_memory(classifier: bytes, tmp_path: Path, tries: List[Any]) -> None:
    notes = Notes()
    attempts_of(classifier, notes, workspace_mib=1024, optimization_level=3).run(request(tmp_path))
    asked = [(one.workspace_nbytes >> 20, one.optimization_level) for one in tries]
    assert asked == [(1024, 3), (256, 2), (64, 1)]
    assert len(notes.notes) == 2
    assert "trying a workspace of 64 MiB, optimisation level 1" in notes.notes[1]


def test_when_all_tries_fail_each_is_named(classifier: bytes, tmp_path: Path, tries: List[Any]) -> None:
    build = attempts_of(classifier, Notes(), workspace_mib=80)
    with pytest.raises(OutOfMemoryError, match=r"a workspace of 80 MiB: .*killed; with a workspace of 20 MiB.*shapes"):
        build.run(request(tmp_path))


@pytest.mark.usefixtures("tries")
@pytest.mark.parametrize(
    ("table", "error", "remedy"),
    [
        ({"memory_limit_mib": 80}, OverLimitError("it held 90 MiB"), "raise [backend] memory_limit_mib, which is 80"),
        ({"memory_limit_mib": 80}, OutOfMemoryError("it was killed"), "end other programs"),
        (
            {"workspace_mib": 32},
            OutOfMemoryError("insufficient workspace"),
            "raise [backend] workspace_mib, which is 32",
        ),
        ({"workspace_mib": 32}, BackendError("Could not find any implementation"), "raise [backend] workspace_mib"),
    ],
)
def test_the_limit_that_was_set_is_the_one_to_raise(
    classifier: bytes, tmp_path: Path, monkeypatch: Any, table: Any, error: Exception, remedy: str
) -> None:
    monkeypatch.setattr(attempts.BuildChild, "result", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(BackendError) as raised:
        attempts_of(classifier, Notes(), **table).run(request(tmp_path))
    assert remedy in str(raised.value)


def test_another_failure_is_not_tried_again(
    classifier: bytes, tmp_path: Path, tries: List[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts.BuildChild, "result", lambda *_: (_ for _ in ()).throw(BackendError("no kernel")))
    with pytest.raises(BackendError, match=r"^no kernel$"):
        attempts_of(classifier, Notes()).run(request(tmp_path))
    assert len(tries) == 1


@pytest.mark.tensorrt
def test_every_node_that_the_parser_refuses_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    nodes = [
        helper.make_node("NonZero", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["x"], ["r"], name="sound"),
        helper.make_node("NonZero", ["r"], ["b"], name="second"),
        helper.make_node("RoiAlign", ["image", "boxes", "which"], ["c"], name="third", output_height=1, output_width=1),
    ]
    inputs = {"x": [2, 2], "image": [1, 1, 4, 4], "boxes": [1, 4]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    values.append(helper.make_tensor_value_info("which", TensorProto.INT64, [1]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [2, name]) for name in "ab"]
    outputs.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 1, 1, 1]))
    graph = helper.make_graph(nodes, "g", values, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(model)
    shapes = {name: ShapeRange.fixed(shape) for name, shape in {**inputs, "which": [1]}.items()}
    with pytest.raises(ParseError, match="refuses 3 nodes") as raised:
        attempts_of(model, Notes()).run(replace(request(tmp_path), profile=shapes))
    assert {problem.name for problem in raised.value.problems} == {"first", "second", "third"}
