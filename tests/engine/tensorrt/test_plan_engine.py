from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np
import pytest
from onnx import TensorProto

from edge_runtime.engine.tensorrt.loading import slot_maker
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.errors import BackendError, BackendUnavailableError, ConfigError
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensorrt_api import MessageLog, make_logger
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

FIXED = {"x": ShapeRange.fixed((2, 4))}
BATCHED = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)


def on_a_thread(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def spec(name: str, dtype: DType = DType.FP32, shape: tuple = (-1, 4)) -> TensorSpec:
    return TensorSpec(name, dtype, shape)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (Signature((spec("a"),), (spec("y"),), {"a": BATCHED["x"]}), "expected input 'a', got inputs: x"),
        (Signature((spec("x"),), (spec("z"),), BATCHED), "expected output 'z', got outputs: y"),
        (Signature((spec("x"),), (), BATCHED), "an output 'y' that its signature hasn't"),
        (Signature((spec("x", DType.INT8),), (spec("y"),), BATCHED), "'x': expected data type INT8, got FP32"),
        (Signature((spec("x"),), (spec("y", DType.INT64),), BATCHED), "'y': expected data type INT64, got FP32"),
        (
            Signature((spec("x"),), (spec("y", shape=(-1, 4, 1)),), BATCHED),
            r"'y': expected rank 3, got shape \[-1, 4\]",
        ),
        (
            Signature((spec("x"),), (spec("y", shape=(-1, 5)),), BATCHED),
            r"'y': expected shape \[-1, 5\], got \[-1, 4\]",
        ),
        (
            Signature((spec("x"),), (spec("y"),), {"x": ShapeRange((1, 4), (1, 4), (9, 4))}),
            r"'x': expected a profile with \[9, 4\], got \[1, 4\]..\[8, 4\]",
        ),
    ],
)
def test_an_engine_that_is_not_what_its_signature_says_is_refused(
    rig: Any, doubling: bytes, signature: Signature, message: str
) -> None:
    with pytest.raises(BackendError, match=f"model 'm': .*{message}; build it again: edge-runtime build"):
        rig.maker(doubling, BATCHED, signature=signature)


def test_a_fixed_engine_for_a_signature_with_a_choice_is_refused(rig: Any, make_model: Callable[..., bytes]) -> None:
    shape = (TensorProto.FLOAT, [2, 4])
    fixed = make_model([("Neg", ["x"], ["y"], {})], {"x": shape}, {"y": shape})
    signature = Signature((spec("x"),), (spec("y"),), BATCHED)
    with pytest.raises(BackendError, match=r"'x': expected a profile with \[1, 4\], got \[2, 4\]"):
        rig.maker(fixed, FIXED, signature=signature)


def plan_engine_of(rig: Any, plan: bytes, signature: Signature, **options: Any) -> Any:
    given = TensorRTOptions(**options)
    return slot_maker(PlanFiles({"model.plan": plan}), signature, given, "model 'm'", rig.cuda, rig.library)


@pytest.mark.parametrize("plan", [b"", b"not a plan", bytes(100)])
def test_bytes_that_are_no_plan_are_refused_with_what_tensorrt_says(rig: Any, plan: bytes) -> None:
    signature = Signature((spec("x"),), (spec("y"),), BATCHED)
    with pytest.raises(
        BackendError, match=r"can't load the plan: .*(assertion|condition).*; build it again on this board"
    ):
        plan_engine_of(rig, plan, signature)


def test_the_device_is_current_before_a_runtime_is_made(
    make_rig: Callable[..., Any], doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig()
    made: list = []
    monkeypatch.setattr(rig.module, "Runtime", made.append)
    rig.cuda.fail_next("use_device", 35)
    with pytest.raises(BackendUnavailableError, match="35"):
        rig.maker(doubling, FIXED)
    assert made == []


@pytest.mark.parametrize("surface", ["8.2", "8.6"])
def test_where_profiles_are_not_shared_each_slot_has_an_engine(
    make_rig: Callable[..., Any], doubling: bytes, surface: str
) -> None:
    rig = make_rig(surface)
    engine = rig.engine(doubling, BATCHED, slots=3)
    with engine.slot() as slot:
        assert len(slot._shared._engines) == 3
    for n in (1, 8, 3, 3, 8, 1):
        np.testing.assert_allclose(engine.infer({"x": rows(n)})["y"], 2 * rows(n))


@pytest.mark.parametrize("surface", ["8.2", "8.6"])
def test_equal_profiles_serve_slots_of_one_engine(make_rig: Callable[..., Any], doubling: bytes, surface: str) -> None:
    rig = make_rig(surface)
    engine = rig.engine(doubling, BATCHED, slots=3, profiles=[BATCHED, BATCHED])
    with engine.slot() as first, engine.slot() as second, engine.slot() as third:
        assert len(first._shared._engines) == 2
        assert sorted(slot.context.active_optimization_profile for slot in (first, second, third)) == [0, 0, 1]
    for n in (1, 8, 3, 3, 8, 1):
        np.testing.assert_allclose(engine.infer({"x": rows(n)})["y"], 2 * rows(n))


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_the_first_profile_that_holds_the_shape_is_used(rig: Any, doubling: bytes, graphs: str) -> None:
    small, large = {"x": ShapeRange((1, 4), (1, 4), (2, 4))}, {"x": ShapeRange((2, 4), (8, 4), (8, 4))}
    engine = rig.engine(doubling, BATCHED, slots=2, profiles=[small, large], graphs=graphs)
    for n, profile in ((1, 0), (8, 1), (2, 0), (3, 1), (1, 0), (1, 0), (8, 1), (8, 1)):
        with engine.slot() as slot:
            np.copyto(slot.bind("x", (n, 4)), rows(n))
            np.testing.assert_allclose(slot.run()["y"], 2 * rows(n))
            if graphs == "off":
                assert slot.context.active_optimization_profile == profile


def test_a_shape_between_the_profiles_is_refused(make_rig: Callable[..., Any], doubling: bytes) -> None:
    low, high = {"x": ShapeRange((1, 4), (1, 4), (2, 4))}, {"x": ShapeRange((7, 4), (8, 4), (8, 4))}
    engine = make_rig().engine(doubling, BATCHED, profiles=[low, high])
    with pytest.raises(
        BackendError, match=r"inputs of .*\(4, 4\).*: no optimization profile holds them: build it for them"
    ):
        engine.infer({"x": rows(4)})
    np.testing.assert_allclose(engine.infer({"x": rows(8)})["y"], 2 * rows(8))


def test_what_was_made_last_goes_first(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig()
    gone: list = []
    slots = [rig.maker(doubling, FIXED)()]
    shared = slots[0]._shared
    for name, thing in (
        ("runtime", shared._runtime),
        ("engine", shared.first),
        ("context", slots[0].context),
    ):
        weakref.finalize(thing, gone.append, name)
        del thing
    slots[0].close()
    assert gone == ["context", "engine", "runtime"]


def test_two_engines_have_one_logger_and_errors_of_their_own(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig()
    first, second = rig.engine(doubling, BATCHED), rig.engine(doubling, BATCHED)
    with first.slot() as one, second.slot() as other:
        assert one._shared._runtime.logger is other._shared._runtime.logger
        logger, logs = one._shared._runtime.logger, (one._shared.log, other._shared.log)
        with logs[0]:
            logger.log(type(logger).Severity.ERROR, "of the first")
    second.close()
    on_a_thread(lambda: logger.log(type(logger).Severity.ERROR, "late"))
    assert [log.take_errors() for log in logs] == [("of the first", "late"), ()]


def test_two_engines_that_fail_at_once_say_each_its_own(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig()
    engines = [rig.engine(doubling, BATCHED, graphs="off") for _ in range(2)]
    both_are_inside = threading.Barrier(2, timeout=30)

    def refuse(context: Any, stream: int) -> bool:
        both_are_inside.wait()
        logger = context._engine._logger
        logger.log(type(logger).Severity.ERROR, f"refused by {threading.get_ident()}")
        both_are_inside.wait()
        return False

    def run(engine: Any) -> str:
        with pytest.raises(BackendError) as caught:
            engine.infer({"x": rows(2)})
        return str(caught.value).replace(str(threading.get_ident()), "me")

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(rig.module.IExecutionContext, "execute_async_v3", refuse)
        assert list(pool.map(run, engines)) == ["model 'm': TensorRT can't run it: refused by me"] * 2


def test_a_logger_that_plugins_were_registered_with_outlives_the_engine(
    make_rig: Callable[..., Any], doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig()
    kept: list = []
    monkeypatch.setattr(rig.module, "init_libnvinfer_plugins", lambda logger, name: kept.append(weakref.ref(logger)))
    for _ in range(3):
        rig.maker(doubling, FIXED)().close()
    gc.collect()
    assert len(kept) == 1
    assert kept[0]() is make_logger(rig.library, MessageLog())


def test_a_dla_core_and_code_in_plans_are_what_the_options_say(
    make_rig: Callable[..., Any], doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig("10.3", dla_cores=2)
    slot = rig.maker(doubling, FIXED, dla_core=1, allows_host_code=True)()
    assert slot._shared._runtime.DLA_core == 1
    assert slot._shared._runtime.engine_host_code_allowed
    slot.close()
    other = rig.maker(doubling, FIXED)()
    assert not other._shared._runtime.engine_host_code_allowed
    other.close()


def test_a_dla_core_that_is_not_there_is_refused(make_rig: Callable[..., Any], doubling: bytes) -> None:
    with pytest.raises(
        BackendUnavailableError, match=r"DLA core 1 can't be used: .*this platform has 1.*; build it for"
    ):
        make_rig("10.3", dla_cores=1).maker(doubling, FIXED, dla_core=1)


def test_values_that_are_not_one_after_another_are_refused(
    make_rig: Callable[..., Any], doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig("10.3")
    monkeypatch.setattr(rig.module.ICudaEngine, "get_tensor_format", lambda self, name: rig.module.TensorFormat.CHW32)
    with pytest.raises(BackendError, match="tensor 'x': expected values one after another"):
        rig.maker(doubling, FIXED)


def test_code_in_plans_is_refused_by_a_tensorrt_that_knows_none(make_rig: Callable[..., Any], doubling: bytes) -> None:
    with pytest.raises(BackendUnavailableError, match=r"8\.2\.1\.8 has no VERSION_COMPATIBLE"):
        make_rig("8.2").maker(doubling, FIXED, allows_host_code=True)


def test_a_plugin_library_that_is_missing_is_named(make_rig: Callable[..., Any], doubling: bytes) -> None:
    with pytest.raises(BackendUnavailableError, match=r"plugin library /none/ops\.so: can't be loaded"):
        make_rig().maker(doubling, FIXED, plugins=("/none/ops.so",))


def test_the_standard_plugins_are_registered_before_a_plan_is_loaded(
    make_rig: Callable[..., Any], doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig()
    order: list = []
    real = rig.module.Runtime
    monkeypatch.setattr(rig.module, "init_libnvinfer_plugins", lambda logger, name: order.append(name))
    monkeypatch.setattr(rig.module, "Runtime", lambda logger: order.append("runtime") or real(logger))
    rig.maker(doubling, FIXED)().close()
    assert order == ["", "runtime"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "maped"}, "engine option memory 'maped': did you mean 'mapped'"),
        ({"graphs": "on"}, "engine option graphs 'on': valid: auto, off"),
    ],
)
def test_modes_that_there_are_not_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TensorRTOptions(**options)
    assert dataclasses.replace(TensorRTOptions(), memory="copy").memory == "copy"
