"""A model narrowed to the shapes that it will be fed."""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Set, Tuple

from edge_runtime.errors import ConfigError, nearest
from edge_runtime.graph.axes import set_shape, unused
from edge_runtime.graph.inference import refresh_outputs
from edge_runtime.graph.model import OnnxModel
from edge_runtime.tensors import DYNAMIC, ShapeRange, TensorSpec

Sizes = Tuple[int, int, int]  # min, opt, max of one axis


def with_shapes(
    model: OnnxModel, ranges: Mapping[str, ShapeRange], axes: Mapping[str, Sequence[str]] | None = None
) -> OnnxModel:
    """The model with each input limited to its range, and the outputs' shapes inferred again.

    Axes of one size become fixed; inputs that share an axis name keep sharing it only where their ranges agree. `axes`
    gives inputs other names of their axes than the model has.

    Raises:
        ConfigError: an input has no range, a name is no input, a range doesn't fit its input's shape, or axes of one
            given name have different ranges.
    """
    _check_ranges(model, ranges)
    renamed = axes or {}
    _check_axes(ranges, renamed)
    proto = model.copied_proto()
    names: Dict[Tuple[str, Sizes], str] = {}
    given: Set[str] = set()
    taken = {name for spec in model.inputs for name in spec.axes}
    for value, spec in zip(proto.graph.input, model.inputs):
        limits = ranges[spec.name]
        wished = renamed.get(spec.name, spec.axes)
        dims: List[int | str] = []
        for axis, sizes in enumerate(zip(limits.minimum, limits.optimum, limits.maximum)):
            key = (wished[axis], sizes)
            if sizes[0] == sizes[2]:
                dims.append(sizes[0])
                continue
            if key not in names:
                names[key] = unused(f"{spec.name}_dim{axis}", taken) if wished[axis] in given else wished[axis]
                given.add(wished[axis])
            dims.append(names[key])
        set_shape(value, dims)
    refresh_outputs(proto, model.name)
    return model.with_proto(proto)


def _check_axes(ranges: Mapping[str, ShapeRange], axes: Mapping[str, Sequence[str]]) -> None:
    sizes_of: Dict[str, Tuple[Sizes, str]] = {}
    for name, names in axes.items():
        limits = ranges[name]
        for axis, sizes in zip(names, zip(limits.minimum, limits.optimum, limits.maximum)):
            expected, owner = sizes_of.setdefault(axis, (sizes, name))
            if sizes != expected:
                raise ConfigError(
                    f"axis {axis!r} has the sizes {_sizes_text(sizes)} on input {name!r}, but {_sizes_text(expected)} "
                    f"on {owner!r}; equal names mean equal sizes, so name them differently"
                )


def _sizes_text(sizes: Sizes) -> str:
    return "..".join(str(size) for size in dict.fromkeys(sizes))


def _check_ranges(model: OnnxModel, ranges: Mapping[str, ShapeRange]) -> None:
    specs = {spec.name: spec for spec in model.inputs}
    for name in ranges:
        if name not in specs:
            raise ConfigError(f"{model.name}: shapes are given for {name!r}, which is no input: {nearest(name, specs)}")
    for name, spec in specs.items():
        if name not in ranges:
            raise ConfigError(
                f"{model.name}: input {name!r} of shape {_text(spec)} has no shapes; give min, opt and max"
            )
        if not _fits(spec, ranges[name]):
            raise ConfigError(f"{model.name}: input {name!r} expects shape {_text(spec)}, got {ranges[name]}")


def _fits(spec: TensorSpec, limits: ShapeRange) -> bool:
    return len(spec.shape) == len(limits.minimum) and all(
        size in (DYNAMIC, low) and (size == DYNAMIC or low == high)
        for size, low, high in zip(spec.shape, limits.minimum, limits.maximum)
    )


def _text(spec: TensorSpec) -> str:
    return "x".join("?" if size == DYNAMIC else str(size) for size in spec.shape) or "scalar"
