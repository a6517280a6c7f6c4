"""The protobuf message classes, in a descriptor pool of their own.

Other packages bring an `inference` package of their own (Triton's client, for one); in protobuf's default pool the
two would collide.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from edge_runtime.wire.descriptors import DESCRIPTOR_SET

SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"


@lru_cache(maxsize=1)
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(DESCRIPTOR_SET))
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@lru_cache(maxsize=None)
def message(name: str) -> Any:
    """The class of a message, such as `inference.ModelInferRequest`."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


@lru_cache(maxsize=None)
def methods(service: str) -> tuple[tuple[str, Any, Any], ...]:
    """Name, request class and response class of every method of a service."""
    described = _pool().FindServiceByName(service)
    return tuple(
        (method.name, message(method.input_type.full_name), message(method.output_type.full_name))
        for method in described.methods
    )
