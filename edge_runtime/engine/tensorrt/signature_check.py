"""Whether an engine's tensors are those that the plan's records say it has."""

from __future__ import annotations

from typing import Dict, List, Sequence

from edge_runtime.engine.tensorrt.tensor_io import EngineTensor
from edge_runtime.errors import BackendError
from edge_runtime.tensors import DYNAMIC, DType, Signature, TensorSpec

# What a TensorRT without the wider type computes with in its place: the slot converts, and checks that nothing is lost.
NARROWED = {DType.INT64: DType.INT32, DType.FP64: DType.FP32}

_REMEDY = "build it again: edge-runtime build"


def engine_outputs(signature: Signature) -> List[TensorSpec]:
    """The outputs that the engine computes; one that is an input is handed on."""
    inputs = {spec.name for spec in signature.inputs}
    return [spec for spec in signature.outputs if spec.name not in inputs]


def check_tensors(tensors: Sequence[EngineTensor], signature: Signature, what: str) -> None:
    """Raises BackendError unless names, data types and ranks agree, and the profiles hold the signature's shapes."""
    found = {(tensor.is_input, tensor.name): tensor for tensor in tensors}
    expected = {
        **{(True, spec.name): spec for spec in signature.inputs},
        **{(False, spec.name): spec for spec in engine_outputs(signature)},
    }
    for key, spec in expected.items():
        kind = "input" if key[0] else "output"
        tensor = found.get(key)
        if tensor is None:
            names = ", ".join(name for is_input, name in found if is_input == key[0]) or "none"
            raise BackendError(f"{what}: expected {kind} {spec.name!r}, got {kind}s: {names}; {_REMEDY}")
        _check_tensor(tensor, spec, f"{what}: {kind} {spec.name!r}")
    for is_input, name in found:
        if (is_input, name) not in expected:
            kind = "input" if is_input else "output"
            raise BackendError(f"{what}: the engine has an {kind} {name!r} that its signature hasn't; {_REMEDY}")
    _check_profiles(found, signature, what)


def _check_tensor(tensor: EngineTensor, spec: TensorSpec, what: str) -> None:
    if tensor.dtype not in (spec.dtype, NARROWED.get(spec.dtype)):
        raise BackendError(f"{what}: expected data type {spec.dtype.value}, got {tensor.dtype.value}; {_REMEDY}")
    if len(tensor.shape) != len(spec.shape):
        raise BackendError(f"{what}: expected rank {len(spec.shape)}, got shape {list(tensor.shape)}; {_REMEDY}")
    if any(DYNAMIC not in (size, wanted) and size != wanted for size, wanted in zip(tensor.shape, spec.shape)):
        raise BackendError(f"{what}: expected shape {list(spec.shape)}, got {list(tensor.shape)}; {_REMEDY}")


def _check_profiles(found: Dict[tuple[bool, str], EngineTensor], signature: Signature, what: str) -> None:
    for name, limits in signature.profile.items():
        tensor = found[True, name]
        for shape in (limits.minimum, limits.maximum):
            if tensor.profiles:
                is_fit = any(profile.contains(shape) for profile in tensor.profiles)
                got = ", ".join(map(str, tensor.profiles))
            else:
                is_fit = all(size in (DYNAMIC, wanted) for size, wanted in zip(tensor.shape, shape))
                got = str(list(tensor.shape))
            if not is_fit:
                raise BackendError(
                    f"{what}: input {name!r}: expected a profile with {list(shape)}, got {got}; {_REMEDY}"
                )


def whole_profiles(tensors: Sequence[EngineTensor], signature: Signature) -> List[int]:
    """The optimization profiles that hold every shape of the signature, for all inputs."""
    inputs = [tensor for tensor in tensors if tensor.is_input and tensor.profiles]
    count = min((len(tensor.profiles) for tensor in inputs), default=0)
    return [
        index
        for index in range(count)
        if all(
            tensor.profiles[index].contains(shape)
            for tensor in inputs
            for shape in (signature.profile[tensor.name].minimum, signature.profile[tensor.name].maximum)
        )
    ]
