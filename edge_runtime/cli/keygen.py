"""`edge-runtime keygen`."""

from __future__ import annotations

from pathlib import Path

import typer

from edge_runtime.cli.flags import json_option, one_of
from edge_runtime.cli.output import Output

_ENCRYPTION = "encryption"
_ROLES = ("vendor", "device-built", _ENCRYPTION)


def command(
    name: str = typer.Argument(
        ..., metavar="NAME", help="What the key is called; its files are NAME.key and NAME.pub."
    ),
    role: str = typer.Option(
        "vendor",
        "--role",
        metavar="|".join(_ROLES),
        callback=one_of(_ROLES),
        help="vendor: signs plans and packs; device-built: a device's own key, for plans built there; "
        "encryption: the key of encrypted plans.",
    ),
    out: Path = typer.Option(Path(), "--out", metavar="FOLDER", help="Where the files go."),
    is_json: bool = json_option(),
) -> None:
    """Make a key that signs plans and packs, or the key of encrypted plans.

    NAME.key is the secret: only its owner can read it. NAME.pub goes into the trust folder of each device.
    """
    from edge_runtime.plan.keys import new_key, write_key_pair
    from edge_runtime.plan.plan_key import new_plan_key, write_plan_key

    output = Output(is_json)
    if role == _ENCRYPTION:
        plan_key = new_plan_key()
        private = write_plan_key(plan_key, name, out)
        facts = {"name": name, "role": role, "key_id": plan_key.id.hex(), "key": str(private)}
        text = f"{private}: key {facts['key_id']} of encrypted plans; keep a copy where no device is"
    else:
        key = new_key(name, role)
        private, public = write_key_pair(key, out)
        facts = {"name": name, "role": role, "key_id": key.public.id, "key": str(private), "public": str(public)}
        text = (
            f"{private}, {public}: key {key.public.id[:12]}…, role {role}; trust it: put {public.name} into trusted.d"
        )
    if is_json:
        output.document(facts)
    else:
        output.say(text)
