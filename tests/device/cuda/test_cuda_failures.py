from __future__ import annotations

import pytest

from edge_runtime.device.cuda.failures import STICKY, UNAVAILABLE, cuda_error, error_class
from edge_runtime.errors import BackendError, BackendUnavailableError, DeviceLostError


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ((700, 702, 710, 714, 715, 716, 717, 718, 719), DeviceLostError),
        ((34, 35, 100, 803), BackendUnavailableError),
        ((1, 2, 209, 600, 701, 712, 720, 900, 999), BackendError),
    ],
)
def test_a_number_tells_whether_to_go_on(codes: tuple[int, ...], kind: type) -> None:
    assert {error_class(code) for code in codes} == {kind}
    assert not STICKY & UNAVAILABLE


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(2, "smaller shapes"), (3, "spawn, not fork"), (35, "nvidia-smi"), (100, "NVIDIA GPU"), (999, "restart")],
)
def test_frequent_errors_come_with_a_remedy(code: int, remedy: str) -> None:
    text = str(cuda_error("cudaMalloc", code, "cudaErrorSomething", "its text"))
    assert text.startswith(f"cudaMalloc: cudaErrorSomething ({code}): its text; ")
    assert remedy in text


def test_an_error_without_a_text_or_a_remedy_is_still_named() -> None:
    assert str(cuda_error("cudaMalloc", 77, "cudaErrorOdd", "")) == "cudaMalloc: cudaErrorOdd (77)"
