"""Whether a plan is for this board, decided before an engine library sees a byte of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Sequence, Tuple

from edge_runtime import onnxruntime_api, tensorrt_api
from edge_runtime.errors import BackendUnavailableError, PlanCorruptError, PlanTargetError
from edge_runtime.plan.board import ONNXRUNTIME, Board, local_board
from edge_runtime.plan.header import PlanHeader, header_of
from edge_runtime.plan.manifest import Manifest, PlanRecord, TargetRecord
from edge_runtime.plan.plugins import plugin_libraries
from edge_runtime.plan.recipe_file import recipe_file
from edge_runtime.plan.store import StoredPlan

RUNNABLE_BACKENDS = (ONNXRUNTIME, *tensorrt_api.LIBRARIES)

Version = Tuple[int, ...]

# A version-compatible plan of the first major version also loads in the second (NVIDIA's support matrix).
_COMPATIBLE_MAJORS = {(8, 8), (8, 10), (10, 10), (10, 11), (11, 11)}


def preflight(stored: StoredPlan, board: Board | None = None, plugins: Sequence[str] = ()) -> Tuple[str, ...]:
    """Holds a stored plan's manifest against the board and the header of each of its plans against the manifest.

    Nothing is deserialised. `plugins` are libraries that aren't where the manifest says. Gives warnings: what differs,
    and the plan runs all the same.

    Raises:
        PlanTargetError: built for another library, version, GPU or L4T release than there is here, or a plugin library
            isn't the one that it was built with.
        PlanCorruptError: the file isn't what the manifest says it is.
        BackendUnavailableError: there is no such library here, or no GPU.
    """
    manifest = stored.manifest
    if manifest.backend.name not in tensorrt_api.LIBRARIES:
        return check_target(manifest, board, rebuild_command(stored))
    headers = [_checked_header(stored, record) for record in manifest.plans]
    found = board or local_board(_ordinal(manifest))
    warnings = check_target(manifest, found, rebuild_command(stored))
    for header in headers:
        if header.capabilities is not None and found.gpu.compute_capability not in (None, *header.capabilities):
            raise PlanTargetError(
                f"plan {manifest.name!r} version {manifest.version}: compute capability of the GPU: expected one of "
                f"{', '.join(map(_dotted, header.capabilities))}, as its header says, got "
                f"{_dotted(found.gpu.compute_capability)}; build it here: {rebuild_command(stored)}"
            )
    if manifest.target is not None:
        plugin_libraries(manifest.name, manifest.target.plugins, plugins)
    return warnings


def _ordinal(manifest: Manifest) -> int:
    kind, _, number = manifest.backend.device.partition(":")
    return int(number) if kind == "gpu" and number.isdecimal() else 0


def rebuild_command(stored: StoredPlan) -> str:
    """The command that builds a plan's model again."""
    recipe = recipe_file(stored.folder.parent.parent, stored.manifest.name)
    return _rebuild(recipe or Path("RECIPE.toml"), stored.manifest.name)


def _rebuild(recipe: Path, name: str) -> str:
    return f"edge-runtime build {recipe}" + ("" if recipe.stem == name else f" --name {name}")


def check_target(manifest: Manifest, board: Board | None = None, rebuild: str = "") -> Tuple[str, ...]:
    """Holds a manifest against a board (None: this one). Gives warnings.

    A plan built for a GPU is never run on the CPU instead. `rebuild` is the command that builds the plan again.

    Raises:
        PlanTargetError: built for another library, version, GPU or L4T release than there is here.
        BackendUnavailableError: there is no such library here, or no GPU.
    """
    plan = f"plan {manifest.name!r} version {manifest.version}"
    remedy = rebuild or _rebuild(Path("RECIPE.toml"), manifest.name)
    backend = manifest.backend.name
    if backend not in RUNNABLE_BACKENDS:
        raise PlanTargetError(
            f"{plan}: built for backend {backend!r}, this installation runs {', '.join(RUNNABLE_BACKENDS)}; "
            f"build it here: {remedy}"
        )
    if backend == ONNXRUNTIME:
        if onnxruntime_api.version() is None:
            raise BackendUnavailableError(f"{plan}: backend onnxruntime isn't installed; pip install onnxruntime")
        return ()
    here = board or local_board(_ordinal(manifest))
    check = _Check(plan, manifest, here, remedy)
    for part in (check.gpu, check.version, check.capability, check.accelerator, check.release):
        part()
    return tuple(check.warnings)


class _Check:
    """One plan for a GPU against one board: each method looks at one thing, and raises or warns."""

    def __init__(self, plan: str, manifest: Manifest, board: Board, rebuild: str) -> None:
        self.warnings: List[str] = []
        self._plan = plan
        self._manifest = manifest
        self._backend = manifest.backend
        self._target = manifest.target or TargetRecord(form="")
        self._board = board
        self._rebuild = rebuild

    def _refused(self, subject: str, expected: object, got: object, also: str = "") -> PlanTargetError:
        return PlanTargetError(
            f"{self._plan}: {subject}: expected {expected}, for which it was built, got {got}; "
            f"{also}build it here: {self._rebuild}"
        )

    def gpu(self) -> None:
        """A plan for a GPU needs one."""
        if not self._board.device.has_gpu:
            raise BackendUnavailableError(
                f"{self._plan}: built for {self._backend.name} {self._backend.version} on {self._backend.device}, and "
                f"this machine has no NVIDIA GPU; build it for the CPU: {self._rebuild} --backend onnxruntime"
            )
        if self._board.device.kind == "jetson" and _ordinal(self._manifest):
            raise self._refused("GPU", self._backend.device, "a Jetson, which has gpu:0", "set [backend] device, and ")

    def version(self) -> None:
        """Plans load in the version that built them; version-compatible ones also in a later lean library."""
        name, target = self._backend.name, self._target
        installed, lean = (self._board.libraries.get(one) for one in (name, tensorrt_api.LEAN))
        built = version_numbers(self._backend.version)
        if target.version_compatible and not _is_same(built, installed):
            self._lean(built, lean)
            return
        if installed is None:
            remedy = tensorrt_api.remedy(name)
            raise BackendUnavailableError(f"{self._plan}: backend {name} isn't installed; {remedy}")
        if built is None or version_numbers(installed) is None:
            self.warnings.append(f"{self._plan}: versions {self._backend.version} and {installed} can't be compared")
        elif not _is_same(built, installed):
            raise self._refused(name, self._backend.version, installed)

    def _lean(self, built: Version | None, lean: str | None) -> None:
        """A plan that excludes the lean runtime needs a lean library where the full one has another version."""
        here = version_numbers(lean or "")
        if built is None or here is None:
            raise self._refused(
                "library for a version-compatible plan",
                f"tensorrt_lean {self._backend.version} or later",
                lean,
                "pip install tensorrt-lean, or ",
            )
        if here[:3] < built[:3] or (built[0], here[0]) not in _COMPATIBLE_MAJORS:
            raise self._refused("version-compatible plan", f"tensorrt_lean {self._backend.version} or later", lean)

    def capability(self) -> None:
        """Plans are for one compute capability, unless they were built for more."""
        built, here = self._target.compute_capability, self._board.gpu.compute_capability
        if self._backend.name == tensorrt_api.RTX:
            return  # whose header says it
        if built is None or here is None:
            self.warnings.append(f"{self._plan}: which GPU it is for, or which there is here, isn't known")
            return
        level = self._target.hardware_compatibility
        is_fit = built == here
        if level == "ampere_plus":
            is_fit = here >= (8, 0) and self._board.device.kind != "jetson"
        if not is_fit:
            is_elsewhere = " or later outside of a Jetson" if level == "ampere_plus" else ""
            expected = f"{_dotted(built)}{is_elsewhere}"
            raise self._refused("compute capability of the GPU", expected, _dotted(here))
        names = {self._target.gpu, self._board.gpu.name} - {""}
        if len(names) > 1:
            self.warnings.append(
                f"{self._plan}: its kernels were chosen on {self._target.gpu}, this is {self._board.gpu.name}: it may "
                f"be slower than need be; build it here: {self._rebuild}"
            )

    def accelerator(self) -> None:
        """A plan for the deep learning accelerator needs that core."""
        core, cores = self._target.dla_core, self._board.device.dla_cores
        if core is not None and cores is not None and core >= cores:
            got = f"a board with {cores} of them"
            raise self._refused("DLA core", core, got, "set [backend] device to one that is there or to gpu:0, and ")

    def release(self) -> None:
        """Another L4T release has other drivers; within one, and in another power mode, only the speed may differ."""
        built, here = self._target.l4t, self._board.device.l4t
        if built and here and built != here:
            if built.split(".")[0] != here.split(".")[0] or self._target.dla_core is not None:
                raise self._refused("L4T release", built, here)
            self.warnings.append(f"{self._plan}: built on L4T {built}, this is {here}; build it again to be sure")
        mode = self._board.power_mode
        if self._target.power_mode is not None and mode is not None and mode != self._target.power_mode:
            self.warnings.append(
                f"{self._plan}: its kernels were chosen in power mode {self._target.power_mode}, this is {mode}: it "
                f"may be slower than need be; change the mode (sudo nvpmodel -m ID) or build it here: {self._rebuild}"
            )


def _checked_header(stored: StoredPlan, record: PlanRecord) -> PlanHeader:
    manifest, file = stored.manifest, stored.file(record)
    header = header_of(file)
    expected, version = manifest.backend.name, version_numbers(manifest.backend.version) or ()
    made_by = tensorrt_api.FULL if expected == tensorrt_api.LEAN else expected
    shown = min(3, len(version), len(header.version))
    if header.library != made_by or header.version[:shown] != version[:shown]:
        raise PlanCorruptError(
            f"{file.path}: expected a plan of {expected} {manifest.backend.version}, as its manifest says, "
            f"got one of {header.text}; build it again: {rebuild_command(stored)}"
        )
    return header


def _is_same(built: Version | None, installed: str | None) -> bool:
    """Whether the first three numbers agree; the fourth is that of a build."""
    here = version_numbers(installed or "")
    return built is not None and here is not None and built[:3] == here[:3]


def version_numbers(text: str) -> Version | None:
    """The leading numbers of a version, such as (10, 3, 0, 30); None if it doesn't begin with two."""
    match = re.match(r"\d+(?:\.\d+)+", text, re.ASCII)
    return tuple(int(part) for part in match.group().split(".")) if match else None


def _dotted(capability: Tuple[int, int] | None) -> str:
    return "none" if capability is None else f"{capability[0]}.{capability[1]}"
