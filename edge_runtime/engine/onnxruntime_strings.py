"""Slots on ONNX Runtime CPU for models that take or give strings, which lie in no memory that could be bound."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import InvalidRequestError
from edge_runtime.onnxruntime_api import run_feeds
from edge_runtime.tensors import DType, Shape, Signature, fill

Array = npt.NDArray[Any]


class OnnxRuntimeStringSlot:
    """Input memory that grows with the shapes that are bound; every run allocates its outputs.

    Elements of BYTES are `bytes` on both sides. ONNX's strings are UTF-8, so an input's must be.
    """

    def __init__(self, session: Any, signature: Signature, what: str) -> None:
        self._session = session
        self._what = what
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._output_names = [spec.name for spec in signature.outputs]
        self._views: Dict[str, Array] = {}

    def bind(self, name: str, shape: Shape) -> Array:
        """A writable view of this slot's memory for an input; `shape` lies inside the profile."""
        view = self._views.get(name)
        if view is None or view.shape != shape:
            view = self._views[name] = np.empty(shape, self._specs[name].dtype.numpy)
            fill(view, 0)
        return view

    def run(self) -> Dict[str, Array]:
        """Runs what is bound; the outputs are the caller's.

        Raises:
            InvalidRequestError: an element of an input isn't UTF-8.
            BackendError: ONNX Runtime failed; its text is in the message.
        """
        feeds = {name: self._fed(name, view) for name, view in self._views.items()}
        values = run_feeds(self._session, self._output_names, feeds, self._what)
        return {name: _encoded(value) for name, value in zip(self._output_names, values)}

    def close(self) -> None:
        """Drops the slot's memory."""
        self._session = None
        self._views.clear()

    def _fed(self, name: str, view: Array) -> Array:
        return texts_of(name, view) if self._specs[name].dtype is DType.BYTES else view


def texts_of(name: str, values: Array) -> Array:
    """The elements of an input as ONNX Runtime takes them, which are `str`.

    Raises:
        InvalidRequestError: one isn't UTF-8.
    """
    texts = np.empty(values.size, np.object_)
    for index, element in enumerate(values.ravel()):
        try:
            texts[index] = element.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"input {name!r}: element {index} of {values.size}: expected UTF-8, got byte "
                f"0x{element[error.start]:02x} at {error.start}; the model's strings are text"
            ) from None
    return texts.reshape(values.shape)


def _encoded(value: Array) -> Array:
    if value.dtype != DType.BYTES.numpy:
        return value
    elements = np.empty(value.size, np.object_)
    elements[:] = [text.encode() for text in value.ravel()]
    return elements.reshape(value.shape)
