from __future__ import annotations

from typing import Any, FrozenSet

import pytest

from edge_runtime.builder.tensorrt.form import IMPLICIT, QDQ, STRONG, WEAK, Form, Wish, form_of
from edge_runtime.errors import BackendUnavailableError, UnsupportedModelError
from edge_runtime.tensorrt_api import Capability

C = Capability

FLAGS = frozenset({C.PRECISION_FLAGS, C.CALIBRATOR})
NANO = FLAGS | {C.INDEX_IO, C.EXPLICIT_BATCH}  # 8.2 to 8.4
JETPACK_5 = NANO | {C.NAME_IO}  # 8.5, 8.6
JETPACK_6 = FLAGS | {C.NAME_IO, C.STRONG_TYPING}  # 10
NEWEST = frozenset({C.NAME_IO, C.STRONG_TYPING, C.ALWAYS_STRONG})  # 11, RTX


@pytest.mark.parametrize(
    ("capabilities", "wish", "form"),
    [
        (NANO, Wish("fp32"), Form(WEAK)),
        (NANO, Wish("fp16"), Form(WEAK, ("FP16",))),
        (NANO, Wish("int8"), Form(IMPLICIT, ("INT8",))),
        (NANO, Wish("int8", int8="qdq"), Form(QDQ, ("INT8",))),
        (JETPACK_5, Wish("int8"), Form(QDQ, ("INT8",))),
        (JETPACK_5, Wish("int8", rest="fp16"), Form(QDQ, ("INT8", "FP16"))),
        (JETPACK_5, Wish("int8", int8="implicit"), Form(IMPLICIT, ("INT8",))),
        (JETPACK_6, Wish("fp32"), Form(STRONG)),
        (JETPACK_6, Wish("int8", rest="fp16"), Form(STRONG)),
        (JETPACK_6, Wish("int8", int8="implicit"), Form(IMPLICIT, ("INT8",))),
        (JETPACK_6, Wish("int8", is_dla=True), Form(IMPLICIT, ("INT8", "FP16"))),
        (JETPACK_6, Wish("fp16", is_dla=True), Form(WEAK, ("FP16",))),
        (NEWEST, Wish("fp16"), Form(STRONG)),
        (NEWEST, Wish("int8"), Form(STRONG)),
    ],
)
def test_the_form_follows_from_what_tensorrt_can_do(
    capabilities: FrozenSet[Capability], wish: Wish, form: Form
) -> None:
    assert form_of(wish, capabilities) == form


@pytest.mark.parametrize(
    ("capabilities", "wish", "error", "message"),
    [
        (
            NEWEST,
            Wish("int8", int8="implicit"),
            BackendUnavailableError,
            "precision flags, which this TensorRT no longer has",
        ),
        (NEWEST, Wish("fp16", is_dla=True), BackendUnavailableError, "accelerator needs"),
        (JETPACK_5, Wish("fp32", is_dla=True), UnsupportedModelError, "fp16 and int8 only"),
        (frozenset({C.PRECISION_FLAGS}), Wish("int8"), BackendUnavailableError, "needs a calibrator"),
    ],
)
def test_what_tensorrt_cannot_do_is_said(capabilities: Any, wish: Wish, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        form_of(wish, capabilities)


def test_a_form_knows_what_its_onnx_carries() -> None:
    assert Form(STRONG).is_typed
    assert Form(STRONG).has_qdq
    assert Form(QDQ).has_qdq
    assert not Form(IMPLICIT).has_qdq
