"""Objects that are never destroyed."""

from __future__ import annotations

import ctypes
from typing import Any, Iterable


class Immortals(list):
    """A list whose items outlive the process: destroying TensorRT's objects in one with threads may hang or crash."""

    def append(self, item: Any) -> None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))
        super().append(item)

    def extend(self, items: Iterable[Any]) -> None:
        for item in items:
            self.append(item)
