"""`edge-runtime telemetry`: a group of commands, each in a module of its own that is loaded when it is asked for."""

from __future__ import annotations

import importlib
from typing import Sequence

import typer

COMMANDS = {
    "parse": "Read tegrastats logs of any release: every line as JSON, or a summary.",
    "sources": "Say what tells of this machine, which source is used and why, and what its power modes set.",
    "watch": "Print samples of this machine's power, heat, clocks and load.",
}
_HELP = "Read what a board tells about its power, heat, clocks and load. Every command takes --json."


def group(words: Sequence[str], epilog: str) -> typer.Typer:
    """The group with every command named, and only the one in `words` loaded."""
    app = typer.Typer(help=_HELP, epilog=epilog, no_args_is_help=True, add_completion=False)
    named = [word for word in words if not word.startswith("-")]
    for name, summary in COMMANDS.items():
        function = _not_loaded
        if named[1:2] == [name]:
            function = importlib.import_module(f"edge_runtime.cli.telemetry_{name}").command
        app.command(name, help=summary, epilog=epilog)(function)
    return app


def _not_loaded() -> None:
    raise AssertionError("a command is run only when it was loaded")
