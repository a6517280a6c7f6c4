from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edge_runtime import onnxruntime_api
from edge_runtime.provisioning import software
from edge_runtime.provisioning.software import installed_software, installed_tensorrt


def test_this_python_is_read() -> None:
    found = installed_software()
    assert found.python == platform.python_version()
    assert found.python_minor == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert found.libraries["onnxruntime"] == onnxruntime_api.version()
    assert found.tensorrt == found.libraries["tensorrt"] == installed_tensorrt()
    assert set(found.libraries) == {"tensorrt", "tensorrt_rtx", "tensorrt_lean", "onnxruntime"}


def package(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt/__init__.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize(
    ("source", "version"),
    [('__version__ = "10.3.0"\nraise SystemExit\n', "10.3.0"), ("raise SystemExit\n", "unknown")],
)
def test_tensorrt_tells_its_version_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, version: str
) -> None:
    package(tmp_path, source, monkeypatch)
    assert installed_tensorrt() == version
    assert "tensorrt" not in sys.modules


def test_the_distribution_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, '__version__ = "1.0"\n', monkeypatch)
    monkeypatch.setattr(metadata, "version", lambda name: {"tensorrt": "10.3.0.30"}[name])
    assert installed_tensorrt() == "10.3.0.30"


def test_a_module_without_a_specification_is_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", type(sys)("tensorrt"))
    assert installed_tensorrt() is None


@pytest.mark.parametrize(
    ("text", "is_isolated"),
    [
        ("home = /usr/bin\ninclude-system-site-packages = false\n", True),
        ("include-system-site-packages = true\n", False),
        ("", True),
    ],
)
def test_a_virtual_environment_tells_whether_it_sees_the_systems_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, is_isolated: bool
) -> None:
    (tmp_path / "pyvenv.cfg").write_text(text)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert installed_software().is_isolated is is_isolated


def test_the_systems_own_python_is_not_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert not installed_software().is_isolated


def test_another_c_library_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(software.os, "confstr", refuse)
    assert installed_software().glibc is None
