"""What TensorRT can, its log and its failures in our words: on fakes, and on the real TensorRT-RTX."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

import pytest
from fakes.tensorrt import SURFACES, VERSIONS, fake_tensorrt
from fakes.tensorrt_session import dense_model

from edge_runtime import tensorrt_api
from edge_runtime.errors import BackendError, BackendUnavailableError, ConfigError
from edge_runtime.tensorrt_api import (
    FULL,
    LEAN,
    RTX,
    Capability,
    MessageLog,
    TensorRT,
    capabilities_of,
    dtype_of,
    failure_text,
    from_module,
    library_log,
    make_logger,
    plugin_library_error,
    remedy,
    translated,
)
from edge_runtime.tensors import DType

PACKAGE_LOG = "edge_runtime.tensorrt_api"


def library(surface: str = "10.3") -> TensorRT:
    return from_module(FULL, fake_tensorrt(surface))


def test_a_library_that_nobody_knows_is_no_library() -> None:
    with pytest.raises(ConfigError, match="TensorRT library 'tensorrt_rtc': did you mean 'tensorrt_rtx'"):
        tensorrt_api.load("tensorrt_rtc")


@pytest.mark.parametrize("name", tensorrt_api.LIBRARIES)
def test_a_library_that_isnt_installed_says_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailableError) as caught:
        tensorrt_api.load(name)
    assert f"backend {name}: the package can't be imported" in str(caught.value)
    assert str(caught.value).endswith(remedy(name))


@pytest.mark.parametrize(
    "error",
    [OSError("libnvinfer.so.10: cannot open shared object file"), RuntimeError("no such driver"), AttributeError("x")],
    ids=repr,
)
def test_a_library_whose_own_libraries_are_missing_is_unavailable(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(BackendUnavailableError, match=f"can't be imported .{error}"):
        tensorrt_api.load()


def test_a_folder_of_that_name_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LEAN).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, LEAN, raising=False)
    if importlib.util.find_spec(LEAN).origin is not None:
        pytest.skip("tensorrt-lean is installed, and goes before a folder")
    assert tensorrt_api.installed(LEAN) is None
    with pytest.raises(BackendUnavailableError, match="is a folder without it"):
        tensorrt_api.load(LEAN)
    sys.modules.pop(LEAN, None)


@pytest.mark.parametrize("name", [RTX, LEAN, FULL])
def test_each_library_has_its_own_remedy(name: str) -> None:
    assert {RTX: "tensorrt-rtx-cu12", LEAN: "tensorrt-lean", FULL: "--system-site-packages"}[name] in remedy(name)


@pytest.mark.parametrize("surface", SURFACES)
def test_a_library_says_its_name_and_version(surface: str) -> None:
    assert library(surface).text == f"tensorrt {VERSIONS[surface]}"


def test_a_module_without_a_version_is_of_an_unknown_one() -> None:
    assert from_module(FULL, ModuleType("tensorrt")).version == "unknown"


def test_a_module_without_names_can_nothing() -> None:
    assert capabilities_of(ModuleType("tensorrt")) == frozenset()


def test_a_lean_runtime_runs_and_doesnt_build() -> None:
    module = fake_tensorrt("11.4")
    for name in ("Builder", "OnnxParser", "EngineInspector"):
        delattr(module, name)
    lean = from_module(LEAN, module)
    assert lean.has(Capability.RUNTIME, Capability.NAME_IO, Capability.PROFILER)
    assert not lean.has(Capability.BUILDER)
    assert not lean.has(Capability.ALWAYS_STRONG)
    assert not lean.has(Capability.INSPECTOR)


def test_a_capability_that_isnt_there_is_named() -> None:
    library("10.3").require(Capability.CALIBRATOR, "INT8")
    with pytest.raises(BackendUnavailableError, match=r"INT8: tensorrt 11.4.0.106 has no CALIBRATOR \(INT8 by a"):
        library("11.4").require(Capability.CALIBRATOR, "INT8")


def test_several_capabilities_are_asked_for_at_once() -> None:
    assert library("8.6").has(Capability.NAME_IO, Capability.INDEX_IO)
    assert not library("10.3").has(Capability.NAME_IO, Capability.INDEX_IO)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("FLOAT", DType.FP32),
        ("HALF", DType.FP16),
        ("INT8", DType.INT8),
        ("UINT8", DType.UINT8),
        ("INT32", DType.INT32),
        ("INT64", DType.INT64),
        ("BOOL", DType.BOOL),
    ],
)
def test_a_data_type_is_found_by_its_name(name: str, dtype: DType) -> None:
    for surface in SURFACES:
        kinds = fake_tensorrt(surface).DataType
        if hasattr(kinds, name):
            assert dtype_of(getattr(kinds, name), "x") is dtype


@pytest.mark.parametrize("name", ["BF16", "FP8", "INT4"])
def test_a_data_type_that_no_tensor_has_is_refused(name: str) -> None:
    with pytest.raises(BackendError, match=f"input 'x': TensorRT data type {name} can't be served; expected FLOAT"):
        dtype_of(getattr(fake_tensorrt("10.3").DataType, name), "input 'x'")


def test_errors_are_kept_until_they_are_taken() -> None:
    log = MessageLog()
    for text in ("first", "second", "first"):
        log.receive("ERROR", text)
    log.receive("INTERNAL_ERROR", "third\n  part")
    log.receive("WARNING", "no error")
    assert log.take_errors() == ("first", "second", "third part")
    assert log.take_errors() == ()


def test_no_more_errors_are_kept_than_anybody_reads() -> None:
    log = MessageLog()
    for index in range(200):
        log.receive("ERROR", f"error {index}")
    assert len(log.take_errors()) == 50


@pytest.mark.parametrize("code", [35, 100])
def test_what_a_missing_driver_adds_is_no_error(code: int) -> None:
    log = MessageLog()
    log.receive("ERROR", f"[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError {code}: no)")
    assert log.take_errors() == ()


def test_another_error_of_cuda_is_one() -> None:
    log = MessageLog()
    log.receive("ERROR", "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 2: memory)")
    assert len(log.take_errors()) == 1


@pytest.mark.parametrize(
    ("severity", "level"),
    [
        ("INTERNAL_ERROR", logging.INFO),
        ("ERROR", logging.INFO),
        ("WARNING", logging.INFO),
        ("INFO", logging.DEBUG),
        ("VERBOSE", logging.DEBUG),
        ("ANYTHING", logging.DEBUG),
    ],
)
def test_messages_are_logged(severity: str, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, PACKAGE_LOG)
    MessageLog().receive(severity, "100 % of\n  a message")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, "100 % of a message")]


@pytest.mark.parametrize("surface", SURFACES)
def test_the_logger_fills_the_log(surface: str) -> None:
    log, given = MessageLog(), library(surface)
    logger = make_logger(given, log)
    assert given.module.Builder(logger).create_network(1 << 20) is None
    assert "flagSet.toU32()" in log.take_errors()[0]


def test_what_tensorrt_raises_comes_with_what_it_logged() -> None:
    log = MessageLog()

    def fail() -> None:
        log.receive("ERROR", "it is broken")
        log.receive("ERROR", "so is this")
        raise RuntimeError("unknown")

    with pytest.raises(BackendError, match=r"plan: it is broken; so is this$") as caught, translated("plan", log):
        fail()
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, ValueError, IndexError])
def test_what_tensorrt_raises_is_told_where_it_logged_nothing(kind: Callable[[str], Exception]) -> None:
    with pytest.raises(BackendError, match="plan: wrong thing"), translated("plan", MessageLog()):
        raise kind("wrong\n thing")


@pytest.mark.parametrize("error", [BackendUnavailableError("x"), KeyError("x"), AssertionError("x"), OSError("x")])
def test_other_exceptions_pass_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated("plan", MessageLog()):
        raise error
    assert caught.value is error


def test_errors_from_before_arent_told() -> None:
    log = MessageLog()
    log.receive("ERROR", "an old one")
    with pytest.raises(BackendError, match=r"^plan: new$"), translated("plan", log):
        raise RuntimeError("new")


def test_a_failure_is_short_and_never_empty() -> None:
    log = MessageLog()
    assert failure_text("plan", log) == "plan: no reason was given"
    for index in range(50):
        log.receive("ERROR", f"{index} {'x' * 200}")
    assert len(failure_text("plan", log)) <= len("plan: ") + 2000


def on_a_thread(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def failure(log: MessageLog, *steps: Callable[[], None]) -> str:
    """What is raised where TensorRT fails after some steps."""

    def fail() -> None:
        for step in steps:
            step()
        raise RuntimeError("unknown")

    with pytest.raises(BackendError) as caught, translated("plan", log):
        fail()
    return str(caught.value)


def test_a_library_has_one_logger_for_good() -> None:
    given = library("10.3")
    first = make_logger(given, MessageLog())
    assert make_logger(given, MessageLog()) is first
    assert make_logger(from_module("tensorrt", given.module), MessageLog()) is first
    assert make_logger(library("10.3"), MessageLog()) is not first


def test_a_message_is_for_the_log_that_its_thread_listens_with() -> None:
    given, outer, inner = library("10.3"), MessageLog(), MessageLog()
    logger, error = make_logger(given, outer), given.module.ILogger.Severity.ERROR
    make_logger(given, inner)
    with outer:
        logger.log(error, "first")
        with inner:
            logger.log(error, "second")
        logger.log(error, "third")
    assert (outer.take_errors(), inner.take_errors()) == (("first", "third"), ("second",))


def test_threads_that_share_a_log_have_their_own_errors() -> None:
    log = MessageLog()

    def say(text: str) -> Callable[[], None]:
        return lambda: log.receive("ERROR", text)

    def other() -> None:
        assert failure(log, say("b")) == "plan: b"
        assert log.take_errors() == ()

    assert failure(log, say("a"), lambda: on_a_thread(other), say("c")) == "plan: a; c"


def test_what_a_thread_of_tensorrt_says_is_for_the_only_log_that_is_listened_with() -> None:
    given, idle, log = library("10.3"), MessageLog(), MessageLog()
    logger = make_logger(given, log)
    make_logger(given, idle)

    def say() -> None:
        on_a_thread(lambda: logger.log(given.module.ILogger.Severity.ERROR, "from within"))

    assert failure(log, say) == "plan: from within"
    assert idle.take_errors() == ()


def test_what_may_be_of_two_plans_is_told_by_neither_and_isnt_lost(caplog: pytest.LogCaptureFixture) -> None:
    given, first, second = library("10.3"), MessageLog(), MessageLog()
    logger = make_logger(given, first)
    make_logger(given, second)
    with first, second:
        on_a_thread(lambda: logger.log(given.module.ILogger.Severity.ERROR, "whose?"))
    assert (first.take_errors(), second.take_errors()) == ((), ())
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", "whose?")]


def test_a_log_that_is_gone_or_removed_gets_no_message(caplog: pytest.LogCaptureFixture) -> None:
    given, kept, removed, gone = library("10.3"), MessageLog(), MessageLog(), MessageLog()
    logger, error = make_logger(given, kept), given.module.ILogger.Severity.ERROR
    for log in (removed, gone):
        make_logger(given, log)
    library_log(given).remove(removed)
    del log, gone
    logger.log(error, "late")
    assert (kept.take_errors(), removed.take_errors()) == (("late",), ())
    library_log(given).remove(kept)
    logger.log(error, "later")
    assert kept.take_errors() == ()
    assert "later" in caplog.text


def test_errors_of_another_thread_of_tensorrt_outlive_the_start_of_a_block() -> None:
    log = MessageLog()

    def other() -> None:
        with translated("other", log):
            pass

    def say() -> None:
        log.receive("ERROR", "from within")

    assert failure(log, lambda: on_a_thread(say), lambda: on_a_thread(other)) == "plan: from within"


def test_a_plugin_library_is_named() -> None:
    text = str(plugin_library_error("/opt/mine.so", OSError("no such file")))
    assert text == "plugin library /opt/mine.so: can't be loaded (no such file); correct [backend] plugins"


@pytest.fixture
def rtx() -> TensorRT:
    pytest.importorskip("tensorrt_rtx")
    return tensorrt_api.load(RTX)


@pytest.mark.tensorrt
def test_tensorrt_rtx_is_installed_loaded_and_known(rtx: TensorRT) -> None:
    assert tensorrt_api.installed(RTX) == rtx.version
    assert rtx.has(Capability.BUILDER, Capability.ALWAYS_STRONG, Capability.COMPUTE_CAPABILITY, Capability.PROGRESS)
    assert not {Capability.CALIBRATOR, Capability.PRECISION_FLAGS, Capability.TIMING_CACHE} & rtx.capabilities


@pytest.mark.tensorrt
def test_the_logger_of_tensorrt_rtx_fills_the_log(rtx: TensorRT) -> None:
    log = MessageLog()
    logger = make_logger(rtx, log)
    network = rtx.module.Builder(logger).create_network(0)
    parser: Any = rtx.module.OnnxParser(network, logger)
    assert parser.parse(dense_model())
    assert network.get_input(7) is None
    assert [text.split(":")[0] for text in log.take_errors()] == ["INetworkDefinition"]
