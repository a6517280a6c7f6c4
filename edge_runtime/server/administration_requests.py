"""What clients ask of the repository and of the log, over HTTP and over gRPC."""

from __future__ import annotations

from functools import partial
from typing import Any, Awaitable, Callable, Collection, Dict, List, Tuple

from google.protobuf.json_format import ParseDict

from edge_runtime.errors import InvalidRequestError, PermissionDeniedError, TooLargeError, UnsupportedError
from edge_runtime.server.administration import Repository, ServerLog
from edge_runtime.server.models import ModelTable
from edge_runtime.wire.inference import clipped
from edge_runtime.wire.json_text import parsed_object
from edge_runtime.wire.messages import message

AdministrationHandler = Callable[[str, bytes], Awaitable[Any]]

_MODEL = r"v2/repository/models/(?P<model>[^/]+)"
_MAX_BODY_NBYTES = 1 << 16
_WITHOUT_MEANING = frozenset({"unload_dependents"})  # there are no ensembles that depend on a model


def http_handlers(models: ModelTable) -> Tuple[Tuple[str, str, AdministrationHandler], ...]:
    """Method, pattern of the path, and what gives the answer's content for a model's name ("": none) and the body."""
    index, load, unload, log_settings, change_log = (
        partial(each, models) for each in (_index, _load, _unload, _log_settings, _change_log)
    )
    return (
        ("POST", r"v2/repository/index", index),
        ("POST", rf"{_MODEL}/load", load),
        ("POST", rf"{_MODEL}/unload", unload),
        ("GET", r"v2/logging", log_settings),
        ("POST", r"v2/logging", change_log),
    )


def grpc_methods(models: ModelTable) -> Dict[str, Callable[[Any], Awaitable[Any]]]:
    """What answers each method, from message to message."""

    async def index(request: Any) -> Any:
        found = {"models": await _listed(models, request.ready)}
        return ParseDict(found, message("inference.RepositoryIndexResponse")())

    async def load(request: Any) -> Any:
        repository = _repository(models)
        _check_parameters(request.parameters, "load")
        await repository.load(request.model_name)
        return message("inference.RepositoryModelLoadResponse")()

    async def unload(request: Any) -> Any:
        repository = _repository(models)
        _check_parameters(request.parameters, "unload", _WITHOUT_MEANING)
        await repository.unload(request.model_name)
        return message("inference.RepositoryModelUnloadResponse")()

    async def log(request: Any) -> Any:
        found = {
            name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in _told(request)
        }
        if found:
            _log(models).change(found)
        return _log_response(_log(models).settings())

    return {"RepositoryIndex": index, "RepositoryModelLoad": load, "RepositoryModelUnload": unload, "LogSettings": log}


def _told(request: Any) -> List[Tuple[str, Any]]:
    return list(request.settings.items())


def _log_response(settings: Dict[str, Any]) -> Any:
    response = message("inference.LogSettingsResponse")()
    for name, value in settings.items():
        kind = {bool: "bool_param", int: "uint32_param"}.get(type(value), "string_param")
        setattr(response.settings[name], kind, value)
    return response


async def _index(models: ModelTable, _: str, body: bytes) -> Any:
    is_ready_only = _parsed(body).get("ready", False)
    if not isinstance(is_ready_only, bool):
        raise InvalidRequestError("ready: expected true or false")
    return await _listed(models, is_ready_only)


async def _listed(models: ModelTable, is_ready_only: bool) -> List[Dict[str, str]]:
    repository = models.administration.repository
    return models.index(is_ready_only) if repository is None else await repository.index(is_ready_only)


async def _load(models: ModelTable, name: str, body: bytes) -> Any:
    repository = _repository(models)
    _check_body(body, "load")
    await repository.load(name)
    return {}


async def _unload(models: ModelTable, name: str, body: bytes) -> Any:
    repository = _repository(models)
    _check_body(body, "unload", _WITHOUT_MEANING)
    await repository.unload(name)
    return {}


def _repository(models: ModelTable) -> Repository:
    found = models.administration.repository
    if found is None or not models.administration.is_open:
        raise PermissionDeniedError(
            "loading and unloading models is off here; the server's flag --model-control switches it on"
        )
    return found


def _check_body(body: bytes, verb: str, granted: Collection[str] = ()) -> None:
    """Raises InvalidRequestError, naming it, for anything that is asked for beside the model."""
    content = _parsed(body)
    parameters = content.pop("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"parameters: expected an object, got {clipped(parameters)}")
    _check_parameters([*content, *parameters], verb, granted)


def _check_parameters(names: Collection[str], verb: str, granted: Collection[str] = ()) -> None:
    for name in names:
        if name not in granted:
            raise InvalidRequestError(
                f"{verb}: parameter {clipped(name)} isn't supported: a model is what its store has; build it anew there"
            )


async def _log_settings(models: ModelTable, _: str, __: bytes) -> Any:
    return _log(models).settings()


async def _change_log(models: ModelTable, _: str, body: bytes) -> Any:
    log = _log(models)
    log.change(_parsed(body))
    return log.settings()


def _log(models: ModelTable) -> ServerLog:
    if models.administration.log is None:
        raise UnsupportedError("what is logged can't be seen or changed here: the program that runs the server says so")
    return models.administration.log


def _parsed(body: bytes) -> Dict[str, Any]:
    if len(body) > _MAX_BODY_NBYTES:
        raise TooLargeError(f"the request is over {_MAX_BODY_NBYTES} bytes")
    return parsed_object(body) if body else {}
