"""`edge-runtime serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer

from edge_runtime.cli.flags import engines_option, flag, given, json_option, one_of
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.config import environment_layer, merged, validated
from edge_runtime.errors import ConfigError
from edge_runtime.server.settings import ServerSettings

if TYPE_CHECKING:
    from edge_runtime.engine.engine import Engine
    from edge_runtime.server.lifecycle import Bound

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def command(
    models: List[str] = typer.Argument(None, metavar="[MODEL]...", help="Models to serve (default: all in the store)."),
    engines: Path = engines_option(),
    http: Optional[str] = flag(ServerSettings, "http", "--http", metavar="HOST:PORT"),
    grpc: Optional[str] = flag(ServerSettings, "grpc", "--grpc", metavar="HOST:PORT"),
    slots: Optional[int] = flag(ServerSettings, "slots", "--slots", minimum=1),
    log_level: Optional[str] = typer.Option(
        "WARNING", "--log-level", help="What goes to stderr.", metavar="|".join(_LEVELS), callback=one_of(_LEVELS)
    ),
    is_json: bool = json_option(),
) -> None:
    """Serve plans over the Open Inference Protocol (HTTP and gRPC) until SIGTERM.

    Prints the bound addresses when every model is loaded and warmed; on SIGTERM, running requests are answered.
    """
    from edge_runtime.engine.loading import EngineOptions, default_slots, load
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.server.lifecycle import run

    configure_logging(log_level or "WARNING")
    layers = merged(
        environment_layer(os.environ, ("server",)).get("server", {}), given(http=http, grpc=grpc, slots=slots)
    )
    settings = validated(ServerSettings, layers, "[server]")
    output = Output(is_json)
    store = PlanStore(engines)
    names = models or store.models()
    if not names:
        raise ConfigError(f"{engines}: no plan to serve; build one: edge-runtime build")
    loaded: List[Engine] = []
    try:
        for name in dict.fromkeys(names):
            stored = store.open(name)
            options = EngineOptions(
                slots=settings.slots or default_slots(stored.manifest),
                memory=settings.memory,
                graphs=settings.graphs,
                plugins=settings.plugins,
            )
            loaded.append(load(stored, options))
        run(loaded, settings, lambda bound: _ready(bound, loaded, output))
    finally:
        for engine in loaded:
            engine.close()


def _ready(bound: Bound, engines: List[Engine], output: Output) -> None:
    if output.is_json:
        output.document({"event": "ready", "http": bound.http, "grpc": bound.grpc})
        return
    for engine in engines:
        info = engine.info
        output.say(f"{info.name} version {info.version}: {info.precision} on {info.backend} ({info.device})")
    output.say(f"ready: http {bound.http}, grpc {bound.grpc}")
