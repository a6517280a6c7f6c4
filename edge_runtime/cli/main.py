"""The `edge-runtime` command: finds the verb, loads just that one, and turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 usage, 75 busy, 78 configuration, 128 + N ended by signal N.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import json
import logging
import os
import sys
from typing import Any, Dict, Sequence, Tuple

import typer

from edge_runtime.cli.hangup import hold_hangups
from edge_runtime.cli.interruption import Interruption, interruptible
from edge_runtime.cli.journal import is_journal, with_priority
from edge_runtime.cli.printable import finite, printable
from edge_runtime.errors import ConfigError, EdgeRuntimeError, GateError, UsageError, VerdictError

VERBS = {
    "build": "Build a plan from a recipe or an ONNX model, and publish it if it passes the gate.",
    "pack": "Put a recipe, its model, calibration and samples into one signed file, for devices.",
    "unpack": "Verify a pack and put it into a store, to be built there.",
    "rebuild": "Build plans anew that no longer fit this machine, or that a server asked for.",
    "calibrate": "Make only the calibration tables of a recipe or an ONNX model.",
    "inspect": "Show what a plan, an ONNX model or a calibration cache holds.",
    "keygen": "Make a key that signs plans and packs, or the key of encrypted plans.",
    "sign": "Sign a plan: its manifest and every file of it.",
    "verify": "Check a plan's signature and its files, and say who vouches for it.",
    "encrypt": "Publish a plan once more as a new version, encrypted for this device.",
    "serve": "Serve plans over the Open Inference Protocol (HTTP, gRPC, a Unix socket) until SIGTERM.",
    "rollback": "Serve the version of a model that was served before, or any other, and list them.",
    "token": "Make a token for a server's clients.",
    "infer": "Run a plan once, in this process or on a server.",
    "bench": "Measure latency and throughput, in this process or against a server.",
    "profile": "Explain a plan's latency by stage, and each outlier by what the board and this process did.",
    "sweep": "Measure a model in every precision, batch size and power mode, and say which to take.",
    "power": "Propose a power mode from a sweep or a server's load, and set it if told to.",
    "doctor": "Say what this machine can run, and what is missing.",
    "telemetry": "Read what a board tells about its power, heat, clocks and load; tegrastats logs too.",
    "install-unit": "Install the server, and what builds its plans, as services of systemd.",
    "import-triton": "Make recipes of a Triton model repository, and say what becomes of each field.",
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_EPILOG = "Exit codes: 0 done, 1 failed, 2 usage, 75 busy, 78 configuration, 128 + N ended by signal N."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one verb and exits with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:
        typer.echo("edge-runtime: standard output is closed; send it to a file or to another command", err=True)
        sys.exit(1)
    is_serving = _verb(words) == "serve"
    if is_serving:
        hold_hangups()
        gc.disable()  # until it is ready: what a start makes is there to stay
    with contextlib.ExitStack() as stack:
        interruption = None if is_serving else stack.enter_context(interruptible())  # serve drains by itself
        code, error = _outcome(words, interruption)
    if error is not None:
        _report(error, words)
    sys.exit(_flushed(code))


def _outcome(words: Sequence[str], interruption: Interruption | None) -> Tuple[Any, BaseException | None]:
    """The exit code, and what is still to be said of it; what fails after a signal is a consequence of that."""
    code, error = 1, None
    try:
        code, error = _run(words)
    except KeyboardInterrupt:  # it came before or after what typer guards
        if interruption is None or interruption.error is None:
            raise
    if interruption is None or interruption.error is None or code == 0:
        return code, error
    return interruption.error.exit_code, interruption.error


def _run(words: Sequence[str]) -> Tuple[Any, BaseException | None]:
    try:
        _app(words)(words, prog_name="edge-runtime")
    except EdgeRuntimeError as error:
        return error.exit_code, error
    except OSError as error:
        cause = _cause(error)
        if cause is None:
            raise
        return cause.exit_code, cause
    except SystemExit as ending:
        if ending.code == UsageError.exit_code and "--json" in words:
            _print_json(UsageError("wrong usage; stderr says what, --help shows how"))
        return ending.code, None
    return 0, None


def _cause(error: OSError) -> EdgeRuntimeError | None:
    """What of the process's own surroundings an error comes from; None if it doesn't."""
    if isinstance(error, FileNotFoundError) and not _has_folder():
        return ConfigError("the current folder was removed; change to one that is there")
    is_of_a_stream = error.filename is None  # what fails to open has a name
    return _unwritable(error) if is_of_a_stream and error.errno in _NO_ROOM else None


def _unwritable(error: OSError) -> EdgeRuntimeError:
    return EdgeRuntimeError(f"the output can't be written ({error.strerror})")


def _has_folder() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109  (of the process, not a path to go on with)
    except FileNotFoundError:
        return False


def _flushed(code: Any) -> Any:
    """The exit code, after what was printed is out, or can't be."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # or the interpreter fails by it once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code == 0:
            _report(_unwritable(error), ())
            return 1
    return code


def _verb(words: Sequence[str]) -> str | None:
    return next((word for word in words if not word.startswith("-")), None)


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
    chosen = _verb(words)
    for verb, summary in VERBS.items():
        if verb != chosen:
            app.command(verb, help=summary, epilog=_EPILOG)(_not_loaded)
            continue
        module = importlib.import_module(f"edge_runtime.cli.{verb.replace('-', '_')}")
        if hasattr(module, "group"):  # of commands, each with a module of its own
            app.add_typer(module.group(words, _EPILOG), name=verb)
        else:
            app.command(verb, help=summary, epilog=_EPILOG)(module.command)
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


def _report(error: BaseException, words: Sequence[str]) -> None:
    if "--json" in words and not isinstance(error, VerdictError):  # its report is the one document
        _print_json(error)
    text = f"edge-runtime: {printable(str(error))}"
    typer.echo(with_priority(text, logging.ERROR) if is_journal(sys.stderr) else text, err=True)


def _print_json(error: BaseException) -> None:
    content: Dict[str, Any] = {"error": {"type": type(error).__name__, "message": str(error)}}
    if isinstance(error, GateError):
        for key in ("candidates", "sensitivity"):
            content[key] = [record.model_dump(mode="json") for record in getattr(error, key)]
    with contextlib.suppress(OSError):  # stderr has the reason too
        typer.echo(json.dumps(finite(content)))
