from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

from edge_runtime.wire.messages import HEALTH_SERVICE, SERVICE, message, methods


def test_our_messages_live_beside_those_of_tritonclient() -> None:
    ours = message("inference.ModelInferRequest")(model_name="m", raw_input_contents=[b"12"])
    theirs = service_pb2.ModelInferRequest.FromString(ours.SerializeToString())
    assert (theirs.model_name, list(theirs.raw_input_contents)) == ("m", [b"12"])
    assert type(ours) is not type(theirs)


def fields(descriptor) -> dict[str, tuple]:
    """Name to number, type and label of every field, nested messages and enumerations included."""
    file = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(file)
    found = {f"{file.name}.{f.name}": (f.number, f.type, f.label, f.type_name) for f in file.field}
    for nested in descriptor.nested_types:
        found.update({f"{file.name}.{key}": value for key, value in fields(nested).items()})
    for enum in descriptor.enum_types:
        found.update({f"{enum.name}.{value.name}": (value.number,) for value in enum.values})
    return found


@pytest.mark.parametrize(
    "name", sorted({kind.DESCRIPTOR.name for _, *pair in methods(SERVICE) for kind in pair} | {"ModelConfig"})
)
def test_field_numbers_and_types_are_tritons(name: str) -> None:
    theirs = getattr(service_pb2, name, None) or getattr(model_config_pb2, name)
    ours = fields(message(f"inference.{name}").DESCRIPTOR)
    assert ours.items() <= fields(theirs.DESCRIPTOR).items()


@pytest.mark.parametrize("name", ["ModelInput", "ModelOutput", "ModelInstanceGroup", "InferStatistics"])
def test_messages_inside_others_have_tritons_numbers(name: str) -> None:
    theirs = getattr(service_pb2, name, None) or getattr(model_config_pb2, name)
    assert fields(message(f"inference.{name}").DESCRIPTOR).items() <= fields(theirs.DESCRIPTOR).items()


def test_the_health_service_has_check() -> None:
    assert [name for name, _, _ in methods(HEALTH_SERVICE)] == ["Check"]
    assert message("grpc.health.v1.HealthCheckResponse").ServingStatus.Value("SERVING") == 1
