"""`edge-runtime sign`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

import typer

from edge_runtime.cli.flags import engines_option, json_option
from edge_runtime.cli.keys import CREDENTIAL, key_option
from edge_runtime.cli.named_plan import named_plan, plan_argument
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.errors import UsageError


def command(
    target: str = plan_argument(),
    key: Optional[Path] = key_option("--key", "The private key"),
    pack_sha256: str = typer.Option(
        "", "--pack-sha256", metavar="HEX", help="Digest of the pack that it was built from."
    ),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Sign a plan: its manifest and every file of it, which are checked before.

    The signature is manifest.dsse.json beside the manifest; it replaces one that is there.
    """
    from edge_runtime.plan.keys import find_private_key
    from edge_runtime.plan.signature import sign_version, signer
    from edge_runtime.plan.store import SIGNATURE

    configure_logging()
    if pack_sha256 and not re.fullmatch("[0-9a-f]{64}", pack_sha256):
        raise UsageError(f"--pack-sha256 {pack_sha256[:80]!r}: expected 64 hex digits; sha256sum prints them")
    stored = named_plan(target, engines)
    private = find_private_key(CREDENTIAL, key)
    sign_version(stored, signer(private, pack_sha256))
    path, manifest = stored.folder / SIGNATURE, stored.manifest
    output = Output(is_json)
    if is_json:
        facts = {"name": private.name, "role": private.role, "key_id": private.public.id}
        output.document({"signature": str(path), "model": manifest.name, "version": manifest.version, "signer": facts})
        return
    output.say(f"{manifest.name} version {manifest.version}: signed by {private.name!r} (role {private.role}): {path}")
