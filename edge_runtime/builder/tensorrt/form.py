"""How a precision is asked for of the TensorRT that there is: one pure choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Tuple

from edge_runtime.errors import BackendUnavailableError, UnsupportedModelError
from edge_runtime.tensorrt_api import Capability

STRONG, WEAK, QDQ, IMPLICIT = "strong", "weak", "qdq", "implicit"


@dataclass(frozen=True)
class Wish:
    """What is wanted: `precision` is fp32, fp16 or int8, `rest` what an int8 plan computes in elsewhere.

    `int8` is `auto`, `qdq` or `implicit`; `is_dla` whether the deep learning accelerator runs it.
    """

    precision: str
    rest: str = "fp32"
    int8: str = "auto"
    is_dla: bool = False


@dataclass(frozen=True)
class Form:
    """A network as TensorRT gets it.

    `name` is `strong` (the ONNX carries the types), `weak` (flags), `qdq` (flags, and Q/DQ in the ONNX) or `implicit`
    (flags, and a calibration cache). `flags` are names of `BuilderFlag`.
    """

    name: str
    flags: Tuple[str, ...] = ()

    @property
    def is_typed(self) -> bool:
        """Whether the ONNX has FP16 in it where the plan is to compute in it."""
        return self.name == STRONG

    @property
    def has_qdq(self) -> bool:
        """Whether INT8 is in the ONNX as Q/DQ; else it comes from the cache."""
        return self.name in (STRONG, QDQ)


def form_of(wish: Wish, capabilities: AbstractSet[Capability]) -> Form:
    """The form for a wish: strongly typed where that exists, else flags with Q/DQ, else flags with a cache.

    TensorRT without tensors by name (8.2 to 8.4) reads Q/DQ badly or not at all, so it gets the cache. The deep
    learning accelerator knows neither strong types nor Q/DQ.

    Raises:
        BackendUnavailableError: this TensorRT has no such form.
        UnsupportedModelError: the deep learning accelerator has no such precision.
    """
    can_flag = Capability.PRECISION_FLAGS in capabilities
    can_type = not capabilities.isdisjoint({Capability.STRONG_TYPING, Capability.ALWAYS_STRONG})
    wants_cache = wish.precision == "int8" and (wish.int8 == "implicit" or wish.is_dla)
    if wish.is_dla and wish.precision == "fp32":
        raise UnsupportedModelError("the deep learning accelerator computes in fp16 and int8 only; build fp16 or int8")
    if can_type and not wants_cache and not wish.is_dla:
        return Form(STRONG)
    if not can_flag:
        reason = "the deep learning accelerator needs" if wish.is_dla else 'int8 = "implicit" needs'
        raise BackendUnavailableError(
            f"{reason} precision flags, which this TensorRT no longer has; leave it out of [backend]"
        )
    half = ("FP16",) if wish.precision == "fp16" or (wish.precision == "int8" and wish.rest == "fp16") else ()
    if wish.precision != "int8":
        return Form(WEAK, half)
    flags = ("INT8", *(half or (("FP16",) if wish.is_dla else ())))
    if wants_cache or (wish.int8 == "auto" and Capability.NAME_IO not in capabilities):
        if Capability.CALIBRATOR not in capabilities:
            raise BackendUnavailableError(
                "implicit INT8 needs a calibrator, which this TensorRT no longer has; use Q/DQ"
            )
        return Form(IMPLICIT, flags)
    return Form(QDQ, flags)
