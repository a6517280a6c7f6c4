from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict

import pytest
from fakes.board_machine import ORIN, use_machine

from edge_runtime.builder.progress import LoggedProgress
from edge_runtime.builder.recipe import Recipe, make_recipe
from edge_runtime.engine.tensorrt.memory_kind import FILE, read_measured
from edge_runtime.errors import BackendUnavailableError, PlanError
from edge_runtime.evaluation.latency import LatencyRatio
from edge_runtime.provisioning import memory as module
from edge_runtime.provisioning.memory import MemoryReport, SizeResult, measure_memory

SAME = LatencyRatio(1.0, 0.9, 1.1)
BETTER, WORSE = LatencyRatio(0.8, 0.7, 0.9), LatencyRatio(1.4, 1.3, 1.5)


@pytest.fixture
def recipe(tmp_path: Path, classifier: bytes) -> Recipe:
    (tmp_path / "m.onnx").write_bytes(classifier)
    return make_recipe({"model": {"path": "m.onnx", "max_batch": 4096}}, "m", tmp_path, environ={})


def report(*mapped: Any) -> MemoryReport:
    results = [SizeResult(4096 << index, ("x",), 0.1, ratio, SAME) for index, ratio in enumerate(mapped)]
    return MemoryReport("some GPU", tuple(results), Path("engines/.memory.json"))


@pytest.mark.parametrize(
    ("mapped", "largest"),
    [((BETTER, BETTER), 8192), ((BETTER, WORSE, BETTER), 4096), ((SAME, BETTER), 0), ((None, None), 0), ((), 0)],
)
def test_sizes_are_mapped_as_far_as_that_is_surely_no_slower(mapped: Any, largest: int) -> None:
    found = report(*mapped)
    assert found.largest_mapped_nbytes == largest
    assert ("copy all tensors" in found.advice) == (largest == 0)
    assert [row[-1] for row in found.rows()].count("mapped") == (largest.bit_length() - 12 if largest else 0)


def test_without_a_gpu_nothing_is_measured(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="not measured"):
        measure_memory(recipe, tmp_path / "engines", LoggedProgress())
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize("surface", ["8.2", "10.3"])
def test_a_board_is_measured_for_the_sizes_of_the_model(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surface: str
) -> None:
    machine = use_machine(monkeypatch, tmp_path / "board", surface)
    monkeypatch.setattr(module, "identify", lambda: ORIN)
    found = measure_memory(recipe, tmp_path / "engines", LoggedProgress(), budget_s=0.05)
    sizes: Dict[int, Any] = {result.nbytes: result.tensors for result in found.results}
    assert sizes[4096 * 4 * 4] == ("x",)
    assert sizes[4096 * 3 * 4] == ("scores",)
    assert sorted(sizes) == [4096, 16384, 49152, 65536]
    assert json.loads(json.dumps(found.record()))["largest_mapped_nbytes"] == found.largest_mapped_nbytes
    device = machine.cuda.attributes(0)
    kept = read_measured(tmp_path / "engines" / FILE, f"{device.name} {'.'.join(map(str, device.compute_capability))}")
    assert kept is not None
    assert kept.largest_mapped_nbytes == found.largest_mapped_nbytes
    assert kept.source.startswith("doctor --memory, 20")
    machine.cuda.check_leaks()


@pytest.mark.parametrize(
    ("engines", "problem"),
    [("file", "file: can't be written"), ("/proc/absent", "/proc/absent: can't be"), ("kept", "isn't a regular file")],
)
def test_where_the_result_cannot_be_kept_nothing_is_measured(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: str, problem: str
) -> None:
    use_machine(monkeypatch, tmp_path / "board", "10.3")
    monkeypatch.setattr(module, "identify", lambda: ORIN)
    monkeypatch.setattr(module, "_sizes_of", lambda recipe: pytest.fail("work before the check"))
    (tmp_path / "file").touch()
    (tmp_path / "kept" / FILE).mkdir(parents=True)
    with pytest.raises(PlanError, match=f"{problem}.*nothing was measured"):
        measure_memory(recipe, tmp_path / engines, LoggedProgress())


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_of_measurements_is_ignored_and_said(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / FILE
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    assert read_measured(path, "some GPU 8.7") is None
    assert "isn't a file that can be read; measure again" in caplog.text
