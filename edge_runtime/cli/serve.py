"""`edge-runtime serve`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence

import typer

from edge_runtime.cli.flags import engines_option, flag, given, json_option, one_of
from edge_runtime.cli.hangup import release_hangups
from edge_runtime.cli.output import Output
from edge_runtime.cli.service_log import FORMATS, ServiceLog
from edge_runtime.config import Layer, environment_layer, merged, validated
from edge_runtime.errors import ConfigError
from edge_runtime.plan.serving import ServingTable, serving_table
from edge_runtime.server.settings import ServerSettings

if TYPE_CHECKING:
    from edge_runtime.cli.startup import Startup
    from edge_runtime.engine.engine import Engine
    from edge_runtime.plan.store import StoredPlan
    from edge_runtime.server.accelerators import Prepared
    from edge_runtime.server.listeners import Bound
    from edge_runtime.server.warm_up import Measured

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def command(
    models: List[str] = typer.Argument(None, metavar="[MODEL]...", help="Models to serve (default: all in the store)."),
    engines: Path = engines_option(),
    http: Optional[str] = flag(ServerSettings, "http", "--http", metavar="HOST:PORT"),
    grpc: Optional[str] = flag(ServerSettings, "grpc", "--grpc", metavar="HOST:PORT"),
    unix: Optional[str] = flag(ServerSettings, "unix", "--unix", metavar="PATH"),
    allow_client_shm: Optional[bool] = flag(
        ServerSettings, "allow_client_shm", "--allow-client-shm/--no-allow-client-shm"
    ),
    model_control: Optional[bool] = flag(ServerSettings, "model_control", "--model-control"),
    tokens: Optional[str] = flag(ServerSettings, "tokens", "--tokens", metavar="FILE"),
    tls_certificate: Optional[str] = flag(ServerSettings, "tls_certificate", "--tls-certificate", metavar="FILE"),
    tls_key: Optional[str] = flag(ServerSettings, "tls_key", "--tls-key", metavar="FILE"),
    tls_client_ca: Optional[str] = flag(ServerSettings, "tls_client_ca", "--tls-client-ca", metavar="FILE"),
    board: Optional[str] = flag(ServerSettings, "board", "--board", metavar="SOURCE"),
    slots: Optional[int] = flag(ServerSettings, "slots", "--slots", minimum=1),
    engine_process: Optional[bool] = flag(ServerSettings, "engine_process", "--engine-process"),
    deadline_ms: Optional[float] = flag(ServingTable, "deadline_ms", "--deadline-ms"),
    batching: Optional[str] = flag(ServingTable, "batching", "--batching", metavar="auto|on|off"),
    log_level: Optional[str] = typer.Option(
        "WARNING", "--log-level", help="What goes to stderr.", metavar="|".join(_LEVELS), callback=one_of(_LEVELS)
    ),
    log_format: Optional[str] = typer.Option(
        "text", "--log-format", help="How it is written.", metavar="text|json", callback=one_of(FORMATS)
    ),
    is_json: bool = json_option(),
) -> None:
    """Serve plans over the Open Inference Protocol (HTTP, gRPC, a Unix socket) until SIGTERM.

    Prints the bound addresses when every model is loaded and warmed; on SIGTERM, running requests are answered.
    """
    from edge_runtime.plan.store import PlanStore

    log = ServiceLog(log_level or "WARNING", is_json=log_format == "json")
    flags = given(http=http, grpc=grpc, unix=unix, allow_client_shm=allow_client_shm, slots=slots, tokens=tokens)
    flags.update(given(tls_certificate=tls_certificate, tls_key=tls_key, tls_client_ca=tls_client_ca))
    flags.update(given(model_control=model_control, board=board, engine_process=engine_process))
    settings = _settings(flags)
    if not settings.is_reloadable:
        release_hangups()
    output = Output(is_json)
    store = PlanStore(engines)
    names = models or store.models()
    if not names and not settings.model_control:
        raise ConfigError(f"{engines}: no plan to serve; build one: edge-runtime build")
    wishes = given(deadline_ms=deadline_ms, batching=batching)
    _serve([store.open(name) for name in dict.fromkeys(names)], engines, settings, wishes, output, log)


def _serve(
    plans: Sequence[StoredPlan],
    engines: Path,
    settings: ServerSettings,
    wishes: Layer,
    output: Output,
    log: ServiceLog,
) -> None:
    from edge_runtime.cli.startup import Startup, give_memory_back, loading, raise_floor, warn_of_unsigned

    serving = {plan.manifest.name: serving_table(engines, plan.manifest.name, wishes) for plan in plans}
    startup = Startup()
    warn_of_unsigned(plans)
    with loading(plans, settings) as engines_to_be, ExitStack() as closing:
        from edge_runtime.cli.store_plans import StorePlans
        from edge_runtime.plan.golden import read_golden
        from edge_runtime.server.accelerators import prepared
        from edge_runtime.server.lifecycle import Control, run
        from edge_runtime.server.loads import Loads

        loaded = [engine.result() for engine in engines_to_be]
        startup.ended("loading and warming up")
        # One after another: beside each other the timed runs would take longer than alone.
        made = [prepared(engine, serving[engine.info.name], read_golden(plan)) for engine, plan in zip(loaded, plans)]
        for plan in plans:
            raise_floor(plan)
        give_memory_back()
        startup.ended("timing runs")
        loads = Loads(StorePlans(engines, settings, wishes)) if settings.model_control else None
        if loads is not None:
            closing.callback(loads.close)
        run(made, settings, lambda bound: _ready(bound, made, startup, output), Control(loads, log))


def _settings(flags: Layer) -> ServerSettings:
    """What the environment and the flags ask for, if it can be had."""
    from edge_runtime.device.telemetry.board_choice import board_choice
    from edge_runtime.server.addresses import check_access, check_free

    layers = merged(environment_layer(os.environ, ("server",)).get("server", {}), flags)
    settings = validated(ServerSettings, layers, "[server]")
    check_access(settings)
    check_free(settings)
    if board_choice(settings.board).path is not None:
        from edge_runtime.device.telemetry.board import check_board

        check_board(settings.board)
    return settings


def _ready(bound: Bound, prepared: Sequence[Prepared], startup: Startup, output: Output) -> None:
    startup.ready()
    if output.is_json:
        addresses = {"http": bound.http, "grpc": bound.grpc, "unix": bound.unix}
        output.document({"event": "ready", **addresses, "startup_s": startup.seconds})
        return
    for engine, measured, *_ in prepared:
        info = engine.info
        output.say(
            f"{info.name} version {info.version}: {info.precision} on {info.backend} ({info.device}), "
            f"{_threads(engine)}{_batches(measured)}"
        )
    output.say("ready after " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in startup.seconds.items()))
    unix = "" if bound.unix is None else f", unix {bound.unix}"
    output.say(f"ready: http {bound.http}, grpc {bound.grpc}{unix}")


def _threads(engine: Engine) -> str:
    from edge_runtime.engine.loading import EngineOptions

    slots = engine.slot_count
    text = f"{slots} run{'s' if slots > 1 else ''} at once"
    if engine.info.device != "cpu":
        return text
    threads = EngineOptions(slots=slots).resolved_threads
    return f"{text}, {threads} thread{'s' if threads > 1 else ''} each"


def _batches(measured: Measured) -> str:
    return ", requests share runs" if measured.has_independent_rows else ""
