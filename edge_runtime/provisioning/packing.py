"""A recipe with all that its plan is built from in one file, for devices that have none of it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Tuple

from edge_runtime import __version__
from edge_runtime.builder.host_trial import HostTrial, tried_on_host
from edge_runtime.builder.job import BuildOptions
from edge_runtime.builder.progress import LoggedProgress, Progress
from edge_runtime.builder.recipe import Recipe
from edge_runtime.calibration.npz_writer import write_samples
from edge_runtime.calibration.table import DEFAULT_TENSORRT_VERSION
from edge_runtime.errors import ConfigError, DataError, PlanCorruptError, PlanError
from edge_runtime.graph.merged import merged_files
from edge_runtime.plan.files import Content, obstacle, write_atomically
from edge_runtime.plan.keys import VENDOR, PrivateKey
from edge_runtime.plan.manifest import SourceRecord
from edge_runtime.plan.pack import (
    FORMAT,
    HELD_OUT,
    INT8_MODEL,
    MAX_RELEASE,
    MODEL,
    RECORD,
    TABLES,
    PackReader,
    PackStatement,
    member_of,
    pack_chunks,
)
from edge_runtime.plan.recipe_file import RECIPE
from edge_runtime.plan.unpacked import PackRecord
from edge_runtime.provisioning.packed_recipe import check_packable, packed_recipe_text

_CHUNK_NBYTES = 1 << 20


@dataclass(frozen=True)
class PackOptions:
    """Where calibrations are kept, and how a pack is made.

    `key` signs it (None: nobody does); `release` is its number (None: the one after that of the pack that is replaced);
    without `has_held_out` the samples by which a device judges stay here.
    """

    calib_cache: Path = Path("calib_cache")
    key: PrivateKey | None = None
    release: int | None = None
    has_held_out: bool = True


@dataclass(frozen=True)
class MadePack:
    """A pack that was written, and its digest."""

    path: Path
    sha256: str
    nbytes: int
    statement: PackStatement
    record: PackRecord
    is_signed: bool


@dataclass(frozen=True)
class _FileContent:
    """A file's bytes in chunks, read anew each time."""

    path: Path

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield from iter(lambda: file.read(_CHUNK_NBYTES), b"")


def pack(recipe: Recipe, path: Path, options: PackOptions | None = None, progress: Progress | None = None) -> MadePack:
    """Tries a recipe out on this machine and writes what a device needs to build its plan; replaces `path`.

    Raises:
        ConfigError: something of the recipe can't be packed, or the key isn't a vendor's.
        GateError: no candidate passed here.
        EdgeRuntimeError: the model or the data failed, or the pack can't be written.
    """
    options, progress = options or PackOptions(), progress or LoggedProgress()
    check_packable(recipe, options.has_held_out)
    if options.key is not None and options.key.role != VENDOR:
        raise ConfigError(
            f"key {options.key.name!r}: expected role {VENDOR}, got {options.key.role}; "
            "make one: edge-runtime keygen NAME --role vendor"
        )
    if obstacle(path.parent) is not None or path.is_dir():
        raise PlanError(f"{path}: can't be written; give another file by --out")
    release = options.release or _next_release(path, recipe.name)
    with tempfile.TemporaryDirectory(prefix="edge-runtime-pack-") as name:
        contents, record = _contents(recipe, release, options, Path(name), progress)
        progress.stage("writing the pack")
        statement = PackStatement(recipe.name, release, tuple(map(member_of, contents, contents.values())))
        envelope = statement.envelope(options.key)
        chunks = _Digested(envelope, statement, contents)
        try:
            write_atomically(path, chunks)
        except OSError as error:
            raise PlanError(f"{path}: can't be written ({error.strerror}); nothing was packed") from error
    nbytes = statement.nbytes(len(envelope))
    return MadePack(path, chunks.digest.hexdigest(), nbytes, statement, record, options.key is not None)


class _Digested:
    """The bytes of a pack, digested as they go by."""

    def __init__(self, envelope: bytes, statement: PackStatement, contents: Dict[str, Content]) -> None:
        self.digest = hashlib.sha256()
        self._arguments = (envelope, statement, contents)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in pack_chunks(*self._arguments):
            self.digest.update(chunk)
            yield chunk


def _next_release(path: Path, model: str) -> int:
    """One after that of the pack that is replaced, 1 where there is none.

    Raises:
        ConfigError: what is there isn't a pack of this model.
    """
    if not os.path.lexists(path):
        return 1
    problem = "isn't a pack"
    try:
        with path.open("rb") as file:
            found = PackReader(file, path.stat().st_size, str(path)).statement
        if found.model == model and found.release < MAX_RELEASE:
            return found.release + 1
        problem = f"is release {found.release} of model {found.model!r}"
    except (OSError, PlanError) as error:
        problem = str(error)
    raise ConfigError(f"{path}: is there already, and {problem}; remove it, or give another --out, or --release N")


def _contents(
    recipe: Recipe, release: int, options: PackOptions, scratch: Path, progress: Progress
) -> Tuple[Dict[str, Content], PackRecord]:
    """The members in their order, some of them in files of a folder, and the record of what was tried."""
    builder = BuildOptions(calib_cache=options.calib_cache)
    with tried_on_host(recipe, builder, progress) as trial:
        held_out = _held_out(recipe, trial, scratch, options, progress)
    if held_out is None:
        trial.job.progress.note("no held-out samples in the pack: the device can't judge its candidates' accuracy")
    record = _record(release, trial)
    tables = trial.tables
    text = packed_recipe_text(recipe, tables, trial.kept_float, held_out is not None)
    contents: Dict[str, Content] = {RECORD: f"{record.model_dump_json(indent=1, by_alias=True)}\n".encode()}
    contents[RECIPE] = text.encode()
    contents.update(_model(trial))
    if trial.int8 is not None and trial.model.runnable is trial.model:
        contents.update(trial.int8.make().to_files(INT8_MODEL))
    for algorithm, file in TABLES.items():
        if algorithm in tables:
            contents[file] = tables[algorithm].to_cache_text(DEFAULT_TENSORRT_VERSION).encode()
    if held_out is not None:
        contents[HELD_OUT] = _FileContent(held_out)
    return contents, record


def _model(trial: HostTrial) -> Dict[str, Content]:
    contents = dict(merged_files(trial.job.onnx_path))
    model, (_, expected), *others = contents[MODEL], *trial.model.graph.files
    if not others and isinstance(model, bytes) and hashlib.sha256(model).hexdigest() != expected:
        raise PlanCorruptError(f"{trial.job.onnx_path}: changed while the pack was made; make it again")
    return contents


def _held_out(recipe: Recipe, trial: HostTrial, scratch: Path, options: PackOptions, progress: Progress) -> Path | None:
    """The file of the held-out samples: the recipe's own, or what its function yields; None without samples."""
    source = trial.examined.data.held_out
    if source is None or not options.has_held_out:
        return None
    table = recipe.tables.held_out
    if table.data is not None and not table.is_function:
        return recipe.path(table.data)
    progress.stage("writing the held-out samples", source.count())
    try:
        write_samples(scratch / HELD_OUT, source)
    except DataError as error:
        raise DataError(
            f"model {recipe.name!r}: held-out data: {error}; or pack with --no-held-out, but then the device can't "
            "judge its candidates' accuracy"
        ) from None
    return scratch / HELD_OUT


def _record(release: int, trial: HostTrial) -> PackRecord:
    job, graph = trial.job, trial.model.graph
    return PackRecord(
        format=FORMAT,
        model=job.recipe.name,
        release=release,
        edge_runtime=__version__,
        source=SourceRecord(source=job.onnx_path.name, digest=trial.model.graph.digest, files=dict(graph.files)),
        data=dict(trial.examined.keys),
        device=job.device.record(),
        candidates=trial.candidates,
        reason=trial.decision.reason,
        notes=[*job.progress.notes, *trial.decision.warnings],
    )
