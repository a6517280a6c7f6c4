"""`edge-runtime telemetry sources`."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Tuple

from edge_runtime.cli.flags import json_option
from edge_runtime.cli.output import Output, configure_logging

if TYPE_CHECKING:
    from edge_runtime.device.power_mode_settings import PowerModeSettings
    from edge_runtime.device.telemetry.sample import Limits
    from edge_runtime.device.telemetry.survey import Survey


def command(is_json: bool = json_option()) -> None:
    """Say what of this machine can be told by which source, which is used and why, and what its power modes set."""
    from edge_runtime.device.telemetry.survey import survey

    configure_logging()
    output = Output(is_json)
    found = survey()
    if is_json:
        output.document(found.record())
        return
    output.table("device", ("", ""), _device_rows(found))
    verdicts = dict(found.verdicts)
    rows = [(name, text, verdicts.get(name, "")) for name, text in found.tells]
    rows += [(name, "", why) for name, why in found.verdicts if name not in dict(found.tells)]
    output.table("sources", ("source", "tells", "chosen"), rows)
    if found.rails:
        limits = [(name, _amperes(warn), _amperes(crit)) for name, warn, crit in found.rails]
        output.table("current limits", ("rail", "mean", "at once"), limits)
    if found.modes:
        header = ("id", "power mode", "cores on", "CPU MHz", "GPU MHz", "EMC MHz")
        output.table("power modes", header, [_mode_row(mode, mode.mode == found.mode) for mode in found.modes])


def _device_rows(found: Survey) -> List[Tuple[str, str]]:
    known = found.capabilities
    kinds = [("FP16", known.has_fp16), ("INT8", known.has_int8), ("FP8", known.has_fp8)]
    kinds.append(("tensor cores", known.has_tensor_cores))
    is_jetson = found.device.kind == "jetson"
    rows = [("machine", (found.device.module or found.device.board) if is_jetson else found.device.kind)]
    if found.device.has_gpu:
        rows.append(("GPU", " ".join(part for part in (known.gpu, known.compute_capability) if part) or "unknown"))
        rows.append(("arithmetic", ", ".join(f"{name} {_yes(has)}" for name, has in kinds)))
    if is_jetson:
        clocks = {True: ", clocks pinned", False: ", clocks not pinned", None: ""}[found.has_pinned_clocks]
        rows.append(("DLA cores", "unknown" if known.dla_cores is None else str(known.dla_cores)))
        rows.append(("release", f"L4T {found.device.l4t}" if found.device.l4t else "unknown"))
        rows.append(("power mode", "unknown" if found.mode is None else f"{found.mode.name}{clocks}"))
    return rows


def _mode_row(mode: PowerModeSettings, is_set: bool) -> Tuple[str, ...]:
    cores = mode.cores_online
    clocks = sorted({_clock(limits) for limits in mode.cpu.values()})
    return (
        str(mode.mode.id),
        f"{mode.mode.name} (now)" if is_set else mode.mode.name,
        "as they are" if cores is None else str(len(cores)),
        ", ".join(clocks),
        _clock(mode.gpu),
        _clock(mode.emc),
    )


def _clock(limits: Limits | None) -> str:
    if limits is None:
        return ""
    return "not limited" if limits.max_mhz is None else f"{limits.max_mhz:g}"


def _amperes(milliamperes: int | None) -> str:
    return "" if milliamperes is None else f"{milliamperes / 1000:g} A"


def _yes(has: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[has]
