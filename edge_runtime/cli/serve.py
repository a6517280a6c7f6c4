"""`edge-runtime serve`."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

import typer

from edge_runtime.cli.flags import engines_option, flag, given, json_option, one_of
from edge_runtime.cli.hangup import early_hangup, release_hangups
from edge_runtime.cli.journal import is_journal
from edge_runtime.cli.output import Output
from edge_runtime.cli.pause import pausing
from edge_runtime.cli.service_log import ServiceLog
from edge_runtime.errors import ConfigError
from edge_runtime.plan.serving import ServingTable, with_rungs
from edge_runtime.server.settings import ServerSettings

if TYPE_CHECKING:
    from edge_runtime.cli.server_config import ServerConfig
    from edge_runtime.cli.startup import Startup
    from edge_runtime.engine.engine import Engine
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.server.accelerators import Prepared
    from edge_runtime.server.keeping import Keeping
    from edge_runtime.server.listeners import Bound
    from edge_runtime.server.memory.admission import Admission
    from edge_runtime.server.passed_sockets import PassedSockets
    from edge_runtime.server.service_manager import ServiceManager
    from edge_runtime.server.warm_up import Measured

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS = ("auto", "text", "json", "journal")
_LOAD_S = 180.0


def command(
    models: List[str] = typer.Argument(None, metavar="[MODEL]...", help="Models to serve (default: all in the store)."),
    engines: Path = engines_option(),
    config: Optional[Path] = typer.Option(
        None, "--config", metavar="FILE", help="TOML file with the tables [server], [serving] and [trust]."
    ),
    http: Optional[str] = flag(ServerSettings, "http", "--http", metavar="HOST:PORT"),
    grpc: Optional[str] = flag(ServerSettings, "grpc", "--grpc", metavar="HOST:PORT"),
    unix: Optional[str] = flag(ServerSettings, "unix", "--unix", metavar="PATH"),
    allow_client_shm: Optional[bool] = flag(
        ServerSettings, "allow_client_shm", "--allow-client-shm/--no-allow-client-shm"
    ),
    model_control: Optional[bool] = flag(ServerSettings, "model_control", "--model-control"),
    follow: Optional[bool] = flag(ServerSettings, "follow", "--follow/--no-follow"),
    stay_up: Optional[bool] = flag(ServerSettings, "stay_up", "--stay-up/--no-stay-up"),
    tokens: Optional[str] = flag(ServerSettings, "tokens", "--tokens", metavar="FILE"),
    tls_certificate: Optional[str] = flag(ServerSettings, "tls_certificate", "--tls-certificate", metavar="FILE"),
    tls_key: Optional[str] = flag(ServerSettings, "tls_key", "--tls-key", metavar="FILE"),
    tls_client_ca: Optional[str] = flag(ServerSettings, "tls_client_ca", "--tls-client-ca", metavar="FILE"),
    board: Optional[str] = flag(ServerSettings, "board", "--board", metavar="SOURCE"),
    idle: Optional[str] = flag(ServerSettings, "idle", "--idle", metavar="off|release"),
    allow_power_changes: Optional[bool] = flag(ServerSettings, "allow_power_changes", "--allow-power-changes"),
    slots: Optional[int] = flag(ServerSettings, "slots", "--slots", minimum=1),
    engine_process: Optional[bool] = flag(ServerSettings, "engine_process", "--engine-process"),
    deadline_ms: Optional[float] = flag(ServingTable, "deadline_ms", "--deadline-ms"),
    batching: Optional[str] = flag(ServingTable, "batching", "--batching", metavar="auto|on|off"),
    log_level: Optional[str] = flag(
        ServerSettings, "log_level", "--log-level", metavar="|".join(_LEVELS), callback=one_of(_LEVELS)
    ),
    log_format: Optional[str] = flag(
        ServerSettings, "log_format", "--log-format", metavar="|".join(_FORMATS), callback=one_of(_FORMATS)
    ),
    is_json: bool = json_option(),
) -> None:
    """Serve plans over the Open Inference Protocol (HTTP, gRPC, a Unix socket) until SIGTERM.

    Prints the bound addresses when every model is loaded and warmed; on SIGTERM, running requests are answered.
    """
    from edge_runtime.cli.server_config import ServerConfig
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.server.passed_sockets import passed_sockets
    from edge_runtime.server.service_manager import service_manager

    flags = given(http=http, grpc=grpc, unix=unix, allow_client_shm=allow_client_shm, slots=slots, tokens=tokens)
    flags.update(given(tls_certificate=tls_certificate, tls_key=tls_key, tls_client_ca=tls_client_ca, idle=idle))
    flags.update(given(model_control=model_control, board=board, engine_process=engine_process, log_level=log_level))
    flags.update(given(follow=follow, stay_up=stay_up, allow_power_changes=allow_power_changes, log_format=log_format))
    wishes = given(deadline_ms=deadline_ms, batching=batching)
    told = ServerConfig(engines, config, flags, wishes, sockets=passed_sockets())
    log = _log(told.first.settings)
    _check(told.first.settings, told.sockets)
    told.export_trust()
    manager = service_manager()
    if not (told.is_reloadable or manager.is_there):
        release_hangups()
    with pausing(manager):
        _serve(PlanStore(engines), models or [], told, Output(is_json), log, manager)


def _names(wanted: Sequence[str], store: PlanStore, told: ServerConfig) -> List[str]:
    """The models to serve: those that were named, or all, and the rungs of their ladders."""
    names, settings = list(dict.fromkeys(wanted or store.models())), told.first.settings
    if not names and not (settings.model_control or settings.follow or settings.stay_up):
        raise ConfigError(f"{store.root}: no plan to serve; build one: edge-runtime build")
    return with_rungs(store.root, names, None if settings.stay_up else store.models(), told.serving)


def _serve(
    store: PlanStore,
    wanted: Sequence[str],
    told: ServerConfig,
    output: Output,
    log: ServiceLog,
    manager: ServiceManager,
) -> None:
    from edge_runtime.cli.first_models import Pardon, first_models
    from edge_runtime.cli.startup import Startup, give_memory_back
    from edge_runtime.cli.store_plans import StorePlans
    from edge_runtime.server.lifecycle import Control, run
    from edge_runtime.server.loads import Loads

    startup, settings = Startup(), told.first.settings
    names = _names(wanted, store, told)
    admission = _admission(settings)
    source = StorePlans(store.root, settings, told.serving, admission)
    pardon = Pardon(settings.stay_up, settings.evict)
    manager.starting(f"loads {', '.join(names) or 'no model'}", _LOAD_S * (1 + len(names)))
    with first_models(store, names, source, pardon, startup.ended) as first, ExitStack() as closing:
        give_memory_back()
        startup.ended("timing runs")
        loads = Loads(source, admission.ledger) if settings.changes_models else None
        if loads is not None:
            closing.callback(loads.close)
        keeping = replace(_keeping(settings, store.root, tuple(names) if wanted else None), refused=first.refused)
        control = Control(loads, log, keeping, admission.ledger, manager, told.sockets, told, early_hangup())
        run(first.made, settings, lambda bound: _ready(bound, first.made, startup, output), control)


def _log(settings: ServerSettings) -> ServiceLog:
    """The log, in the format that was asked for."""
    wanted, to_journal = settings.log_format, is_journal(sys.stderr)
    return ServiceLog(settings.log_level, wanted == "json", has_priorities=wanted == "journal" or to_journal)


def _keeping(settings: ServerSettings, engines: Path, names: Optional[Tuple[str, ...]]) -> Keeping:
    """What the server is to do about its models by itself."""
    from edge_runtime.plan.progress import progress_text
    from edge_runtime.server.keeping import Keeping
    from edge_runtime.server.rebuild import Rebuilds

    requests = settings.rebuild_requests
    return Keeping(
        names=names,
        is_following=settings.follow,
        is_staying_up=settings.stay_up,
        is_open=settings.model_control,
        rebuilds=None if requests is None else Rebuilds(Path(requests), partial(progress_text, engines)),
        interval_s=settings.follow_interval_s,
        evict_idle_s=settings.evict_idle_s if settings.evict else None,
    )


def _admission(settings: ServerSettings) -> Admission:
    """What decides whether there is memory for a model."""
    from edge_runtime.server.memory.admission import Admission
    from edge_runtime.server.memory.ledger import MemoryLedger, MemoryLimits
    from edge_runtime.server.memory.needs import MemoryNeeds

    budget_mib, state = settings.memory_budget_mib, settings.state or os.environ.get("STATE_DIRECTORY")
    limits = MemoryLimits(settings.memory_reserve_mib << 20, None if budget_mib is None else budget_mib << 20)
    kept = None if not state else Path(state.partition(":")[0]) / "memory-needs.json"
    return Admission(MemoryLedger(limits), MemoryNeeds(kept), in_process=not settings.engine_process)


def _check(settings: ServerSettings, sockets: PassedSockets) -> None:
    """Finds out whether what the settings ask for can be had."""
    from edge_runtime.device.telemetry.board_choice import board_choice
    from edge_runtime.server.addresses import check_free

    check_free(settings, sockets.by_name)
    if board_choice(settings.board).path is not None:
        from edge_runtime.device.telemetry.board import check_board

        check_board(settings.board)


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
