"""The only import of TensorRT: which library there is, what it can do, its log and its failures in our words.

Nothing here looks at a version number to decide what to call: a capability is there if its name is.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import importlib.util
import logging
import re
import threading
import warnings
import weakref
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Sequence, Tuple

from edge_runtime.errors import BackendError, BackendUnavailableError, ConfigError, nearest
from edge_runtime.tensors import DType

logger = logging.getLogger(__name__)

FULL, RTX, LEAN = "tensorrt", "tensorrt_rtx", "tensorrt_lean"
LIBRARIES = (FULL, RTX, LEAN)

_DISTRIBUTIONS = {
    FULL: ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
    RTX: ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
    LEAN: ("tensorrt-lean", "tensorrt-lean-cu13", "tensorrt-lean-cu12"),
}
# What a library without a driver adds to each of its own messages.
_DRIVERLESS = re.compile(r"catchCudaError.*\(cudaError (35|100)\b")
_MOST_ERRORS = 50


class Capability(enum.Enum):
    """Something that only some TensorRT have; its value says what it is for."""

    BUILDER = "makes plans"
    RUNTIME = "runs plans"
    NAME_IO = "tensors by name"
    INDEX_IO = "tensors by binding index"
    EXPLICIT_BATCH = "networks must ask for an explicit batch"
    STRONG_TYPING = "types as the ONNX has them, if asked for"
    ALWAYS_STRONG = "types as the ONNX has them, always"
    PRECISION_FLAGS = "FP16 and INT8 as flags"
    PRECISION_CONSTRAINTS = "layers held to a precision"
    CALIBRATOR = "INT8 by a calibrator or its cache"
    MEMORY_POOLS = "memory limits by pool"
    WORKSPACE_SIZE = "a limit of the workspace"
    TIMING_CACHE = "tactics timed once"
    OPTIMIZATION_LEVEL = "how long the builder searches"
    PROGRESS = "progress while building"
    PROFILE_SHARING = "execution contexts that share an optimization profile, if asked for"
    VERSION_COMPATIBLE = "plans for later versions"
    HARDWARE_COMPATIBLE = "plans for other GPUs"
    COMPUTE_CAPABILITY = "plans for named GPUs"
    DLA = "the deep learning accelerator"
    OUTPUT_ALLOCATOR = "outputs whose size their data decides"
    INSPECTOR = "layers as JSON"
    PROFILER = "time of each layer"
    DETAILED_PROFILING = "layers in detail"
    PLUGINS = "the standard plugins"


@dataclass(frozen=True)
class TensorRT:
    """A loaded library: `name` is its module's, `capabilities` were found once, `module` is for calls."""

    name: str
    version: str
    module: Any
    capabilities: FrozenSet[Capability]

    def has(self, *wanted: Capability) -> bool:
        """Whether it can do all of these."""
        return self.capabilities.issuperset(wanted)

    def require(self, wanted: Capability, what: str) -> None:
        """Raises BackendUnavailableError unless it can do that; `what` needs it."""
        if wanted not in self.capabilities:
            raise BackendUnavailableError(f"{what}: {self.name} {self.version} has no {wanted.name} ({wanted.value})")

    @property
    def text(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def installed(name: str) -> str | None:
    """The version of a library, found without loading it; None where it isn't installed."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, which Python takes for a package
            return None
    except (ImportError, ValueError):
        return None
    for distribution in _DISTRIBUTIONS[name]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return "unknown"


def load(name: str = FULL) -> TensorRT:
    """One of the libraries, loaded; no object of it is made yet, so no driver is needed.

    Raises:
        ConfigError: there is no library of that name.
        BackendUnavailableError: it isn't installed, or can't be loaded.
    """
    if name not in LIBRARIES:
        raise ConfigError(f"TensorRT library {name!r}: {nearest(name, LIBRARIES)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
        if _is_folder(module):
            raise ImportError(f"{', '.join(module.__path__)} is a folder without it")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # a library of its own may be missing
        raise BackendUnavailableError(
            f"backend {name}: the package can't be imported ({error}); {remedy(name)}"
        ) from None
    return from_module(name, module)


def _is_folder(module: Any) -> bool:
    """Whether a module is no more than a folder of its name on the path."""
    return hasattr(module, "__path__") and getattr(module, "__file__", None) is None


def from_module(name: str, module: Any) -> TensorRT:
    """A library that was imported already."""
    return TensorRT(name, str(getattr(module, "__version__", "unknown")), module, capabilities_of(module))


def remedy(name: str) -> str:
    """What installs a library."""
    if name == RTX:
        return "pip install tensorrt-rtx-cu12"
    if name == LEAN:
        return "pip install tensorrt-lean"
    return (
        "on a Jetson make the environment with python3 -m venv --system-site-packages, for JetPack brings TensorRT; "
        "elsewhere pip install tensorrt"
    )


def capabilities_of(module: Any) -> FrozenSet[Capability]:
    """What a library can do, by the names that it has."""
    return frozenset(capability for capability, is_there in _TESTS.items() if is_there(module))


def _has(*paths: str) -> Callable[[Any], bool]:
    """Whether a module has all of some dotted names."""

    def is_there(module: Any) -> bool:
        return all(_found(module, path.split(".")) for path in paths)

    return is_there


def _found(owner: Any, path: Sequence[str]) -> bool:
    return not path or (hasattr(owner, path[0]) and _found(getattr(owner, path[0]), path[1:]))


_TESTS: Dict[Capability, Callable[[Any], bool]] = {
    Capability.BUILDER: _has("Builder", "OnnxParser"),
    Capability.RUNTIME: _has("Runtime", "ICudaEngine"),
    Capability.NAME_IO: _has("ICudaEngine.num_io_tensors", "IExecutionContext.execute_async_v3"),
    Capability.INDEX_IO: _has("ICudaEngine.num_bindings", "IExecutionContext.execute_async_v2"),
    Capability.EXPLICIT_BATCH: _has("NetworkDefinitionCreationFlag.EXPLICIT_BATCH"),
    Capability.STRONG_TYPING: _has("NetworkDefinitionCreationFlag.STRONGLY_TYPED"),
    Capability.ALWAYS_STRONG: lambda module: _has("Builder")(module) and not _has("BuilderFlag.FP16")(module),
    Capability.PRECISION_FLAGS: _has("BuilderFlag.FP16", "BuilderFlag.INT8"),
    Capability.PRECISION_CONSTRAINTS: _has("BuilderFlag.OBEY_PRECISION_CONSTRAINTS", "ILayer.precision"),
    Capability.CALIBRATOR: _has("IInt8EntropyCalibrator2", "IBuilderConfig.int8_calibrator"),
    Capability.MEMORY_POOLS: _has("IBuilderConfig.set_memory_pool_limit", "MemoryPoolType.WORKSPACE"),
    Capability.WORKSPACE_SIZE: _has("IBuilderConfig.max_workspace_size"),
    Capability.TIMING_CACHE: lambda module: (
        _has("IBuilderConfig.create_timing_cache", "ITimingCache")(module) and module.__name__.split(".")[0] != RTX
    ),
    Capability.OPTIMIZATION_LEVEL: _has("IBuilderConfig.builder_optimization_level"),
    Capability.PROGRESS: _has("IProgressMonitor", "IBuilderConfig.progress_monitor"),
    Capability.PROFILE_SHARING: _has("IBuilderConfig.set_preview_feature", "PreviewFeature.PROFILE_SHARING_0806"),
    Capability.VERSION_COMPATIBLE: _has("BuilderFlag.VERSION_COMPATIBLE", "Runtime.engine_host_code_allowed"),
    Capability.HARDWARE_COMPATIBLE: _has("IBuilderConfig.hardware_compatibility_level", "HardwareCompatibilityLevel"),
    Capability.COMPUTE_CAPABILITY: _has("IBuilderConfig.set_compute_capability", "ComputeCapability"),
    Capability.DLA: _has("DeviceType.DLA", "IBuilderConfig.DLA_core"),
    Capability.OUTPUT_ALLOCATOR: _has("IOutputAllocator", "IExecutionContext.set_output_allocator"),
    Capability.INSPECTOR: _has("EngineInspector", "ICudaEngine.create_engine_inspector"),
    Capability.PROFILER: _has("IProfiler", "IExecutionContext.profiler", "IExecutionContext.report_to_profiler"),
    Capability.DETAILED_PROFILING: _has("IBuilderConfig.profiling_verbosity", "ProfilingVerbosity.DETAILED"),
    Capability.PLUGINS: _has("init_libnvinfer_plugins"),
}

_DTYPES = {
    "FLOAT": DType.FP32,
    "HALF": DType.FP16,
    "INT8": DType.INT8,
    "UINT8": DType.UINT8,
    "INT32": DType.INT32,
    "INT64": DType.INT64,
    "BOOL": DType.BOOL,
}


def dtype_of(value: Any, what: str) -> DType:
    """Our data type for a `DataType` of TensorRT, by its name; `what` names the tensor in messages.

    Raises:
        BackendError: a type that no tensor of ours can hold.
    """
    found = _DTYPES.get(value.name)
    if found is None:
        raise BackendError(f"{what}: TensorRT data type {value.name} can't be served; expected {', '.join(_DTYPES)}")
    return found


class _Thread(threading.local):
    """Of one thread: the logs that it listens with, the innermost last."""

    def __init__(self) -> None:
        self.logs: List[MessageLog] = []


class _Heard(threading.local):
    """Of one thread and one log: its errors; None until it listens."""

    errors: List[str] | None = None


_THREAD = _Thread()


class MessageLog:
    """What TensorRT logs: passed on to `logging`, its errors (there at `error_level`) kept until they are asked for.

    Inside `with log:` it gets what TensorRT says on that thread, whose errors no other thread takes. Errors of
    TensorRT's own threads are for the first that asks. `listeners` is the number of threads inside.
    """

    def __init__(self, error_level: int = logging.INFO) -> None:
        self.listeners = 0
        self._error_level = error_level
        self._here = _Heard()
        self._elsewhere: List[str] = []
        self._lock = threading.RLock()  # taken again if an object of TensorRT's is collected meanwhile, and says so

    def __enter__(self) -> MessageLog:
        if self not in _THREAD.logs:
            self._here.errors = self._here.errors or []
            with self._lock:
                self.listeners += 1
        _THREAD.logs.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _THREAD.logs.pop()
        if self not in _THREAD.logs:
            with self._lock:
                self.listeners -= 1

    def receive(self, severity: str, text: str) -> None:
        """Takes one message; never raises, for TensorRT calls it."""
        if _DRIVERLESS.search(text):
            logger.debug("%s", text)
            return
        line = " ".join(text.split())
        level = _LEVELS.get(severity, logging.DEBUG)
        if severity in ("ERROR", "INTERNAL_ERROR"):
            level = self._error_level
            with self._lock:
                errors = self._elsewhere if self._here.errors is None else self._here.errors
                if line not in errors and len(errors) < _MOST_ERRORS:
                    errors.append(line)
        logger.log(level, "%s", line)

    def take_errors(self) -> Tuple[str, ...]:
        """The errors since this was last called, oldest first, those of this thread before TensorRT's own."""
        with self._lock:
            errors = [*(self._here.errors or ()), *self._elsewhere]
            (self._here.errors or []).clear()
            self._elsewhere.clear()
        return tuple(dict.fromkeys(errors))

    def forget(self) -> None:
        """Drops what was said on this thread and, where it alone listens, on TensorRT's own."""
        with self._lock:
            (self._here.errors or []).clear()
            if self.listeners <= (self in _THREAD.logs):
                self._elsewhere.clear()


# An error becomes an exception, which is reported; so it isn't one in the log as well.
_LEVELS = {"WARNING": logging.INFO, "INFO": logging.DEBUG, "VERBOSE": logging.DEBUG}


class LibraryLog:
    """Where messages of one library go: its only logger, `bridge`, gives them here.

    A message is for the log that its thread listens with. One of a thread of TensorRT's own is for the only log that
    is listened with, or the newest where none is; one that may be anybody's is a warning in `logging`.
    """

    def __init__(self, library: TensorRT) -> None:
        self.bridge = _make_bridge(library, self)
        self._logs: List[weakref.ReferenceType[MessageLog]] = []
        self._nobodys = MessageLog(logging.WARNING)
        self._has_plugins = False
        self._lock = threading.RLock()

    def add(self, log: MessageLog) -> None:
        """Makes a log known, and keeps nobody from letting go of it."""
        with self._lock:
            self.remove(log)
            self._logs = [*self._logs, weakref.ref(log)]

    def remove(self, log: MessageLog) -> None:
        """Makes a log unknown: it hears only those that listen with it."""
        with self._lock:
            self._logs = [known for known in self._logs if known() not in (None, log)]

    def receive(self, severity: str, text: str) -> None:
        """Takes one message; never raises, for TensorRT calls it."""
        self._log_here().receive(severity, text)

    def _log_here(self) -> MessageLog:
        if _THREAD.logs:
            return _THREAD.logs[-1]
        known = [log for log in [each() for each in self._logs] if log is not None]
        heard = [log for log in known if log.listeners]
        return self._nobodys if len(heard) > 1 or not known else (heard or known)[-1]

    def register_plugins(self, register: Callable[[Any, str], Any]) -> None:
        """Makes the standard operators known in this process, once, with `init_libnvinfer_plugins`."""
        with self._lock:
            if not self._has_plugins:
                register(self.bridge, "")
                self._has_plugins = True


_LOG = "_edge_runtime_log"  # an attribute of the library's module, for it must live as long


def library_log(library: TensorRT) -> LibraryLog:
    """The one log of a library, for TensorRT keeps the first logger of a process, and the last one of plugins."""
    names = vars(library.module)
    found: LibraryLog = names.get(_LOG) or names.setdefault(_LOG, LibraryLog(library))
    return found


def make_logger(library: TensorRT, log: MessageLog) -> Any:
    """The library's `ILogger`, the same one each time, which tells `log` what is for it (see `LibraryLog`)."""
    shared = library_log(library)
    shared.add(log)
    return shared.bridge


def _make_bridge(library: TensorRT, log: LibraryLog) -> Any:
    base = library.module.ILogger

    class Bridge(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            log.receive(severity.name, msg)

    return Bridge()


@contextlib.contextmanager
def translated(what: str, log: MessageLog) -> Iterator[None]:
    """Turns what TensorRT's bindings raise inside the block into ours, with what was logged; `what` comes first."""
    with log:
        log.forget()
        try:
            yield
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise BackendError(failure_text(what, log, " ".join(str(error).split()))) from error


def failure_text(what: str, log: MessageLog, otherwise: str = "no reason was given") -> str:
    """`what` with the errors that TensorRT logged since."""
    text = "; ".join(log.take_errors()) or otherwise
    return f"{what}: {text[:2000]}"


def plugin_library_error(path: str, error: object) -> BackendUnavailableError:
    """That a plugin library can't be loaded."""
    return BackendUnavailableError(f"plugin library {path}: can't be loaded ({error}); correct [backend] plugins")
