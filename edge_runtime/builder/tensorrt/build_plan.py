"""One plan built in this process."""

from __future__ import annotations

import contextlib
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, List

import numpy as np

from edge_runtime.builder.tensorrt.calibrator import BatchSource, CacheSource, StoredErrors, make_calibrator
from edge_runtime.builder.tensorrt.configuration import make_configuration, make_profile
from edge_runtime.builder.tensorrt.monitor import OnFraction, make_monitor
from edge_runtime.builder.tensorrt.network import Network, check_profile, prepare_network
from edge_runtime.builder.tensorrt.request import BuildRequest, Built
from edge_runtime.builder.tensorrt.spool import Batches
from edge_runtime.builder.tensorrt.timing_cache import TimingCache
from edge_runtime.builder.tensorrt.workshop import writing
from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.device.cuda.port import Cuda
from edge_runtime.engine.tensorrt.plan_engine import load_plugins
from edge_runtime.errors import BackendError, CalibrationError
from edge_runtime.tensorrt_api import (
    FULL,
    Capability,
    MessageLog,
    TensorRT,
    failure_text,
    make_logger,
    translated,
)
from edge_runtime.tensors import DYNAMIC, ShapeRange

_OUT_OF_MEMORY = re.compile(r"out of memory|outofmemory|insufficient memory|allocat\w* fail|bad_alloc", re.I)
_WORKSPACE = re.compile(r"insufficient workspace", re.I)


class BuildCancelledError(BackendError):
    """The build was told to stop."""


class WorkspaceError(BackendError):
    """A kernel needs more workspace than it may have."""


class OutOfMemoryError(BackendError):
    """The build needs more memory than it may take."""


class OverLimitError(OutOfMemoryError):
    """The build held more memory than its ceiling."""


@dataclass(frozen=True)
class Hooks:
    """What a build tells, and asks: the share that is done, and whether to stop.

    `asks` is set once it does ask: an old TensorRT never does, and is stopped by its process's end alone. TensorRT's
    objects stay in `kept`: one that is destroyed may wait for a thread that wants to log, which waits for this one. So
    a process of its own just ends.
    """

    on_fraction: OnFraction = lambda _: None
    is_cancelled: Callable[[], bool] = lambda: False
    kept: List[Any] = field(default_factory=list)
    asks: threading.Event = field(default_factory=threading.Event)


def build_plan(request: BuildRequest, library: TensorRT, hooks: Hooks, cuda: Cuda | None = None) -> Built:
    """Builds the plan that `request` describes and writes it to its path. Opens CUDA if it is needed and not given.

    If the request is a check, it ends where the build would begin.

    Raises:
        ParseError: the parser refuses the model.
        OutOfMemoryError: TensorRT ran out of memory.
        BuildCancelledError: `hooks` said so.
        EdgeRuntimeError: anything else, with TensorRT's own text.
    """
    library.require(Capability.BUILDER, "building a plan")
    if cuda is None and (library.name == FULL or request.calibration_folder):
        cuda = open_cuda(request.device)  # before TensorRT makes its first object, which fails badly without a driver
        cuda.use_device(request.device)
    log = MessageLog()
    logger = make_logger(library, log)
    with translated(f"{library.text} failed", log):
        load_plugins(library, logger, request.plugins)
        builder = library.module.Builder(logger)
        hooks.kept.extend((logger, builder))
        network = Network(library, builder, logger, request.is_strongly_typed)
        hooks.kept.append(network)
        network.parse(request.onnx, log)
        check_profile(network, request.profile)
        notes = prepare_network(network, request)
        config = make_configuration(library, builder, network, request, log)
        hooks.kept.append(config)
        if request.is_check:
            return Built(network.inputs, network.outputs)
        timing = TimingCache(library, request.timing_cache)
        timing.use(config)
        return _built(_Build(library, builder, network, config, log), request, hooks, timing, notes, cuda)


@dataclass(frozen=True)
class _Build:
    library: TensorRT
    builder: Any
    network: Network
    config: Any
    log: MessageLog


def _built(
    build: _Build, request: BuildRequest, hooks: Hooks, timing: TimingCache, notes: List[str], cuda: Cuda | None
) -> Built:
    errors = StoredErrors()
    if build.library.has(Capability.PROGRESS):
        # The configuration doesn't keep its monitor alive.
        monitor = make_monitor(build.library, hooks.on_fraction, hooks.is_cancelled, errors)
        hooks.kept.append(monitor)
        build.config.progress_monitor = monitor
        hooks.asks.set()
    with _calibrating(build, request, errors, cuda) as source:
        plan = build.builder.build_serialized_network(build.network.definition, build.config)
    timing.keep(build.config)
    errors.raise_first()
    if hooks.is_cancelled():
        raise BuildCancelledError(f"{Path(request.plan).name}: the build was cancelled")
    if plan is None:
        raise _failure(build)
    with writing(request.plan):
        np.frombuffer(plan, np.uint8).tofile(request.plan)
    return Built(build.network.inputs, build.network.outputs, tuple(notes), _measured_cache(source))


@contextlib.contextmanager
def _calibrating(
    build: _Build, request: BuildRequest, errors: StoredErrors, cuda: Cuda | None
) -> Iterator[BatchSource | None]:
    """The configuration has a calibrator for the length of the block, if the request wants one."""
    if not request.calibration_cache and not request.calibration_folder:
        yield None
        return
    build.library.require(Capability.CALIBRATOR, "INT8 without Q/DQ")
    if request.calibration_cache:
        kept = CacheSource(request.calibration_cache, build.library.version)
        calibrator = make_calibrator(build.library, kept, errors)  # which the configuration doesn't keep alive
        build.config.int8_calibrator = calibrator
        yield None
        return
    assert cuda is not None
    batches = Batches(Path(request.calibration_folder))
    with BatchSource(batches, build.network.inputs, cuda, request.device) as source:
        calibrator = make_calibrator(build.library, source, errors)
        build.config.int8_calibrator = calibrator
        if any(DYNAMIC in spec.shape for spec in build.network.inputs):
            shapes = {name: ShapeRange.fixed(shape) for name, shape in batches.shapes().items()}
            build.config.set_calibration_profile(make_profile(build.builder, shapes))
        yield source


def _measured_cache(source: BatchSource | None) -> str:
    """The cache that TensorRT wrote, if every batch went into it.

    Raises:
        CalibrationError: it is a half one, or there is none.
    """
    if source is None:
        return ""
    if not source.is_complete or source.stored is None:
        raise CalibrationError("TensorRT's calibration ended before the last batch; nothing of it is kept")
    return source.stored.decode()


def _failure(build: _Build) -> BackendError:
    text = failure_text(f"{build.library.text} can't build the plan", build.log)
    if _OUT_OF_MEMORY.search(text):
        return OutOfMemoryError(text)
    return WorkspaceError(text) if _WORKSPACE.search(text) else BackendError(text)
