"""The fake runtime and its engines: what a plan's record says, by name and by binding index."""

# ruff: noqa: F821, N815 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

import weakref
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
from fakes.tensorrt_binding import host_memory, make
from fakes.tensorrt_board import internal_error, log, usage_error
from fakes.tensorrt_layers import engine_layers
from fakes.tensorrt_model import NUMPY, Runnable
from fakes.tensorrt_plan import plan_model, plan_record, problem_of


class Tensor(NamedTuple):
    """An input or output of an engine; `shape` has -1 for what a profile or the data decides."""

    name: str
    dtype: str
    shape: Tuple[int, ...]
    is_input: bool
    is_shape: bool

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(NUMPY[self.dtype])


class Runtime:
    def __init__(self, logger: ILogger | Logger) -> None:
        self._logger = logger
        self._dla_core = -1
        self._is_host_code_allowed = False
        self._threads = 1
        self._folder = "/tmp"
        if not self._module._board.has_driver or self._module._cuda is None:
            log(logger, "ERROR", "CUDA initialization failure with error: 35.")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    logger = property(lambda self: self._logger)
    num_DLA_cores = property(lambda self: self._module._board.dla_cores)

    @property
    def DLA_core(self) -> int:
        return self._dla_core

    @DLA_core.setter
    def DLA_core(self, value: int) -> None:
        if not 0 <= value < self._module._board.dla_cores:
            text = f"DLA core {value} isn't there: this platform has {self._module._board.dla_cores}"
            usage_error(self._module, self._logger, "IRuntime::setDLACore", text)
            return
        self._dla_core = value

    @property
    def max_threads(self) -> int:
        return self._threads

    @max_threads.setter
    def max_threads(self, value: int) -> None:
        self._threads = value

    @property
    def engine_host_code_allowed(self) -> bool:
        return self._is_host_code_allowed

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, value: bool) -> None:
        self._is_host_code_allowed = bool(value)

    @property
    def temporary_directory(self) -> str:
        return self._folder

    @temporary_directory.setter
    def temporary_directory(self, value: str) -> None:
        self._folder = value

    def get_plugin_registry(self) -> Any:
        return self._module.get_plugin_registry()

    def deserialize_cuda_engine(self, serialized_engine: buffer, /) -> Any:
        plan = bytes(serialized_engine)
        if not plan:
            text = "Parameter check failed, condition: (blob) != nullptr && size > 0."
            usage_error(self._module, self._logger, "IRuntime::deserializeCudaEngine", text)
            return None
        problem = problem_of(plan, self._module._surface, self._module._board.compute_capability)
        record = {} if problem else plan_record(plan)
        has_host_code = {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}.intersection(record.get("flags", ()))
        if has_host_code == {"VERSION_COMPATIBLE"} and not self._is_host_code_allowed:
            problem = "engine host code isn't allowed: set engine_host_code_allowed to deserialize this engine"
        if record.get("default_device") == "DLA" and self._dla_core < 0 and record["dla_core"] < 0:
            problem = "the engine needs a DLA core, and none is set"
        if problem:
            self._refuse(problem)
            return None
        return make(self._module, "ICudaEngine", self, plan)

    def _refuse(self, problem: str) -> None:
        if self._module._major >= 10:
            code = 6 if problem.startswith("The engine plan file") else 1
            usage_error(self._module, self._logger, "IRuntime::deserializeCudaEngine", problem, code)
        elif problem.startswith("The engine plan file"):
            log(self._logger, "ERROR", f"6: {problem}")
        else:
            internal_error(self._logger, "stdArchiveReader.cpp::StdArchiveReader::30", problem, 1)
        internal_error(self._logger, "runtime.cpp::deserializeCudaEngine::66", "Engine deserialization failed.", 4)


class ICudaEngine:
    def _setup(self, runtime: Any, plan: bytes) -> None:
        self._runtime, self._plan = runtime, plan  # an engine keeps its runtime
        self._logger = runtime._logger
        self._record = plan_record(plan)
        self._runnable = Runnable(plan_model(plan))
        self._tensors = [
            Tensor(item["name"], item["dtype"], tuple(item["shape"]), is_input, is_input and item["is_shape"])
            for is_input, items in ((True, self._record["inputs"]), (False, self._record["outputs"]))
            for item in items
        ]
        self._by_name = {tensor.name: tensor for tensor in self._tensors}
        self._profiles: List[Dict[str, Any]] = self._record["profiles"]
        self._layers = engine_layers(self._record)
        self._chosen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    name = property(lambda self: self._record["name"])
    num_layers = property(lambda self: len(self._layers))
    num_optimization_profiles = property(lambda self: len(self._profiles))
    device_memory_size = property(lambda self: self._scratch_nbytes)
    device_memory_size_v2 = property(lambda self: self._scratch_nbytes)
    _scratch_nbytes = property(lambda self: 4096 * len(self._layers))  # made up
    refittable = property(lambda self: "REFIT" in self._record["flags"])
    has_implicit_batch_dimension = property(lambda self: False)
    max_batch_size = property(lambda self: 1)
    num_aux_streams = property(lambda self: 0)
    profiling_verbosity = property(lambda self: getattr(self._module.ProfilingVerbosity, self._record["verbosity"]))
    num_bindings = property(lambda self: len(self._tensors) * len(self._profiles))
    num_io_tensors = property(lambda self: len(self._tensors))

    @property
    def hardware_compatibility_level(self) -> Any:
        return getattr(self._module.HardwareCompatibilityLevel, self._record["hardware_compatibility"] or "NONE")

    @property
    def _is_dynamic(self) -> bool:
        return any(-1 in tensor.shape or tensor.is_shape for tensor in self._tensors if tensor.is_input)

    @property
    def _shares_profiles(self) -> bool:
        return self._module._major >= 10 or "PROFILE_SHARING_0806" in self._record["preview"]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return int(self.device_memory_size_v2)

    def serialize(self) -> Any:
        return host_memory(self._module, self._plan)

    def create_engine_inspector(self) -> Any:
        return make(self._module, "EngineInspector", self)

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy | None = None) -> Any:
        return self._context(strategy is None or strategy.name != "USER_MANAGED")

    def _before_10_create_execution_context(self) -> Any:
        return self._context(True)

    def create_execution_context_without_device_memory(self) -> Any:
        return self._context(False)

    def _context(self, has_memory: bool) -> Any:
        error = self._module._board.context_error
        if error:
            internal_error(self._logger, "executionContext.cpp::ExecutionContext::1", error)
            return None
        return make(self._module, "IExecutionContext", self, has_memory or not self._scratch_nbytes)

    # By name.
    def get_tensor_name(self, index: int) -> str | None:
        if not 0 <= index < len(self._tensors):
            self._complain("getIOTensorName", f"Given index {index} is out of range")
            return None
        return self._tensors[index].name

    def get_tensor_mode(self, name: str) -> Any:
        tensor = self._named(name, "getTensorIOMode")
        modes = self._module.TensorIOMode
        return modes.NONE if tensor is None else modes.INPUT if tensor.is_input else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        tensor = self._named(name, "getTensorDataType")
        return getattr(self._module.DataType, tensor.dtype if tensor else "FLOAT")

    def get_tensor_shape(self, name: str) -> Any:
        tensor = self._named(name, "getTensorShape")
        return self._module.Dims(tensor.shape) if tensor else self._module.Dims._invalid()

    def get_tensor_location(self, name: str) -> Any:
        tensor = self._named(name, "getTensorLocation")
        places = self._module.TensorLocation
        return places.HOST if tensor and tensor.is_shape else places.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> List[Any]:
        tensor = self._named(name, "getProfileShape")
        if tensor is None or not tensor.is_input or not 0 <= profile_index < len(self._profiles):
            return [self._module.Dims._invalid()] * 3
        return [self._module.Dims(tuple(shape)) for shape in self._profiles[profile_index]["shapes"][name]]

    def get_tensor_profile_values(self, name: int, profile_index: str) -> List[List[int]]:
        """The bindings have the names of these two the wrong way round; the profile comes first."""
        tensor = self._named(profile_index, "getProfileTensorValues")
        if tensor is None or not tensor.is_shape or not 0 <= name < len(self._profiles):
            return []
        return [list(values) for values in self._profiles[name]["values"][tensor.name]]

    def is_shape_inference_io(self, name: str) -> bool:
        tensor = self._named(name, "isShapeInferenceIO")
        return bool(tensor and tensor.is_shape)

    def get_tensor_bytes_per_component(self, name: str, /) -> int:
        tensor = self._named(name, "getTensorBytesPerComponent")
        return tensor.numpy.itemsize if tensor else -1

    def get_tensor_format(self, name: str, /) -> Any:
        return self._module.TensorFormat.LINEAR

    def get_tensor_format_desc(self, name: str, /) -> str:
        tensor = self._named(name, "getTensorFormatDesc")
        return f"Row major linear {tensor.dtype} format (kLINEAR)" if tensor else ""

    # By binding index; each profile has all bindings once more.
    def get_binding_name(self, index: int) -> str | None:
        tensor, profile = self._bound(index, "getBindingName")
        if tensor is None:
            return None
        return tensor.name if not profile else f"{tensor.name} [profile {profile}]"

    def get_binding_index(self, name: str) -> int:
        for index in range(self.num_bindings):
            if self.get_binding_name(index) == name:
                return index
        self._complain("getBindingIndex", f"Could not find binding name: {name}")
        return -1

    def binding_is_input(self, index: int | str, /) -> bool:
        tensor, _ = self._bound(index, "bindingIsInput")
        return bool(tensor and tensor.is_input)

    def get_binding_shape(self, index: int | str, /) -> Any:
        tensor, _ = self._bound(index, "getBindingDimensions")
        return self._module.Dims(tensor.shape) if tensor else self._module.Dims._invalid()

    def get_binding_dtype(self, index: int | str, /) -> Any:
        tensor, _ = self._bound(index, "getBindingDataType")
        return getattr(self._module.DataType, tensor.dtype if tensor else "FLOAT")

    def get_location(self, index: int | str, /) -> Any:
        tensor, _ = self._bound(index, "getLocation")
        places = self._module.TensorLocation
        return places.HOST if tensor and tensor.is_shape else places.DEVICE

    def is_shape_binding(self, binding: int) -> bool:
        tensor, _ = self._bound(binding, "isShapeBinding")
        return bool(tensor and tensor.is_shape)

    def is_execution_binding(self, binding: int) -> bool:
        tensor, _ = self._bound(binding, "isExecutionBinding")
        return bool(tensor and not tensor.is_shape)

    def get_profile_shape(self, profile_index: int, binding: int | str) -> List[Any]:
        tensor, _ = self._bound(binding, "getProfileDimensions")
        if tensor is None or not tensor.is_input or not 0 <= profile_index < len(self._profiles):
            self._complain("getProfileDimensions", f"binding {binding} is no input of profile {profile_index}")
            return [self._module.Dims._invalid()] * 3
        return [self._module.Dims(tuple(shape)) for shape in self._profiles[profile_index]["shapes"][tensor.name]]

    def get_profile_shape_input(self, profile_index: int, binding: int | str) -> List[List[int]]:
        tensor, _ = self._bound(binding, "getProfileShapeValues")
        if tensor is None or not tensor.is_shape:
            raise RuntimeError(f"Binding index {binding} does not correspond to an input shape tensor.")
        return [list(values) for values in self._profiles[profile_index]["values"][tensor.name]]

    def __len__(self) -> int:
        return int(self.num_bindings)

    def __getitem__(self, index: int | str, /) -> Any:
        if isinstance(index, str):
            return self.get_binding_index(index)
        return self.get_binding_name(index)

    def _named(self, name: str, method: str) -> Tensor | None:
        if name not in self._by_name:
            self._complain(method, f"Given invalid tensor name: {name}. Get valid tensor names with getIOTensorName()")
        return self._by_name.get(name)

    def _bound(self, index: Any, method: str) -> Tuple[Tensor | None, int]:
        index = self.get_binding_index(index) if isinstance(index, str) else index
        if not 0 <= index < self.num_bindings:
            self._complain(method, f"Given binding index {index} is out of range [0, {self.num_bindings})")
            return None, 0
        profile, place = divmod(int(index), len(self._tensors))
        return self._tensors[place], profile

    def _complain(self, method: str, text: str) -> None:
        usage_error(self._module, self._logger, f"ICudaEngine::{method}", text)
