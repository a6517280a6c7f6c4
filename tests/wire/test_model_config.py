"""Triton's config.pbtxt as it is read; the configurations here are made up, and some of them broken on purpose."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2

from edge_runtime.errors import ConfigError
from edge_runtime.wire.model_config import LIMIT_NBYTES, empty_model_config, parse_model_config


def fields(descriptor) -> dict[str, tuple]:
    """Name to number, type, label and oneof of every field, nested messages and enumerations included."""
    file = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(file)
    prefix = f".{descriptor.file.package}."
    oneofs = [one.name for one in file.oneof_decl]
    found = {
        f"{file.name}.{f.name}": (
            f.number,
            f.type,
            f.label,
            f.type_name.replace(prefix, ""),
            oneofs[f.oneof_index] if f.HasField("oneof_index") else "",
        )
        for f in file.field
    }
    for nested in descriptor.nested_types:
        found.update({f"{file.name}.{key}": value for key, value in fields(nested).items()})
    for enum in descriptor.enum_types:
        found.update({f"{enum.name}.{value.name}": (value.number,) for value in enum.values})
    return found


@pytest.mark.parametrize("name", sorted(model_config_pb2.DESCRIPTOR.message_types_by_name))
def test_every_message_has_all_of_tritons_fields(name: str) -> None:
    ours = empty_model_config().message.DESCRIPTOR.file.message_types_by_name[name]
    theirs = model_config_pb2.DESCRIPTOR.message_types_by_name[name]
    assert fields(theirs).items() <= fields(ours).items()


def test_fields_have_their_place_and_what_stands_there() -> None:
    text = b"""max_batch_size: 0  # none
input [ { name: "a" dims: [ 3,
  -1 ] },
  { name: 'b' 'c' data_type: TYPE_INVALID } ]
parameters { key: "k" value: { string_value: "v" } }
dynamic_batching { }
"""
    config = parse_model_config(text, "c")
    assert {field.path: (field.line, field.text) for field in config.fields if not field.is_message} == {
        "max_batch_size": (1, "0"),
        "input[0].name": (2, '"a"'),
        "input[0].dims": (2, "3, -1"),
        "input[1].name": (4, "'b''c'"),
        "input[1].data_type": (4, "TYPE_INVALID"),
        'parameters["k"].string_value': (5, '"v"'),
    }
    assert {f.path for f in config.fields if f.is_default} == {"max_batch_size", "input[1].data_type"}
    assert (config.line("dynamic_batching"), config.line("input"), config.line("platform")) == (6, 2, None)
    assert (config.message.input[1].name, list(config.message.input[0].dims)) == ("bc", [3, -1])


def test_fields_that_triton_does_not_have_are_named_and_the_rest_is_read() -> None:
    text = b'name: "m"\nzork [ { a: 1 }, { b < c: "x" > } ]\ninput { foo:\n  "1" name: "a" }\n[a.b]: 3\nbackend: "x"'
    config = parse_model_config(text, "c")
    assert [(field.path, field.line) for field in config.unknown] == [("zork", 2), ("input[0].foo", 3), ("[a.b]", 5)]
    assert (config.message.name, config.message.input[0].name, config.message.backend) == ("m", "a", "x")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"x" * (LIMIT_NBYTES + 1), "c: over 262,144 bytes"),
        (b"x" * 20000, "c: a line of over 16,384 characters"),
        (b'\nname: "\xff"', "c:2: not UTF-8 text"),
        (b"\ninput { data_type: TYPE_FP8 }", "c:2: .* no value named TYPE_FP8"),
        (b"input {\n name: 'a'", "c:2: "),
        (b"x [\n1", "c:2: Unexpected end"),
        (b"x {\n" * 5000, "c: nested too deeply"),
        (b"name: 3", "c:1: Expected string"),
        (b"max_batch_size: 99999999999", "c:1: Value out of range"),
        (b'name: "\\xff"', "c:1: "),
        (b"name: 'a'\nname: 'b'", "c:2: .*multiple"),
        (b"\x00", "c:1: "),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_line(data: bytes, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_model_config(data, "c")
