"""A pack put into a store: whole and as it was signed, or not at all.

`<engines>/.packs/<model>/<release>/` holds the members, the statement and the digest of the pack. They are written into
a hidden folder while they are digested, and that is renamed once all of it is what was signed. The highest release of
each model is remembered, so that a pack that was replaced can't be put back unseen.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import List

from edge_runtime.builder.recipe import load_recipe
from edge_runtime.errors import ConfigError, PlanCorruptError, PlanError, ShortageError
from edge_runtime.plan.contents import opened
from edge_runtime.plan.files import make_folder, obstacle, sync_folder, write_synced
from edge_runtime.plan.keys import PublicKey
from edge_runtime.plan.pack import ENVELOPE, RECORD, PackReader, PackStatement, signer_of_pack
from edge_runtime.plan.recipe_file import PACKS, RECIPE
from edge_runtime.plan.trust import TrustPolicy
from edge_runtime.plan.unpacked import DIGEST, UnpackedPack, record_from_text, unpacked_pack
from edge_runtime.plan.writing import STAGE, remove_versions, writing
from edge_runtime.provisioning.packed_recipe import check_self_contained
from edge_runtime.provisioning.releases import Releases

KEPT_OLDER = 1

_SPARE_NBYTES = 16 << 20


@dataclass(frozen=True)
class Unpacked:
    """What became of a pack: where it is, who signed it, whether it was there already, and what was removed."""

    folder: Path
    statement: PackStatement
    signer: PublicKey | None
    sha256: str
    is_unchanged: bool
    removed: List[int]

    @property
    def recipe(self) -> Path:
        """What `edge-runtime build` takes."""
        return self.folder / RECIPE


def unpack(path: Path, engines: Path, policy: TrustPolicy, allows_older: bool = False) -> Unpacked:
    """Verifies a pack and puts it into a store; a pack that is there already is left as it is.

    With `allows_older` a release below the highest one is taken, and those above it are removed.

    Raises:
        PlanUntrustedError: nobody signed it who is trusted with packs, or a signature is wrong.
        PlanRollbackError: it is older than a release that was unpacked before.
        PlanCorruptError: its bytes aren't what was signed, or its recipe wants something that isn't in it.
        PlanTargetError: it is of a later format.
        ConfigError: another pack of this release is there.
        ShortageError: there is too little room on the disk.
        PlanError: the store can't be written.
    """
    if not path.is_file():
        raise PlanError(f"{path}: isn't a file; expected a pack (edge-runtime pack makes one)")
    with path.open("rb") as file:
        nbytes = os.fstat(file.fileno()).st_size
        reader = PackReader(file, nbytes, str(path))
        signer = signer_of_pack(reader.envelope, policy, str(path))
        packs = engines / PACKS
        if obstacle(packs) is not None:
            raise PlanError(f"{obstacle(packs)}: can't be written, so nothing could be unpacked into {engines}")
        with writing(packs):
            return _Place(packs, reader, signer, str(path)).filled(nbytes, policy, allows_older)


class _Place:
    """Where a pack belongs; used while the packs of a store are held against other writers."""

    def __init__(self, packs: Path, reader: PackReader, signer: PublicKey | None, source: str) -> None:
        self._packs = packs
        self._reader = reader
        self._signer = signer
        self._source = source
        self._statement = reader.statement
        self._model = packs / reader.statement.model
        self._folder = self._model / str(reader.statement.release)

    def filled(self, nbytes: int, policy: TrustPolicy, allows_older: bool) -> Unpacked:
        """Puts the pack there, if it may be."""
        releases = Releases(self._packs)
        releases.check(self._statement.model, self._statement.release, self._numbers(), allows_older)
        before = self._before(policy)
        try:
            sha256 = self._put(nbytes) if before is None else self._same_as(before)
            releases.remember(self._statement.model, self._statement.release)
            removed = self._removed()
        except OSError as error:
            raise PlanError(f"{self._packs}: can't be written ({error.strerror}); unpack it again") from error
        return Unpacked(self._folder, self._statement, self._signer, sha256, before is not None, removed)

    def _same_as(self, before: UnpackedPack) -> str:
        """The digest of the pack, which is the one that is there, after all of it was read."""
        for _, chunks in self._reader.members():
            for _ in chunks:
                pass
        sha256 = self._reader.end()
        if before.sha256 != sha256:
            raise ConfigError(
                f"{self._source}: release {self._statement.release} of model {self._statement.model!r} is there "
                f"already with other content (sha256 {before.sha256[:12]}…, this one {sha256[:12]}…); pack it with a "
                "higher --release"
            )
        return sha256

    def _put(self, nbytes: int) -> str:
        self._check_room(nbytes)
        stage = self._packs / f"{STAGE}{secrets.token_hex(8)}"
        try:
            stage.mkdir()
            sha256 = self._written(stage)
            self._publish(stage)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        return sha256

    def _numbers(self) -> List[int]:
        names = os.listdir(self._model) if self._model.is_dir() else []  # noqa: PTH208  (names are wanted)
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _before(self, policy: TrustPolicy) -> UnpackedPack | None:
        """The pack of this release that is there; None if none is, or none that is whole."""
        if not self._folder.exists():
            return None
        try:
            return unpacked_pack(self._folder, TrustPolicy(folder=policy.folder))
        except PlanError:
            return None

    def _check_room(self, nbytes: int) -> None:
        status = os.statvfs(self._packs)
        free, needed = status.f_bavail * status.f_frsize, nbytes + _SPARE_NBYTES
        if free < needed:
            raise ShortageError(
                f"{self._source}: expected {needed:,} bytes free on the file system of {self._packs}, got {free:,}; "
                "remove old plans (edge-runtime build --all --keep 0) or other files"
            )

    def _written(self, stage: Path) -> str:
        """Writes and checks all members; the digest of the pack."""
        for member, chunks in self._reader.members():
            write_synced(stage / member.name, chunks)
        sha256 = self._reader.end()
        with opened(stage / RECORD) as file:
            record_from_text(file.read(), self._statement, self._source)
        self._check_recipe(stage)
        write_synced(stage / ENVELOPE, self._reader.envelope_text)
        write_synced(stage / DIGEST, f"{sha256}\n".encode())
        sync_folder(stage)
        return sha256

    def _check_recipe(self, stage: Path) -> None:
        try:
            recipe = load_recipe(stage / RECIPE, environ={})
        except ConfigError as error:
            raise PlanCorruptError(
                f"{self._source}: its recipe: {error}; get another one of whom it came from"
            ) from None
        check_self_contained(recipe, [member.name for member in self._statement.members], self._source)
        if recipe.name != self._statement.model:
            raise PlanCorruptError(
                f"{self._source}: its recipe: expected model {self._statement.model!r}, got {recipe.name!r}; "
                "get another one of whom it came from"
            )

    def _publish(self, stage: Path) -> None:
        make_folder(self._model)
        if self._folder.exists():  # it is damaged
            remove_versions(self._model, [self._statement.release])
        stage.rename(self._folder)
        sync_folder(self._model)

    def _removed(self) -> List[int]:
        """Removes releases above this one, to which an operator went back, all but one below, and what is half gone."""
        release, numbers = self._statement.release, self._numbers()
        older = [number for number in numbers if number < release]
        gone = [*(number for number in numbers if number > release), *older[: len(older) - KEPT_OLDER]]
        with writing(self._model):
            remove_versions(self._model, gone)
        return sorted(gone)
