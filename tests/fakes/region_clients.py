"""Clients that share memory of their own with a server: objects in /dev/shm, and raw requests over each protocol."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, Iterator

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

SERVICE = "/inference.GRPCInferenceService/"


class SharedObject:
    """A made-up client's object of so many bytes; it is gone at the end of the block."""

    def __init__(self, nbytes: int, mode: int = 0o600) -> None:
        self.key = f"edge_test_{os.getpid()}_{secrets.token_hex(6)}"
        self.path = f"/dev/shm/{self.key}"
        self._descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        os.ftruncate(self._descriptor, nbytes)

    def __enter__(self) -> SharedObject:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self.unlink()

    def put(self, array: np.ndarray, offset: int = 0) -> None:
        assert os.pwrite(self._descriptor, array.tobytes(), offset) == array.nbytes

    def get(self, count: int, offset: int = 0, dtype: Any = np.float32) -> list:
        return np.frombuffer(os.pread(self._descriptor, count * np.dtype(dtype).itemsize, offset), dtype).tolist()

    def shrink(self, nbytes: int) -> None:
        os.ftruncate(self._descriptor, nbytes)

    def unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self.path).unlink()


def place(region: str, nbytes: Any, offset: Any = None) -> dict[str, Any]:
    """The parameters of a tensor that lies in a region; None leaves one out."""
    found = {"shared_memory_region": region, "shared_memory_byte_size": nbytes, "shared_memory_offset": offset}
    return {name: value for name, value in found.items() if value is not None}


class HttpRegionClient:
    """Asks over HTTP, on connections that are kept or aren't; gives status and answer (of an error: its text)."""

    def __init__(self, server: Any, http_message: Any, is_kept: bool) -> None:
        self._server, self._message = server, http_message
        self._headers = {} if is_kept else {"Connection": "close"}

    def ask(self, method: str, path: str, content: Any = None, headers: Any = None) -> tuple[Any, Any]:
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        asked = self._message(method, path, body, {**self._headers, **(headers or {})})
        answer = self._server.exchange(asked)[0]
        head_nbytes = int(answer.headers.get("inference-header-content-length", len(answer.body)))
        found = json.loads(answer.body[:head_nbytes])
        return answer.status, found["error"] if answer.status != 200 else found

    def register(self, name: str, key: str, nbytes: Any, offset: Any = 0) -> tuple[Any, Any]:
        content = {"key": key, "offset": offset, "byte_size": nbytes}
        return self.ask("POST", f"/v2/systemsharedmemory/region/{name}/register", content)

    def unregister(self, name: str = "") -> tuple[Any, Any]:
        return self.ask("POST", f"/v2/systemsharedmemory{'/region/' if name else ''}{name}/unregister")

    def status(self, name: str = "") -> tuple[Any, Any]:
        status, found = self.ask("GET", f"/v2/systemsharedmemory{'/region/' if name else ''}{name}/status")
        return status, {each.pop("name"): each for each in found} if status == 200 else found

    def infer(self, model: str, inputs: list, outputs: list) -> tuple[Any, Any]:
        """`inputs` are (name, datatype, shape, parameters, bytes or None), `outputs` (name, parameters)."""
        described = []
        for name, datatype, shape, parameters, data in inputs:
            size = {} if data is None else {"binary_data_size": len(data)}
            described.append({"name": name, "datatype": datatype, "shape": shape, "parameters": {**parameters, **size}})
        wanted = [{"name": name, "parameters": {"binary_data": not given, **given}} for name, given in outputs]
        text = json.dumps({"inputs": described, "outputs": wanted}).encode()
        tail = b"".join(data for *_, data in inputs if data is not None)
        headers = {"Inference-Header-Content-Length": str(len(text))}
        status, found = self.ask("POST", f"/v2/models/{model}/infer", text + tail, headers)
        return status, found["outputs"] if status == 200 else found


class GrpcRegionClient:
    """Asks over gRPC; gives the code's name and the answer (of an error: its text)."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def ask(self, method: str, request: Any, response_class: Any) -> tuple[Any, Any]:
        call = self._channel.unary_unary(SERVICE + method, response_deserializer=response_class.FromString)
        try:
            return "OK", call(request.SerializeToString(), timeout=20)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def register(self, name: str, key: str, nbytes: Any, offset: Any = 0) -> tuple[Any, Any]:
        request = service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=key, byte_size=nbytes, offset=offset)
        return self.ask("SystemSharedMemoryRegister", request, service_pb2.SystemSharedMemoryRegisterResponse)

    def unregister(self, name: str = "") -> tuple[Any, Any]:
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        return self.ask("SystemSharedMemoryUnregister", request, service_pb2.SystemSharedMemoryUnregisterResponse)

    def status(self, name: str = "") -> tuple[Any, Any]:
        request = service_pb2.SystemSharedMemoryStatusRequest(name=name)
        code, found = self.ask("SystemSharedMemoryStatus", request, service_pb2.SystemSharedMemoryStatusResponse)
        if code != "OK":
            return code, found
        return code, {
            name: {"key": each.key, "offset": each.offset, "byte_size": each.byte_size}
            for name, each in found.regions.items()
        }

    def infer(self, model: str, inputs: list, outputs: list) -> tuple[Any, Any]:
        """`inputs` are (name, datatype, shape, parameters, bytes or None), `outputs` (name, parameters)."""
        request = service_pb2.ModelInferRequest(model_name=model)
        for name, datatype, shape, parameters, data in inputs:
            _set(request.inputs.add(name=name, datatype=datatype, shape=shape).parameters, parameters)
            if data is not None:
                request.raw_input_contents.append(data)
        for name, parameters in outputs:
            _set(request.outputs.add(name=name).parameters, parameters)
        code, found = self.ask("ModelInfer", request, service_pb2.ModelInferResponse)
        if code != "OK":
            return code, found
        assert len(found.raw_output_contents) == len(found.outputs)
        return code, [
            {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in found.outputs
        ]


def _set(parameters: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        kind = "string_param" if isinstance(value, str) else "int64_param" if value < 2**63 else "uint64_param"
        setattr(parameters[name], kind, value)


@contextlib.contextmanager
def region_client(server: Any, http_message: Any, way: str) -> Iterator[Any]:
    """A client on TCP: `http`, `http kept` (whose heads the server knows again) or `grpc`."""
    if way != "grpc":
        yield HttpRegionClient(server, http_message, way == "http kept")
        return
    with grpc.insecure_channel(server.bound.grpc) as channel:
        yield GrpcRegionClient(channel)
