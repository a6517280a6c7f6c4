"""Findings about the board: what it is, its memory, its power mode, and who may use its GPU."""

from __future__ import annotations

import os

from edge_runtime.device.identity import DeviceInfo
from edge_runtime.device.l4t import JetPack
from edge_runtime.device.memory import Memory, read_memory
from edge_runtime.device.module import SOCS
from edge_runtime.device.permissions import Permissions, read_permissions
from edge_runtime.device.power_mode import current_power_mode, default_power_mode, has_pinned_clocks, power_modes
from edge_runtime.provisioning.findings import OK, WARNING, Finding, Situation, gibibytes

_LITTLE_MEMORY = 1 << 30
_SMALL_BOARD = 9 << 30
_MOST_NAMED = 4
_MAKE_SWAP = (
    "sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
)
_TEGRASTATS = "usr/bin/tegrastats"


def device_finding(situation: Situation) -> Finding:
    """The machine, and what its GPU has."""
    device = situation.device
    place = " (in a container)" if situation.is_container else ""
    if not situation.is_jetson:
        return Finding("device", OK, f"{device.kind}: {device.cpu}{place}")
    module = device.module or "a module that this version doesn't know"
    return Finding("device", OK, f"Jetson {module}{place}: {device.board}; {_gpu_text(device)}")


def jetpack_finding(situation: Situation) -> Finding:
    """The release of a Jetson, and whether the TensorRT in use is the one that it ships."""
    device, found = situation.device, situation.software.tensorrt
    if not situation.is_jetson:
        return Finding("jetpack", OK, "none: this is no Jetson")
    jetpack = device.jetpack
    if jetpack is None:
        release = f"L4T {device.l4t} isn't known to this version" if device.l4t else "L4T release not found"
        seen = "docker run -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro"
        remedy = seen if situation.is_container and not device.l4t else ""
        return Finding("jetpack", WARNING, f"{release}; JetPack unknown", remedy)
    text = f"L4T {device.l4t}, {_jetpack_text(jetpack)}"
    if jetpack.tensorrt and found not in (None, "unknown") and not _is_same_version(jetpack.tensorrt, str(found)):
        text += f"; TensorRT here is {found}: plans are bound to the TensorRT that builds them"
        return Finding("jetpack", WARNING, text)
    return Finding("jetpack", OK, text)


def permissions_finding(situation: Situation, permissions: Permissions | None = None) -> Finding:
    """Whether this process may use the GPU's device nodes."""
    if not situation.device.has_gpu:
        return Finding("permissions", OK, "no GPU device node here")
    found = permissions or read_permissions(situation.root)
    needed = [node for node in found.nodes if node.is_needed]
    if not needed:
        remedy = "docker run --runtime nvidia" if situation.is_container else "sudo dmesg | grep -iE 'nvgpu|nvrm'"
        return Finding("permissions", situation.gpu_fault, "no GPU device node in /dev: the driver isn't there", remedy)
    closed = found.closed
    for_rendering = found.closed_for_rendering if situation.is_jetson else []
    if closed or for_rendering:
        names = [f"/dev/{node.name} (group {node.group})" for node in (closed or for_rendering)]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        text = f"this process can't read and write {', '.join(names[:_MOST_NAMED])}{more}"
        state = situation.gpu_fault if closed else WARNING
        return Finding("permissions", state, text, _group_remedy(found, situation.is_container))
    return Finding("permissions", OK, f"this process may use the GPU's device nodes ({len(needed)} looked at)")


def memory_finding(situation: Situation) -> Finding:
    """What this process may still take."""
    memory = read_memory(situation.root)
    available = memory.available_nbytes
    if available is None:
        return Finding("memory", WARNING, "not known: /proc/meminfo can't be read")
    text = _memory_text(memory, available)
    if available >= _LITTLE_MEMORY:
        return Finding("memory", OK, text)
    remedy = "sudo systemctl stop display-manager" if situation.is_jetson and not situation.is_container else ""
    return Finding("memory", WARNING, f"{text}; a build may need more", remedy)


def swap_finding(situation: Situation) -> Finding:
    """Swap, without which a build on a small board may be killed; the GPU's memory is never swapped."""
    memory = read_memory(situation.root)
    total, free = memory.swap_total_nbytes, memory.swap_free_nbytes
    if total is None:
        return Finding("swap", WARNING, "not known: /proc/meminfo can't be read")
    if total:
        left = "" if free is None else f", {gibibytes(free)} free"
        return Finding("swap", OK, f"{gibibytes(total)}{left}")
    if situation.is_jetson and memory.total_nbytes is not None and memory.total_nbytes < _SMALL_BOARD:
        remedy = "" if situation.is_container else _MAKE_SWAP
        return Finding("swap", WARNING, "none: a build may be killed when memory runs out", remedy)
    return Finding("swap", OK, "none")


def power_mode_finding(situation: Situation) -> Finding:
    """The power mode that plans would be timed in."""
    if not situation.is_jetson:
        return Finding("power mode", OK, "none: this is no Jetson")
    mode = current_power_mode(situation.root)
    if mode is None:
        default = default_power_mode(situation.root)
        known = f"; its default is {default.name}" if default else ""
        text = f"not known from /var/lib/nvpmodel/status and /etc/nvpmodel.conf{known}"
        mounts = " ".join(f"-v {path}:{path}:ro" for path in ("/var/lib/nvpmodel", "/etc/nvpmodel.conf"))
        remedy = f"docker run {mounts}" if situation.is_container else "sudo nvpmodel -q"
        return Finding("power mode", WARNING, text, remedy)
    others = ", ".join(other.name for other in power_modes(situation.root) if other != mode)
    clocks = {True: ", clocks pinned", False: ", clocks not pinned", None: ""}[has_pinned_clocks(situation.root)]
    there_are = f" (also: {others})" if others else ""
    return Finding("power mode", OK, f"{mode.name}{there_are}{clocks}; build plans in the mode that they run in")


def telemetry_finding(situation: Situation) -> Finding:
    """What can tell power and heat."""
    if not situation.is_jetson:
        return Finding("telemetry", OK, "no tegrastats: this is no Jetson; power and heat are not measured here")
    path = situation.root / _TEGRASTATS
    if os.access(path, os.X_OK):
        return Finding("telemetry", OK, f"/{_TEGRASTATS}; power and heat are not measured by this command")
    text = f"no /{_TEGRASTATS}; power and heat are not measured by this command"
    if situation.is_container:
        return Finding("telemetry", WARNING, text, f"docker run -v /{_TEGRASTATS}:/{_TEGRASTATS}:ro")
    return Finding("telemetry", WARNING, text, "sudo apt-get install nvidia-l4t-tools")


def _gpu_text(device: DeviceInfo) -> str:
    soc = SOCS.get(device.soc)
    if soc is None:
        return "a system on chip that this version doesn't know"
    major, minor = soc.compute_capability
    kinds = ["FP16"] * soc.has_fp16 + ["INT8"] * soc.has_int8
    arithmetic = " and ".join(kinds) + ("" if soc.has_int8 else ", no INT8")
    tensor = "tensor cores" if soc.has_tensor_cores else "no tensor cores"
    cores = {None: "DLA unknown", 0: "no DLA"}.get(device.dla_cores, f"{device.dla_cores} DLA")
    return f"{soc.gpu} {major}.{minor}, {arithmetic}, {tensor}, {cores}"


def _jetpack_text(jetpack: JetPack) -> str:
    if not jetpack.is_known:
        return f"JetPack {jetpack.name} (which one, and what it ships, isn't known to this version)"
    return f"JetPack {jetpack.name}: CUDA {jetpack.cuda}, TensorRT {jetpack.tensorrt}, Python {jetpack.python}"


def _is_same_version(shipped: str, found: str) -> bool:
    pairs = zip(shipped.split("."), found.split("."))
    return all(one == other for one, other in pairs)


def _group_remedy(permissions: Permissions, is_container: bool) -> str:
    groups = permissions.missing_groups
    if not groups:
        return ""
    if is_container:
        return "docker run --runtime nvidia " + " ".join(f"--group-add {group}" for group in groups)
    return f"sudo usermod -aG {','.join(groups)} $USER, then log in again"


def _memory_text(memory: Memory, available: int) -> str:
    total = "" if memory.total_nbytes is None else f" of {gibibytes(memory.total_nbytes)}"
    limit = memory.cgroup_limit_nbytes
    limited = "" if limit is None else f", limited to {gibibytes(limit)} by the control group"
    held = memory.nvmap_used_nbytes
    by_gpu = "" if held is None else f"; the GPU holds {gibibytes(held)}"
    return f"{gibibytes(available)} available{total}{limited}{by_gpu}"
