"""The two models that are served: `double` (y = x + x, so that every answer can be checked) and `chain` (some ms).

`python -m robustness.nets` writes both below `.bench/nets`, in a process of its own.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, List

from serving.places import BENCH
from serving.processes import output_of
from serving.servers import own_program

from robustness.places import ENGINES, NETS, environment, own_module

DOUBLE, CHAIN = "double", "chain"
WIDTH = 64
_MAX_BATCH = 8
# So small that no layer is shared out to threads: a run keeps one core busy, and leaves the other to the rest.
_LAYERS = 4000
_OPSET, _IR = 17, 8
_BUILD_S = 120.0


def build() -> None:
    """Makes both models, and our plans of them unless they are there already.

    Raises:
        RuntimeError: a build failed.
        subprocess.CalledProcessError: a model can't be made; the child's message went to stderr.
    """
    subprocess.run(own_module("nets"), check=True, env=environment())
    for name in (DOUBLE, CHAIN):
        command = [own_program(), "build", str(model_path(name)), "--name", name, "--precision", "fp32", "--json"]
        command += ["--engines", str(ENGINES), "--calib-cache", str(BENCH / "calib_cache")]
        shapes = ",".join(f"{rows}x{WIDTH}" for rows in (1, 1, _MAX_BATCH))
        output_of([*command, "--shape", f"x={shapes}"], f"build-{name}", _BUILD_S, environment())


def model_path(name: str) -> Path:
    """The ONNX file."""
    return NETS / name / "model.onnx"


def main() -> None:
    """Writes the models."""
    from onnx import helper  # noqa: PLC0415

    layers = [helper.make_node("Sin" if at % 2 else "Tanh", [f"v{at}"], [f"v{at + 1}"]) for at in range(_LAYERS)]
    layers[0].input[0] = "x"
    _write(CHAIN, [*layers, helper.make_node("Identity", [f"v{_LAYERS}"], ["y"])])
    _write(DOUBLE, [helper.make_node("Add", ["x", "x"], ["y"])])


def _write(name: str, nodes: List[Any]) -> None:
    import onnx  # noqa: PLC0415
    from onnx import helper  # noqa: PLC0415

    ends = [helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, ["batch", WIDTH]) for end in "xy"]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    path = model_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
