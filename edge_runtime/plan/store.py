"""The engine store: `<root>/<model>/<version>/` with a plan and its manifest, made visible by one rename.

A version is a positive integer that is never reused or edited. What `<model>/current` names is served; without
that file, the highest version is.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from edge_runtime.errors import PlanCorruptError, PlanError, PlanNotFoundError, nearest
from edge_runtime.plan.contents import PlanFiles, PlanPart, StoredFile, opened
from edge_runtime.plan.files import Content, obstacle, sync_folder, write_atomically, write_synced
from edge_runtime.plan.manifest import FileRecord, Manifest, PlanRecord, manifest_from_text, manifest_text
from edge_runtime.plan.names import MODEL_NAME, check_model_name
from edge_runtime.plan.plan_key import PlanKey
from edge_runtime.plan.sealed import SUFFIX, SealedFile, file_of, sealed_chunks
from edge_runtime.plan.writing import STAGE, remove_versions, superseded, writing

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
SIGNATURE = "manifest.dsse.json"
CURRENT = "current"
_HIGHEST = ".highest"


@dataclass(frozen=True)
class StoredPlan:
    """One version in a store; `manifest_sha256` is the digest of the very bytes that its manifest was read from."""

    folder: Path
    manifest: Manifest
    manifest_sha256: str

    @property
    def plan_path(self) -> Path:
        """The plan file, the first one's of a chain."""
        return self.file(self.manifest.plan).path

    @property
    def plan_paths(self) -> Tuple[Path, ...]:
        """The plan file, or those of all plans of a chain in their order."""
        return tuple(self.file(plan).path for plan in self.manifest.plans)

    @property
    def is_sealed(self) -> bool:
        """Whether its plan is encrypted."""
        return isinstance(self.file(self.manifest.plan), SealedFile)

    @property
    def is_signed(self) -> bool:
        """Whether there is a signature, be it right or wrong."""
        return os.path.lexists(self.folder / SIGNATURE)

    def file(self, record: FileRecord) -> StoredFile:
        """A file of the manifest, plain or encrypted."""
        return file_of(self.folder, record)

    def open_files(self) -> PlanFiles:
        """The plan's files: its ONNX read and verified, its weights verified each time that they are read through.

        Raises:
            PlanCorruptError: a file is missing, or its size or digest differs; for the weights, while they are read.
        """
        return self._opened(self.manifest.plan)

    def _opened(self, record: PlanRecord) -> PlanFiles:
        contents: Dict[str, Content] = {record.file: self.file(record).read()}
        if record.weights is not None:
            contents[record.weights.file] = self.file(record.weights)
        return PlanFiles(contents)

    def open_parts(self) -> Tuple[PlanPart, ...]:
        """The plan, or those of a chain, every file of which was read and verified before this returns.

        Raises:
            PlanCorruptError: a file is missing, or its size or digest differs; for the weights of a plan that is no
                chain, while they are read.
        """
        manifest = self.manifest
        if manifest.chain is None:
            return (PlanPart(self.open_files(), manifest.signature),)
        parts = tuple(
            PlanPart(self._opened(part.plan), part.signature, tuple(part.nodes)) for part in manifest.chain.parts
        )
        for part in parts:
            _read_through(part.files)
        return parts

    def read_plan(self) -> bytes:
        """The plan's ONNX, or the first one's of a chain, after all files were read once and are what they should be.

        Raises:
            PlanCorruptError: a file is missing, or its size or digest differs.
        """
        parts = self.open_parts()
        if self.manifest.chain is None:
            _read_through(parts[0].files)
        return parts[0].files.model


Signer = Callable[[StoredPlan], bytes]  # what the signature of a version holds


def _read_through(files: PlanFiles) -> None:
    """Reads the weights that lie apart, which verifies them."""
    for _ in files.weights or ():
        pass


def open_plan(folder: Path) -> StoredPlan:
    """The plan in a version's folder, or the served one of a model's folder.

    Raises:
        PlanError: there is none, or its manifest is broken.
    """
    try:
        has_manifest = (folder / MANIFEST).exists()
    except OSError as error:
        raise PlanNotFoundError(f"{str(folder)[:128]}: {error.strerror}; name a folder of a plan or model") from None
    if has_manifest:
        text = _read(folder / MANIFEST)
        try:
            manifest = manifest_from_text(text.decode(), str(folder / MANIFEST))
        except UnicodeDecodeError:
            raise PlanCorruptError(f"{folder / MANIFEST}: not UTF-8; build the plan again") from None
        return StoredPlan(folder, manifest, hashlib.sha256(text).hexdigest())
    if not folder.is_dir():
        raise PlanNotFoundError(f"{folder}: no such folder; name a folder of a plan or model, or build it first")
    resolved = folder.resolve()
    return PlanStore(resolved.parent).open(resolved.name)


def default_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of plans where none is named: `$EDGE_RUNTIME_ENGINES`, else `./engines`."""
    return Path(environ.get("EDGE_RUNTIME_ENGINES") or "engines")


class PlanStore:
    """The plans below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[str]:
        """Names of the models that have at least one version, sorted; folders that can't be read are warned of.

        Raises:
            PlanError: the store can't be read.
        """
        return sorted(name for name in _names(self.root) if MODEL_NAME.fullmatch(name) and self._has_versions(name))

    def _has_versions(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except PlanError as error:
            logger.warning("%s", error)
            return False

    def versions(self, name: str) -> list[int]:
        """Versions of a model, ascending; empty if there is none.

        Raises:
            PlanError: their folders can't be read.
        """
        folder = self._folder(name)
        numbers = [number for number in map(_version_number, _names(folder)) if number]
        return sorted(number for number in numbers if _has_manifest(folder / str(number)))

    def served(self, name: str) -> int:
        """The version that is served: what `current` names, else the highest.

        Raises:
            PlanNotFoundError: the model has no version, or `current` names one that isn't there.
        """
        versions = self.versions(name)
        if not versions:
            known = nearest(name, self.models())
            raise PlanNotFoundError(f"no plan of model {name!r} in {self.root} ({known}); build it: edge-runtime build")
        return pointed_version(self._folder(name), versions)

    def open(self, name: str, version: int | None = None) -> StoredPlan:
        """A version of a model (None: the served one), its plan not read yet.

        Raises:
            PlanNotFoundError: there is none.
            PlanError: its manifest is broken, or names another model or version.
        """
        number = self.served(name) if version is None else version
        if number not in self.versions(name):
            raise PlanNotFoundError(f"model {name!r} has no version {number}; versions: {self.versions(name)}")
        stored = open_plan(self._folder(name) / str(number))
        found = stored.manifest
        if (found.name, found.version) != (name, number):
            raise PlanCorruptError(
                f"{stored.folder / MANIFEST}: expected {name!r} version {number}, "
                f"got {found.name!r} version {found.version}; build the plan again"
            )
        return stored

    def find(self, name: str, build_key: str) -> StoredPlan | None:
        """The newest sound version with this build key, or None."""
        for version in reversed(self.versions(name)):
            with contextlib.suppress(PlanError):
                stored = self.open(name, version)
                if stored.manifest.build_key == build_key:
                    stored.read_plan()
                    return stored
        return None

    def publish(
        self,
        name: str,
        make_manifest: Callable[[int], Manifest],
        files: Mapping[str, Content],
        is_new: bool = True,
        seal: PlanKey | None = None,
        sign: Signer | None = None,
    ) -> StoredPlan:
        """Writes a new version and makes it the served one; at any moment there is all of it or nothing.

        Args:
            name: the model.
            make_manifest: the manifest, given the version number.
            files: contents by file name (`PlanFiles.contents`), written chunk by chunk.
            is_new: if somebody else published the same build key meanwhile, that version is taken instead.
            seal: the device's key, if the files are to be encrypted as they are written.
            sign: makes the signature, if the version is to have one from the moment on that it is there.

        Raises:
            PlanError: the store can't be written (full, read-only, no permission); nothing was published.
        """
        folder = self._folder(name)
        with writing(folder):
            manifest = make_manifest(self._next_version(folder))
            found = self.find(name, manifest.build_key) if is_new else None
            if found is not None and (found.manifest.forced, found.is_sealed) == (manifest.forced, seal is not None):
                return found
            text = manifest_text(manifest).encode()
            made = StoredPlan(folder / str(manifest.version), manifest, hashlib.sha256(text).hexdigest())
            contents = {**(files if seal is None else _sealed(files, manifest, seal)), MANIFEST: text}
            self._write_version(made, contents if sign is None else {**contents, SIGNATURE: sign(made)})
            if os.path.lexists(folder / CURRENT):
                self._point(folder, manifest.version)
        return made

    def check_writable(self, name: str) -> None:
        """Raises PlanError, before any work is done and with nothing made, if the store can't be written."""
        folder = self._folder(name)
        with _reading(folder):
            found = obstacle(folder)
        if found is not None:
            raise PlanError(f"{found}: can't be written, so nothing could be published into {self.root}")

    def _write_version(self, made: StoredPlan, files: Mapping[str, Content]) -> None:
        folder = made.folder.parent
        stage = folder / f"{STAGE}{secrets.token_hex(8)}"
        try:
            stage.mkdir()
            for file, content in files.items():
                write_synced(stage / file, content)
            sync_folder(stage)
            write_atomically(folder / _HIGHEST, f"{made.manifest.version}\n".encode())
            stage.rename(made.folder)
            sync_folder(folder)
        except OSError as error:
            raise PlanError(f"{folder}: can't publish the plan ({error.strerror}); nothing was published") from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _point(self, folder: Path, version: int) -> None:
        try:
            write_atomically(folder / CURRENT, f"{version}\n".encode())
        except OSError as error:
            raise PlanError(
                f"{folder / CURRENT}: can't be written ({error.strerror}); version {version} is there, "
                "but another one may be served"
            ) from error

    def serve(self, name: str, version: int) -> None:
        """Makes a version that is there the served one.

        Raises:
            PlanError: the store can't be written, or there is no such version.
        """
        with contextlib.suppress(PlanError):  # a broken pointer is mended below
            if self.served(name) == version:
                return
        self.open(name, version)
        folder = self._folder(name)
        with writing(folder):
            self._point(folder, version)

    def prune(self, name: str, keep: int) -> List[int]:
        """Removes old versions: the served one stays, with the `keep` newest below it and all above it.

        A server that has loaded a version needs its files no more: each was read once, into memory. One that loads a
        version just now loads the served one, or one of those that stay; should so many be published meanwhile that its
        own goes, the load fails as of a plan that isn't whole, and what the server has goes on.

        Gives the versions that were removed.

        Raises:
            PlanNotFoundError: `current` names a version that isn't there, so what is served isn't known.
            PlanError: the store can't be written.
        """
        folder = self._folder(name)
        if not self.versions(name):
            return []
        with writing(folder):
            removed = superseded(self.versions(name), self.served(name), keep)
            remove_versions(folder, removed)
        return removed

    def _folder(self, name: str) -> Path:
        return self.root / check_model_name(name)

    def _next_version(self, folder: Path) -> int:
        highest = folder / _HIGHEST
        seen = _version_number(_read(highest).decode(errors="replace").strip()) if highest.exists() else 0
        numbers = [_version_number(entry.name) for entry in folder.iterdir()]
        following = max([seen, *numbers]) + 1
        if not _version_number(str(following)):
            raise PlanError(f"{folder}: no version number is left after {following - 1}; use another model name")
        return following


def _sealed(files: Mapping[str, Content], manifest: Manifest, key: PlanKey) -> Dict[str, Content]:
    """The files encrypted, under the names that they then have."""
    records = {record.file: record for record in manifest.files}
    return {f"{file}{SUFFIX}": sealed_chunks(content, records[file], key) for file, content in files.items()}


def pointed_version(folder: Path, versions: Sequence[int]) -> int:
    """The one of a model's versions (ascending, at least one) that is served.

    Raises:
        PlanNotFoundError: `current` names one that isn't there.
    """
    pointer = folder / CURRENT
    if not os.path.lexists(pointer):
        return versions[-1]
    number = _version_number(_read(pointer).decode(errors="replace").strip())
    if number not in versions:
        raise PlanNotFoundError(f"{pointer}: expected one of {list(versions)}, got {number}; write one of them there")
    return number


def _names(folder: Path) -> List[str]:
    """What is in a folder; nothing if it isn't one."""
    with _reading(folder):
        return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208  (names are wanted)


def _has_manifest(folder: Path) -> bool:
    with _reading(folder):
        return (folder / MANIFEST).is_file()


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlanError(
            f"{folder}: can't be read ({error.strerror}); give it to the user who runs this (chown -R)"
        ) from error


def _version_number(text: str) -> int:
    """The version that a name stands for; 0 if it is none."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}", text) else 0


def _read(path: Path) -> bytes:
    with opened(path) as file:
        return file.read()
