"""Slots on ONNX Runtime CPU: one session for all, and I/O bound once to the slot's own memory."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.engine.weights import read_weights
from edge_runtime.errors import BackendError
from edge_runtime.onnxruntime_api import SessionOptions, load_session, translated
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensors import Shape, Signature, TensorSpec, element_count

Array = npt.NDArray[Any]
ShapeKey = Tuple[Shape, ...]

_MAX_LEARNT_SHAPES = 256


def slot_maker(
    plan: PlanFiles, signature: Signature, options: SessionOptions, what: str
) -> Callable[[], OnnxRuntimeSlot]:
    """A maker of slots that share one session over the plan of `what`.

    Raises:
        PlanCorruptError: the weights of the plan aren't what they should be.
        BackendError: ONNX Runtime can't load the plan, or it has other inputs or outputs than `signature`.
    """
    session = load_session(plan.model, options, what, read_weights(plan, what))
    found = [item.name for item in (*session.get_inputs(), *session.get_outputs())]
    expected = [spec.name for spec in (*signature.inputs, *signature.outputs)]
    if found != expected:
        raise BackendError(f"{what}: expected inputs and outputs {expected}, got {found}; build it again")
    return lambda: OnnxRuntimeSlot(session, signature, what)


class OnnxRuntimeSlot:
    """Input memory for the profile's largest shapes, and output memory as large as was needed so far.

    Output shapes are learnt: the first run at new input shapes lets ONNX Runtime allocate, later ones write
    into the slot. A model whose output shapes depend on its data is left to allocate every time.
    """

    def __init__(self, session: Any, signature: Signature, what: str) -> None:
        self._session = session
        self._signature = signature
        self._what = what
        self._binding = session.io_binding()
        self._memory = {
            spec.name: _allocated(spec, signature.profile[spec.name].maximum, what) for spec in signature.inputs
        }
        self._computed = [spec for spec in signature.outputs if spec.name not in self._memory]
        self._shapes: Dict[str, Shape] = {}
        self._learnt: Dict[ShapeKey, Dict[str, Shape]] = {}
        self._outputs: Dict[str, Array] = {}
        self._bound: ShapeKey | None = None
        self._has_fixed_shapes = True

    def bind(self, name: str, shape: Shape) -> Array:
        """A writable view of this slot's memory for an input; `shape` lies inside the profile."""
        self._shapes[name] = shape
        return self._memory[name][: element_count(shape)].reshape(shape)

    def run(self) -> Dict[str, Array]:
        """Runs what is bound; outputs hold until the next run.

        Raises:
            BackendError: ONNX Runtime failed; its text is in the message.
        """
        key = tuple(self._shapes[spec.name] for spec in self._signature.inputs)
        learnt = self._learnt.get(key) if self._has_fixed_shapes else None
        if learnt is None:
            return self._run_allocating(key)
        if self._bound != key:
            self._bind_inputs()
            self._bind_outputs(learnt)
            self._bound = key
        try:
            with translated(f"{self._what}: the run failed"):
                self._session.run_with_iobinding(self._binding)
        except BackendError:
            # Either the run is bad, which the second one shows, or output shapes depend on the data.
            outputs = self._run_allocating(key)
            self._has_fixed_shapes = False
            return outputs
        return self._outputs

    def close(self) -> None:
        """Drops the slot's memory."""
        self._binding = None
        self._session = None
        self._memory.clear()
        self._outputs = {}

    def _run_allocating(self, key: ShapeKey) -> Dict[str, Array]:
        self._bound = None
        self._bind_inputs()
        self._binding.clear_binding_outputs()
        for spec in self._computed:
            self._binding.bind_output(spec.name, "cpu")
        with translated(f"{self._what}: the run failed"):
            self._session.run_with_iobinding(self._binding)
            values = [value.numpy() for value in self._binding.get_outputs()]
        outputs = {**{spec.name: value for spec, value in zip(self._computed, values)}, **self._passed_on()}
        if len(self._learnt) >= _MAX_LEARNT_SHAPES:
            self._learnt.clear()
        self._learnt[key] = {name: value.shape for name, value in outputs.items()}
        return outputs

    def _bind_inputs(self) -> None:
        self._binding.clear_binding_inputs()
        for spec in self._signature.inputs:
            shape = self._shapes[spec.name]
            address = self._memory[spec.name].ctypes.data
            self._binding.bind_input(spec.name, "cpu", 0, spec.dtype.numpy.type, shape, address)

    def _bind_outputs(self, shapes: Dict[str, Shape]) -> None:
        self._binding.clear_binding_outputs()
        fitting = {spec.name: self._fitting(spec, shapes[spec.name]) for spec in self._computed}
        self._outputs = {**fitting, **self._passed_on()}
        for spec in self._computed:
            view = fitting[spec.name]
            self._binding.bind_output(spec.name, "cpu", 0, spec.dtype.numpy.type, view.shape, view.ctypes.data)

    def _passed_on(self) -> Dict[str, Array]:
        """Outputs that are inputs: ONNX Runtime doesn't write those that are bound."""
        names = {spec.name for spec in self._signature.outputs}
        return {name: self.bind(name, shape) for name, shape in self._shapes.items() if name in names}

    def _fitting(self, spec: TensorSpec, shape: Shape) -> Array:
        """A view of `shape`, on the memory that the output has if that is large enough."""
        memory = self._outputs[spec.name].base if spec.name in self._outputs else None
        if memory is None or memory.size < element_count(shape):
            memory = _allocated(spec, shape, self._what)
        return memory[: element_count(shape)].reshape(shape)


def _allocated(spec: TensorSpec, shape: Shape, what: str) -> Array:
    """Memory for a tensor.

    Raises:
        BackendError: there is less memory in this machine than it takes.
    """
    nbytes = element_count(shape) * spec.dtype.itemsize
    if nbytes > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise BackendError(f"{what}: tensor {spec.name!r} takes {nbytes:,} bytes; build it for smaller shapes")
    return np.empty(element_count(shape), spec.dtype.numpy)
