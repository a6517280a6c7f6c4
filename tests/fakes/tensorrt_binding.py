"""How a fake class becomes what pybind11 would make of it: only the names of its surface, arguments checked.

Methods state their argument types as annotations; `/` marks arguments that have no keyword, as in NVIDIA's overloads.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import operator
import sys
import traceback
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, Iterator, Tuple

import numpy as np


def enum_type(name: str, members: Dict[str, int]) -> type:
    """An enumeration as pybind11 makes them: not iterable, no item access, equal only to its own kind."""

    def setup(self: Any, value: int) -> None:
        object.__setattr__(self, "_value", operator.index(value))

    def name_of(self: Any) -> str:
        return next((name for name, value in members.items() if value == self._value), "???")

    def refuse(self: Any, name: str, value: Any) -> None:
        raise AttributeError(f"{name} can't be set")

    found = type(
        name,
        (),
        {
            "__module__": "tensorrt.tensorrt",
            "__slots__": ("_value",),
            "__init__": setup,
            "__int__": lambda self: self._value,
            "__index__": lambda self: self._value,
            "__hash__": lambda self: hash(self._value),
            "__eq__": lambda self, other: type(other) is type(self) and other._value == self._value,
            "__str__": lambda self: f"{name}.{name_of(self)}",
            "__repr__": lambda self: f"<{name}.{name_of(self)}: {self._value}>",
            "__setattr__": refuse,
            "name": property(name_of),
            "value": property(lambda self: self._value),
        },
    )
    for member, value in members.items():
        setattr(found, member, found(value))
    found.__members__ = {member: getattr(found, member) for member in members}
    return found


def bound_class(module: Any, implementation: type, names: Iterable[str]) -> type:
    """`implementation` with only those names."""
    title = implementation.__name__
    allowed = set(names)
    members: Dict[str, Any] = {}
    for base in reversed(implementation.__mro__[:-1]):  # one class, as in the bindings
        members.update(vars(base))
    missing = allowed - set(members)
    assert not missing, f"the fake of {title} lacks {missing}"
    namespace = {"__module__": "tensorrt.tensorrt", "_module": module}
    for name, value in members.items():
        if name in ("__dict__", "__weakref__", "__module__", "__annotations__", "__doc__"):
            continue
        if name in allowed or (name.startswith("_") and name not in ("__len__", "__getitem__")):
            is_older = name in allowed and module._major < 10 and f"_before_10_{name}" in members
            chosen = members[f"_before_10_{name}"] if is_older else value
            namespace[name] = _checked(module, name, chosen)
    is_base = getattr(implementation, "_is_callback", False)
    if not is_base:
        namespace["__setattr__"] = _set_known
        namespace.setdefault("__init__", _no_constructor)
    return (_CallbackType if is_base else type)(title, (), namespace)


def make(module: ModuleType, name: str, *arguments: Any) -> Any:
    """An object of a class that only TensorRT itself makes."""
    found = getattr(module, name)
    made = found.__new__(found)
    made._setup(*arguments)
    return made


def call_back(function: Callable[[], Any], what: str, otherwise: Any = None) -> Any:
    """What a callback returned; an exception in it is printed and swallowed, as the bindings do."""
    try:
        return function()
    except Exception:  # noqa: BLE001 - the bindings catch everything here
        sys.stderr.write(f"[ERROR] Exception caught in {what}(): {traceback.format_exc()}\n")
        return otherwise


class _CallbackType(type):
    """The type of classes that people derive from: their `__init__` must have been called."""

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        made = super().__call__(*arguments, **keywords)
        if not vars(made).get("_is_constructed"):
            base = cls.__mro__[-2].__name__
            raise TypeError(f"tensorrt.tensorrt.{base}.__init__() must be called when overriding __init__")
        return made


def _set_known(self: Any, name: str, value: Any) -> None:
    if not name.startswith("_") and not hasattr(type(self), name):
        raise AttributeError(f"'{type(self).__module__}.{type(self).__name__}' object has no attribute '{name}'")
    object.__setattr__(self, name, value)


def _no_constructor(self: Any, *arguments: Any, **keywords: Any) -> None:
    raise TypeError(f"tensorrt.tensorrt.{type(self).__name__}: No constructor defined!")


def _checked(module: ModuleType, name: str, value: Any) -> Any:
    """A public function or property whose arguments are checked against its annotations."""
    if isinstance(value, property):
        setter = value.fset and check_arguments(module, value.fset)
        return property(value.fget, setter, None, value.__doc__)
    if inspect.isfunction(value) and (not name.startswith("_") or name in ("__init__", "__getitem__")):
        return check_arguments(module, value)
    return value


def check_arguments(module: ModuleType, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, that raises TypeError for arguments which pybind11 wouldn't take."""
    signature = inspect.signature(function)
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values()):
        return function

    @functools.wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        try:
            bound = signature.bind(*arguments, **keywords)
        except TypeError:
            bound = None
        if bound is None or not all(
            matches(module, value, signature.parameters[name].annotation)
            for name, value in bound.arguments.items()
            if name != "self"
        ):
            shown = ", ".join([*map(repr, arguments[1:]), *(f"{name}={value!r}" for name, value in keywords.items())])
            raise TypeError(
                f"{function.__name__}(): incompatible function arguments. The following argument types are supported:\n"
                f"    1. {function.__name__}{signature}\n\nInvoked with: {shown}"
            )
        return function(*arguments, **keywords)

    return checked


def matches(module: ModuleType, value: Any, annotation: str) -> bool:
    """Whether a value is of an annotated type: the types named, or one of several with `|`."""
    return any(_is_of(module, value, kind.strip()) for kind in str(annotation).split("|"))


def _is_of(module: ModuleType, value: Any, kind: str) -> bool:
    if kind in _KINDS:
        return _KINDS[kind](value)
    wanted = getattr(module, kind, None)
    return isinstance(wanted, type) and isinstance(value, wanted)


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer))


def _is_dims(value: Any) -> bool:
    return isinstance(value, (tuple, list, Dims)) and all(_is_int(item) for item in value)


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


_KINDS: Dict[str, Callable[[Any], bool]] = {
    "int": _is_int,
    "size": lambda value: _is_int(value) and value >= 0,  # an unsigned integer
    "float": lambda value: isinstance(value, (int, float, np.number)),
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, (bool, np.bool_)),
    "None": lambda value: value is None,
    "object": lambda value: True,
    "iterable": lambda value: isinstance(value, Iterable),
    "Dims": _is_dims,
    "ints": lambda value: isinstance(value, (tuple, list)) and all(_is_int(item) for item in value),
    "buffer": _is_buffer,
}


class Dims:
    """A shape: a sequence, equal to tuples and lists, and, as in the bindings, not comparable to its own kind."""

    MAX_DIMS = 8

    def __init__(self, shape: Iterable[int] = ()) -> None:
        if not isinstance(shape, (tuple, list, Dims)) or not all(_is_int(item) for item in shape):
            raise TypeError(f"__init__(): incompatible constructor arguments. Invoked with: {shape!r}")
        if len(shape) > self.MAX_DIMS:
            raise ValueError(f"Input length {len(shape)}. Max expected length is {self.MAX_DIMS}")
        self._items: Tuple[int, ...] = tuple(int(item) for item in shape)

    @classmethod
    def _invalid(cls) -> Dims:
        """What TensorRT gives for a shape that there isn't: its length is -1, which Python refuses."""
        made = cls()
        made._is_invalid = True
        return made

    _is_invalid = False

    def __len__(self) -> int:
        return -1 if self._is_invalid else len(self._items)

    def __iter__(self) -> Iterator[int]:
        len(self)
        return iter(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, list)):
            raise TypeError(f"__eq__(): incompatible function arguments. Invoked with: {self!r}, {other!r}")
        return self._items == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._items)


class HostMemory:
    """What an `IHostMemory` has beside its bytes."""

    nbytes = property(lambda self: self._nbytes)
    dtype = property(lambda self: self._dtype)

    def __init__(self, *arguments: Any) -> None:
        raise TypeError("tensorrt.tensorrt.IHostMemory: No constructor defined!")

    def __len__(self) -> int:
        raise TypeError("object of type 'tensorrt.tensorrt.IHostMemory' has no len()")

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("'tensorrt.tensorrt.IHostMemory' object is not subscriptable")

    def __iter__(self) -> Any:
        raise TypeError("'tensorrt.tensorrt.IHostMemory' object is not iterable")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"'tensorrt.tensorrt.IHostMemory' object has no attribute '{name}'")


def host_memory(module: Any, content: bytes) -> Any:
    """An `IHostMemory` with that content: it has the buffer protocol, `nbytes` and `dtype`, and no length."""
    size = len(content)
    members = {"_length_": size, "_type_": ctypes.c_ubyte, "_nbytes": size, "_dtype": module.DataType.INT8}
    kind = type("IHostMemory", (module.IHostMemory, ctypes.Array), members)
    made = kind.__new__(kind)
    ctypes.memmove(ctypes.addressof(made), content, size)
    return made
