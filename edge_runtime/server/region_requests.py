"""What clients ask of shared-memory regions, over HTTP and over gRPC."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, Tuple

from google.protobuf.json_format import ParseDict

from edge_runtime.errors import InvalidRequestError
from edge_runtime.server.client_regions import ClientRegion
from edge_runtime.server.region_access import RegionAccess
from edge_runtime.wire.inference import clipped
from edge_runtime.wire.json_text import parsed_object
from edge_runtime.wire.messages import message

HttpHandler = Callable[[str, bytes], Any]

_PATH = r"v2/systemsharedmemory"
_NAMED = rf"{_PATH}/region/(?P<region>[^/]+)"


def http_handlers(access: RegionAccess) -> Tuple[Tuple[str, str, HttpHandler], ...]:
    """Method, pattern of the path, and what gives the answer's content for a region's name ("": none) and the body."""
    status, register, unregister = (partial(each, access) for each in (_status, _register, _unregister))
    return (
        ("GET", rf"(?:{_PATH}|{_NAMED})/status", status),
        ("POST", rf"{_NAMED}/register", register),
        ("POST", rf"(?:{_PATH}|{_NAMED})/unregister", unregister),
    )


def grpc_methods(access: RegionAccess) -> Dict[str, Callable[[Any], Any]]:
    """What answers each method, from message to message."""

    def status(request: Any) -> Any:
        regions = {region.name: _described(region) for region in access.table.listed(request.name)}
        return ParseDict({"regions": regions}, message("inference.SystemSharedMemoryStatusResponse")())

    def register(request: Any) -> Any:
        access.table.register(request.name, request.key, request.offset, request.byte_size)
        return message("inference.SystemSharedMemoryRegisterResponse")()

    def unregister(request: Any) -> Any:
        _unregister(access, request.name, b"")
        return message("inference.SystemSharedMemoryUnregisterResponse")()

    return {
        "SystemSharedMemoryStatus": status,
        "SystemSharedMemoryRegister": register,
        "SystemSharedMemoryUnregister": unregister,
    }


def _status(access: RegionAccess, name: str, _: bytes) -> List[Dict[str, Any]]:
    return [_described(region) for region in access.table.listed(name)]


def _register(access: RegionAccess, name: str, body: bytes) -> Dict[str, Any]:
    table, told = access.table, parsed_object(body)
    key = told.get("key")
    if not isinstance(key, str):
        raise InvalidRequestError(f"key: expected the name of a shared-memory object, got {clipped(key)}")
    table.register(name, key, _nbytes(told.get("offset", 0), "offset"), _nbytes(told.get("byte_size"), "byte_size"))
    return {}


def _nbytes(value: Any, field: str) -> int:
    if type(value) is int and value >= 0:
        return value
    raise InvalidRequestError(f"{field}: expected a number of bytes, got {clipped(value)}")


def _unregister(access: RegionAccess, name: str, _: bytes) -> Dict[str, Any]:
    if name:
        access.table.unregister(name)
    else:
        access.table.close()
    return {}


def _described(region: ClientRegion) -> Dict[str, Any]:
    return {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.nbytes}
