"""From a plan on disk to an engine.

What loads plans of TensorRT is imported where it is needed: it brings the port of CUDA, which a CPU has no use for.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

import numpy as np

from edge_runtime.engine import onnxruntime
from edge_runtime.engine.chain import ChainPart, PartMaker, chain_slot_maker, part_text
from edge_runtime.engine.engine import Engine, EngineInfo, Slot
from edge_runtime.engine.tensorrt.memory_kind import AUTO
from edge_runtime.engine.tensorrt.options import TensorRTOptions, check_modes
from edge_runtime.engine.tensorrt.trial_request import TrialRequest
from edge_runtime.errors import ConfigError, PlanTargetError
from edge_runtime.onnxruntime_api import SessionOptions
from edge_runtime.plan.board import ONNXRUNTIME, tensorrt_version
from edge_runtime.plan.contents import PlanFiles, PlanPart, StoredFile
from edge_runtime.plan.manifest import Manifest, TargetRecord
from edge_runtime.plan.plugins import plugin_libraries
from edge_runtime.plan.sealed import SealedFile
from edge_runtime.plan.signature import check_signature
from edge_runtime.plan.store import StoredPlan, open_plan
from edge_runtime.plan.target import check_target, preflight, version_numbers
from edge_runtime.plan.trust import TrustPolicy, trust_policy
from edge_runtime.tensorrt_api import FULL, LEAN, LIBRARIES, remedy
from edge_runtime.tensors import Signature

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineOptions:
    """How many runs at once (`slots`), and how many threads each may use (None: the cores, shared out).

    `warm_up_runs` is how often every slot runs before the engine is handed out; 0 shows a cold start. The rest is for
    TensorRT: `memory` (auto, mapped, copy) is where inputs and outputs lie, `graphs` (auto, off) is whether runs become
    CUDA graphs, `plugins` are libraries with operators that aren't where the plan was built with them, and
    `allows_plan_code` lets a version-compatible plan bring code of its own, which only one of trusted origin may.
    `allocate` gives the memory in which ONNX Runtime's inputs and outputs lie, but for strings.
    """

    slots: int = 1
    threads_per_run: int | None = None
    warm_up_runs: int = 1
    memory: str = AUTO
    graphs: str = AUTO
    plugins: Tuple[str, ...] = ()
    allows_plan_code: bool = False
    allocate: onnxruntime.Allocate = np.empty

    def __post_init__(self) -> None:
        if self.slots < 1 or (self.threads_per_run is not None and self.threads_per_run < 1):
            raise ConfigError(f"engine options {self}: expected at least one slot and one thread")
        check_modes(self.memory, self.graphs)

    @property
    def resolved_threads(self) -> int:
        """Threads inside one run, after sharing out the cores that this process may use."""
        return self.threads_per_run or max(1, len(os.sched_getaffinity(0)) // self.slots)


def load(
    plan: str | os.PathLike[str] | StoredPlan,
    options: EngineOptions | None = None,
    policy: TrustPolicy | None = None,
) -> Engine:
    """A warmed engine for a plan: a version's folder, a model's folder (what it serves), or a stored plan.

    The plan's signature, target and digests are checked before the engine library sees a byte. The caller closes it.
    `policy` says what is asked of the signature; None: what `[trust]` of the environment says.

    Raises:
        PlanError: not found, not trusted, corrupt, or for another backend or board.
        BackendError: the engine library refused the plan.
    """
    stored = plan if isinstance(plan, StoredPlan) else open_plan(Path(plan))
    manifest, chosen = stored.manifest, options or EngineOptions()
    admit(stored, chosen.plugins, policy)
    info, signature = engine_info(manifest), manifest.signature
    if manifest.backend.name == ONNXRUNTIME:
        return engine_from_parts(stored.open_parts(), info, signature, chosen)
    from edge_runtime.engine.tensorrt import loading as tensorrt  # noqa: PLC0415

    what, root = f"model {info.name!r}", tensorrt.engines_root(stored)
    settings = tensorrt_options(info, chosen, manifest.target, root)
    for trial in trial_requests(stored, settings, what):
        tensorrt.try_out_once(trial, root, tensorrt.board_key(settings))
    parts = stored.open_parts()  # now, for a child and this hold them in turn
    if len(parts) > 1:
        return _chained(tensorrt.part_makers(parts, settings, what), parts, (info, signature), chosen)
    make_slot = tensorrt.slot_maker(parts[0].files, signature, settings, what)
    return _warmed(info, signature, make_slot, chosen)


def admit(stored: StoredPlan, plugins: Sequence[str] = (), policy: TrustPolicy | None = None) -> None:
    """Lets a plan pass that is trusted and made for this board; nothing of it was given to an engine library.

    Raises:
        PlanError: it isn't trusted, is corrupt, or for another backend or board.
        BackendUnavailableError: there is no such library here, or no GPU.
    """
    verdict = check_signature(stored, trust_policy() if policy is None else policy)
    logger.info("plan %s version %d: %s", stored.manifest.name, stored.manifest.version, verdict.text)
    is_portable = stored.manifest.backend.name == ONNXRUNTIME  # for any board, which nobody needs to look at
    for warning in check_target(stored.manifest) if is_portable else preflight(stored, plugins=plugins):
        logger.warning("%s", warning)


def trial_requests(stored: StoredPlan, settings: TensorRTOptions, what: str) -> List[TrialRequest]:
    """What has to be tried out before a stored plan is loaded: it, or each plan of its chain."""
    manifest = stored.manifest
    if manifest.chain is None:
        return [_trial(stored.file(manifest.plan), manifest.signature, settings, what)]
    parts = manifest.chain.parts
    return [
        _trial(stored.file(part.plan), part.signature, settings, part_text(what, number, len(parts)))
        for number, part in enumerate(parts)
    ]


def _trial(file: StoredFile, signature: Signature, settings: TensorRTOptions, what: str) -> TrialRequest:
    key = file.key() if isinstance(file, SealedFile) else None
    return TrialRequest(file.path, file.record, signature, settings, what, key)


def engine_info(manifest: Manifest) -> EngineInfo:
    """What the engine of a manifest's plan is."""
    return EngineInfo(
        name=manifest.name,
        version=manifest.version,
        backend=f"{manifest.backend.name} {manifest.backend.version}",
        platform=manifest.backend.platform,
        precision=manifest.precision,
        device=manifest.backend.device,
        library_version=manifest.backend.version,
    )


def default_slots(manifest: Manifest) -> int:
    """How many runs at once suit a plan: one a core, and on a GPU two, so that copies overlap kernels.

    Where execution contexts can't share an optimization profile, a second one would need the weights again.
    """
    if manifest.backend.name == ONNXRUNTIME:
        return len(os.sched_getaffinity(0))
    return 2 if manifest.target is None or manifest.target.shares_profile else 1


def engine_from_bytes(model: bytes, info: EngineInfo, signature: Signature, options: EngineOptions) -> Engine:
    """An engine over an ONNX that holds all its weights, warmed as `options` say."""
    return engine_from_files(PlanFiles({"model.onnx": model}), info, signature, options)


def engine_from_files(
    plan: PlanFiles, info: EngineInfo, signature: Signature, options: EngineOptions, root: Path | None = None
) -> Engine:
    """An engine over a plan whose ONNX was checked already (or was never stored), warmed as `options` say.

    Weights that lie apart are read once, to the end, before the engine library gets them from memory. `root` is the
    folder of all plans, by which a GPU's memory is used as it was measured.

    Raises:
        PlanCorruptError: the weights aren't what they should be.
        BackendError: the engine library refused the plan.
    """
    what = f"model {info.name!r}"
    make_slot: Callable[[], Slot]
    if info.library in LIBRARIES:
        from edge_runtime.engine.tensorrt import loading as tensorrt  # noqa: PLC0415

        make_slot = tensorrt.slot_maker(plan, signature, tensorrt_options(info, options, root=root), what)
    else:
        settings = SessionOptions(intra_op_threads=options.resolved_threads)
        make_slot = onnxruntime.slot_maker(plan, signature, settings, what, options.allocate)
    return _warmed(info, signature, make_slot, options)


def engine_from_parts(
    parts: Sequence[PlanPart], info: EngineInfo, signature: Signature, options: EngineOptions, root: Path | None = None
) -> Engine:
    """An engine over a plan, or over the plans of a chain, `signature` being the whole's; else as `engine_from_files`.

    A chain has one segment a part, and no slots over its user's memory.

    Raises:
        PlanCorruptError: the weights aren't what they should be.
        BackendError: the engine library refused a plan.
    """
    if len(parts) == 1:
        return engine_from_files(parts[0].files, info, signature, options, root)
    what = f"model {info.name!r}"
    if info.library in LIBRARIES:
        from edge_runtime.engine.tensorrt import loading as tensorrt  # noqa: PLC0415

        found: Sequence[PartMaker] = tensorrt.part_makers(parts, tensorrt_options(info, options, root=root), what)
        return _chained(found, parts, (info, signature), options)
    settings = SessionOptions(intra_op_threads=options.resolved_threads)
    makers = [
        onnxruntime.slot_maker(
            part.files, part.signature, settings, part_text(what, number, len(parts)), options.allocate
        )
        for number, part in enumerate(parts)
    ]
    return _chained(makers, parts, (info, signature), options)


def _chained(
    makers: Sequence[PartMaker],
    parts: Sequence[PlanPart],
    whole: Tuple[EngineInfo, Signature],
    options: EngineOptions,
) -> Engine:
    info, signature = whole
    chain = [ChainPart(maker, part.signature) for maker, part in zip(makers, parts)]
    make_slot = chain_slot_maker(chain, signature, f"model {info.name!r}")
    return _warmed(info, signature, make_slot, options, len(parts))


def _warmed(
    info: EngineInfo, signature: Signature, make_slot: Callable[[], Slot], options: EngineOptions, segments: int = 1
) -> Engine:
    engine = Engine(info, signature, make_slot, options.slots, getattr(make_slot, "over", None), segments)
    try:
        engine.warm_up(options.warm_up_runs)
    except BaseException:
        engine.close()
        raise
    return engine


def tensorrt_options(
    info: EngineInfo, options: EngineOptions, target: TargetRecord | None = None, root: Path | None = None
) -> TensorRTOptions:
    """How a plan of TensorRT runs: as the caller wants, on the device that it was built for.

    `root` is the folder of all plans, by which `auto` goes by what was measured of the GPU's memory.

    Raises:
        PlanTargetError: a plugin library that the plan needs isn't there, or isn't the one that it was built with; or
            a plan of another version needs a library that isn't there.
        BackendUnavailableError: this machine lacks a GPU, which `root` is asked for.
    """
    kind, _, number = info.device.partition(":")
    is_compatible = target is not None and target.version_compatible
    found = TensorRTOptions(
        device=int(number) if kind == "gpu" else 0,
        memory=options.memory,
        graphs=options.graphs,
        plugins=options.plugins if target is None else plugin_libraries(info.name, target.plugins, options.plugins),
        dla_core=int(number) if kind == "dla" else None,
        allows_host_code=options.allows_plan_code and (target is None or is_compatible),
        library=_library_for(info) if is_compatible else info.library,
    )
    if root is None or found.memory != AUTO:
        return found
    from edge_runtime.engine.tensorrt import loading as tensorrt  # noqa: PLC0415

    return tensorrt.with_measured_memory(found, root)


def _library_for(info: EngineInfo) -> str:
    """The library that loads a version-compatible plan: the full one only in the version that built it.

    Our plans bring no lean library of their own, without which another full one can't load them.
    """
    if info.library != FULL:
        return info.library
    full, lean = tensorrt_version(FULL), tensorrt_version(LEAN)
    built, here = _release(info.library_version), _release(lean)
    if built is not None and built == _release(full):
        return FULL
    if built is None or here is None or here < built:
        raise PlanTargetError(
            f"plan {info.name!r}: version-compatible plan: expected {FULL} {info.library_version}, or {LEAN} of that "
            f"version or later, got {FULL} {full} and {LEAN} {lean}; {remedy(LEAN)}, "
            "or build it here: edge-runtime build"
        )
    return LEAN


def _release(version: str | None) -> Tuple[int, ...] | None:
    """The numbers of a version that decide what it loads; None where they aren't known."""
    numbers = version_numbers(version or "")
    return None if numbers is None else numbers[:3]
