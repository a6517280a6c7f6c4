"""The plans of the fakes: the header that TensorRT writes, then what was asked for as JSON, then the ONNX model."""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, Sequence

from fakes.tensorrt_surfaces import VERSIONS

_HEADER_NBYTES = 32
_SERIALIZATIONS = {"8.2": 205, "8.4": 213, "8.5": 232}  # TensorRT#3073
_COUNT = struct.Struct("<QQ")


def plan_bytes(surface: str, record: Dict[str, Any], model: bytes) -> bytes:
    """A plan: `ptrt` and a serialization number below 8.6, from there `ftrt` and the version at byte 24."""
    text = json.dumps(record).encode()
    size = _HEADER_NBYTES + _COUNT.size + len(text) + len(model)
    header = bytearray(_HEADER_NBYTES)
    header[16:24] = struct.pack("<Q", size)
    if surface in _SERIALIZATIONS:
        header[:4] = b"ptrt"
        header[8] = _SERIALIZATIONS[surface]
    else:
        header[:4] = b"ftrt"
        header[24:28] = bytes(int(part) % 256 for part in (VERSIONS[surface] + ".0.0").split(".")[:4])
    return bytes(header) + _COUNT.pack(len(text), len(model)) + text + model


def plan_record(plan: bytes) -> Dict[str, Any]:
    """What was asked for when a plan was built; see `Builder` in fakes/tensorrt_builder.py for its keys."""
    plan = bytes(plan)
    length, _ = _COUNT.unpack_from(plan, _HEADER_NBYTES)
    start = _HEADER_NBYTES + _COUNT.size
    return dict(json.loads(plan[start : start + length]))


def plan_model(plan: bytes) -> bytes:
    """The ONNX model that a plan was built of."""
    plan = bytes(plan)
    length, model_length = _COUNT.unpack_from(plan, _HEADER_NBYTES)
    start = _HEADER_NBYTES + _COUNT.size + length
    return plan[start : start + model_length]


def problem_of(plan: bytes, surface: str, compute_capability: Sequence[int]) -> str:
    """Why TensorRT wouldn't take a plan, in its words; empty where it would."""
    own = plan_bytes(surface, {}, b"")
    if len(plan) < _HEADER_NBYTES or plan[:4] != own[:4]:
        return "Serialization assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed."
    if plan[8] != own[8]:
        return (
            "Serialization assertion stdVersionRead == serializationVersion failed.Version tag does not match. "
            f"Note: Current Version: {own[8]}, Serialized Engine Version: {plan[8]}"
        )
    if plan[24:28] != own[24:28]:
        return (
            "The engine plan file is not compatible with this version of TensorRT, expecting library version "
            f"{_dotted(own[24:28])} got {_dotted(plan[24:28])}, please rebuild."
        )
    if struct.unpack_from("<Q", plan, 16)[0] != len(plan):
        return "Serialization assertion plan->header.size == blobSize failed."
    built_for = plan_record(plan)["compute_capability"]
    if list(built_for) == list(compute_capability):
        return ""
    return (
        "The engine plan file is generated on an incompatible device, expecting compute "
        f"{_dotted(compute_capability)} got compute {_dotted(built_for)}, please rebuild."
    )


def _dotted(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))
