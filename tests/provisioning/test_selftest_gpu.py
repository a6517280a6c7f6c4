"""The self-test on a real GPU, where there is one with TensorRT."""

from __future__ import annotations

import pytest

from edge_runtime import tensorrt_api
from edge_runtime.builder.progress import LoggedProgress
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.device.cuda.loading import probe
from edge_runtime.provisioning.selftest import FAILED, selftest

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("library", [tensorrt_api.FULL, tensorrt_api.RTX])
def test_every_precision_runs_in_every_mode_as_on_onnx_runtime(library: str) -> None:
    found = probe()
    if not found.device_count:
        pytest.skip(f"no CUDA device: {found.problem}")
    if tensorrt_api.installed(library) is None:
        pytest.skip(f"{library} isn't installed")
    test = selftest(BackendTable(name=library), LoggedProgress())
    assert [step for step in test.steps if step.state == FAILED] == []
    assert any(step.name.startswith("run int8") or step.name == "build int8" for step in test.steps)
