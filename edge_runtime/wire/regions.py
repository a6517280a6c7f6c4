"""Tensors that lie in memory which a client shares: where that is, by their parameters.

Answers say nothing of it: Triton's client in C++ can't read an HTTP answer that does.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence, Tuple

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import TensorSpec
from edge_runtime.wire.elements import on_the_wire
from edge_runtime.wire.inference import (
    Array,
    RegionPlace,
    Regions,
    WantedOutput,
    array_from_bytes,
    clipped,
)

_REGION, _NBYTES, _OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
REGION_PARAMETERS = frozenset({_REGION, _NBYTES, _OFFSET})


def place_of(parameters: Mapping[str, Any], what: str) -> RegionPlace | None:
    """Where a tensor lies by its parameters; None if they name no region.

    Raises:
        InvalidRequestError: the region's name or size is missing, or one of them has another type or is below 0.
    """
    if not REGION_PARAMETERS.intersection(parameters):
        return None
    name = parameters.get(_REGION)
    if not isinstance(name, str):
        raise InvalidRequestError(f"{what}: expected {_REGION} to be a region's name, got {clipped(name)}")
    offset = _whole(parameters.get(_OFFSET, 0), _OFFSET, what)
    return RegionPlace(name, offset, _whole(parameters.get(_NBYTES), _NBYTES, what))


def _whole(value: object, name: str, what: str) -> int:
    if type(value) is int and value >= 0:
        return value
    raise InvalidRequestError(f"{what}: expected {name} to be a number of bytes, got {clipped(value)}")


def input_in_region(place: RegionPlace, spec: TensorSpec, shape: Tuple[int, ...], regions: Regions | None) -> Array:
    """A copy of an input that lies in a region.

    Raises:
        RequestError: there is no such region, or it is smaller, or there are no regions at all.
    """
    if regions is None:
        raise _not_supported(f"input {spec.name!r}")
    return array_from_bytes(regions.read(place), spec, shape)


def hold_outputs(wanted: Sequence[WantedOutput], regions: Regions | None) -> None:
    """Sees to it that the regions into which outputs go are there when they are written.

    Raises:
        RequestError: there is no such region, or it is smaller, or there are no regions at all.
    """
    for output in wanted:
        if output.place is not None:
            if regions is None:
                raise _not_supported(f"output {output.name!r}")
            regions.hold(output.place)


def write_outputs(outputs: Mapping[str, Array], wanted: Sequence[WantedOutput], regions: Regions | None) -> None:
    """Writes the outputs that go into regions; nothing, unless every one of them fits.

    Raises:
        RequestError: one doesn't fit, or a region has become smaller.
    """
    pieces = []
    for output in wanted:
        if output.place is None:
            continue
        array = on_the_wire(outputs[output.name])
        if array.nbytes > output.place.nbytes:
            raise InvalidRequestError(
                f"output {output.name!r}: its {array.nbytes} bytes don't fit into {_NBYTES} {output.place.nbytes}"
            )
        pieces.append((output.place, array))
    if pieces:
        assert regions is not None
        regions.write(pieces)


def _not_supported(what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{what}: parameter {_REGION} belongs to an extension that isn't supported")
