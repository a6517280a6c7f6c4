"""`edge-runtime power`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

import typer

from edge_runtime.cli.credentials import credentials_from
from edge_runtime.cli.flags import json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from edge_runtime.provisioning.power_proposal import BoardModes, Proposal
    from edge_runtime.provisioning.serving_load import ServingLoad


def command(
    model: Optional[str] = typer.Argument(None, metavar="[MODEL]", help="Model whose requests count (default: all)."),
    sweep: Optional[Path] = typer.Option(
        None, "--sweep", metavar="S.json", help="What `sweep --json` printed: the mode of its recommended point."
    ),
    server: Optional[str] = typer.Option(
        None, "--server", metavar="URL", help="A server on this board: the mode for how busy it is."
    ),
    seconds: float = typer.Option(10.0, "--seconds", min=1.0, max=3600.0, help="How long --server is watched."),
    apply: bool = typer.Option(False, "--apply", help="Set the proposed mode (needs root; never reboots)."),
    is_json: bool = json_option(),
) -> None:
    """Propose a power mode for this board, with the command that sets it, from a sweep or from a server's load."""
    from edge_runtime.provisioning.power_proposal import board_modes

    configure_logging()
    if (sweep is None) == (server is None):
        raise UsageError("give one of --sweep S.json and --server URL: without either there is nothing to propose from")
    if sweep is not None and model is not None:
        raise UsageError(f"MODEL {model!r} goes with --server; a sweep is of one model")
    output = Output(is_json)
    board = board_modes()
    load: Optional[ServingLoad] = None
    if server is not None:
        load = _watched(server, seconds, model or "")
    proposal = _proposal(board, sweep, load)
    is_applied = apply and proposal.mode is not None
    if is_applied:
        _apply(board, proposal)
    _tell(board, proposal, load, is_applied, output)


def _proposal(board: BoardModes, sweep: Optional[Path], load: Optional[ServingLoad]) -> Proposal:
    from edge_runtime.provisioning.power_proposal import proposal_from_load, proposal_from_sweep

    if load is not None:
        return proposal_from_load(board, load)
    assert sweep is not None
    try:
        return proposal_from_sweep(board, _record(sweep))
    except ConfigError as error:
        raise ConfigError(f"--sweep {sweep}: {error}") from None


def _record(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"can't be read ({error})") from None
    if not isinstance(found, dict):
        raise ConfigError("not a JSON object")
    return found


def _watched(url: str, seconds: float, model: str) -> ServingLoad:
    """What a server did in the next seconds."""
    from edge_runtime.client.address import address_from_url
    from edge_runtime.client.http import HttpTransport
    from edge_runtime.provisioning.serving_load import serving_load

    transport = HttpTransport(address_from_url(url, "http", credentials_from(os.environ)), 10.0)
    try:
        before, begun_s = transport.snapshot(), time.monotonic()
        time.sleep(seconds)
        after = transport.snapshot()
        return serving_load(before, after, time.monotonic() - begun_s, model)
    finally:
        transport.close()


def _apply(board: BoardModes, proposal: Proposal) -> None:
    from edge_runtime.device.nvpmodel import NvpModel
    from edge_runtime.provisioning.power_proposal import apply

    apply(board, proposal, NvpModel())


def _tell(board: BoardModes, proposal: Proposal, load: Optional[ServingLoad], is_applied: bool, output: Output) -> None:
    now = None if board.current is None else board.current.mode.name
    record: Dict[str, Any] = {
        "schema": "edge_runtime.power/1",
        "power_mode": now,
        "has_pinned_clocks": board.has_pinned_clocks,
        "modes": [each.record() for each in board.modes],
        "load": None if load is None else load.record(),
        "proposal": proposal.record(),
        "is_applied": is_applied,
    }
    if output.is_json:
        output.document(record)
        return
    output.say(f"power mode now: {now or 'not known'}")
    if proposal.mode is None:
        output.say(f"stay: {proposal.why}")
        return
    output.say(f"proposed: {proposal.mode.name}: {proposal.why}")
    output.say(f"expected effect: {proposal.effect}")
    if is_applied:
        output.say(f"set, and read back: {proposal.mode.name}")
        return
    output.say(f"to run by hand: {record['proposal']['command']}")
    if proposal.reboot:
        output.say(f"it may ask for a reboot: {proposal.reboot}")
