"""`edge-runtime unpack`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from edge_runtime.cli.flags import engines_option, flag, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.plan.trust import TrustSettings

if TYPE_CHECKING:
    from edge_runtime.provisioning.unpacking import Unpacked


def command(
    source: Path = typer.Argument(..., metavar="NAME.pack", help="The pack."),
    allow_older: bool = typer.Option(
        False, "--allow-older", help="Go back to a release below one that was unpacked before."
    ),
    folder: Optional[str] = flag(TrustSettings, "folder", "--trusted", metavar="FOLDER"),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Verify a pack and put it into a store, where its recipe can be built.

    It is there whole and as it was signed, or not at all. A pack that is there already is left as it is.
    """
    from edge_runtime.plan.trust import trust_policy
    from edge_runtime.provisioning.unpacking import unpack

    configure_logging()
    policy = trust_policy()
    policy = policy if folder is None else replace(policy, folder=Path(folder))
    _print(unpack(source, engines, policy, allow_older), Output(is_json))


def _print(unpacked: Unpacked, output: Output) -> None:
    statement, signer = unpacked.statement, unpacked.signer
    if output.is_json:
        output.document(
            {
                "recipe": str(unpacked.recipe),
                "model": statement.model,
                "release": statement.release,
                "sha256": unpacked.sha256,
                "signer": None if signer is None else {"name": signer.name, "role": signer.role, "key_id": signer.id},
                "unchanged": unpacked.is_unchanged,
                "removed": unpacked.removed,
            }
        )
        return
    done = "unchanged" if unpacked.is_unchanged else "unpacked"
    who = "NOT SIGNED: nobody vouches for it" if signer is None else f"signed by {signer.name!r} (role {signer.role})"
    output.say(f"{done}: {statement.model} release {statement.release}, {who}")
    if unpacked.removed:
        output.say(f"removed releases {', '.join(map(str, unpacked.removed))}")
    output.say(f"build it: edge-runtime build {unpacked.recipe}")
