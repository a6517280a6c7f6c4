"""2.3 for every kind of model: one input, two, no batch axis, dynamic axes; over both protocols, on every transport."""

from __future__ import annotations

import copy
import json
from typing import Any, Callable, Dict, Iterator

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

RNG = np.random.default_rng(0)
SHAPES = {"identity": (2, 4), "pair": (2, 4), "fixed": (2, 3), "canvas": (3, 5, 4, 2)}
NAMES = {"pair": ("a", "b")}
Content = Dict[str, Any]


def good(model: str) -> Content:
    inputs = []
    for name in NAMES.get(model, ("x",)):
        raw = RNG.normal(size=SHAPES[model]).astype(np.float32).tobytes()
        inputs.append({"name": name, "datatype": "FP32", "shape": list(SHAPES[model]), "raw": raw})
    return {"model": model, "inputs": inputs, "outputs": ["sum" if model == "pair" else "y"]}


def over_http(server: Any, content: Content) -> tuple[str, Any]:
    described = [
        {**{key: each[key] for key in ("name", "datatype", "shape")}, "parameters": {"binary_data_size": each["size"]}}
        for each in content["inputs"]
    ]
    wanted = [{"name": name} for name in content["outputs"]]
    head = {"inputs": described, "outputs": wanted, "parameters": {"binary_data_output": True}}
    answer = server.infer(content["model"], head, b"".join(each["raw"] for each in content["inputs"]))
    if answer.status == 200:
        return "OK", answer.body[int(answer.headers["inference-header-content-length"]) :]
    return {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}.get(answer.status, str(answer.status)), answer.json["error"]


def over_grpc(server: Any, content: Content) -> tuple[str, Any]:
    message = service_pb2.ModelInferRequest(model_name=content["model"])
    for each in content["inputs"]:
        message.inputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        message.raw_input_contents.append(each["raw"])
    for name in content["outputs"]:
        message.outputs.add(name=name)
    with grpc.insecure_channel(server.bound.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            answer = service_pb2.ModelInferResponse.FromString(call(message.SerializeToString(), timeout=10))
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", b"".join(answer.raw_output_contents)


@pytest.fixture(params=[over_http, over_grpc], ids=["http", "grpc"])
def ask(request: pytest.FixtureRequest, server: Any) -> Iterator[Callable[[Content], tuple[str, Any]]]:
    """`ask(content)`: name of the status, and the outputs' bytes or the error's text."""

    def asked(content: Content) -> tuple[str, Any]:
        for each in content["inputs"]:
            each.setdefault("size", len(each["raw"]))
        return request.param(server, content)

    return asked


models = pytest.mark.parametrize("model", SHAPES)


@models
def test_2_1_infer_answers_every_kind_of_model_bit_for_bit(ask, model) -> None:
    content = good(model)
    first, last = (np.frombuffer(content["inputs"][at]["raw"], np.float32) for at in (0, -1))
    expected = first + last if model == "pair" else first
    assert ask(content) == ("OK", expected.tobytes())


def last_of(content: Content) -> Content:
    last: Content = content["inputs"][-1]
    return last


def with_shape(change: Callable[[list[int]], Any]) -> Callable[[Content], None]:
    def changed(content: Content) -> None:
        last_of(content)["shape"] = change(list(last_of(content)["shape"]))

    return changed


SHAPE_CHANGES = {
    "no rank": lambda shape: [],
    "rank less": lambda shape: shape[1:],
    "rank more": lambda shape: [1, *shape],
    "rank 33": lambda shape: [1] * 33,
    "last dimension larger": lambda shape: [*shape[:-1], shape[-1] + 1],
    "first dimension smaller, for the bytes": lambda shape: [1, *shape[1:]],
    "dimension of zero": lambda shape: [0, *shape[1:]],
    "last dimension of zero": lambda shape: [*shape[:-1], 0],
    "negative": lambda shape: [-1, *shape[1:]],
    "least": lambda shape: [-(2**63), *shape[1:]],
    "2^31 - 1": lambda shape: [2**31 - 1, *shape[1:]],
    "2^63 - 1": lambda shape: [2**63 - 1, *shape[1:]],
    "all 2^63 - 1": lambda shape: [2**63 - 1] * len(shape),
    "product that wraps to the right one": lambda shape: [2**62 + shape[0], *shape[1:]],
    "one over the most": lambda shape: [9, *shape[1:]],
    "other order": lambda shape: shape[::-1] if shape != shape[::-1] else [4, 3],
}


@models
@pytest.mark.parametrize("change", SHAPE_CHANGES.values(), ids=SHAPE_CHANGES)
def test_2_3_shape_is_held_against_every_kind_of_model(ask, model, change) -> None:
    refused(ask, model, with_shape(change))


def renamed(content: Content) -> None:
    last_of(content)["name"] = "none"


def typed(datatype: str) -> Callable[[Content], None]:
    return lambda content: last_of(content).update(datatype=datatype)


NAME_CHANGES: dict[str, Callable[[Content], Any]] = {
    "unknown input": renamed,
    "input left out": lambda content: content["inputs"].pop(),
    "input twice": lambda content: content["inputs"].append(copy.deepcopy(last_of(content))),
    "all twice": lambda content: content["inputs"].extend(copy.deepcopy(content["inputs"])),
    "one more": lambda content: content["inputs"].append({**last_of(content), "name": "more"}),
    "an output's name": lambda content: last_of(content).update(name=content["outputs"][0]),
    "no name": lambda content: last_of(content).update(name=""),
    "unknown type": typed("FP12"),
    "type in lower case": typed("fp32"),
    "no type": typed(""),
    "other type of that size": typed("INT32"),
    "wider type": typed("FP64"),
    "unknown output": lambda content: content["outputs"].append("none"),
    "output twice": lambda content: content["outputs"].append(content["outputs"][0]),
    "an input's name": lambda content: content["outputs"].append(last_of(content)["name"]),
}


@models
@pytest.mark.parametrize("change", NAME_CHANGES.values(), ids=NAME_CHANGES)
def test_2_3_names_and_types_are_held_against_every_kind_of_model(ask, model, change) -> None:
    refused(ask, model, change)


SIZE_CHANGES: dict[str, Callable[[Content], Any]] = {
    "nothing": lambda content: last_of(content).update(raw=b""),
    "a byte less": lambda content: last_of(content).update(raw=last_of(content)["raw"][:-1]),
    "a byte more": lambda content: last_of(content).update(raw=last_of(content)["raw"] + b"x"),
    "a row less": lambda content: last_of(content).update(raw=last_of(content)["raw"][:-16]),
    "twice as much": lambda content: last_of(content).update(raw=last_of(content)["raw"] * 2),
}


@models
@pytest.mark.parametrize("change", SIZE_CHANGES.values(), ids=SIZE_CHANGES)
def test_2_3_nbytes_are_held_against_every_kind_of_model(ask, model, change) -> None:
    refused(ask, model, change)


def refused(ask: Any, model: str, change: Callable[[Content], Any]) -> None:
    content = good(model)
    change(content)
    code, text = ask(content)
    assert code == "INVALID_ARGUMENT"
    assert 10 < len(text) < 500
    assert text.isprintable()


@models
@pytest.mark.parametrize(
    "size", [0, -1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 1.5, "32", None, True, [32]]
)
def test_2_3_nbytes_that_are_told_are_the_tensors(server, model, size) -> None:
    content = good(model)
    for each in content["inputs"]:
        each["size"] = size
    assert over_http(server, content)[0] == "INVALID_ARGUMENT"


@models
def test_2_3_batch_of_the_most_rows_is_served_and_one_more_is_not(ask, model) -> None:
    content = good(model)
    for rows, expected in ((8, "OK"), (9, "INVALID_ARGUMENT")):
        for each in content["inputs"]:
            each.pop("size", None)
            each["shape"][0] = rows
            each["raw"] = bytes(4 * int(np.prod(each["shape"])))
        assert ask(content)[0] == (expected if model != "fixed" else "INVALID_ARGUMENT")


def test_2_3_shape_of_every_dynamic_axis_may_change_with_each_request(ask) -> None:
    for shape in ([1, 1, 1, 2], [8, 8, 8, 2], [2, 8, 1, 2]):
        raw = RNG.normal(size=shape).astype(np.float32).tobytes()
        content = good("canvas")
        last_of(content).update(shape=shape, raw=raw)
        assert ask(content) == ("OK", raw)


@models
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_2_1_infer_takes_json_for_every_kind_of_model(server, model, nested) -> None:
    array = np.arange(np.prod(SHAPES[model])).reshape(SHAPES[model])
    data = array.tolist() if nested else array.ravel().tolist()
    names = NAMES.get(model, ("x",))
    inputs = [{"name": name, "datatype": "FP32", "shape": list(array.shape), "data": data} for name in names]
    answer = server.ask("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}).encode())
    found = answer.json["outputs"][0]
    assert (found["shape"], found["data"]) == (list(array.shape), (array.ravel() * len(names)).tolist())


RAGGED: dict[str, Callable[[Any], Any]] = {
    "rows of other lengths": lambda data: [*data[:-1], data[-1][:-1]],
    "one row less": lambda data: data[:-1],
    "one level less, of one row": lambda data: data[0],
    "one level more": lambda data: [data],
    "a value for a row": lambda data: [*data[:-1], 1],
    "an empty row": lambda data: [*data[:-1], []],
    "nothing": lambda data: [],
    "an object": lambda data: {"0": data},
    "null": lambda data: None,
}


@models
@pytest.mark.parametrize("change", RAGGED.values(), ids=RAGGED)
def test_2_3_json_that_is_ragged_is_refused_for_every_kind_of_model(server, model, change) -> None:
    array = np.arange(np.prod(SHAPES[model])).reshape(SHAPES[model])
    names = NAMES.get(model, ("x",))
    data = [array.tolist()] * (len(names) - 1) + [change(array.tolist())]
    inputs = [
        {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": each} for name, each in zip(names, data)
    ]
    answer = server.ask("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}).encode())
    assert (answer.status, list(answer.json)) == (400, ["error"])
