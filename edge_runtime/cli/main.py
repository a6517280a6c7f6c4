"""The `edge-runtime` command: finds the verb, loads just that one, and turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 usage, 78 configuration.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any, Dict, Sequence

import typer

from edge_runtime.errors import EdgeRuntimeError, GateError, UsageError

VERBS = {
    "build": "Build a plan from a recipe or an ONNX model, and publish it if it passes the gate.",
    "calibrate": "Make only the calibration tables of a recipe or an ONNX model.",
    "inspect": "Show what a plan, an ONNX model or a calibration cache holds.",
    "serve": "Serve plans over the Open Inference Protocol (HTTP and gRPC) until SIGTERM.",
    "infer": "Run a plan once, in this process or on a server.",
    "bench": "Measure latency and throughput, in this process or against a server.",
    "doctor": "Say what this machine can run, and what is missing.",
}
_EPILOG = "Exit codes: 0 done, 1 failed, 2 usage, 78 configuration."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one verb and exits with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _app(words)(words, prog_name="edge-runtime")
    except EdgeRuntimeError as error:
        _report(error, as_json="--json" in words)
        sys.exit(error.exit_code)
    except SystemExit as ending:
        if ending.code == UsageError.exit_code and "--json" in words:
            _print_json(UsageError("wrong usage; stderr says what, --help shows how"))
        raise


def _app(words: Sequence[str]) -> typer.Typer:
    """The command with every verb named, and only the one in `words` loaded."""
    app = typer.Typer(
        help="Take a trained ONNX model to a verified plan, keep it resident, and measure it.",
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for verb, summary in VERBS.items():
        function = _not_loaded
        if verb == chosen:
            function = importlib.import_module(f"edge_runtime.cli.{verb}").command
        app.command(verb, help=summary, epilog=_EPILOG)(function)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from edge_runtime import __version__

        typer.echo(__version__)
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Options of the command itself."""


def _not_loaded() -> None:
    raise AssertionError("a verb is run only when it was loaded")


def _report(error: EdgeRuntimeError, as_json: bool) -> None:
    if as_json:
        _print_json(error)
    typer.echo(f"edge-runtime: {error}", err=True)


def _print_json(error: EdgeRuntimeError) -> None:
    content: Dict[str, Any] = {"error": {"type": type(error).__name__, "message": str(error)}}
    if isinstance(error, GateError):
        for key in ("candidates", "sensitivity"):
            content[key] = [record.model_dump(mode="json") for record in getattr(error, key)]
    typer.echo(json.dumps(content))
