"""The power modes that a sweep visits, and the commands for those that it may not set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Tuple

from edge_runtime.device.nvpmodel import command_text
from edge_runtime.device.power_mode import PowerMode, current_power_mode, has_pinned_clocks, power_modes
from edge_runtime.errors import ConfigError, nearest


@dataclass(frozen=True)
class Modes:
    """`before` is the mode that holds now; `visited` are to be set in turn (none: measure in what holds)."""

    before: PowerMode | None
    visited: Tuple[PowerMode, ...] = ()
    commands: Tuple[str, ...] = ()
    not_measured: Tuple[str, ...] = ()


def modes_of(wanted: Sequence[str], is_applied: bool, root: Path = Path("/")) -> Modes:
    """What a sweep does about power modes; `wanted` are names (none: all of the board).

    Raises:
        ConfigError: a name isn't one of the board's, or modes can't be set without losing how the board is now.
    """
    known = {mode.name: mode for mode in power_modes(root)}
    before = current_power_mode(root)
    for name in wanted:
        if name not in known:
            raise ConfigError(f"power mode {name!r}: this board has no such mode; {nearest(name, known)}")
    if not known:
        if is_applied:
            raise ConfigError("power modes: this machine has no /etc/nvpmodel.conf; leave --apply-power-modes out")
        return Modes(None, not_measured=("power modes: this machine has none",))
    chosen = [known[name] for name in wanted] or list(known.values())
    if not is_applied:
        others = [mode for mode in chosen if mode != before]
        return Modes(before, commands=tuple(_commands(others, before)), not_measured=tuple(map(_not_set, others)))
    if before is None:
        raise ConfigError("power modes: which one holds now isn't known, so it couldn't be set again; set one first")
    if has_pinned_clocks(root):
        raise ConfigError(
            "power modes: jetson_clocks pins the clocks, which setting a mode undoes for good; "
            "run: sudo jetson_clocks --restore, and sweep again"
        )
    return Modes(before, tuple(chosen))


def _commands(others: Sequence[PowerMode], before: PowerMode | None) -> List[str]:
    lines = [f"{command_text(mode)}  # {mode.name}; then sweep again" for mode in others]
    back = [f"{command_text(before)}  # {before.name}, as it is now"] if before is not None and others else []
    return [*lines, *back]


def _not_set(mode: PowerMode) -> str:
    return f"power mode {mode.name}: not set without --apply-power-modes"
