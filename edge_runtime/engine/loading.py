"""From a plan on disk to an engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.onnxruntime import slot_maker
from edge_runtime.errors import ConfigError
from edge_runtime.onnxruntime_api import SessionOptions
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.plan.store import StoredPlan, open_plan
from edge_runtime.plan.target import check_target
from edge_runtime.tensors import Signature


@dataclass(frozen=True)
class EngineOptions:
    """How many runs at once (`slots`), and how many threads each may use (None: the cores, shared out).

    `warm_up_runs` is how often every slot runs before the engine is handed out; 0 shows a cold start.
    """

    slots: int = 1
    threads_per_run: int | None = None
    warm_up_runs: int = 1

    def __post_init__(self) -> None:
        if self.slots < 1 or (self.threads_per_run is not None and self.threads_per_run < 1):
            raise ConfigError(f"engine options {self}: expected at least one slot and one thread")

    @property
    def resolved_threads(self) -> int:
        """Threads inside one run, after sharing out the cores that this process may use."""
        return self.threads_per_run or max(1, len(os.sched_getaffinity(0)) // self.slots)


def load(plan: str | os.PathLike[str] | StoredPlan, options: EngineOptions | None = None) -> Engine:
    """A warmed engine for a plan: a version's folder, a model's folder (what it serves), or a stored plan.

    The plan's digests and target are checked before the engine library sees a byte. The caller closes it.

    Raises:
        PlanError: not found, corrupt, or for another backend or board.
        BackendError: the engine library refused the plan.
    """
    stored = plan if isinstance(plan, StoredPlan) else open_plan(Path(plan))
    check_target(stored.manifest)
    manifest = stored.manifest
    info = EngineInfo(
        name=manifest.name,
        version=manifest.version,
        backend=f"{manifest.backend.name} {manifest.backend.version}",
        platform=manifest.backend.platform,
        precision=manifest.precision,
        device=manifest.backend.device,
    )
    return engine_from_files(stored.open_files(), info, manifest.signature, options or EngineOptions())


def engine_from_bytes(model: bytes, info: EngineInfo, signature: Signature, options: EngineOptions) -> Engine:
    """An engine over an ONNX that holds all its weights, warmed as `options` say."""
    return engine_from_files(PlanFiles({"model.onnx": model}), info, signature, options)


def engine_from_files(plan: PlanFiles, info: EngineInfo, signature: Signature, options: EngineOptions) -> Engine:
    """An engine over a plan whose ONNX was checked already (or was never stored), warmed as `options` say.

    Weights that lie apart are read once, to the end, before the engine library gets them from memory.

    Raises:
        PlanCorruptError: the weights aren't what they should be.
        BackendError: the engine library refused the plan.
    """
    settings = SessionOptions(intra_op_threads=options.resolved_threads)
    engine = Engine(info, signature, slot_maker(plan, signature, settings, f"model {info.name!r}"), options.slots)
    try:
        engine.warm_up(options.warm_up_runs)
    except BaseException:
        engine.close()
        raise
    return engine
