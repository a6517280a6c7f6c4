"""Whether a plan is for this board, decided before an engine library sees a byte of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from edge_runtime import onnxruntime_api, tensorrt_api
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.device.power_mode import current_power_mode
from edge_runtime.errors import BackendUnavailableError, EdgeRuntimeError, PlanCorruptError, PlanTargetError
from edge_runtime.plan.header import read_header
from edge_runtime.plan.manifest import Manifest, PluginRecord, TargetRecord
from edge_runtime.plan.store import StoredPlan

ONNXRUNTIME = "onnxruntime"
RUNNABLE_BACKENDS = (ONNXRUNTIME, *tensorrt_api.LIBRARIES)

Version = Tuple[int, ...]

# A version-compatible plan of the first major version also loads in the second (NVIDIA's support matrix).
_COMPATIBLE_MAJORS = {(8, 8), (8, 10), (10, 10), (10, 11), (11, 11)}


@dataclass(frozen=True)
class Board:
    """What a plan is held against: the machine, its GPU, its power mode, and the engine libraries by name.

    `compute_capability` and `power_mode` are None where they aren't known; a library is None if it isn't installed.
    """

    device: DeviceInfo
    libraries: Mapping[str, str | None]
    compute_capability: Tuple[int, int] | None = None
    power_mode: str | None = None


def local_board() -> Board:
    """This machine. A GPU of a PC is asked for its compute capability; that of a Jetson is known by its chip."""
    device = identify()
    libraries: Dict[str, str | None] = {name: tensorrt_version(name) for name in tensorrt_api.LIBRARIES}
    libraries[ONNXRUNTIME] = onnxruntime_api.version()
    mode = current_power_mode()
    return Board(device, libraries, compute_capability_of(device), mode.name if mode is not None else None)


def compute_capability_of(device: DeviceInfo, ordinal: int = 0) -> Tuple[int, int] | None:
    """That of a machine's GPU; None where there is none, or it can't be asked."""
    if device.compute_capability is not None or not device.has_gpu:
        return device.compute_capability
    from edge_runtime.device.cuda.loading import open_cuda  # noqa: PLC0415  (loads CUDA, which only a PC's GPU needs)

    try:
        return open_cuda(ordinal).attributes(ordinal).compute_capability
    except EdgeRuntimeError:
        return None


def tensorrt_version(name: str) -> str | None:
    """The version of a TensorRT library, which is only loaded if nothing else says it; None: not installed."""
    found = tensorrt_api.installed(name)
    if found != "unknown":
        return found
    try:
        return tensorrt_api.load(name).version
    except BackendUnavailableError:
        return None


def preflight(stored: StoredPlan, board: Board | None = None) -> Tuple[str, ...]:
    """Holds a stored plan's manifest against the board and its file's header against the manifest.

    Nothing is deserialised. Gives warnings: what differs, and the plan runs all the same.

    Raises:
        PlanTargetError: built for another library, version, GPU or L4T release than there is here.
        PlanCorruptError: the file isn't what the manifest says it is.
        BackendUnavailableError: there is no such library here, or no GPU.
    """
    manifest = stored.manifest
    found = board or local_board()
    warnings = check_target(manifest, found, rebuild_command(stored))
    if manifest.backend.name != ONNXRUNTIME:
        _check_header(stored)
    return warnings


def plugin_libraries(name: str, needed: Sequence[PluginRecord], elsewhere: Sequence[str] = ()) -> Tuple[str, ...]:
    """The paths of the plugin libraries that a plan needs: where they were, or of the same file name in `elsewhere`.

    Raises:
        PlanTargetError: one isn't there, or isn't the one that the plan was built with.
    """
    moved = {Path(path).name: path for path in elsewhere}
    found = []
    for record in needed:
        path = Path(moved.get(Path(record.path).name, record.path))
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise PlanTargetError(
                f"plan {name!r}: its plugin library {path} can't be read ({error.strerror}); "
                "put it back, or build again"
            ) from None
        if digest != record.sha256:
            raise PlanTargetError(
                f"plan {name!r}: its plugin library {path}: expected sha256 {record.sha256[:12]}…, with which it was "
                f"built, got {digest[:12]}…; put that one back, or build again"
            )
        found.append(str(path))
    return tuple(found)


def rebuild_command(stored: StoredPlan) -> str:
    """The command that builds a plan's model again."""
    recipe = stored.folder.parent.parent / f"{stored.manifest.name}.toml"
    return _rebuild(recipe if recipe.is_file() else Path("RECIPE.toml"), stored.manifest.name)


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
    here = board or local_board()
    check = _Check(plan, manifest, here, remedy)
    for part in (check.gpu, check.library, check.version, check.capability, check.accelerator, check.release):
        part()
    return tuple(check.warnings)


class _Check:
    """One plan for a GPU against one board: each method looks at one thing, and raises or warns."""

    def __init__(self, plan: str, manifest: Manifest, board: Board, rebuild: str) -> None:
        self.warnings: List[str] = []
        self._plan = plan
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

    def library(self) -> None:
        """The library that built it, or the lean one for a version-compatible plan."""
        if self._version_here is None:
            remedy = tensorrt_api.remedy(self._backend.name)
            raise BackendUnavailableError(f"{self._plan}: backend {self._backend.name} isn't installed; {remedy}")

    @property
    def _version_here(self) -> str | None:
        found = self._board.libraries.get(self._backend.name)
        if found is None and self._target.version_compatible:
            return self._board.libraries.get(tensorrt_api.LEAN)
        return found

    def version(self) -> None:
        """Plans load in the version that built them; version-compatible ones in later ones too."""
        built, here = version_numbers(self._backend.version), version_numbers(self._version_here or "")
        if built is None or here is None:
            self.warnings.append(
                f"{self._plan}: versions {self._backend.version} and {self._version_here} can't be compared"
            )
        elif self._target.version_compatible:
            if here[:3] < built[:3] or (built[0], here[0]) not in _COMPATIBLE_MAJORS:
                raise self._refused("version-compatible plan", f"{self._backend.version} or later", self._version_here)
        elif built[:3] != here[:3]:
            raise self._refused(self._backend.name, self._backend.version, self._version_here)

    def capability(self) -> None:
        """Plans are for one compute capability, unless they were built for more."""
        built, here = self._target.compute_capability, self._board.compute_capability
        if built is None or here is None:
            self.warnings.append(f"{self._plan}: which GPU it is for, or which there is here, isn't known")
            return
        level = self._target.hardware_compatibility
        is_fit = built == here
        if level == "ampere_plus":
            is_fit = here >= (8, 0) and self._board.device.kind != "jetson"
        if not is_fit:
            raise self._refused("compute capability of the GPU", _dotted(built), _dotted(here))

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


def _check_header(stored: StoredPlan) -> None:
    manifest = stored.manifest
    header = read_header(stored.plan_path)
    expected, version = manifest.backend.name, version_numbers(manifest.backend.version) or ()
    made_by = tensorrt_api.FULL if expected == tensorrt_api.LEAN else expected
    shown = min(3, len(version), len(header.version))
    if header.library != made_by or header.version[:shown] != version[:shown]:
        raise PlanCorruptError(
            f"{stored.plan_path}: expected a plan of {expected} {manifest.backend.version}, as its manifest says, "
            f"got one of {header.text}; build it again: {rebuild_command(stored)}"
        )


def version_numbers(text: str) -> Version | None:
    """The leading numbers of a version, such as (10, 3, 0, 30); None if it doesn't begin with two."""
    match = re.match(r"\d+(?:\.\d+)+", text, re.ASCII)
    return tuple(int(part) for part in match.group().split(".")) if match else None


def _dotted(capability: Tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
