"""A Triton model repository as files: its models, their configurations, and the ONNX of the version to take."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Tuple

from edge_runtime.errors import ConfigError, EdgeRuntimeError, nearest
from edge_runtime.plan.names import check_model_name
from edge_runtime.provisioning.triton.fates import Fate
from edge_runtime.provisioning.triton.refusals import is_plan, refusals
from edge_runtime.provisioning.triton.versions import chosen_version
from edge_runtime.wire.model_config import LIMIT_NBYTES, ModelConfig, empty_model_config, parse_model_config

CONFIG = "config.pbtxt"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_OTHER_FILES = {
    "model.py": "Python code",
    "model.pt": "TorchScript",
    "model.graphdef": "a TensorFlow graph",
    "model.savedmodel": "a TensorFlow model",
    "model.xml": "an OpenVINO model",
}
_PLAN_REMEDY = "a plan can't be made into a recipe: put the ONNX that it was built from beside it"


@dataclass(frozen=True)
class TritonModel:
    """A model that can be imported as far as its configuration and files go.

    `is_plan` says that Triton ran a TensorRT plan, beside which the ONNX lies.
    """

    name: str
    folder: Path
    config: ModelConfig
    version: int
    version_fate: Fate
    onnx: Path
    is_plan: bool

    def file(self, name: str) -> Path | None:
        """A file of that name in the version's folder or the model's, if there is one, and no link out of these."""
        for folder in (self.onnx.parent, self.folder):
            path = folder / name
            if path.is_file() and _is_inside(path, self.folder.parent):
                return path
        return None


def model_folders(repository: Path, names: Sequence[str]) -> Tuple[List[Path], List[Tuple[str, str]]]:
    """The folders of models, all or those named, and the names of what isn't one, with the reason.

    Raises:
        ConfigError: the repository can't be read, is itself a model or has none, or a name isn't in it.
    """
    try:
        entries = sorted(repository.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise ConfigError(f"{repository}: can't be read ({error.strerror}); give a model repository's folder") from None
    if any(entry.name == CONFIG for entry in entries):
        raise ConfigError(f"{repository}: is a model, for it holds {CONFIG}; give the folder that it is in")
    reasons = {entry.name: _no_model(entry) for entry in entries}
    found = [entry for entry in entries if not reasons[entry.name]]
    if not found:
        raise ConfigError(f"{repository}: no models; expected folders with {CONFIG} or a version's folder such as 1")
    known = {entry.name: entry for entry in found}
    for name in names:
        if name not in known:
            raise ConfigError(f"{repository}: no model {name[:128]!r}: {reasons.get(name) or nearest(name, known)}")
    skipped = [] if names else [(name, reason) for name, reason in reasons.items() if reason]
    return [known[name] for name in dict.fromkeys(names)] if names else found, skipped


def read_model(folder: Path) -> TritonModel:
    """A model's configuration, the version to take and its ONNX.

    Raises:
        ConfigError: it can't become a recipe, for one or more reasons.
    """
    check_model_name(folder.name)
    _check_inside(folder, folder.parent)
    config = _config(folder)
    name = config.message.name
    if name and name != folder.name:
        raise ConfigError(f"name {name[:128]!r} differs from the folder's, {folder.name!r}; make them equal")
    reasons = refusals(config)
    if reasons:
        raise ConfigError("; ".join(reasons))
    versions = {
        int(entry.name): entry for entry in folder.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir()
    }
    version, fate = chosen_version(config, versions)
    _check_inside(versions[version], folder.parent)
    onnx, has_plan = _model_file(config, versions[version])
    _check_inside(onnx, folder.parent)
    return TritonModel(folder.name, folder, config, version, fate, onnx, has_plan)


def _no_model(entry: Path) -> str:
    """Why an entry of a repository isn't a model, "" if it is one."""
    try:
        if not entry.is_dir():
            return "not a folder"
        inside = [child.name for child in entry.iterdir()]
    except OSError as error:
        return f"can't be read ({error.strerror})"
    if CONFIG in inside or any(_VERSION.fullmatch(name) for name in inside):
        return ""
    return f"neither {CONFIG} nor a version's folder in it"


def _config(folder: Path) -> ModelConfig:
    path = folder / CONFIG
    if not path.exists():
        if path.is_symlink():
            raise ConfigError(f"{path}: a link to what isn't there")
        return empty_model_config()
    _check_inside(path, folder.parent)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(f"{path}: isn't a regular file")
            data = file.read(LIMIT_NBYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from None
    return parse_model_config(data, str(path))


def _model_file(config: ModelConfig, folder: Path) -> Tuple[Path, bool]:
    """The ONNX in a version's folder, and whether it lies there beside the plan that Triton ran."""
    message = config.message
    name = message.default_model_filename or ("model.plan" if is_plan(message) else "model.onnx")
    if name != Path(name).name or name in (".", "..") or "\0" in name:
        raise ConfigError(f"default_model_filename {name[:128]!r}: expected the name of a file in {folder}")
    has_plan = is_plan(message) or name.endswith(".plan")
    if not has_plan:
        path = folder / name
        if path.is_dir():
            path = path / "model.onnx"  # as Triton has it for models with external data
        if path.is_file():
            return path, False
        has_plan = not message.default_model_filename and (folder / "model.plan").is_file()
        if not has_plan:
            raise ConfigError(_absent(path))
    found = sorted(folder.glob("*.onnx"))
    if len(found) == 1:
        return found[0], True
    count = f"{len(found)} ONNX files" if found else "no ONNX"
    raise ConfigError(f"{folder}: a TensorRT plan and {count}; {_PLAN_REMEDY}, as {folder / 'model.onnx'}")


def _absent(path: Path) -> str:
    for name, what in _OTHER_FILES.items():
        if (path.parent / name).exists():
            return f"{path.parent / name} is {what}, not ONNX; export the model to ONNX as {path}"
    return f"{path}: no such file; put the model's ONNX there"


def _check_inside(path: Path, repository: Path) -> None:
    if not _is_inside(path, repository):
        raise ConfigError(f"{path}: a link out of the repository, or in a circle; put there what it stands for")


def _is_inside(path: Path, repository: Path) -> bool:
    try:
        path.resolve().relative_to(repository.resolve())
    except (ValueError, OSError, RuntimeError):
        return False
    return True


def reason_of(error: EdgeRuntimeError | OSError) -> str:
    """Why a model wasn't imported, in one line."""
    text = str(error) if isinstance(error, EdgeRuntimeError) else f"{error.filename}: {error.strerror}"
    return " ".join(text.split())
