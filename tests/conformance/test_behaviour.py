"""The fake behaves as the real builder of TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

import importlib
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest
from fakes.tensorrt import fake_tensorrt
from fakes.tensorrt_session import Session, dense_model, onnx_model
from onnx import TensorProto
from onnx.helper import make_node

pytestmark = pytest.mark.tensorrt

IMAGE = [make_node("Conv", ["x", "k"], ["c"], name="conv"), make_node("Relu", ["c"], ["y"], name="relu")]
SHAPES = {"x": ["n", 3, 8, 8]}
KERNEL = np.full((2, 3, 3, 3), 0.1, np.float32)
FIXED = ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))


@pytest.fixture(params=["real", "fake"])
def session(request: pytest.FixtureRequest) -> Session:
    if request.param == "fake":
        return Session(fake_tensorrt("11.4"))
    return Session(pytest.importorskip("tensorrt_rtx"))


def image() -> bytes:
    return onnx_model(IMAGE, SHAPES, ["y"], k=KERNEL)


@pytest.mark.parametrize(
    ("name", "shapes", "added", "error"),
    [
        ("x", FIXED, 0, ""),
        ("z", FIXED, 0, "Dynamic input tensor x is missing dimensions in profile 0"),
        ("x", ((1, 3, 8),) * 3, 0, "tensor x has 4 dimensions but profile 0 has 3 dimensions"),
        ("x", ((1, 3, 9, 8),) * 3, 0, "At dimension axis 2, profile has min=9, opt=9, max=9 but tensor has 8"),
        ("x", ((2, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8)), -1, "MIN<=OPT<=MAX"),
        ("x", ((1, 3, 8, 8), (2, 3, 8), (4, 3, 8, 8)), -1, "no optimization profile has been defined"),
        (None, FIXED, 0, "Dynamic input tensor x is missing dimensions in profile 0"),
    ],
)
def test_an_optimization_profile(session: Session, name: Any, shapes: Any, added: int, error: str) -> None:
    network, parser = session.parsed(image())
    config, profile = session.builder.create_builder_config(), session.builder.create_optimization_profile()
    if name is not None:
        profile.set_shape(name, *shapes)
    assert config.add_optimization_profile(profile) == added
    built = session.builder.build_serialized_network(network, config)
    assert (built is not None) == (not error)
    assert error in session.take()
    assert parser.num_errors == 0


def test_a_negative_size_raises(session: Session) -> None:
    with pytest.raises(RuntimeError, match="Shape provided for min is inconsistent"):
        session.builder.create_optimization_profile().set_shape("x", (-1, 3), (1, 3), (1, 3))


def test_values_of_a_shape_tensor_must_be_in_order(session: Session) -> None:
    with pytest.raises(RuntimeError, match="max input provided for shape tensor is inconsistent"):
        session.builder.create_optimization_profile().set_shape_input("s", [1], [2], [1])


def test_a_profile_that_lacks_an_input_gives_no_shapes(session: Session) -> None:
    assert session.builder.create_optimization_profile().get_shape("x") == []
    assert "Input is not present" in session.take()


MODELS = {
    "gemm": dense_model(),
    "names": onnx_model(
        [
            make_node("Gemm", ["x", "w", "b"], ["c"], name="fc"),
            make_node("Relu", ["c"], ["d"]),
            make_node("Relu", ["d"], ["y"], name="fc"),
        ],
        {"x": ["n", 4]},
        ["y"],
        w=np.ones((4, 3), np.float32),
        b=np.ones(3, np.float32),
    ),
    "convolution": image(),
    "shape input": onnx_model(
        [make_node("Reshape", ["x", "s"], ["y"], name="rs")], {"x": [4], "s": (TensorProto.INT64, [2])}, ["y"]
    ),
    "double": onnx_model(
        [make_node("Cast", ["i"], ["y"], name="cast", to=TensorProto.FLOAT)], {"i": (TensorProto.DOUBLE, [4])}, ["y"]
    ),
}


def described(network: Any) -> List[Tuple[Any, ...]]:
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    return [
        *((layer.name, layer.type.name, layer.metadata, layer.num_inputs, layer.num_outputs) for layer in layers),
        *((tensor.name, tensor.dtype.name, tuple(tensor.shape), tensor.is_shape_tensor) for tensor in inputs),
        *(layer.get_output(0).name for layer in layers),
    ]


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_of_a_network(name: str) -> None:
    real = Session(pytest.importorskip("tensorrt_rtx"))
    assert described(Session(fake_tensorrt("11.4")).parsed(MODELS[name])[0]) == described(real.parsed(MODELS[name])[0])


UNSUPPORTED = onnx_model(
    [make_node("Foo", ["x"], ["a"], name="f1"), make_node("Bar", ["a"], ["b"]), make_node("Relu", ["b"], ["y"])],
    {"x": [4]},
    ["y"],
)


def test_every_operator_that_isnt_supported_is_named(session: Session) -> None:
    network = session.network()  # which the parser doesn't keep
    parser = session.module.OnnxParser(network, session.logger)
    assert not parser.parse(UNSUPPORTED)
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    found = [(e.code().name, e.node(), e.node_name(), e.node_operator()) for e in errors]
    assert [one[:2] + one[3:] for one in found] == [("INVALID_NODE", 0, "Foo"), ("INVALID_NODE", 1, "Bar")]
    assert found[0][2] == "f1"
    assert "Plugin not found" in errors[0].desc()


def test_a_parser_reads_one_model(session: Session) -> None:
    network = session.network()  # which the parser doesn't keep
    parser = session.module.OnnxParser(network, session.logger)
    assert parser.parse(image())
    assert not parser.parse(image())
    assert "non-empty network definition" in session.take()


def test_a_file_that_isnt_there(session: Session) -> None:
    network = session.network()  # which the parser doesn't keep
    parser = session.module.OnnxParser(network, session.logger)
    assert not parser.parse_from_file("/nonexistent.onnx")
    assert parser.get_error(0).code().name == "INVALID_VALUE"


def scaled(scale: float = 0.1, zero: int = 0) -> bytes:
    nodes = [
        make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="dq"),
    ]
    return onnx_model(nodes, {"x": [4]}, ["y"], s=np.float32(scale), z=np.int8(zero))


def passed_on(element: int) -> bytes:
    return onnx_model([make_node("Identity", ["i"], ["y"])], {"i": (element, [4])}, ["y"])


PARSED = {
    "scales": (scaled(), ""),
    "zero point 3": (scaled(zero=3), "INVALID_NODE"),
    "scale 0": (scaled(scale=0), "INVALID_NODE"),
    "texts": (passed_on(TensorProto.STRING), "UNSUPPORTED_NODE"),
    "uint16": (passed_on(TensorProto.UINT16), "UNSUPPORTED_NODE"),
}


@pytest.mark.parametrize(("model", "error"), PARSED.values(), ids=PARSED)
def test_what_the_parser_makes_of_scales_and_types(session: Session, model: bytes, error: str) -> None:
    network = session.network()  # which the parser doesn't keep
    parser = session.module.OnnxParser(network, session.logger)
    assert parser.parse(model) == (not error)
    assert [parser.get_error(i).code().name for i in range(parser.num_errors)][:1] == ([error] if error else [])


DEFAULTS = (
    "flags DLA_core builder_optimization_level avg_timing_iterations max_aux_streams profile_stream "
    "num_optimization_profiles"
)


def test_the_defaults_of_a_configuration(session: Session) -> None:
    config = session.builder.create_builder_config()
    assert [getattr(config, name) for name in DEFAULTS.split()] == [64, -1, 3, 1, -1, 0, 0]
    assert config.get_memory_pool_limit(session.module.MemoryPoolType.WORKSPACE) == 64 << 30
    assert (config.default_device_type.name, config.profiling_verbosity.name) == ("GPU", "LAYER_NAMES_ONLY")
    assert config.progress_monitor is None


BAD: List[Callable[[Any, Any], Any]] = [
    lambda trt, config: config.set_flag(1),
    lambda trt, config: config.set_flag(trt.MemoryPoolType.WORKSPACE),
    lambda trt, config: config.set_flag(flags=trt.BuilderFlag.TF32),
    lambda trt, config: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1.5),
    lambda trt, config: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, -1),
    lambda trt, config: setattr(config, "builder_optimization_level", "a"),
    lambda trt, config: setattr(config, "DLA_core", 1.0),
    lambda trt, config: setattr(config, "progress_monitor", 3),
    lambda trt, config: config.create_timing_cache(None),
    lambda trt, config: config.set_timing_cache(None, False),
    lambda trt, config: trt.IBuilderConfig(),
    lambda trt, config: trt.Builder(None),
    lambda trt, config: trt.Dims(3),
    lambda trt, config: trt.Dims((1, 2.5)),
    lambda trt, config: trt.Dims((1, 2)) == trt.Dims((1, 2)),
    lambda trt, config: list(trt.BuilderFlag),
    lambda trt, config: trt.BuilderFlag["TF32"],
    lambda trt, config: 1 << trt.BuilderFlag.TF32,
]


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
@pytest.mark.parametrize("index", range(len(BAD)))
def test_wrong_arguments_raise(session: Session, index: int) -> None:
    config = session.builder.create_builder_config()
    with pytest.raises(TypeError):
        BAD[index](session.module, config)


def test_names_that_arent_there_cant_be_set(session: Session) -> None:
    config = session.builder.create_builder_config()
    for name in ("max_workspace_size", "num_optimization_profiles"):
        with pytest.raises(AttributeError):
            setattr(config, name, 1)


def test_a_refused_flag_is_only_logged(session: Session) -> None:
    config, flag = session.builder.create_builder_config(), session.module.BuilderFlag.EXCLUDE_LEAN_RUNTIME
    config.set_flag(flag)
    assert not config.get_flag(flag)
    assert "kEXCLUDE_LEAN_RUNTIME" in session.take()


def test_a_negative_optimization_level_is_only_logged(session: Session) -> None:
    config = session.builder.create_builder_config()
    config.builder_optimization_level = -5
    assert config.builder_optimization_level == 3
    assert "level >= 0" in session.take()


def test_unknown_network_flags_make_no_network(session: Session) -> None:
    assert session.builder.create_network(1 << 20) is None
    with pytest.raises(TypeError):
        session.builder.create_network(-1)


def test_indices_out_of_range(session: Session) -> None:
    network, parser = session.parsed(image())
    assert network.get_input(7) is None
    assert "Invalid" in session.take()
    assert network.get_layer(77) is None
    with pytest.raises(IndexError):
        network[7]
    assert parser.get_error(55) is None


def test_the_same_tensor_is_the_same_object(session: Session) -> None:
    network, _ = session.parsed(image())
    assert network.get_input(0) is network.get_input(0)


def test_a_logger_whose_base_isnt_initialised_raises(session: Session) -> None:
    class Forgetful(session.module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None: ...

    with pytest.raises(TypeError, match=r"ILogger.__init__\(\) must be called when overriding __init__"):
        Forgetful()


def test_what_a_logger_raises_is_swallowed(session: Session, capfd: pytest.CaptureFixture) -> None:
    class Broken(session.module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            session.module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            raise ValueError("broken")

    logger = Broken()
    assert session.module.Builder(logger).create_network(1 << 20) is None
    assert "Exception caught in log()" in capfd.readouterr().err


def test_a_plan_is_bytes_without_a_length(session: Session) -> None:
    network, parser = session.parsed(image())
    plan = session.builder.build_serialized_network(network, session.config(x=FIXED))
    assert parser.num_errors == 0
    assert len(bytes(plan)) == plan.nbytes == np.frombuffer(plan, np.uint8).size
    for use in (len, iter, lambda given: given[0], lambda given: given.raw):
        with pytest.raises((TypeError, AttributeError)):
            use(plan)


def monitor(session: Session, events: List[Any], answer: Callable[[int], Any]) -> Any:
    class Monitor(session.module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            session.module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: Any, num_steps: int) -> None:
            events.append(("start", phase_name, parent_phase))

        def step_complete(self, phase_name: str, step: int) -> Any:
            events.append(("step", phase_name, step))
            return answer(len(events))

        def phase_finish(self, phase_name: str) -> None:
            events.append(("finish", phase_name))

    return Monitor()


def watched(session: Session, answer: Callable[[int], Any]) -> Tuple[Any, List[Any]]:
    events: List[Any] = []
    network, parser = session.parsed(image())
    config = session.config(x=FIXED)
    listener = monitor(session, events, answer)
    config.progress_monitor = listener
    built = session.builder.build_serialized_network(network, config)
    assert parser.num_errors == 0
    return built, events


def test_phases_are_nested_and_end(session: Session) -> None:
    built, events = watched(session, lambda count: True)
    assert built is not None
    assert events[0] == ("start", "Building engine", None)
    open_phases: List[str] = []
    for event in events:
        if event[0] == "start":
            assert event[2] in [None, *open_phases]
            open_phases.append(event[1])
        elif event[0] == "finish":
            open_phases.remove(event[1])
        else:
            assert event[1] in open_phases
    assert open_phases == []


def raise_error(count: int) -> bool:
    raise ValueError("broken")


@pytest.mark.parametrize("answer", [lambda count: False, raise_error, lambda count: count < 9])
def test_a_monitor_can_cancel(session: Session, answer: Callable[[int], Any], capfd: pytest.CaptureFixture) -> None:
    built, events = watched(session, answer)
    assert built is None
    assert events[-1] == ("finish", "Building engine")
    assert "BuildCanceled" in session.take()


def test_the_real_builder_is_the_one_that_was_imported() -> None:
    real = pytest.importorskip("tensorrt_rtx")
    assert real is importlib.import_module("tensorrt_rtx")
    assert not hasattr(real, "_surface")
