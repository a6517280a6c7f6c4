"""A builder's configuration from a request, each setting read back."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from edge_runtime.builder.tensorrt.network import Network
from edge_runtime.builder.tensorrt.request import BuildRequest
from edge_runtime.errors import BackendError, BackendUnavailableError, ConfigError
from edge_runtime.tensorrt_api import FULL, Capability, MessageLog, TensorRT, failure_text
from edge_runtime.tensors import DYNAMIC, Shape, ShapeRange


def make_configuration(
    library: TensorRT, builder: Any, network: Network, request: BuildRequest, log: MessageLog
) -> Any:
    """An `IBuilderConfig` with all of a request but its timing cache and its callbacks.

    Raises:
        BackendUnavailableError: this TensorRT can't do something that is asked for.
        BackendError: it refuses a setting.
    """
    config = builder.create_builder_config()
    for name in _flags(library, request):
        set_flag(library, config, name, log)
    _limit_memory(library, config, request)
    if request.optimization_level is not None and library.has(Capability.OPTIMIZATION_LEVEL):
        config.builder_optimization_level = request.optimization_level
    if library.has(Capability.DETAILED_PROFILING):
        config.profiling_verbosity = library.module.ProfilingVerbosity.DETAILED
    if library.has(Capability.PROFILE_SHARING):
        config.set_preview_feature(library.module.PreviewFeature.PROFILE_SHARING_0806, True)
    add_profile(builder, config, network, request.profile, log)
    if request.dla_core is not None:
        _use_dla(library, builder, config, request.dla_core, log)
    if request.hardware_compatibility != "none":
        _widen(library, config, request.hardware_compatibility)
    if request.compute_capabilities:
        _name_gpus(library, config, request.compute_capabilities)
    return config


def _flags(library: TensorRT, request: BuildRequest) -> List[str]:
    flags = list(request.flags)
    if request.float_layers or request.half_layers:
        flags.append("OBEY_PRECISION_CONSTRAINTS")
    if request.is_version_compatible:
        _require(library, Capability.VERSION_COMPATIBLE, "version_compatible")
        flags += ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"]  # no plan brings code of its own
    return flags


def _require(library: TensorRT, wanted: Capability, setting: str) -> None:
    if not library.has(wanted):
        raise BackendUnavailableError(
            f"[backend] {setting}: {library.text} has no {wanted.name} ({wanted.value}); leave it out"
        )


def set_flag(library: TensorRT, config: Any, name: str, log: MessageLog) -> None:
    """Sets a `BuilderFlag` by name. TensorRT only logs when it refuses one, so it is read back.

    Raises:
        BackendUnavailableError: there is no such flag.
        BackendError: it was refused.
    """
    flag = getattr(library.module.BuilderFlag, name, None)
    if flag is None:
        raise BackendUnavailableError(f"{library.text} has no builder flag {name}")
    config.set_flag(flag)
    if not config.get_flag(flag):
        raise BackendError(failure_text(f"{library.text} refuses builder flag {name}", log))


def _limit_memory(library: TensorRT, config: Any, request: BuildRequest) -> None:
    nbytes = request.workspace_nbytes
    if nbytes is None:
        return
    if library.has(Capability.MEMORY_POOLS):
        config.set_memory_pool_limit(library.module.MemoryPoolType.WORKSPACE, nbytes)
    elif library.has(Capability.WORKSPACE_SIZE):
        config.max_workspace_size = nbytes


def add_profile(builder: Any, config: Any, network: Network, profile: Mapping[str, ShapeRange], log: MessageLog) -> Any:
    """Adds an optimization profile where the network has a dynamic input; None where it hasn't.

    Raises:
        BackendError: TensorRT refuses it.
    """
    if not any(DYNAMIC in spec.shape for spec in network.inputs):
        return None
    added = make_profile(builder, profile)
    if config.add_optimization_profile(added) < 0:
        shapes = ", ".join(f"{name} {limits}" for name, limits in profile.items())
        raise BackendError(failure_text(f"TensorRT refuses the optimization profile {shapes}", log))
    return added


def make_profile(builder: Any, profile: Mapping[str, ShapeRange]) -> Any:
    """An optimization profile that isn't part of a configuration yet."""
    made = builder.create_optimization_profile()
    for name, limits in profile.items():
        made.set_shape(name, *map(_dims, (limits.minimum, limits.optimum, limits.maximum)))
    return made


def _dims(shape: Shape) -> Shape:
    return tuple(int(size) for size in shape)


def _use_dla(library: TensorRT, builder: Any, config: Any, core: int, log: MessageLog) -> None:
    """The deep learning accelerator for all layers that it can run, the GPU for the others."""
    library.require(Capability.DLA, f"[backend] device dla:{core}")
    cores = builder.num_DLA_cores
    if core >= cores:
        raise ConfigError(
            f"[backend] device dla:{core}: {library.text} finds {cores} deep learning accelerators; use gpu:0"
        )
    config.default_device_type = library.module.DeviceType.DLA
    config.DLA_core = core
    set_flag(library, config, "GPU_FALLBACK", log)


def _widen(library: TensorRT, config: Any, level: str) -> None:
    _require(library, Capability.HARDWARE_COMPATIBLE, f"hardware_compatibility {level!r}")
    levels = library.module.HardwareCompatibilityLevel
    found = getattr(levels, level.upper(), None)
    if found is None or library.name != FULL:
        valid = _levels(levels) if library.name == FULL else []
        remedy = f"expected one of {', '.join(valid)}" if valid else "leave it out"
        raise BackendUnavailableError(
            f"[backend] hardware_compatibility {level!r}: {library.text} has no such level; {remedy}"
        )
    config.hardware_compatibility_level = found


def _levels(levels: Any) -> List[str]:
    return [level for level in ("none", "ampere_plus", "same_compute_capability") if hasattr(levels, level.upper())]


def _name_gpus(library: TensorRT, config: Any, wanted: Sequence[str]) -> None:
    _require(library, Capability.COMPUTE_CAPABILITY, "compute_capabilities")
    known = {
        f"{name[2:-1]}.{name[-1]}": getattr(library.module.ComputeCapability, name)
        for name in dir(library.module.ComputeCapability)
        if name.startswith("SM") and name[2:].isdigit()
    }
    for name in wanted:
        if name not in known:
            valid = sorted(known, key=lambda text: tuple(map(int, text.split("."))))
            raise ConfigError(
                f"[backend] compute_capabilities {name!r}: {library.text} doesn't know it; expected {', '.join(valid)}"
            )
    config.num_compute_capabilities = len(wanted)
    for index, name in enumerate(wanted):
        config.set_compute_capability(known[name], index)
