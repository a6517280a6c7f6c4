"""The fake execution context: ONNX Runtime runs on the stream of a FakeCuda, when the stream gets there.

Layer times that a profiler hears are made up: nothing here is a measurement.
"""

# ruff: noqa: F821 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np
from fakes.tensorrt_context_state import ALIGNMENT
from fakes.tensorrt_launch import Enqueueing, Launch


class IExecutionContext(Enqueueing):
    # By name.
    def set_input_shape(self, name: str, shape: Dims) -> bool:
        tensor = self._engine._by_name.get(name)
        if tensor is None or not tensor.is_input:
            return self._complain("setInputShape", f"Given invalid tensor name: {name}: it is no input")
        return self._set_shape(tensor, tuple(int(size) for size in shape), "setInputShape")

    def get_tensor_shape(self, name: str) -> Any:
        if name not in self._engine._by_name:
            self._complain("getTensorShape", f"Given invalid tensor name: {name}")
            return self._module.Dims._invalid()
        return self._dims_now(self._engine._by_name[name])

    def get_tensor_strides(self, name: str) -> Any:
        shape = self._shape_now(self._engine._by_name[name])
        return self._module.Dims(tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))))

    def set_tensor_address(self, name: str, memory: size) -> bool:
        tensor = self._engine._by_name.get(name)
        if tensor is None:
            return self._complain("setTensorAddress", f"Given invalid tensor name: {name}")
        if tensor.is_shape:
            self._values[name] = self._host_values(tensor, memory)
        elif memory % ALIGNMENT:
            return self._complain(
                "setTensorAddress", f"address {memory:#x} of {name} isn't aligned to {ALIGNMENT} bytes"
            )
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: IOutputAllocator | None) -> bool:
        tensor = self._engine._by_name.get(name)
        if tensor is None or tensor.is_input:
            return self._complain("setOutputAllocator", f"{name} is no output")
        self._allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self._allocators.get(name)

    def get_max_output_size(self, name: str) -> int:
        tensor = self._engine._by_name.get(name)
        if tensor is None or tensor.is_input or self._missing():
            return 0 if tensor else -1
        shape = self._shape_now(tensor)
        most = max((int(np.prod(self._shapes_of_inputs()[t.name])) for t in self._inputs()), default=1)
        return int(np.prod([size if size >= 0 else most for size in shape], dtype=np.int64)) * tensor.numpy.itemsize

    def infer_shapes(self) -> List[str]:
        return self._missing()

    def execute_async_v3(self, stream_handle: size) -> bool:
        for tensor in self._engine._tensors:
            if tensor.name not in self._addresses and self._allocators.get(tensor.name) is None:
                what = "input" if tensor.is_input else "output"
                text = f"Neither address or allocator is set for {what} tensor {tensor.name}."
                return self._complain(
                    "enqueueV3", f"{text} Call setTensorAddress or setOutputAllocator before enqueue."
                )
        return self._enqueue(dict(self._addresses), int(stream_handle), "enqueueV3")

    # By binding index, counted through all profiles.
    def set_binding_shape(self, binding: int, shape: Dims) -> bool:
        tensor = self._own_binding(binding, "setBindingDimensions")
        if tensor is None or not tensor.is_input:
            return False
        return self._set_shape(tensor, tuple(int(size) for size in shape), "setBindingDimensions")

    def get_binding_shape(self, binding: int) -> Any:
        tensor = self._own_binding(binding, "getBindingDimensions")
        return self._dims_now(tensor) if tensor else self._module.Dims._invalid()

    def get_strides(self, binding: int) -> Any:
        tensor = self._own_binding(binding, "getStrides")
        return self.get_tensor_strides(tensor.name) if tensor else self._module.Dims()

    def set_shape_input(self, binding: int, shape: ints) -> bool:
        tensor = self._own_binding(binding, "setInputShapeBinding")
        if tensor is None or not tensor.is_shape:
            return False
        self._values[tensor.name] = tuple(int(value) for value in shape)
        self._warm = None
        return True

    def get_shape(self, binding: int) -> List[int]:
        tensor = self._own_binding(binding, "getShapeBinding")
        if tensor is None or tensor.name not in self._values:
            raise RuntimeError("Error in get shape bindings.")
        return list(self._values[tensor.name])

    def execute_async_v2(self, bindings: ints, stream_handle: size, input_consumed: object = None) -> bool:
        addresses = self._from_bindings(bindings, "enqueueV2")
        return addresses is not None and self._enqueue(addresses, int(stream_handle), "enqueueV2")

    def execute_v2(self, bindings: ints) -> bool:
        addresses = self._from_bindings(bindings, "executeV2")
        if addresses is None or not self._is_ready("executeV2"):
            return False
        self._module._cuda.synchronize_device()
        Launch(self, addresses, self._all_shapes()).run()
        if self._profiler is not None and self._emits:
            self._report()
        return True

    def _own_binding(self, binding: int, method: str) -> Any:
        tensor, profile = self._engine._bound(binding, method)
        if tensor is not None and profile != self._profile and len(self._engine._profiles) > 1:
            self._complain(method, f"binding {binding} belongs to profile {profile}, and {self._profile} is chosen")
            return None
        return tensor

    def _from_bindings(self, bindings: Sequence[int], method: str) -> Dict[str, int] | None:
        engine = self._engine
        count = len(engine._tensors) * (len(engine._profiles) if hasattr(engine, "num_bindings") else 1)
        assert len(bindings) >= count, f"segfault: {method} reads {count} bindings and was given {len(bindings)}"
        start = max(self._profile, 0) * len(engine._tensors) if hasattr(engine, "num_bindings") else 0
        own = bindings[start : start + len(engine._tensors)]
        missing = [t.name for t, address in zip(engine._tensors, own) if not address and not t.is_shape]
        if missing:
            self._complain(method, f"the binding of {', '.join(missing)} is null")
            return None
        return {tensor.name: int(address) for tensor, address in zip(engine._tensors, own)}
