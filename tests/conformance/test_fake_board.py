"""The fake board in processes of its own, and in this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from fakes.board_setup import child_environment, use_in_process
from fakes.tensorrt import SURFACES, VERSIONS

from edge_runtime import tensorrt_api
from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer
from edge_runtime.device.cuda.port import CopyKind
from edge_runtime.device.cuda.streams import Event, Stream
from edge_runtime.errors import BackendError

CHILD = """
import json
from edge_runtime import tensorrt_api
from edge_runtime.device.cuda.loading import open_cuda, probe

cuda, library = open_cuda(), tensorrt_api.load()
print(json.dumps({
    "installed": tensorrt_api.installed("tensorrt"),
    "library": library.text,
    "surface": library.module._surface,
    "is_shared": library.module._cuda is __import__("fakes.board_process").board_process.process_cuda(),
    "cuda": cuda.name,
    "capability": cuda.attributes(0).compute_capability,
    "dla": library.module.Builder(tensorrt_api.make_logger(library, tensorrt_api.MessageLog())).num_DLA_cores,
}))
"""


def in_child(folder: Path, surface: str, **board: Any) -> Dict[str, Any]:
    command = [sys.executable, "-W", "error", "-c", CHILD]
    environment = child_environment(folder, surface, **board)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(("surface", "capability", "cuda"), [("8.2", [5, 3], "10.2.0"), ("10.3", [8, 7], "12.6.0")])
def test_a_child_finds_the_board(surface: str, capability: list, cuda: str, tmp_path: Path) -> None:
    assert in_child(tmp_path, surface, dla_cores=2) == {
        "installed": VERSIONS[surface],
        "library": f"tensorrt {VERSIONS[surface]}",
        "surface": surface,
        "is_shared": True,
        "cuda": f"cuda-python {cuda}",
        "capability": capability,
        "dla": 2,
    }


@pytest.mark.parametrize("surface", SURFACES)
def test_this_process_finds_the_board(surface: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = use_in_process(monkeypatch, surface)
    assert tensorrt_api.load().module is found.tensorrt
    assert open_cuda().attributes(0) == found.cuda.attributes(0)


def test_the_board_ends_with_the_test() -> None:
    with pytest.MonkeyPatch.context() as patch:
        use_in_process(patch, "10.3")
    assert not hasattr(sys.modules.get("tensorrt"), "_surface")


def test_copies_events_and_graphs_pass_through_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use_in_process(monkeypatch, "10.3").cuda
    cuda = open_cuda()
    cuda.use_device(0)
    with Stream(cuda) as stream, HostBuffer(cuda, 16) as host, DeviceBuffer(cuda, 16) as device:
        host.array(np.uint8, (16,))[:] = 7
        graph = stream.capture(lambda: stream.copy(device.address, host.address, 16, CopyKind.HOST_TO_DEVICE))
        with graph, Event(cuda, blocking=True) as done:
            graph.launch(stream)
            done.record(stream)
            done.synchronize()
            assert (fake.view(device.address, 16) == 7).all()
    fake.check_leaks()


def test_an_error_has_cudas_number(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use_in_process(monkeypatch, "10.3").cuda
    cuda = open_cuda()
    cuda.use_device(0)
    fake.fail_next("allocate_device", 2)
    with pytest.raises(BackendError, match=r"cudaMalloc: cudaErrorMemoryAllocation \(2\): out of memory"):
        cuda.allocate_device(16)


def test_a_capture_that_is_given_up_leaves_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use_in_process(monkeypatch, "10.3").cuda
    cuda = open_cuda()
    cuda.use_device(0)
    stream = cuda.create_stream()
    cuda.begin_capture(stream)
    cuda.abandon_capture(stream)
    cuda.destroy_stream(stream)
    fake.check_leaks()
