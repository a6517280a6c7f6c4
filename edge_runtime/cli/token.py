"""`edge-runtime token`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import typer

from edge_runtime.cli.flags import json_option
from edge_runtime.cli.output import Output
from edge_runtime.cli.output_file import check_output_file, write_output_file


def command(
    name: str = typer.Argument(..., metavar="NAME", help="Whose token it is."),
    file: Path = typer.Option(
        ..., "--file", metavar="FILE", help="The server's file of tokens; made if it isn't there."
    ),
    is_admin: bool = typer.Option(False, "--admin", help="Let it load and unload models, and change what is logged."),
    is_json: bool = json_option(),
) -> None:
    """Make a token, print it once, and add its SHA-256 to a server's file of tokens.

    To take a token back, remove its line. A running server reads the file again on SIGHUP.
    """
    from edge_runtime.errors import ConfigError
    from edge_runtime.wire.tokens import new_token, parsed_tokens, token_line

    check_output_file(file, "--file")
    try:
        text = file.read_text() if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tokens {file}: can't be read ({error})") from error
    token = new_token()
    text += "\n" if text and not text.endswith("\n") else ""
    text += f"{token_line(name, is_admin, token)}\n"
    parsed_tokens(text, f"tokens {file}")
    before = file.stat() if file.exists() else None
    write_output_file(file, text.encode(), "--file")
    if before is not None:
        with contextlib.suppress(PermissionError):  # only root may give it back to whom it was
            os.chown(file, before.st_uid, before.st_gid)
    file.chmod(0o644 if before is None else before.st_mode & 0o755)  # a server takes none that others may write
    output = Output(is_json)
    if is_json:
        output.document({"name": name, "right": "admin" if is_admin else "infer", "token": token, "file": str(file)})
    else:
        output.say(token)
