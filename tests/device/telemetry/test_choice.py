from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable

import pytest
from fakes.board_trees import nano_jp4, orin_nano_jp6, pc_with_rapl
from fakes.boards import tree
from fakes.nvml import ANSWERS, CONSTANTS, FakeNvml, NVMLError
from fakes.tegrastats import ALWAYS, fake_tegrastats

from edge_runtime.device.telemetry.choice import KINDS, Chosen, open_source
from edge_runtime.device.telemetry.sources import nvml as nvml_source
from edge_runtime.errors import ConfigError, TelemetryError

WITHOUT_RAILS = (
    "while :; do echo 'RAM 300/3964MB (lfb 781x4MB) CPU [0%@1479,0%@1479] PLL@38C CPU@43C'; sleep 0.02; done"
)
NO_TEGRASTATS = "no tegrastats on PATH, in /usr/bin or in /usr/sbin"


@pytest.fixture(autouse=True)
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """NVML with one GPU; no tegrastats on PATH."""
    library = FakeNvml()
    monkeypatch.setattr(nvml_source, "_imported", lambda: library)
    monkeypatch.setenv("PATH", "/nowhere")
    return library


def chosen(root: Path, kind: str = "auto") -> tuple[str | None, dict]:
    found: Chosen = open_source(kind, root, 0.05)
    if found.source is not None:
        found.source.close()
    return None if found.source is None else found.source.origin.source, dict(found.verdicts)


def nano_without_rails(root: Path) -> Path:
    nano_jp4(root)
    shutil.rmtree(root / "sys/bus/i2c")
    return root


def pc_with_gpu(root: Path) -> Path:
    return tree(pc_with_rapl(root), {"dev/nvidia0": ""})


@pytest.mark.parametrize("make", [nano_jp4, orin_nano_jp6])
def test_a_jetson_with_rails_in_sysfs_uses_it(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert chosen(make(tmp_path)) == ("sysfs", {"sysfs": "in use", "jtop": "only by name"})


def test_a_jetson_whose_rails_only_tegrastats_prints_uses_that(tmp_path: Path) -> None:
    fake_tegrastats(nano_without_rails(tmp_path) / "usr/bin", "PATH=/usr/bin:/bin", ALWAYS)
    assert chosen(tmp_path) == (
        "tegrastats",
        {"sysfs": "it tells no power", "tegrastats": "in use", "jtop": "only by name"},
    )


def test_a_jetson_without_any_rail_uses_sysfs(tmp_path: Path, nvml: FakeNvml) -> None:
    nvml.answers.update(dict.fromkeys(ANSWERS, NVMLError(CONSTANTS["NVML_ERROR_NOT_SUPPORTED"])))
    fake_tegrastats(nano_without_rails(tmp_path) / "usr/bin", "PATH=/usr/bin:/bin", WITHOUT_RAILS)
    source, verdicts = chosen(tmp_path)
    assert source == "sysfs"
    assert verdicts["sysfs"] == "in use, though it tells no power"
    assert verdicts["tegrastats"] == "it tells no power"
    assert verdicts["nvml"].startswith("NVML has no GPU 0")


@pytest.mark.parametrize(("commands", "why"), [(["exit 3"], "status 3"), (None, NO_TEGRASTATS)])
def test_a_tegrastats_that_doesnt_work_has_its_verdict(tmp_path: Path, commands: list | None, why: str) -> None:
    nano_without_rails(tmp_path)
    if commands is not None:
        fake_tegrastats(tmp_path / "usr/bin", *commands)
    assert why in chosen(tmp_path)[1]["tegrastats"]


def test_a_pc_with_a_gpu_uses_nvml_then_rapl(tmp_path: Path, nvml: FakeNvml) -> None:
    assert chosen(pc_with_gpu(tmp_path)) == ("nvml", {"nvml": "in use"})
    nvml.answers["nvmlDeviceGetPowerUsage"] = NVMLError(CONSTANTS["NVML_ERROR_NOT_SUPPORTED"])
    assert chosen(tmp_path) == ("rapl", {"nvml": "it tells no power", "rapl": "in use"})
    assert nvml.connections == 0


def test_a_pc_uses_rapl_and_sysfs_without_it(tmp_path: Path) -> None:
    assert chosen(pc_with_rapl(tmp_path)) == ("rapl", {"rapl": "in use"})
    shutil.rmtree(tmp_path / "sys/class/powercap")
    source, verdicts = chosen(tmp_path)
    assert source == "sysfs"
    assert verdicts["rapl"].startswith("no RAPL counter")


def test_a_machine_that_tells_nothing_has_none(tmp_path: Path) -> None:
    source, verdicts = chosen(tmp_path)
    assert source is None
    assert list(verdicts) == ["rapl", "sysfs", "none"]
    assert "mount them" in verdicts["sysfs"]


def test_a_source_that_is_named_is_the_only_one_looked_at(tmp_path: Path) -> None:
    pc_with_gpu(tmp_path)
    assert chosen(tmp_path, "sysfs") == ("sysfs", {"sysfs": "in use"})
    assert chosen(tmp_path, "nvml") == ("nvml", {"nvml": "in use"})
    assert chosen(tmp_path, "tegrastats") == (None, {"tegrastats": NO_TEGRASTATS})
    assert chosen(tmp_path, "none") == (None, {"none": "asked for"})


def test_a_kind_that_isnt_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'tegrastat': did you mean 'tegrastats'"):
        open_source("tegrastat", tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "jtop"])
def test_no_kind_raises_where_nothing_is(tmp_path: Path, kind: str, nvml: FakeNvml) -> None:
    nvml.answers.update(dict.fromkeys(ANSWERS, NVMLError(CONSTANTS["NVML_ERROR_NOT_SUPPORTED"])))
    found = open_source(kind, tmp_path)
    if found.source is not None:
        with pytest.raises(TelemetryError, match="mount them"):
            found.source.read(0.0)
