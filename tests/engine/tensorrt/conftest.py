"""Plans of the fake TensorRT, and slots over them on the fake CUDA."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
from fakes.cuda import ORIN, FakeCuda
from fakes.tensorrt import fake_tensorrt
from onnx import TensorProto, helper

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.tensorrt.loading import SlotMaker, slot_maker
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensorrt_api import FULL, TensorRT, from_module
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

INFO = EngineInfo("m", 1, "tensorrt", "tensorrt_plan", "fp32", "gpu:0")
Profile = Mapping[str, ShapeRange]


def build(
    module: Any,
    model: bytes,
    profiles: Sequence[Profile],
    flags: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> bytes:
    """A plan that the fake builder made; `values` are the limits of shape inputs' values."""

    class Quiet(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: List[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity.name == "ERROR":
                self.errors.append(msg)

    logger = Quiet()
    builder = module.Builder(logger)
    explicit = getattr(module.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = module.OnnxParser(network, logger)
    proto = onnx.load_model_from_string(model)
    proto.opset_import[0].version = 13  # the newest that 8.2 knows; no operator of these models changed since
    assert parser.parse(proto.SerializeToString()), logger.errors
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(getattr(module.BuilderFlag, flag))
    for profile in profiles:
        made = builder.create_optimization_profile()
        for name, limits in profile.items():
            made.set_shape(name, limits.minimum, limits.optimum, limits.maximum)
        for name, limits in (values or {}).items():
            made.set_shape_input(name, *limits)
        config.add_optimization_profile(made)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, logger.errors
    return bytes(plan)


def signature_of(model: bytes, profile: Profile) -> Signature:
    """The signature of a model as ONNX has it."""
    graph = onnx.load_model_from_string(model).graph

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        dims = value.type.tensor_type.shape.dim
        dtype = DType.from_numpy(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
        return TensorSpec(value.name, dtype, shape, tuple(dim.dim_param for dim in dims))

    return Signature(tuple(map(spec, graph.input)), tuple(map(spec, graph.output)), profile)


@dataclass
class Rig:
    """A fake TensorRT on a fake CUDA."""

    cuda: FakeCuda
    library: TensorRT
    engines: List[Engine] = field(default_factory=list)

    @property
    def module(self) -> Any:
        return self.library.module

    def maker(
        self,
        model: bytes,
        profile: Profile,
        profiles: Sequence[Profile] | None = None,
        signature: Signature | None = None,
        values: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> SlotMaker:
        plan = PlanFiles({"model.plan": build(self.module, model, profiles or [profile], values=values)})
        signature = signature or signature_of(model, profile)
        return slot_maker(plan, signature, TensorRTOptions(**options), "model 'm'", self.cuda, self.library)

    def engine(self, model: bytes, profile: Profile, slots: int = 1, **options: Any) -> Engine:
        signature = options.get("signature") or signature_of(model, profile)
        maker = self.maker(model, profile, **options)
        made = Engine(INFO, signature, maker, slots, maker.over)
        self.engines.append(made)
        return made


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """A maker of rigs; whatever was made on them is closed, and what wasn't given back is reported."""
    rigs: List[Rig] = []

    def make(surface: str = "10.3", cuda: FakeCuda | None = None, **board: Any) -> Rig:
        cuda = cuda or FakeCuda(ORIN)
        cuda.use_device(0)
        rigs.append(Rig(cuda, from_module(FULL, fake_tensorrt(surface, cuda, **board))))
        return rigs[-1]

    yield make
    for rig in rigs:
        for engine in rig.engines:
            engine.close()
        rig.engines.clear()
        gc.collect()  # an exception that a test caught keeps arrays
        rig.cuda.check_leaks()


@pytest.fixture(params=["8.2", "8.6", "10.3", "11.4"])
def rig(request: pytest.FixtureRequest, make_rig: Callable[..., Rig]) -> Rig:
    """A rig of each surface."""
    return make_rig(request.param)


@pytest.fixture(scope="session")
def build_plan() -> Callable[..., bytes]:
    """A plan that the fake builder made of a module, an ONNX and profiles."""
    return build


@pytest.fixture(scope="session")
def signature_for() -> Callable[[bytes, Profile], Signature]:
    """The signature of a model as ONNX has it."""
    return signature_of


@pytest.fixture(scope="session")
def run_onnx() -> Callable[[bytes, Dict[str, np.ndarray]], Dict[str, np.ndarray]]:
    """What ONNX Runtime answers."""

    def run(model: bytes, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds)))

    return run


@pytest.fixture(scope="session")
def make_model() -> Callable[..., bytes]:
    """An ONNX model of nodes, given as (operator, inputs, outputs, attributes)."""

    def make(
        nodes: Sequence[Tuple[str, List[str], List[str], Dict[str, Any]]],
        inputs: Mapping[str, Tuple[int, Sequence[Any]]],
        outputs: Mapping[str, Tuple[int, Sequence[Any]]],
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> bytes:
        graph = helper.make_graph(
            [helper.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes],
            "g",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
            [onnx.numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        return model.SerializeToString()

    return make


@pytest.fixture(scope="session")
def doubling(make_model: Callable[..., bytes]) -> bytes:
    """x f32[n, 4] -> y = x + x."""
    shape = (TensorProto.FLOAT, ["n", 4])
    return make_model([("Add", ["x", "x"], ["y"], {})], {"x": shape}, {"y": shape})
