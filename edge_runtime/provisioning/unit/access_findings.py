"""Findings about what the installed service may reach: the GPU's device nodes, and memory that stays where it is."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import List

from edge_runtime.device.files import text_of
from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding
from edge_runtime.provisioning.unit.installed import INSTALL, InstalledService
from edge_runtime.provisioning.unit.unit_files import InstalledUnit

_UNLIMITED = ("infinity", "unlimited")
_LITTLE_LOCKED_NBYTES = 1 << 30
_FACTORS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MOST_NAMED = 4


def devices_finding(service: InstalledService) -> Finding:
    """Whether its units may open the GPU's device nodes that there are, by their modes and by the units' own list."""
    subject = "service devices"
    looked_at = 0
    for unit in service.units:
        account = service.account(unit)
        if account is None:
            continue
        permissions = service.permissions(account)
        needed = [node.name for node in permissions.nodes if node.is_needed]
        looked_at = max(looked_at, len(needed))
        closed = [node.name for node in permissions.closed]
        if closed:
            groups = ",".join(permissions.missing_groups)
            remedy = f"sudo usermod -aG {groups} {account.name} && sudo systemctl restart {unit.name}" if groups else ""
            return Finding(subject, FAILED, f"user {account.name} can't read and write {_named(closed)}", remedy)
        hidden = [name for name in needed if not _is_allowed(unit, name)]
        if hidden:
            text = f"{unit.name} doesn't allow {_named(hidden)}, which came after it was installed"
            return Finding(subject, FAILED, text, INSTALL)
    if not looked_at:
        return Finding(subject, OK, "no GPU device node here")
    return Finding(subject, OK, f"its users may open the GPU's {looked_at} device nodes that CUDA needs")


def limits_finding(service: InstalledService) -> Finding:
    """Whether it may lock the memory that CUDA pins: by its units, and by the running process itself."""
    subject = "service limits"
    for unit in service.units:
        text = unit.value("LimitMEMLOCK")
        if _is_little(text):
            said = f"LimitMEMLOCK={text}" if text else "no LimitMEMLOCK="
            finding = f"{unit.name} has {said}: expected infinity, for CUDA locks the memory of tensors"
            return Finding(subject, WARNING, finding, _override(unit))
    for pid in service.server.pids[:1]:
        running = _locked_of(service.root, pid)
        if running and _is_little(running):
            text = (
                f"the running server may lock {running} bytes, not what its unit says: it was started before that did"
            )
            return Finding(subject, WARNING, text, f"sudo systemctl restart {service.server.name}")
    return Finding(subject, OK, "its units may lock as much memory as CUDA pins")


def _override(unit: InstalledUnit) -> str:
    place = f"/etc/systemd/system/{unit.name}.d"
    line = f"printf '[Service]\\nLimitMEMLOCK=infinity\\n' | sudo tee {place}/90-memlock.conf"
    return f"sudo mkdir -p {place} && {line} && sudo systemctl daemon-reload && sudo systemctl restart {unit.name}"


def _is_allowed(unit: InstalledUnit, node: str) -> bool:
    """Whether the unit's list of devices has it; a kind of devices (char-…) isn't resolved, and counts as all."""
    lines = [line.split() for line in unit.values("DeviceAllow")]
    if unit.value("DevicePolicy") in ("", "auto") and not lines:
        return True
    return any(
        words[0].startswith("char-")
        or (fnmatchcase(f"/dev/{node}", words[0]) and "rw" in "".join(words[1:] or ["rwm"]))
        for words in lines
    )


def _named(nodes: List[str]) -> str:
    more = f" and {len(nodes) - _MOST_NAMED} more" if len(nodes) > _MOST_NAMED else ""
    return ", ".join(f"/dev/{name}" for name in nodes[:_MOST_NAMED]) + more


def _locked_of(root: Path, pid: int) -> str:
    lines = text_of(root / "proc" / str(pid) / "limits").splitlines()
    return next((line.split()[3] for line in lines if line.startswith("Max locked memory")), "")


def _is_little(text: str) -> bool:
    if text in _UNLIMITED:
        return False
    soft = text.partition(":")[0]
    factor = _FACTORS.get(soft[-1:].upper(), 1)
    digits = soft[:-1] if factor > 1 else soft
    return not digits.isdigit() or int(digits) * factor < _LITTLE_LOCKED_NBYTES
