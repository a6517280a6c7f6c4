"""The engine of a plan, and what it hangs on: made in one order, given back in the other."""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import Any, Callable, List, Sequence, Tuple

from edge_runtime.device.cuda.port import Cuda
from edge_runtime.engine.tensorrt.gpu_use import GpuUse
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.engine.tensorrt.signature_check import check_tensors, whole_profiles
from edge_runtime.engine.tensorrt.tensor_io import TensorIO, tensor_io
from edge_runtime.errors import BackendError, BackendUnavailableError
from edge_runtime.tensorrt_api import (
    Capability,
    MessageLog,
    TensorRT,
    failure_text,
    library_log,
    make_logger,
    plugin_library_error,
    translated,
)
from edge_runtime.tensors import Signature

logger = logging.getLogger(__name__)


class PlanEngine:
    """A deserialised plan that slots share; any thread may call it.

    The last one that lets go of it gives it back: contexts went before, then engine and runtime go.
    """

    def __init__(
        self, plan: bytes, signature: Signature, library: TensorRT, cuda: Cuda, options: TensorRTOptions, what: str
    ) -> None:
        self.gpu = GpuUse(cuda, options.device, what)  # before any Runtime: without a driver, one can end the process
        self.library = library
        self.options = options
        self.signature = signature
        self.what = what
        self.log = MessageLog()
        self._lock = threading.Lock()
        self._users = 0
        self._engines: List[Any] = []
        self._logger = make_logger(library, self.log)
        self._runtime: Any = None
        try:
            with self.log:
                self._start(plan)
        except BaseException:
            self._close()
            raise

    def _start(self, plan: bytes) -> None:
        with translated(f"{self.what}: the operators of plugins can't be registered", self.log):
            load_plugins(self.library, self._logger, self.options.plugins)
        self._runtime = make_runtime(self.library, self._logger, self.log, self.options, self.what)
        self._engines.append(self._deserialised(plan))
        self.tensors = self._io(self._engines[0], None).tensors()
        check_tensors(self.tensors, self.signature, self.what)
        self._profiles = whole_profiles(self.tensors, self.signature)

    def _deserialised(self, plan: bytes) -> Any:
        what = f"{self.what}: {self.library.text} can't load the plan"
        with translated(what, self.log):
            engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(failure_text(what, self.log) + "; build it again on this board: edge-runtime build")
        if getattr(engine, "has_implicit_batch_dimension", False):
            raise BackendError(f"{self.what}: its plan has an implicit batch; build it again: edge-runtime build")
        return engine

    @property
    def is_dynamic(self) -> bool:
        """Whether there is a shape to choose."""
        return any(-1 in tensor.shape or tensor.is_host for tensor in self.tensors if tensor.is_input)

    @property
    def shares_scratch(self) -> bool:
        """Whether several contexts of one slot can use the same scratch memory, one after the other."""
        module = self.library.module
        return hasattr(module, "ExecutionContextAllocationStrategy") and hasattr(
            module.IExecutionContext, "set_device_memory"
        )

    @property
    def first(self) -> Any:
        """The `ICudaEngine`."""
        return self._engines[0]

    @property
    def scratch_nbytes(self) -> int:
        """What one context takes of the device's memory while it runs."""
        engine = self._engines[0]
        name = "device_memory_size_v2" if hasattr(engine, "device_memory_size_v2") else "device_memory_size"
        return int(getattr(engine, name))

    def new_context(self, stream: int, read_plan: Callable[[], bytes]) -> Tuple[Any, TensorIO]:
        """An execution context with its own scratch memory, and its tensors.

        Where contexts can't share an optimization profile, the plan is deserialised once more.
        """
        with self._lock, self.log:
            context, io = self._context(self._engines[-1])
            if not self.is_dynamic or self._can_use_profiles(io, stream):
                return context, io
            logger.info("%s: contexts can't share its profile, so its weights are loaded once more", self.what)
            self._engines.append(self._deserialised(read_plan()))
            context, io = self._context(self._engines[-1])
            if not self._can_use_profiles(io, stream):
                raise BackendError(failure_text(f"{self.what}: its profiles can't be used", self.log))
            return context, io

    def new_sharing_context(self, stream: int, scratch: int) -> Tuple[Any, TensorIO]:
        """An execution context on scratch memory at that address (`scratch_nbytes`), which others use in between."""
        strategy = self.library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._lock, self.log:
            context, io = self._context(self._engines[0], strategy)
            if scratch:
                context.set_device_memory(scratch, self.scratch_nbytes)
            if self.is_dynamic and not self._can_use_profiles(io, stream):
                raise BackendError(failure_text(f"{self.what}: its profiles can't be shared", self.log))
            return context, io

    def _can_use_profiles(self, io: TensorIO, stream: int) -> bool:
        """Whether a context may have one profile that holds everything or, where there is none, all of them in turn."""
        if self._profiles:
            return any(io.use_profile(index, stream) for index in self._profiles)
        return all(io.use_profile(index, stream) for index in range(self.first.num_optimization_profiles))

    def _context(self, engine: Any, *strategy: Any) -> Tuple[Any, TensorIO]:
        what = f"{self.what}: TensorRT makes no execution context"
        with translated(what, self.log):
            context = engine.create_execution_context(*strategy)
        if context is None:
            raise BackendError(failure_text(what, self.log) + "; use fewer slots, or free memory (free -m)")
        return context, self._io(engine, context)

    def _io(self, engine: Any, context: Any) -> TensorIO:
        return tensor_io(self.library, engine, context, self.log, self.what)

    def acquire(self) -> None:
        """Takes part in it; each call needs its `release`.

        Raises:
            BackendError: it was given back already.
        """
        with self._lock:
            if self._runtime is None:
                raise BackendError(f"{self.what} is closed; load the plan again")
            self._users += 1

    def release(self) -> None:
        """Lets go of it."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._close()

    def _close(self) -> None:
        with self.log:
            self._engines.clear()
            self._runtime = None
        library_log(self.library).remove(self.log)


def make_runtime(library: TensorRT, log_bridge: Any, log: MessageLog, options: TensorRTOptions, what: str) -> Any:
    """A `Runtime`; CUDA must have been found to work before, on this thread.

    Raises:
        BackendUnavailableError: there is no such DLA core, or the library lacks what the options ask for.
        BackendError: TensorRT makes none.
    """
    with translated(f"{what}: {library.text} makes no runtime", log):
        runtime = library.module.Runtime(log_bridge)
    if options.dla_core is not None:
        library.require(Capability.DLA, what)
        with translated(f"{what}: DLA core {options.dla_core} can't be used", log):
            runtime.DLA_core = options.dla_core
        if runtime.DLA_core != options.dla_core:
            text = f"{what}: DLA core {options.dla_core} can't be used"
            raise BackendUnavailableError(failure_text(text, log) + "; build it for another device")
    if options.allows_host_code:
        library.require(Capability.VERSION_COMPATIBLE, what)
        runtime.engine_host_code_allowed = True
    return runtime


def load_plugins(library: TensorRT, log_bridge: Any, paths: Sequence[str]) -> None:  # noqa: ARG001  (is the library's)
    """Makes the standard operators and those of the libraries known, in this process.

    Raises:
        BackendUnavailableError: a library can't be loaded.
    """
    if library.has(Capability.PLUGINS):
        library_log(library).register_plugins(library.module.init_libnvinfer_plugins)
    for path in paths:
        try:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise plugin_library_error(path, error) from error
