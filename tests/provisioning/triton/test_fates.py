"""Exactly one fate for every field that Triton has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest
from google.protobuf import text_format

from edge_runtime.provisioning.triton.fates import LOST, NOT_NEEDED, field_fates, honoured, lost
from edge_runtime.provisioning.triton.importing import COMPLETE, ImportOptions, import_repository
from edge_runtime.wire.model_config import ModelConfig, empty_model_config, parse_model_config

REFUSED = ("batch_input", "batch_output", "sequence_batching", "ensemble_scheduling", "model_transaction_policy")
VALUES = {
    "name": "m",
    "platform": "onnxruntime_onnx",
    "backend": "onnxruntime",
    "default_model_filename": "model.onnx",
    "max_batch_size": 4,
    "input.name": "x",
    "input.data_type": 11,
    "input.dims": 4,
    "input.reshape.shape": 4,
    "output.name": "scores",
    "output.data_type": 11,
    "output.dims": 3,
    "optimization.execution_accelerators.gpu_execution_accelerator.name": "tensorrt",
}


def fill(message: Any, path: str = "") -> None:
    """Sets every field of a message, of a oneof the last; in maps one entry."""
    for field in message.DESCRIPTOR.fields:
        at = f"{path}.{field.name}" if path else field.name
        value = VALUES.get(at, "s" if field.type == field.TYPE_STRING else 1)
        kind = field.message_type
        if at in REFUSED:
            continue
        if kind is None:
            setattr(message, field.name, value) if not hasattr(getattr(message, field.name), "append") else getattr(
                message, field.name
            ).append(value)
        elif kind.GetOptions().map_entry:
            inner = kind.fields_by_name["value"].message_type
            entries, key = getattr(message, field.name), 1 if field.name == "priority_queue_policy" else "s"
            if inner is None:
                entries[key] = "s"
            else:
                fill(entries[key], at)
        else:
            target = getattr(message, field.name)
            fill(target.add() if hasattr(target, "add") else target, at)
            if hasattr(target, "SetInParent"):
                target.SetInParent()


def leaves(config: ModelConfig) -> Iterator[str]:
    for field in config.fields:
        if not any(other.path.startswith(f"{field.path}.") for other in config.fields):
            yield field.path


def test_every_field_of_triton_has_one_fate_of_its_own(tmp_path: Path, classifier: bytes) -> None:
    message = empty_model_config().message
    fill(message)
    text = text_format.MessageToString(message).encode()
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(classifier)
    (tmp_path / "m" / "config.pbtxt").write_bytes(text)
    (model,) = import_repository(tmp_path, (), ImportOptions()).models
    assert (model.outcome, model.reasons) == (COMPLETE, ())
    known = [one for one in model.fields if "not known" not in one.text or ".parameters" in one.path]
    assert list(model.fields) == known
    for leaf in leaves(parse_model_config(text, "c")):
        fates = [
            one for one in known if leaf == one.path or (leaf.startswith(one.path) and leaf[len(one.path)] in ".[")
        ]
        assert fates, leaf
    assert len({one.path for one in known}) == len(known)


FATES = {"input": honoured("a"), "input[1].format": lost("b"), "name": lost("c")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input { dims: 1 } input { format: FORMAT_NHWC }", {"input[0]": "a", "input[1]": "a", "input[1].format": "b"}),
        ('name: ""', {"name": "it is the default"}),
        ("optimization { }", {"optimization": "nothing is set in it"}),
        ("response_cache { enable: false }", {"response_cache": "it is the default"}),
        (
            "instance_group { rate_limiter { priority: 0 resources { name: 'a' } } }",
            {"instance_group[0].rate_limiter": "runs are ordered by priority and deadline; there are no resources"},
        ),
    ],
)
def test_the_innermost_word_holds(text: str, expected: dict[str, str]) -> None:
    found = field_fates(parse_model_config(text.encode(), "c"), FATES)
    assert {one.path: one.text for one in found if one.line} == expected


def test_what_is_not_written_comes_first_and_what_is_unknown_is_lost() -> None:
    found = field_fates(parse_model_config(b"max_batch_size: 1\nzork: 1", "c"), {"version": honoured("1")})
    assert [(one.path, one.line, one.outcome) for one in found] == [
        ("version", None, "honoured"),
        ("max_batch_size", 1, LOST),
        ("zork", 2, LOST),
    ]
    assert NOT_NEEDED not in {one.outcome for one in found}
