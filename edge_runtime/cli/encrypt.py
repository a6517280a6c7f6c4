"""`edge-runtime encrypt`."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

from edge_runtime.cli.flags import engines_option, flag, json_option
from edge_runtime.cli.keys import key_option, policy_of, signer_of
from edge_runtime.cli.named_plan import named_plan, plan_argument
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.errors import PlanError
from edge_runtime.plan.trust import TrustSettings


def command(
    target: str = plan_argument(),
    sign: Optional[Path] = key_option("--sign", "Sign the new version with this private key"),
    key: Optional[Path] = flag(TrustSettings, "plan_key", "--plan-key", metavar="FILE"),
    folder: Optional[str] = flag(TrustSettings, "folder", "--trusted", metavar="FOLDER"),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Publish a plan once more as a new version, encrypted for this device.

    The old version stays as it is: remove its folder once the new one is served. `edge-runtime build --encrypt` puts no
    plain plan into the store at all.
    """
    from edge_runtime.plan.files import Content
    from edge_runtime.plan.plan_key import plan_key
    from edge_runtime.plan.signature import check_signature
    from edge_runtime.plan.store import PlanStore

    configure_logging()
    old = named_plan(target, engines)
    check_signature(old, policy_of(folder))
    if old.is_sealed:
        raise PlanError(f"{old.folder}: is encrypted already; nothing was published")
    files: Dict[str, Content] = {record.file: old.file(record) for record in old.manifest.files}
    new = PlanStore(old.folder.resolve().parent.parent).publish(
        old.manifest.name,
        lambda version: old.manifest.model_copy(update={"version": version}),
        files,
        is_new=False,
        seal=plan_key(file=key),
        sign=signer_of(sign),
    )
    output = Output(is_json)
    if is_json:
        facts = {"plan": str(new.folder), "model": new.manifest.name, "version": new.manifest.version}
        output.document({**facts, "signed": new.is_signed, "plain": str(old.folder)})
        return
    output.say(f"published: {new.folder}, encrypted; the plain plan is still in {old.folder}")
