"""The Open Inference Protocol over HTTP, tensors as binary both ways."""

from __future__ import annotations

import json
from typing import Any, Dict, List
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from edge_runtime.client.address import Address
from edge_runtime.client.answers import Origin, array_from_bytes, array_from_list, json_object, tensor_rows, tensor_spec
from edge_runtime.client.connections import HttpAnswer, HttpConnections, HttpRequest
from edge_runtime.client.request import InferRequest
from edge_runtime.errors import RemoteError, ServerUnavailableError
from edge_runtime.wire.http_infer import HEAD_LENGTH

Array = npt.NDArray[Any]

_NOT_NOW = (400, 404, 503)


class HttpTransport:
    """A server's HTTP listener."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._server = str(address)
        self._connections = HttpConnections(address, timeout_s)

    def is_live(self) -> bool:
        """Whether the server says that it is alive."""
        return self._says("/v2/health/live", "live")

    def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one model of it, says that it is ready."""
        path = "/v2/health/ready" if model is None else f"{_model_path(model)}/ready"
        return self._says(path, "ready")

    def metadata(self, model: str | None) -> Dict[str, Any]:
        """What the server says of itself, or of one model."""
        answer = self._exchange(HttpRequest("GET", "/v2" if model is None else _model_path(model)))
        origin = self._origin(answer)
        content = json_object(answer.body, origin)
        for key in ("inputs", "outputs") if model is not None else ():
            tensor_rows(content, key, origin)
        return content

    def infer(self, request: InferRequest) -> Dict[str, Array]:
        """The outputs, as arrays that the caller owns."""
        head = _request_head(request)
        pieces = [head, *(tensor.data.data for tensor in request.inputs)]
        headers = {"Content-Type": "application/octet-stream", HEAD_LENGTH: str(len(head))}
        path = f"{_model_path(request.model, request.version)}/infer"
        answer = self._exchange(HttpRequest("POST", path, pieces, headers))
        outputs = _outputs(answer, self._origin(answer))
        missing = [name for name in request.outputs if name not in outputs]
        if missing:
            raise self._origin(answer).broken(f"output {missing[0]!r} was asked for and is missing")
        return outputs

    def close(self) -> None:
        """Closes the connections; idempotent."""
        self._connections.close()

    def _exchange(self, request: HttpRequest) -> HttpAnswer:
        answer = self._connections.exchange(request)
        if answer.status != 200:
            raise self._refusal(request, answer)
        return answer

    def _refusal(self, request: HttpRequest, answer: HttpAnswer) -> RemoteError | ServerUnavailableError:
        what = f"{self._server}: {request.method} {request.path[:300]}: HTTP status {answer.status}"
        text = f"{what}: {_error_text(answer)}"
        return ServerUnavailableError(text) if answer.status == 503 else RemoteError(text, answer.status)

    def _says(self, path: str, word: str) -> bool:
        """Whether the answer is 200 and, if it has a JSON body, its `word` isn't false."""
        request = HttpRequest("GET", path)
        answer = self._connections.exchange(request)
        if answer.status in _NOT_NOW:
            return False
        if answer.status != 200:
            raise self._refusal(request, answer)
        return not answer.body.size or json_object(answer.body, self._origin(answer)).get(word) is not False

    def _origin(self, answer: HttpAnswer) -> Origin:
        return Origin(self._server, answer.status)


def _model_path(model: str, version: str = "") -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _request_head(request: InferRequest) -> bytes:
    head: Dict[str, Any] = {"id": request.request_id} if request.request_id else {}
    head["inputs"] = [
        {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.dtype.value,
            "parameters": {"binary_data_size": tensor.data.size},
        }
        for tensor in request.inputs
    ]
    head["parameters"] = {"binary_data_output": True}
    if request.outputs:
        head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in request.outputs]
    return json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()


def _outputs(answer: HttpAnswer, origin: Origin) -> Dict[str, Array]:
    head, binary = _split(answer, origin)
    outputs: Dict[str, Array] = {}
    offset = 0
    for row in tensor_rows(json_object(head, origin), "outputs", origin):
        spec = tensor_spec(row, 0, origin)
        size = _binary_size(row)
        if size is None:
            outputs[spec.name] = array_from_list(row.get("data"), spec, origin)
        else:
            outputs[spec.name] = array_from_bytes(binary[offset : offset + size], spec, origin)
            offset += size
    if offset != binary.size:
        raise origin.broken(f"{binary.size} bytes of tensors, of which its head explains {offset}")
    return outputs


def _split(answer: HttpAnswer, origin: Origin) -> List[npt.NDArray[np.uint8]]:
    """The JSON head and the tensors after it."""
    text = answer.headers.get(HEAD_LENGTH)
    length = answer.body.size if text is None else _number(text)
    if length is None or length > answer.body.size:
        raise origin.broken(f"{HEAD_LENGTH} is {str(text)[:40]!r} of {answer.body.size} bytes")
    return [answer.body[:length], answer.body[length:]]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _binary_size(row: Dict[str, Any]) -> int | None:
    """Size that a description gives for its binary tensor; None if it has JSON data (or neither)."""
    parameters = row.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if type(size) is int and size >= 0 else None


def _error_text(answer: HttpAnswer) -> str:
    try:
        content = json.loads(answer.body.tobytes())
    except (ValueError, RecursionError):
        content = None
    text = content.get("error") if isinstance(content, dict) else None
    if not isinstance(text, str):
        text = answer.body[:300].tobytes().decode(errors="replace")
    return " ".join(text.split())[:2000] or "no text"
