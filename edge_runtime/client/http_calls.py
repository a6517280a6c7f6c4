"""Calls of the Open Inference Protocol over HTTP, tensors as binary both ways; the same for every way to wait."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, Generic, List, Tuple, TypeVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from edge_runtime.client.address import Address
from edge_runtime.client.answers import Origin, array_from_bytes, array_from_list, json_object, tensor_rows, tensor_spec
from edge_runtime.client.http_answer import HttpAnswer
from edge_runtime.client.http_request import HttpRequest, head_bytes
from edge_runtime.client.refusals import ERROR_KIND, RETRY_AFTER, RETRY_AFTER_MS, retry_after_s, unavailable, unwrapped
from edge_runtime.client.request import InferRequest
from edge_runtime.errors import RemoteError
from edge_runtime.tensors import TensorSpec
from edge_runtime.wire.http_infer import HEAD_LENGTH

Array = npt.NDArray[Any]
Arrays = Dict[str, Array]
T = TypeVar("T")

_NOT_NOW = (400, 404, 503)
_MAX_KNOWN = 64
_MAX_KNOWN_NBYTES = 4096


@dataclass(frozen=True)
class HttpCall(Generic[T]):
    """A request, and what is to be made of its answer."""

    request: HttpRequest
    read: Callable[[HttpAnswer], T]


class HttpCalls:
    """Makes calls to one server; what requests and answers have in common is made once and kept."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._server = str(address)
        self._heads: Dict[Any, bytes] = {}
        self._layouts: Dict[bytes, List[Tuple[TensorSpec, int]]] = {}

    def live(self) -> HttpCall[bool]:
        """Whether the server says that it is alive."""
        return self._says("/v2/health/live", "live")

    def ready(self, model: str | None) -> HttpCall[bool]:
        """Whether the server, or one model of it, says that it is ready."""
        return self._says("/v2/health/ready" if model is None else f"{_model_path(model)}/ready", "ready")

    def metadata(self, model: str | None) -> HttpCall[Dict[str, Any]]:
        """What the server says of itself, or of one model."""
        request = HttpRequest("GET", "/v2" if model is None else _model_path(model))

        def read(answer: HttpAnswer) -> Dict[str, Any]:
            if answer.status != 200:
                raise unwrapped(self._refusal(request, answer))
            origin = self._origin(answer)
            content = json_object(answer.body, origin)
            for key in ("inputs", "outputs") if model is not None else ():
                tensor_rows(content, key, origin)
            return content

        return HttpCall(request, read)

    def snapshot(self) -> HttpCall[Dict[str, Any]]:
        """What edge_runtime's own server does now: the live document."""
        request = HttpRequest("GET", "/live")

        def read(answer: HttpAnswer) -> Dict[str, Any]:
            if answer.status != 200:
                raise unwrapped(self._refusal(request, answer))
            return json_object(answer.body, self._origin(answer))

        return HttpCall(request, read)

    def infer(self, wanted: InferRequest) -> HttpCall[Arrays]:
        """The outputs, as arrays that the caller owns; raises a `RefusedError` if it may be sent again."""
        limit_ms = wanted.hurry.deadline_ms
        request = HttpRequest(
            "POST",
            "",
            [tensor.data.data for tensor in wanted.inputs],
            head=self._head(wanted),
            limit_s=None if limit_ms is None else limit_ms / 1e3,
        )

        def read(answer: HttpAnswer) -> Arrays:
            if answer.status != 200:
                path = f"{_model_path(wanted.model, wanted.version)}/infer"
                raise self._refusal(HttpRequest("POST", path), answer)
            outputs = self._outputs(answer)
            for name in wanted.outputs:
                if name not in outputs:
                    raise self._origin(answer).broken(f"output {name!r} was asked for and is missing")
            return outputs

        return HttpCall(request, read)

    def _says(self, path: str, word: str) -> HttpCall[bool]:
        """Whether the answer is 200 and, if it has a JSON body, its `word` isn't false."""
        request = HttpRequest("GET", path)

        def read(answer: HttpAnswer) -> bool:
            if answer.status in _NOT_NOW:
                return False
            if answer.status != 200:
                raise unwrapped(self._refusal(request, answer))
            return not answer.body.size or json_object(answer.body, self._origin(answer)).get(word) is not False

        return HttpCall(request, read)

    def _refusal(self, request: HttpRequest, answer: HttpAnswer) -> Exception:
        text = f"{self._server}: {request.method} {request.path[:300]}: HTTP status {answer.status}: {_text(answer)}"
        if answer.status != 503:
            return RemoteError(text, answer.status)
        headers = answer.headers
        wait_s = retry_after_s(headers.get(RETRY_AFTER_MS), headers.get(RETRY_AFTER))
        return unavailable(text, headers.get(ERROR_KIND), wait_s)

    def _origin(self, answer: HttpAnswer) -> Origin:
        return Origin(self._server, answer.status)

    def _head(self, wanted: InferRequest) -> bytes:
        """All that goes before the tensors, which is the same for requests of the same shapes and sizes."""
        hurry = wanted.hurry
        tensors = tuple((tensor.name, tensor.dtype, tensor.shape, tensor.data.size) for tensor in wanted.inputs)
        key = (wanted.model, wanted.version, wanted.outputs, hurry.deadline_ms, hurry.priority, tensors)
        known = None if wanted.request_id else self._heads.get(key)
        if known is not None:
            return known
        content = _request_head(wanted)
        headers = {"Content-Type": "application/octet-stream", HEAD_LENGTH: str(len(content))}
        path = f"{_model_path(wanted.model, wanted.version)}/infer"
        body = [content, *(tensor.data for tensor in wanted.inputs)]
        head = head_bytes(HttpRequest("POST", path, body, headers), self._address) + content
        if not wanted.request_id:
            if len(self._heads) >= _MAX_KNOWN:
                self._heads.clear()
            self._heads[key] = head
        return head

    def _outputs(self, answer: HttpAnswer) -> Arrays:
        origin = self._origin(answer)
        head, binary = _split(answer, origin)
        text = head.tobytes()
        known = self._layouts.get(text)
        if known is None:
            rows = tensor_rows(json_object(head, origin), "outputs", origin)
            layout = [(tensor_spec(row, 0, origin), _binary_size(row), row) for row in rows]
            if any(size is None for _, size, _ in layout):
                return _mixed(layout, binary, origin)
            known = [(spec, size or 0) for spec, size, _ in layout]
            if len(text) <= _MAX_KNOWN_NBYTES:
                if len(self._layouts) >= _MAX_KNOWN:
                    self._layouts.clear()
                self._layouts[text] = known
        return _mixed([(spec, size, {}) for spec, size in known], binary, origin)


def _mixed(
    layout: List[Tuple[TensorSpec, Any, Dict[str, Any]]], binary: npt.NDArray[np.uint8], origin: Origin
) -> Arrays:
    """Outputs of which each is binary (of a size) or JSON data in its row."""
    outputs: Arrays = {}
    offset = 0
    for spec, size, row in layout:
        if size is None:
            outputs[spec.name] = array_from_list(row.get("data"), spec, origin)
        else:
            outputs[spec.name] = array_from_bytes(binary[offset : offset + size], spec, origin)
            offset += size
    if offset != binary.size:
        raise origin.broken(f"{binary.size} bytes of tensors, of which its head explains {offset}")
    return outputs


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
    head["parameters"] = {"binary_data_output": True, **request.hurry.parameters()}
    if request.outputs:
        head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in request.outputs]
    return json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()


def _split(answer: HttpAnswer, origin: Origin) -> List[npt.NDArray[np.uint8]]:
    """The JSON head and the tensors after it."""
    text = answer.headers.get(HEAD_LENGTH.lower())
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


def _text(answer: HttpAnswer) -> str:
    try:
        content = json.loads(answer.body.tobytes())
    except (ValueError, RecursionError):
        content = None
    text = content.get("error") if isinstance(content, dict) else None
    if not isinstance(text, str):
        text = answer.body[:300].tobytes().decode(errors="replace")
    return " ".join(text.split())[:2000] or "no text"
