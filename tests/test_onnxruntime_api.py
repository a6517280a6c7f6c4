from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOAD = """
import os
from onnx import TensorProto, helper
from edge_runtime.onnxruntime_api import SessionOptions, load_session
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
load_session(model.SerializeToString(), SessionOptions(), "m")
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


@pytest.mark.parametrize(("variables", "expected"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_the_library_sends_nothing_to_its_vendor_unless_it_is_wished(variables: dict[str, str], expected: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env={**environ, **variables}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
