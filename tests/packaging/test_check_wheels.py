"""`tools/check_wheels.py` resolves for the board: its Python, its C library and its markers, never this machine's."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Callable, Sequence

import pytest

ROOT = Path(__file__).resolve().parents[2]
MakeWheel = Callable[..., None]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_wheels", ROOT / "tools" / "check_wheels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """Writes an empty wheel into the folder that stands for the index."""

    def make(
        name: str, version: str = "1", tag: str = "py3-none-any", requires: Sequence[str] = (), python: str = ">=3.8"
    ) -> None:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", f"Requires-Python: {python}"]
        about = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(tmp_path / f"{name}-{version}-{tag}.whl", "w") as wheel:
            wheel.writestr(f"{about}/METADATA", "\n".join([*lines, *(f"Requires-Dist: {text}" for text in requires)]))
            wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            wheel.writestr(f"{about}/RECORD", "")

    return make


@pytest.fixture
def index(tmp_path: Path) -> list[str]:
    return ["--no-index", "--find-links", str(tmp_path)]


@pytest.mark.parametrize(
    ("name", "for_old_python", "cuda"),
    [
        ("jp4", True, None),
        ("jp5", True, "cuda-python<12,>=11.7"),
        ("jp6", False, "cuda-python<12.7,>=12.2"),
        ("jp7", False, "cuda-python<13.1,>=13.0"),
    ],
)
def test_the_projects_own_markers_are_those_of_the_target(
    tool: ModuleType, name: str, for_old_python: bool, cuda: str | None
) -> None:
    wheels, sources = tool.requirements_for(tool.TARGETS[name])
    assert not [text for text in wheels if ";" in text]
    assert ("eval-type-backport>=0.2" in wheels) is for_old_python
    assert ("tomli>=2" in wheels) is (name != "jp7")
    assert [text for text in wheels if text.startswith("cuda")] == ([] if cuda is None else [cuda])
    assert sources == (["pycuda<2027,>=2022.1"] if cuda is None else [])


def test_a_package_of_sources_brings_what_it_needs_as_wheels(tool: ModuleType) -> None:
    wheels, _ = tool.requirements_for(tool.TARGETS["jp4"])
    assert set(tool.SOURCE_ONLY["pycuda"]) <= set(wheels)


def test_platforms_end_at_the_targets_c_library(tool: ModuleType) -> None:
    platforms = tool.TARGETS["jp4"].platforms
    assert platforms[0] == "manylinux_2_27_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} < set(platforms)
    assert "manylinux_2_28_aarch64" not in platforms


@pytest.mark.parametrize(("name", "expected"), [("jp5", ["arm", "lib", "old"]), ("jp6", ["arm", "lib"])])
def test_markers_of_dependencies_are_those_of_the_target(
    tool: ModuleType, make_wheel: MakeWheel, index: list[str], name: str, expected: list[str]
) -> None:
    for package in ("old", "arm", "intel"):
        make_wheel(package)
    machines = ["arm; platform_machine == 'aarch64'", "intel; platform_machine == 'x86_64'"]
    make_wheel("lib", requires=["old; python_version < '3.10'", *machines])
    assert [wheel.name for wheel in tool.resolve(tool.TARGETS[name], ["lib"], *index)] == expected


@pytest.mark.parametrize(("name", "expected"), [("jp4", "1"), ("jp5", "2"), ("jp7", "3")])
def test_the_newest_version_for_the_python_and_the_c_library_of_the_target_is_taken(
    tool: ModuleType, make_wheel: MakeWheel, index: list[str], name: str, expected: str
) -> None:
    make_wheel("lib", "1", "cp38-cp38-manylinux_2_17_aarch64.manylinux2014_aarch64")
    make_wheel("lib", "2", "cp38-cp38-manylinux_2_28_aarch64")
    make_wheel("lib", "3", "py3-none-any", python=">=3.12")
    (wheel,) = tool.resolve(tool.TARGETS[name], ["lib"], *index)
    assert wheel.version == expected


def test_every_package_without_a_wheel_is_named_with_what_to_do(
    tool: ModuleType, make_wheel: MakeWheel, index: list[str]
) -> None:
    make_wheel("lib", requires=["gone"])
    make_wheel("late", "2", "cp38-cp38-manylinux_2_28_aarch64")
    make_wheel("late", "1", "cp38-cp38-manylinux_2_17_aarch64")
    make_wheel("fine")
    missing = tool.missing_wheels(tool.TARGETS["jp4"], ["lib", "late>=2", "fine"], *index)
    assert set(missing) == {"gone", "late"}
    assert missing["late"] == "the newest version with a wheel is 1; let late>=2 of pyproject.toml take it"
    assert missing["gone"].startswith("no version has a wheel for it")


def test_versions_that_contradict_each_other_are_told_apart_from_missing_wheels(
    tool: ModuleType, make_wheel: MakeWheel, index: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel("base", "1")
    make_wheel("base", "2")
    make_wheel("a", requires=["base<2"])
    make_wheel("b", requires=["base>=2"])
    monkeypatch.setattr(tool, "requirements_for", lambda target: (["a", "b"], []))
    rows, (line,) = tool.check(tool.TARGETS["jp5"], *index)
    assert rows == []
    assert line.startswith("jp5 (Python 3.8.10, glibc 2.31): the versions: contradict each other")
    assert "a==1 and b==1" in line


def test_sources_are_shown_and_are_no_failure(
    tool: ModuleType, make_wheel: MakeWheel, index: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel("lib", "1", "cp38-abi3-manylinux2014_aarch64")
    monkeypatch.setattr(tool, "requirements_for", lambda target: (["lib"], ["pycuda>=2022.1"]))
    rows, missing = tool.check(tool.TARGETS["jp4"], *index)
    assert rows == [
        ("jp4", "lib", "1", "cp38-abi3-manylinux2014_aarch64"),
        ("jp4", "pycuda", ">=2022.1", "sources only: compiles on the board"),
    ]
    assert missing == []


def test_a_missing_wheel_is_exit_status_1_and_said_on_stderr(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "check", lambda target: ([], [f"{target.name}: lib: no version has a wheel"]))
    assert tool.main(["--target", "jp4"]) == 1
    assert capsys.readouterr().err == "no wheel: jp4: lib: no version has a wheel\n"


def test_a_requirements_file_pins_each_file_but_pip_to_its_hash(
    tool: ModuleType, make_wheel: MakeWheel, tmp_path: Path
) -> None:
    make_wheel("pip")
    make_wheel("some_lib", "1.5")
    (tmp_path / "pycuda-2026.1.tar.gz").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    first, second = tool.pinned(tmp_path).splitlines()
    assert first == f"pycuda==2026.1 --hash=sha256:{empty}"
    assert second.startswith("some-lib==1.5 --hash=sha256:")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_jetpack_5_installs_from_a_wheelhouse_alone(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--target", "jp5", "--wheelhouse", str(tmp_path)]) == 0  # it ends with a resolution without index
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {"cuda-python", "onnxruntime", "eval-type-backport"} < {row[1] for row in rows}
    assert len(list((tmp_path / "jp5").glob("*.whl"))) == len(rows) - 1 + 2  # no heading, but this project and pip
