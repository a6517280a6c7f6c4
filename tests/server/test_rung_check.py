from __future__ import annotations

from dataclasses import replace

import pytest

from edge_runtime.errors import ConfigError, LadderError
from edge_runtime.server.rung_check import check_rung
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

X = TensorSpec("x", DType.FP32, (-1, 3, 8, 8), ("batch", "", "", ""))
Y = TensorSpec("y", DType.FP32, (-1, 10), ("batch", ""))
OWN = Signature((X,), (Y,), {"x": ShapeRange((1, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8))})
WIDER = ShapeRange((1, 3, 8, 8), (2, 3, 8, 8), (8, 3, 8, 8))


@pytest.mark.parametrize("rung", [OWN, replace(OWN, profile={"x": WIDER}), replace(OWN, inputs=(replace(X, axes=()),))])
def test_a_rung_that_takes_and_gives_as_much_may_stand_in(rung: Signature) -> None:
    check_rung("m", OWN, "small", rung)


@pytest.mark.parametrize(
    ("rung", "problem"),
    [
        (replace(OWN, inputs=(replace(X, name="image"),)), "its inputs are image, expected x; name them alike"),
        (replace(OWN, outputs=(Y, replace(Y, name="z"))), "its outputs are y, z, expected y"),
        (replace(OWN, inputs=(replace(X, dtype=DType.FP16),)), "input 'x' is FP16, expected FP32; cast inside"),
        (replace(OWN, inputs=(replace(X, shape=(-1, 3, 4, 4)),)), r"is \[-1, 3, 4, 4\], expected \[-1, 3, 8, 8\]"),
        (replace(OWN, inputs=(replace(X, shape=(-1, 3, 4, 4)),)), "must resize inside: export it with a Resize"),
        (replace(OWN, outputs=(replace(Y, shape=(-1, 9)),)), r"output 'y' is \[-1, 9\], expected \[-1, 10\]"),
        (replace(OWN, profile={"x": ShapeRange.fixed((1, 3, 8, 8))}), r"expected all of 1x3x8x8\.\..*\[input\.x\]"),
    ],
)  # fmt: skip
def test_what_differs_is_named_with_what_to_do(rung: Signature, problem: str) -> None:
    with pytest.raises(LadderError, match=f"model 'm': rung 'small' of its ladder can't stand in for it: .*{problem}"):
        check_rung("m", OWN, "small", rung)
    assert issubclass(LadderError, ConfigError)
