"""`edge-runtime rollback`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import typer

from edge_runtime.cli.flags import engines_option, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.provisioning.rollback import Rollback

_WAIT_S = 60.0
_EVERY_S = 0.1


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="The model's name."),
    to: Optional[int] = typer.Option(None, "--to", min=1, metavar="VERSION", help="This version (default: an older)."),
    lists: bool = typer.Option(False, "--list", help="Only show the versions."),
    url: Optional[str] = typer.Option(
        None, "--url", metavar="URL", help="A server that follows the store: wait until it serves the version."
    ),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Serve the version of a model that was served before, or any other, once it was found whole and fit to be loaded.

    A server that follows the store (serve --follow) takes it over by itself, others when they are started or asked to.
    """
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.plan.trust import trust_policy
    from edge_runtime.provisioning.rollback import roll_back

    configure_logging()
    output, store = Output(is_json), PlanStore(engines)
    if lists:
        if to is not None or url is not None:
            raise UsageError("--list only shows: leave --to and --url out")
        _show_versions(store, model, output)
        return
    done = roll_back(store, model, trust_policy(), to)
    served_after_s = None if url is None else _served_after_s(url, model, str(done.after.manifest.version))
    _tell(done, model, served_after_s, output)


def _tell(done: Rollback, model: str, served_after_s: Optional[float], output: Output) -> None:
    after = done.after.manifest
    if output.is_json:
        output.document(
            {
                "model": model,
                "from": done.before,
                "to": after.version,
                "skipped": [{"version": each.version, "reason": each.reason} for each in done.skipped],
                "served_after_s": served_after_s,
            }
        )
        return
    for each in done.skipped:
        output.say(f"version {each.version} was passed over: {each.reason}")
    before = "nothing that could be" if done.before is None else f"version {done.before}"
    what = f"version {after.version} ({after.precision}, built {after.created})"
    output.say(f"{model}: {what} is served, as before" if not done.is_change else f"{model}: {before} -> {what}")
    if served_after_s is not None:
        output.say(f"the server has it after {served_after_s:.1f} s")


def _served_after_s(url: str, model: str, version: str) -> float:
    """How long it took until a server had a version; raises ServerUnavailableError if it takes too long."""
    from edge_runtime.cli.credentials import credentials_from
    from edge_runtime.client.client import Client
    from edge_runtime.errors import ServerUnavailableError

    begun_s = time.monotonic()
    with Client(url, credentials=credentials_from(os.environ)) as client:
        while version not in (found := client.metadata(model)["versions"]):
            if time.monotonic() - begun_s > _WAIT_S:
                raise ServerUnavailableError(
                    f"{url}: model {model!r}: after {_WAIT_S:.0f} s it has version {', '.join(found)}, not {version}; "
                    "does it follow the store (serve --follow)? Its index and log say what holds it up"
                )
            time.sleep(_EVERY_S)
    return round(time.monotonic() - begun_s, 3)


def _show_versions(store: PlanStore, model: str, output: Output) -> None:
    from edge_runtime.errors import PlanError

    try:
        served: Optional[int] = store.served(model)
    except PlanError:
        if not store.versions(model):
            raise
        served = None
    versions = store.versions(model)
    previous = max((version for version in versions if served is not None and version < served), default=None)
    found = [_version(store, model, version, served) for version in reversed(versions)]
    if output.is_json:
        output.document({"model": model, "served": served, "previous": previous, "versions": found})
        return
    header = ("version", "", "precision", "bytes", "built", "why")
    rows: List[List[str]] = []
    for each in found:
        mark = "served" if each["served"] else "before" if each["version"] == previous else ""
        if each["problem"]:
            rows.append([str(each["version"]), mark, "", "", "", each["problem"]])
            continue
        cells = (each["version"], mark, each["precision"], f"{each['nbytes']:,}", each["created"], each["reason"])
        rows.append([str(cell) for cell in cells])
    output.table(model, header, rows)


def _version(store: PlanStore, model: str, version: int, served: Optional[int]) -> Dict[str, Any]:
    """What a version's manifest says; its files aren't read."""
    from edge_runtime.errors import PlanError

    found: Dict[str, Any] = {"version": version, "served": version == served, "problem": ""}
    try:
        manifest = store.open(model, version).manifest
    except PlanError as error:
        return {**found, "problem": str(error)}
    return {
        **found,
        "precision": manifest.precision,
        "nbytes": manifest.total_nbytes,
        "created": manifest.created,
        "reason": manifest.reason,
    }
