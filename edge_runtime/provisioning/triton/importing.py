"""A Triton model repository becomes recipes, and every field of its configurations gets its word."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple

from edge_runtime.builder.recipe import RecipeTables
from edge_runtime.config import validated
from edge_runtime.errors import ConfigError, EdgeRuntimeError
from edge_runtime.graph.macs import quantised_nodes
from edge_runtime.graph.model import load_model
from edge_runtime.plan.files import make_folder, obstacle, write_atomically
from edge_runtime.provisioning.triton.acceleration import calibration_file, draft_accelerators, draft_devices
from edge_runtime.provisioning.triton.data_types import check_types
from edge_runtime.provisioning.triton.draft import QUEUE_SIZE, SLOTS, Draft, OnnxFacts
from edge_runtime.provisioning.triton.fates import FieldFate, field_fates, honoured, lost, pattern_of
from edge_runtime.provisioning.triton.recipe_text import recipe_text
from edge_runtime.provisioning.triton.repository import TritonModel, model_folders, read_model, reason_of
from edge_runtime.provisioning.triton.serving import draft_serving
from edge_runtime.provisioning.triton.shapes import draft_shapes

COMPLETE, INCOMPLETE, REFUSED = "complete", "incomplete", "refused"
"""A recipe that builds as it is; one that a person must add to; none."""

DEFAULT_OUTPUT = Path("engines")
_LIMITS = {SLOTS: 256, QUEUE_SIZE: 1 << 31}


@dataclass(frozen=True)
class ImportOptions:
    """Where recipes go (None: nowhere, just look), and whether those that are there are replaced."""

    output: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class ImportedModel:
    """What became of one model; `reasons` say why it was refused, or what its recipe lacks.

    `action` is what happened to the file `recipe`: written, unchanged, or none.
    """

    name: str
    outcome: str
    reasons: Tuple[str, ...] = ()
    recipe: Path | None = None
    action: str = "none"
    text: str = ""
    version: int | None = None
    onnx: Path | None = None
    fields: Tuple[FieldFate, ...] = ()

    def record(self) -> Dict[str, Any]:
        """The same as JSON has it."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "recipe": None if self.recipe is None else str(self.recipe),
            "action": self.action,
            "text": self.text or None,
            "version": self.version,
            "onnx": None if self.onnx is None else str(self.onnx),
            "fields": [vars(one) for one in self.fields],
        }


@dataclass(frozen=True)
class ImportReport:
    """All models, what else is in the repository with the reason why it is none, and settings of the server."""

    models: Tuple[ImportedModel, ...]
    skipped: Tuple[Tuple[str, str], ...]
    settings: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every model has a recipe that builds as it is."""
        return all(model.outcome == COMPLETE for model in self.models)


def import_repository(
    repository: Path, names: Sequence[str], options: ImportOptions, stage: Callable[[str], None] | None = None
) -> ImportReport:
    """Makes recipes of the models of a repository, all or those named; `stage` hears what is read.

    Raises:
        ConfigError: the repository can't be read, a model isn't in it, or the output can't be written.
    """
    folders, skipped = model_folders(repository, names)
    if options.output is not None:
        _check_output(options.output)
    drafts = []
    for folder in folders:
        if stage is not None:
            stage(f"reading {folder.name}")
        drafts.append(_drafted(folder, options.output or DEFAULT_OUTPUT))
    settings = _settle([one.draft for one in drafts if isinstance(one, _Drafted)])
    models = tuple(_finished(one, options) if isinstance(one, _Drafted) else one for one in drafts)
    return ImportReport(models, tuple(skipped), settings)


@dataclass(frozen=True)
class _Drafted:
    model: TritonModel
    draft: Draft


def _drafted(folder: Path, output: Path) -> _Drafted | ImportedModel:
    try:
        model = read_model(folder)
        onnx = load_model(model.onnx)
        facts = OnnxFacts(onnx.inputs, onnx.outputs, bool(quantised_nodes(onnx)))
        draft = _draft(model, facts, output)
        if draft.problems:
            raise ConfigError("; ".join(draft.problems))
    except (EdgeRuntimeError, OSError) as error:
        return ImportedModel(folder.name, REFUSED, (reason_of(error),))
    return _Drafted(model, draft)


def _draft(model: TritonModel, facts: OnnxFacts, output: Path) -> Draft:
    draft = Draft(model.config, facts)
    draft.set("model", "path", _relative(model.onnx, output))
    draft.fates["version_policy"] = model.version_fate
    if model.is_plan:
        for path in ("platform", "backend", "default_model_filename"):
            if model.config.line(path) is not None:
                draft.fates[path] = lost(
                    "the plan isn't taken; one is built from the ONNX beside it, in a precision that pays"
                )
    table = calibration_file(model.config.message)
    file = model.file(table) if table else None
    check_types(draft, model.is_plan)
    is_cpu = draft_devices(draft)
    ranges = draft_accelerators(draft, is_cpu, model.is_plan, None if file is None else _relative(file, output))
    draft_shapes(draft, ranges)
    draft_serving(draft)
    return draft


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())


def _settle(drafts: Sequence[Draft]) -> Dict[str, int]:
    """The server's settings: of each what most is wished for; models that wish for less are told."""
    settings: Dict[str, int] = {}
    for draft in drafts:
        for name, (_, value) in draft.wishes.items():
            settings[name] = min(_LIMITS[name], max(value, settings.get(name, 1)))
    for draft in drafts:
        for name, (path, value) in draft.wishes.items():
            text = f"EDGE_RUNTIME_SERVER__{name.upper()}={settings[name]}, for all models alike"
            is_kept = value == settings[name]
            draft.fates[path] = honoured(text) if is_kept else lost(f"{text}; this one wants {value}")
    return settings


def _finished(drafted: _Drafted, options: ImportOptions) -> ImportedModel:
    model, draft = drafted.model, drafted.draft
    fates = field_fates(draft.config, draft.fates)
    source = f"a Triton model repository: {model.name}, version {model.version}"
    wished = {path for path, _ in draft.wishes.values()}  # what becomes of these depends on the other models
    told = [one for one in fates if pattern_of(one.path) not in wished]
    text = recipe_text(draft.tables, source, told, draft.missing)
    path = (options.output or DEFAULT_OUTPUT) / f"{model.name}.toml"
    outcome, reasons = (INCOMPLETE if draft.missing else COMPLETE), tuple(draft.missing)
    action = "none"
    try:
        _check(draft.tables, model.name)
        if options.output is not None:
            action = _written(path, text, options.force)
    except (EdgeRuntimeError, OSError) as error:
        outcome, reasons = REFUSED, (reason_of(error),)
    return ImportedModel(model.name, outcome, reasons, path, action, text, model.version, model.onnx, fates)


def _check(tables: Mapping[str, Mapping[str, Any]], name: str) -> None:
    """Raises ConfigError if a value isn't one that a recipe takes."""
    nested: Dict[str, Any] = {}
    for key, table in tables.items():
        section, dot, rest = key.partition(".")
        if dot:
            nested.setdefault(section, {})[rest] = table
        else:
            nested[section] = table
    validated(RecipeTables, nested, f"recipe {name!r}")


def _check_output(output: Path) -> None:
    blocked = obstacle(output)
    if blocked is not None:
        raise ConfigError(f"--output {output}: {blocked} can't be written, or isn't a folder; give another")


def _written(path: Path, text: str, force: bool) -> str:
    """Writes a recipe if there is no other; what was done.

    Raises:
        ConfigError: another recipe is there.
    """
    data = text.encode()
    make_folder(path.parent)
    if path.is_symlink() or path.exists():
        if path.is_file() and path.read_bytes() == data:
            return "unchanged"
        if not force or not path.is_file():
            remedy = "--force replaces it" if path.is_file() else "move it away"
            raise ConfigError(f"{path} is there already, and says something else; {remedy}")
    write_atomically(path, data)
    return "written"
