"""Slots on ONNX Runtime CPU: one session for all, and I/O bound once to the slot's own memory."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.engine.chain import Links
from edge_runtime.engine.onnxruntime_strings import OnnxRuntimeStringSlot
from edge_runtime.engine.user_memory import input_memory, is_read_in_place, is_written_in_place, snapshot, unfit_output
from edge_runtime.engine.weights import read_weights
from edge_runtime.errors import BackendError
from edge_runtime.onnxruntime_api import (
    SessionOptions,
    bound_type,
    load_session,
    output_array,
    run_bound,
    translated,
    trimming_options,
)
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensors import DType, Shape, Signature, TensorSpec, element_count

Array = npt.NDArray[Any]
ShapeKey = Tuple[Shape, ...]
Learnt = Dict[ShapeKey, Dict[str, Shape]]
Allocate = Callable[[int, "np.dtype[Any]"], Array]  # memory for so many elements, as `np.empty` gives it

_MAX_LEARNT_SHAPES = 256


def slot_maker(
    plan: PlanFiles, signature: Signature, options: SessionOptions, what: str, allocate: Allocate = np.empty
) -> SlotMaker:
    """A maker of slots that share one session over the plan of `what`; their tensors lie in what `allocate` gives.

    Raises:
        PlanCorruptError: the weights of the plan aren't what they should be.
        BackendError: ONNX Runtime can't load the plan, or it has other inputs or outputs than `signature`.
    """
    session = load_session(plan.model, options, what, read_weights(plan, what))
    found = [item.name for item in (*session.get_inputs(), *session.get_outputs())]
    expected = [spec.name for spec in (*signature.inputs, *signature.outputs)]
    if found != expected:
        raise BackendError(f"{what}: expected inputs and outputs {expected}, got {found}; build it again")
    _check_types(signature, what)
    return SlotMaker(session, signature, what, allocate)


def _check_types(signature: Signature, what: str) -> None:
    """Raises BackendError for data types that this ONNX Runtime can't be given, or not with each other."""
    specs = (*signature.inputs, *signature.outputs)
    for spec in specs:
        bound_type(spec.dtype, f"{what}: tensor {spec.name!r}")
    if {DType.BYTES, DType.BF16} <= {spec.dtype for spec in specs}:
        raise BackendError(f"{what}: it has tensors of BYTES and of BF16, not both of which run here; cast the latter")


class SlotMaker:
    """Makes slots that share a session: called for one with memory of its own, or `over` its user's memory."""

    shares_warmth = True  # what one slot's runs made ready, all slots have

    def __init__(self, session: Any, signature: Signature, what: str, allocate: Allocate) -> None:
        self._session = session
        self._signature = signature
        self._what = what
        self._allocate = allocate
        self._learnt: Learnt = {}
        self._has_strings = any(spec.dtype is DType.BYTES for spec in (*signature.inputs, *signature.outputs))

    def __call__(self) -> OnnxRuntimeSlot | OnnxRuntimeStringSlot:
        """A slot with memory of its own; output shapes that one slot has learnt, all know."""
        if self._has_strings:
            return OnnxRuntimeStringSlot(self._session, self._signature, self._what)
        slot = OnnxRuntimeSlot(self._session, self._signature, self._what, {}, self._allocate)
        slot.learnt = self._learnt
        return slot

    def can_share(self, name: str) -> bool:  # noqa: ARG002  (of a protocol)
        """Whether a tensor can lie in memory that slots of other sessions use too: each can."""
        return True

    def linked(self, links: Links) -> OnnxRuntimeSlot:
        """A slot of one part of a chain: what it makes for later parts lies where they read it."""
        specs = {spec.name: spec for spec in self._signature.outputs}
        lends = {
            name: _allocated(specs[name], shape, self._what, self._allocate) for name, shape in links.lends.items()
        }
        return OnnxRuntimeSlot(self._session, self._signature, self._what, {**links.lent, **lends}, self._allocate)

    def over(self, memory: Mapping[str, Array], pool: Any) -> OnnxRuntimeSlotOver | None:  # noqa: ARG002
        """A slot over memory that the caller keeps until the slot is closed; see `Engine.slot_over`."""
        if self._has_strings:
            return None
        return OnnxRuntimeSlotOver(self._session, self._signature, memory, self._what)


class OnnxRuntimeSlot:
    """Input memory for the profile's largest shapes, and output memory as large as was needed so far.

    Output shapes are learnt: the first run at new input shapes lets ONNX Runtime allocate, later ones write
    into the slot. A model whose output shapes depend on its data is left to allocate every time.
    """

    def __init__(
        self,
        session: Any,
        signature: Signature,
        what: str,
        shared: Mapping[str, Array],
        allocate: Allocate,
    ) -> None:
        self._session = session
        self._signature = signature
        self._what = what
        self._allocate = allocate
        self._binding = session.io_binding()
        self._trimming = trimming_options()
        self._shared = dict(shared)
        self._memory = {
            spec.name: self._shared[spec.name]
            if spec.name in self._shared
            else _allocated(spec, signature.profile[spec.name].maximum, what, allocate)
            for spec in signature.inputs
        }
        self._input_names = [spec.name for spec in signature.inputs]
        self._computed = [spec for spec in signature.outputs if spec.name not in self._memory]
        self._shapes: Dict[str, Shape] = {}
        self._views: Dict[str, Array] = {}
        self.learnt: Learnt = {}
        self._outputs: Dict[str, Array] = {}
        self._bound: ShapeKey | None = None
        self._has_fixed_shapes = True

    def bind(self, name: str, shape: Shape) -> Array:
        """A writable view of this slot's memory for an input; `shape` lies inside the profile."""
        self._shapes[name] = shape
        view = self._views.get(name)
        if view is None or view.shape != shape:
            view = self._views[name] = self._memory[name][: element_count(shape)].reshape(shape)
        return view

    def memory_of(self, name: str) -> Array:
        """The whole of the memory in which an input, or an output that is shared, lies."""
        return self._shared[name] if name in self._shared else self._memory[name]

    def run(self) -> Dict[str, Array]:
        """Runs what is bound; outputs hold until the next run.

        Raises:
            BackendError: ONNX Runtime failed; its text is in the message.
        """
        key = tuple([self._shapes[name] for name in self._input_names])
        learnt = self.learnt.get(key) if self._has_fixed_shapes else None
        if learnt is None:
            return self._run_allocating(key)
        if self._bound != key:
            self._bind_inputs()
            self._bind_outputs(learnt)
            self._bound = key
        try:
            run_bound(self._session, self._binding, self._what)
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
        self._views.clear()
        self._shared.clear()
        self._outputs = {}

    def _run_allocating(self, key: ShapeKey) -> Dict[str, Array]:
        self._bound = None
        self._bind_inputs()
        self._binding.clear_binding_outputs()
        for spec in self._computed:
            self._binding.bind_output(spec.name, "cpu")
        # What shapes need that may never come again, as those of a warm-up, isn't kept.
        run_bound(self._session, self._binding, self._what, self._trimming if key not in self.learnt else None)
        with translated(f"{self._what}: the outputs can't be had"):
            values = [output_array(value) for value in self._binding.get_outputs()]
        made = {spec.name: self._placed(spec.name, value) for spec, value in zip(self._computed, values)}
        outputs = {**made, **self._passed_on()}
        if len(self.learnt) >= _MAX_LEARNT_SHAPES:
            self.learnt.clear()
        self.learnt[key] = {name: value.shape for name, value in outputs.items()}
        return outputs

    def _placed(self, name: str, value: Array) -> Array:
        """An output where slots of other sessions read it, if it is shared."""
        if name not in self._shared:
            return value
        view = self._in_shared(name, value.shape)
        np.copyto(view, value)
        return view

    def _in_shared(self, name: str, shape: Shape) -> Array:
        memory = self._shared[name]
        if memory.size < element_count(shape):
            raise BackendError(
                f"{self._what}: tensor {name!r} of shape {list(shape)} is larger than at the largest inputs; "
                "build it again, cut elsewhere"
            )
        return memory[: element_count(shape)].reshape(shape)

    def _bind_inputs(self) -> None:
        self._binding.clear_binding_inputs()
        for spec in self._signature.inputs:
            shape = self._shapes[spec.name]
            address = self._memory[spec.name].ctypes.data
            self._binding.bind_input(spec.name, "cpu", 0, bound_type(spec.dtype, self._what), shape, address)

    def _bind_outputs(self, shapes: Dict[str, Shape]) -> None:
        self._binding.clear_binding_outputs()
        fitting = {spec.name: self._fitting(spec, shapes[spec.name]) for spec in self._computed}
        self._outputs = {**fitting, **self._passed_on()}
        for spec in self._computed:
            view = fitting[spec.name]
            kind = bound_type(spec.dtype, self._what)
            self._binding.bind_output(spec.name, "cpu", 0, kind, view.shape, view.ctypes.data)

    def _passed_on(self) -> Dict[str, Array]:
        """Outputs that are inputs: ONNX Runtime doesn't write those that are bound."""
        names = {spec.name for spec in self._signature.outputs}
        return {name: self.bind(name, shape) for name, shape in self._shapes.items() if name in names}

    def _fitting(self, spec: TensorSpec, shape: Shape) -> Array:
        """A view of `shape`, on the memory that the output has if that is large enough."""
        if spec.name in self._shared:
            return self._in_shared(spec.name, shape)
        memory = self._outputs[spec.name].base if spec.name in self._outputs else None
        if memory is None or memory.size < element_count(shape):
            memory = _allocated(spec, shape, self._what, self._allocate)
        return memory[: element_count(shape)].reshape(shape)


class OnnxRuntimeSlotOver:
    """A slot whose inputs and outputs lie in its user's memory, bound once.

    Someone else may write into that memory during a run. So only large inputs of plain values are read where they lie;
    small ones, and those that may be indices or sizes, are copied before the run, after which they don't change.
    Outputs that may be indices are copied after it: other layers may read them.
    """

    def __init__(self, session: Any, signature: Signature, memory: Mapping[str, Array], what: str) -> None:
        self._session = session
        self._signature = signature
        self._what = what
        self._memory = dict(memory)
        self._outputs = {spec.name: memory[spec.name] for spec in signature.outputs}
        self._copies: List[Tuple[Array, Array]] = []
        self._made = {spec.name: self._output_memory(spec) for spec in self._computed()}
        self._binding = session.io_binding()
        for spec in signature.inputs:
            bound = self._bound_input(spec, memory[spec.name])
            kind = bound_type(spec.dtype, what)
            self._binding.bind_input(spec.name, "cpu", 0, kind, bound.shape, bound.ctypes.data)
        self._bind_outputs()

    def bind(self, name: str, shape: Shape) -> Array:
        """The memory of an input, which has just the one shape.

        Raises:
            InvalidRequestError: it is another one.
        """
        return input_memory(self._memory, name, shape)

    def run(self) -> Dict[str, Array]:
        """Runs what lies in the memory; the outputs are the memory's own arrays.

        Raises:
            BackendError: ONNX Runtime failed; its text is in the message.
            InvalidRequestError: the outputs' shapes depend on the data, and now aren't those of the memory.
        """
        for private, given in self._copies:
            snapshot(private, given)
        try:
            run_bound(self._session, self._binding, self._what)
        except BackendError:
            self._check_output_shapes()
            raise
        for name, made in self._made.items():
            if made is not self._outputs[name]:
                np.copyto(self._outputs[name], made)
        return self._outputs

    def close(self) -> None:
        """Lets the memory go."""
        self._binding = None
        self._session = None
        self._memory.clear()
        self._outputs = {}
        self._made.clear()
        self._copies.clear()

    def _computed(self) -> List[TensorSpec]:
        """The outputs that aren't inputs: ONNX Runtime doesn't write those that are bound."""
        names = {spec.name for spec in self._signature.inputs}
        return [spec for spec in self._signature.outputs if spec.name not in names]

    def _bound_input(self, spec: TensorSpec, given: Array) -> Array:
        """What ONNX Runtime reads for an input: the memory itself where its values may change during a run."""
        if is_read_in_place(spec.dtype, given.nbytes):
            return given
        private = np.zeros(given.shape, spec.dtype.numpy)
        self._copies.append((private, given))
        return private

    def _output_memory(self, spec: TensorSpec) -> Array:
        """Where ONNX Runtime writes an output: the memory itself where its values may change during a run."""
        given = self._memory[spec.name]
        return given if is_written_in_place(spec.dtype) else np.zeros(given.shape, spec.dtype.numpy)

    def _bind_outputs(self) -> None:
        self._binding.clear_binding_outputs()
        for spec in self._computed():
            output = self._made[spec.name]
            kind = bound_type(spec.dtype, self._what)
            self._binding.bind_output(spec.name, "cpu", 0, kind, output.shape, output.ctypes.data)

    def _check_output_shapes(self) -> None:
        """Raises InvalidRequestError if a run fails only for want of memory of the right shapes."""
        self._binding.clear_binding_outputs()
        for spec in self._computed():
            self._binding.bind_output(spec.name, "cpu")
        try:
            run_bound(self._session, self._binding, self._what)
            with translated(f"{self._what}: the outputs can't be had"):
                found = [tuple(value.shape()) for value in self._binding.get_outputs()]
        finally:
            self._bind_outputs()
        for spec, shape in zip(self._computed(), found):
            expected = self._memory[spec.name].shape
            if shape != expected:
                raise unfit_output(spec.name, shape, expected)


def _allocated(spec: TensorSpec, shape: Shape, what: str, allocate: Allocate) -> Array:
    """Memory for a tensor.

    Raises:
        BackendError: there is less memory in this machine than it takes.
    """
    nbytes = element_count(shape) * spec.dtype.itemsize
    if nbytes > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise BackendError(f"{what}: tensor {spec.name!r} takes {nbytes:,} bytes; build it for smaller shapes")
    return allocate(element_count(shape), spec.dtype.numpy)
