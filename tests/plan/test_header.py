from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import PlanCorruptError
from edge_runtime.plan.header import HEADER_NBYTES, PlanHeader, header_from_bytes


def ftrt(*version: int) -> bytes:
    """As TensorRT from 8.6 on begins its plans."""
    return b"ftrt" + bytes(20) + bytes(version) + bytes(64)


def ptrt(serialization: int) -> bytes:
    """As TensorRT before 8.6 begins its plans (made up: only the magic and the ninth byte are known)."""
    return b"ptrt" + bytes(4) + bytes([serialization]) + bytes(64)


def vtrt(mask: int = 0x7E, nbytes: int = 128) -> bytes:
    return struct.pack("<4sIQQ4B4sI", b"vtrt", 0, 2, nbytes, 1, 7, 1, 116, b"vtrt", mask) + bytes(92)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (ftrt(8, 6, 1, 6), PlanHeader("tensorrt", (8, 6, 1, 6))),
        (ftrt(10, 3, 0, 30), PlanHeader("tensorrt", (10, 3, 0, 30))),
        (ftrt(11, 4, 1, 0), PlanHeader("tensorrt", (11, 4, 1, 0))),
        (ptrt(205), PlanHeader("tensorrt", (8, 2))),
        (ptrt(213), PlanHeader("tensorrt", (8, 4))),
        (ptrt(232), PlanHeader("tensorrt", (8, 5))),
        (ptrt(199), PlanHeader("tensorrt", ())),
        (vtrt(0x0A), PlanHeader("tensorrt_rtx", (1, 7, 1, 116), 128, ((8, 0), (8, 9)))),
    ],
)
def test_library_and_version_stand_in_the_header(data: bytes, header: PlanHeader) -> None:
    assert header_from_bytes(data[:HEADER_NBYTES], "m.plan") == header
    assert header.library in header.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"\x08\x08\x12", "looks like ONNX"),
        (b"PK\x03\x04", "50 4b 03 04"),
        (ftrt(10, 3, 0, 30)[:27], "ends after 27 bytes"),
        (vtrt()[:63], "ends after 63 bytes"),
        (b"ftrt\x01" + bytes(60), "has 1 where 0 is expected"),
    ],
)
def test_what_is_no_plan_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(PlanCorruptError, match=rf"^m\.plan: .*{message}.*build the plan again$"):
        header_from_bytes(data, "m.plan")


@given(st.sampled_from([b"ftrt", b"ptrt", b"vtrt", b""]), st.binary(max_size=80))
def test_any_bytes_give_a_header_or_a_refusal(magic: bytes, rest: bytes) -> None:
    try:
        header = header_from_bytes(magic + rest, "m.plan")
    except PlanCorruptError:
        return
    assert header.library in ("tensorrt", "tensorrt_rtx")
    assert len(header.version) in (0, 2, 4)


@pytest.mark.tensorrt
def test_a_real_plan_says_what_made_it(rtx_plan: Callable[..., bytes], tmp_path: Path) -> None:
    plan = rtx_plan()
    header = header_from_bytes(plan[:HEADER_NBYTES], "m.plan")
    assert header.library == "tensorrt_rtx"
    assert header.nbytes == len(plan)
    assert header.capabilities is not None
    assert (8, 6) in header.capabilities
    only: Dict[str, Any] = {"compute_capabilities": ("8.9",)}
    assert header_from_bytes(rtx_plan(**only)[:HEADER_NBYTES], "m.plan").capabilities == ((8, 9),)
