"""Which power mode a board should have, by a sweep that measured it or by how busy a server is; and taking it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Protocol, Sequence

from edge_runtime.device.nvpmodel import command_text
from edge_runtime.device.power_mode import PowerMode, current_power_mode, has_pinned_clocks
from edge_runtime.device.power_mode_changes import is_within, most_stretch, reboot_reason, with_ceiling
from edge_runtime.device.power_mode_settings import PowerModeSettings, power_mode_settings
from edge_runtime.errors import ConfigError, nearest
from edge_runtime.provisioning.serving_load import ServingLoad

NOT_MEASURED = "not measured"
SWEEP_SCHEMA = "edge_runtime.sweep/1"
_QUIET, _BUSY, _FULL = 0.3, 0.8, 0.7
_MISSED = 0.01


@dataclass(frozen=True)
class BoardModes:
    """The power modes of a board, what each sets, and the one that holds (None: not known)."""

    modes: Sequence[PowerModeSettings]
    current: PowerModeSettings | None
    has_pinned_clocks: bool | None

    def named(self, name: str) -> PowerModeSettings:
        """The mode of that name.

        Raises:
            ConfigError: the board has none.
        """
        for each in self.modes:
            if each.mode.name == name:
                return each
        known = [each.mode.name for each in self.modes]
        raise ConfigError(f"power mode {name!r}: this board has no such mode; {nearest(name, known)}")


@dataclass(frozen=True)
class Proposal:
    """A mode to take (None: stay), why, and what that does as far as it was measured."""

    mode: PowerMode | None
    why: str
    effect: str = NOT_MEASURED
    reboot: str = ""

    def record(self) -> Dict[str, Any]:
        """As the report has it."""
        return {
            "mode": None if self.mode is None else self.mode.name,
            "id": None if self.mode is None else self.mode.id,
            "why": self.why,
            "effect": self.effect,
            "command": None if self.mode is None else command_text(self.mode),
            "may_need_reboot": self.reboot or None,
        }


class ModeSetter(Protocol):
    """What sets power modes; `NvpModel` does."""

    def set(self, mode: PowerMode) -> None:
        """Sets a mode and reads it back, or raises ConfigError."""


def board_modes(root: Path = Path("/")) -> BoardModes:
    """The modes of the board whose files are below `root`.

    Raises:
        ConfigError: it has none.
    """
    modes = [with_ceiling(mode, root) for mode in power_mode_settings(root)]
    if not modes:
        raise ConfigError(f"{root / 'etc/nvpmodel.conf'}: this machine has no power modes; run this on a Jetson")
    current = current_power_mode(root)
    return BoardModes(modes, next((each for each in modes if each.mode == current), None), has_pinned_clocks(root))


def proposal_from_sweep(board: BoardModes, record: Mapping[str, Any]) -> Proposal:
    """The mode of the point that a sweep recommends, with what it measured there and in the mode of now.

    Raises:
        ConfigError: it is no sweep's record, or of another board.
    """
    try:
        if record["schema"] != SWEEP_SCHEMA:
            raise ConfigError(f"expected a record of schema {SWEEP_SCHEMA}, got {record['schema']!r}")
        points: List[Mapping[str, Any]] = [each for each in record["points"] if each["refused"] is None]
        best = next((each for each in points if each["is_recommended"]), None)
        return _from_points(board, points, best, record["limits"]["objective"])
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"not the record of a sweep (no {error}); make one: edge-runtime sweep MODEL --json"
        ) from None


def _from_points(
    board: BoardModes, points: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None, objective: str
) -> Proposal:
    if best is None:
        return Proposal(None, "the sweep recommends no point: none keeps its limits")
    if best["power_mode"] is None or len({each["power_mode"] for each in points}) < 2:
        return Proposal(
            None, "the sweep measured one power mode only; sweep with --power-modes and --apply-power-modes"
        )
    target = board.named(best["power_mode"])
    if board.current is not None and target.mode == board.current.mode:
        return Proposal(None, f"the sweep's recommended point, {best['label']}, is in the mode that holds")
    why = f"the sweep recommends {best['label']}, the best by {objective} of those that keep its limits"
    effect = NOT_MEASURED
    if board.current is not None:
        name = board.current.mode.name
        alike = [each for each in points if each["power_mode"] == name]
        same = [each for each in alike if (each["precision"], each["batch"]) == (best["precision"], best["batch"])]
        effect = _effect(same[0], best) if same else NOT_MEASURED
    return _to(board, target, why, effect)


def _effect(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """What was measured in both modes of one plan at one batch size."""
    columns = (("p50_ms", "p50", "ms"), ("samples_per_s", "throughput", "/s"), ("energy_mj", "energy", "mJ"))
    parts = [
        f"{word} {now[key]:.4g} to {then[key]:.4g} {unit}"
        if now[key] is not None and then[key] is not None
        else f"{word} {NOT_MEASURED}"
        for key, word, unit in columns
    ]
    return ", ".join(parts)


def proposal_from_load(board: BoardModes, load: ServingLoad) -> Proposal:
    """The next mode up for a server that is too busy, the next one down for one that hardly is; never measured.

    Raises:
        ConfigError: which mode holds isn't known.
    """
    now = board.current
    if now is None:
        raise ConfigError("power modes: which one holds now isn't known; set one first: sudo nvpmodel -m ID")
    seen = f"busy for {load.utilisation:.0%} of {load.seconds:g} s"
    if load.miss_share is not None:
        seen += f", {load.miss_share:.1%} of {load.requests} requests refused or late"
    if load.is_throttled:
        return Proposal(None, f"{seen}, but the board is throttled: no mode helps that it can't keep up; cool it first")
    if load.utilisation > _BUSY or (load.miss_share or 0.0) > _MISSED:
        above = [each for each in board.modes if each is not now and is_within(now, each) and not is_within(each, now)]
        if not above:
            return Proposal(None, f"{seen}, and no mode of this board has higher clocks")
        return _to(board, _nearest(above, is_within), f"{seen}: the next mode up has time for more")
    if load.utilisation < _QUIET and not load.miss_share:
        return _lower(board, now, load, seen)
    return Proposal(None, f"{seen}: neither too busy nor idle enough for another mode")


def _lower(board: BoardModes, now: PowerModeSettings, load: ServingLoad, seen: str) -> Proposal:
    below = [each for each in board.modes if each is not now and is_within(each, now) and not is_within(now, each)]
    able = [each for each in below if _has_room(most_stretch(now, each), load)]
    if not able:
        return Proposal(None, f"{seen}, but by the clocks that are known no lower mode surely leaves time; sweep them")
    target = _nearest(able, lambda one, other: is_within(other, one))
    stretch = most_stretch(now, target)
    return _to(board, target, f"{seen}; by its clocks runs take up to {stretch:.2g} times as long, which leaves time")


def _has_room(stretch: float | None, load: ServingLoad) -> bool:
    if stretch is None or load.utilisation * stretch > _FULL:
        return False
    if load.slack_ms is None or load.p99_ms is None:
        return True
    return load.p99_ms * stretch <= load.p99_ms + load.slack_ms


def _nearest(
    modes: Sequence[PowerModeSettings], is_nearer: Callable[[PowerModeSettings, PowerModeSettings], bool]
) -> PowerModeSettings:
    """The mode that most others lie behind; of equals the first."""
    return max(modes, key=lambda mode: sum(is_nearer(mode, other) for other in modes))


def _to(board: BoardModes, target: PowerModeSettings, why: str, effect: str = NOT_MEASURED) -> Proposal:
    reboot = "which mode holds now isn't known" if board.current is None else reboot_reason(board.current, target)
    return Proposal(target.mode, why, effect, reboot)


def apply(board: BoardModes, proposal: Proposal, setter: ModeSetter, user: int | None = None) -> None:
    """Sets the proposed mode, which is read back; nothing is ever rebooted.

    Raises:
        ConfigError: it needs root, may need a reboot, would undo jetson_clocks, or didn't take effect.
    """
    assert proposal.mode is not None
    command = command_text(proposal.mode)
    if (os.geteuid() if user is None else user) != 0:
        raise ConfigError(f"--apply needs root; run this with sudo, or by hand: {command}")
    if proposal.reboot:
        raise ConfigError(
            f"power mode {proposal.mode.name}: it may need a reboot, which is never done from here: {proposal.reboot}; "
            f"in a terminal: {command}, and reboot if it asks"
        )
    if board.has_pinned_clocks:
        raise ConfigError(
            "jetson_clocks holds the clocks, which setting a mode undoes for good; "
            f"run: sudo jetson_clocks --restore, then {command}"
        )
    setter.set(proposal.mode)
