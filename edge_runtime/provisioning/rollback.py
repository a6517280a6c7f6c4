"""Another version of a model is served from now on: an older one that is sound, or any that is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Tuple

from edge_runtime.engine.loading import admit
from edge_runtime.errors import EdgeRuntimeError, PlanError, PlanNotFoundError, PlanTargetError
from edge_runtime.plan.golden import read_golden
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.plan.trust import TrustPolicy


@dataclass(frozen=True)
class Skipped:
    """A version that can't be served, and why."""

    version: int
    reason: str


@dataclass(frozen=True)
class Rollback:
    """What was served before (None: nothing could be), what is now, and the versions in between that weren't sound."""

    before: int | None
    after: StoredPlan
    skipped: Tuple[Skipped, ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether another version is served than before."""
        return self.before != self.after.manifest.version


def roll_back(store: PlanStore, name: str, policy: TrustPolicy, to: int | None = None) -> Rollback:
    """Serves another version of a model, which is trusted, whole and made for this board.

    It is the newest such one before the one that is served, or the one that is named. The floor under versions is
    lowered to it, for that is what an operator says by this.

    Raises:
        PlanNotFoundError: there is no such version, or no older one is sound.
        PlanError: the one that is named isn't sound, or the store can't be written.
        BackendUnavailableError: there is no library or device for it here.
        ConfigError: the floor can't be written.
    """
    before = _served(store, name)
    skipped: List[Skipped] = []
    if to is not None:
        found = sound_version(store, name, to, policy)
    else:
        found = _newest_sound(store, name, before, policy, skipped)
    version = found.manifest.version
    _lower(policy, name, version)
    store.serve(name, version)
    _lower(policy, name, version)  # a server may have found the one before good in between
    return Rollback(before, found, tuple(skipped))


def _lower(policy: TrustPolicy, name: str, version: int) -> None:
    floor = None if policy.floor is None else RollbackFloor(policy.floor)
    if floor is not None and version < floor.lowest(name):
        floor.allow(name, version)


def sound_version(store: PlanStore, name: str, version: int, policy: TrustPolicy) -> StoredPlan:
    """A version that can be served here, all of which was read.

    Raises:
        EdgeRuntimeError: it can't.
    """
    stored = store.open(name, version)
    admit(stored, policy=replace(policy, floor=None))
    stored.read_plan()
    read_golden(stored)
    return stored


def _served(store: PlanStore, name: str) -> int | None:
    if not store.versions(name):
        store.served(name)  # says that there is none
    try:
        return store.served(name)
    except PlanError:  # what is served can't be: that is what is mended here
        return None


def _is_on_gpu(store: PlanStore, name: str, version: int) -> bool:
    try:
        return store.open(name, version).manifest.backend.device != "cpu"
    except PlanError:
        return False


def _newest_sound(
    store: PlanStore, name: str, before: int | None, policy: TrustPolicy, skipped: List[Skipped]
) -> StoredPlan:
    older = [version for version in store.versions(name) if before is None or version < before]
    is_on_gpu = before is not None and _is_on_gpu(store, name, before)
    for version in reversed(older):
        try:
            if is_on_gpu and not _is_on_gpu(store, name, version):
                raise PlanTargetError(f"it is for the CPU, and version {before} is for a GPU; name it with --to")
            return sound_version(store, name, version, policy)
        except EdgeRuntimeError as error:
            skipped.append(Skipped(version, str(error)))
    reasons = "".join(f"\n  version {each.version}: {each.reason}" for each in skipped)
    known = f"versions: {store.versions(name)}"
    raise PlanNotFoundError(
        f"model {name!r}: no sound version before {'the highest' if before is None else before} ({known}); "
        f"build one (edge-runtime build), or name one with --to{reasons}"
    )
