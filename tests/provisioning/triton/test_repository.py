"""Repositories that are broken or hostile, on purpose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.provisioning.triton.repository import model_folders, read_model


@pytest.fixture
def root(tmp_path: Path, classifier: bytes) -> Path:
    """A repository with the model `m`."""
    (tmp_path / "models/m/1").mkdir(parents=True)
    (tmp_path / "models/m/1/model.onnx").write_bytes(classifier)
    return tmp_path / "models"


def test_what_is_no_model_is_named_with_the_reason(root: Path) -> None:
    (root / "README.md").write_text("models")
    (root / "empty").mkdir()
    (root / "gone").symlink_to("nowhere")
    folders, skipped = model_folders(root, ())
    assert [folder.name for folder in folders] == ["m"]
    assert dict(skipped) == {
        "README.md": "not a folder",
        "empty": "neither config.pbtxt nor a version's folder in it",
        "gone": "not a folder",
    }


@pytest.mark.parametrize(
    ("name", "problem"), [("n", "no model 'n': valid: m"), ("empty", "no model 'empty': neither"), ("../m", "no model")]
)
def test_a_name_that_is_none_is_refused(root: Path, name: str, problem: str) -> None:
    (root / "empty").mkdir()
    with pytest.raises(ConfigError, match=problem):
        model_folders(root, [name])


def test_folders_that_are_no_repository_are_refused(root: Path, tmp_path: Path) -> None:
    (root / "m/config.pbtxt").touch()
    (tmp_path / "empty").mkdir()
    for folder, problem in (("absent", "can't be read"), ("models/m", "is a model"), ("empty", "no models")):
        with pytest.raises(ConfigError, match=problem):
            model_folders(tmp_path / folder, ())


def large(path: Path) -> None:
    path.write_bytes(b"#" * (1 << 20))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (large, "over 262,144 bytes"),
        (Path.mkdir, "isn't a regular file|can't be read"),
        (os.mkfifo, "isn't a regular file"),
        (lambda path: path.write_bytes(b"\xff"), "config.pbtxt:1: not UTF-8"),
        (lambda path: path.symlink_to("/etc/passwd"), "a link out of the repository"),
        (lambda path: path.symlink_to("nowhere"), "a link to what isn't there"),
        (lambda path: path.symlink_to("config.pbtxt"), "a link to what isn't there|in a circle|can't be read"),
    ],
)
def test_a_configuration_that_is_no_small_text_file_of_its_own_is_refused(
    root: Path, make: Callable[[Path], object], problem: str
) -> None:
    make(root / "m/config.pbtxt")
    with pytest.raises(ConfigError, match=problem):
        read_model(root / "m")


def test_links_are_followed_inside_the_repository_only(root: Path, tmp_path: Path) -> None:
    (root / "m/2").symlink_to("1")
    assert read_model(root / "m").version == 2
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.onnx").write_bytes(b"")
    (root / "m/3").symlink_to(tmp_path / "out")
    with pytest.raises(ConfigError, match="a link out of the repository"):
        read_model(root / "m")


@pytest.mark.parametrize(
    ("file", "problem"),
    [("model.py", "is Python code, not ONNX"), ("model.plan", "a TensorRT plan and no ONNX"), ("x", "no such file")],
)
def test_a_version_without_onnx_says_what_it_has(root: Path, file: str, problem: str) -> None:
    (root / "m/1/model.onnx").rename(root / "m/1" / file)
    with pytest.raises(ConfigError, match=problem):
        read_model(root / "m")


def test_a_folder_stands_for_the_onnx_in_it(root: Path) -> None:
    (root / "m/2/model.onnx").mkdir(parents=True)
    (root / "m/1/model.onnx").rename(root / "m/2/model.onnx/model.onnx")
    assert read_model(root / "m").onnx == root / "m/2/model.onnx/model.onnx"


@pytest.mark.parametrize("name", ["-rf", "a b", "x" * 129, ".m"])
def test_a_folder_whose_name_no_model_may_have_is_refused(root: Path, name: str) -> None:
    (root / "m").rename(root / name)
    with pytest.raises(ConfigError, match="model name"):
        read_model(root / name)
