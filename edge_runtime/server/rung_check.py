"""Whether one model can stand in for another: it must take all that the other takes, and answer in the same form."""

from __future__ import annotations

from typing import Sequence

from edge_runtime.errors import LadderError
from edge_runtime.tensors import Signature, TensorSpec


def check_rung(model: str, own: Signature, rung: str, other: Signature) -> None:
    """Returns if requests for `model` can be answered by `rung`.

    Raises:
        LadderError: they can't; says in what the two differ, and what to do.
    """
    problem = (
        _difference("input", own.inputs, other.inputs)
        or _difference("output", own.outputs, other.outputs)
        or _narrower(own, other)
    )
    if problem:
        raise LadderError(f"model {model!r}: rung {rung!r} of its ladder can't stand in for it: {problem}")


def _difference(kind: str, own: Sequence[TensorSpec], other: Sequence[TensorSpec]) -> str:
    known = {spec.name: spec for spec in other}
    names = [spec.name for spec in own]
    if set(names) != set(known):
        return (
            f"its {kind}s are {', '.join(sorted(known)) or 'none'}, expected {', '.join(sorted(names)) or 'none'}; "
            f"name them alike when it is exported"
        )
    for spec in own:
        found = known[spec.name]
        if spec.dtype is not found.dtype:
            return (
                f"{kind} {spec.name!r} is {found.dtype.value}, expected {spec.dtype.value}; "
                "cast inside the model, or build both with one type of inputs and outputs ([precision] io)"
            )
        if spec.shape != found.shape:
            return (
                f"{kind} {spec.name!r} is {list(found.shape)}, expected {list(spec.shape)}; a smaller model that works "
                "on another size must resize inside: export it with a Resize of its inputs (and outputs) in the graph"
            )
    return ""


def _narrower(own: Signature, other: Signature) -> str:
    for spec in own.inputs:
        mine, theirs = own.profile[spec.name], other.profile[spec.name]
        if not (theirs.contains(mine.minimum) and theirs.contains(mine.maximum)):
            return (
                f"input {spec.name!r} takes {theirs}, expected all of {mine}; "
                f"build it with [input.{spec.name}] min and max like that"
            )
    return ""
