"""Findings about what the installed service is to trust: its secrets, keys, floor, and the plans that it serves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_runtime.errors import ConfigError, EdgeRuntimeError
from edge_runtime.plan.keys import DEVICE_BUILT
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.plan.signature import check_signature
from edge_runtime.plan.store import PlanStore
from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding
from edge_runtime.provisioning.unit.installed import INSTALL, InstalledService, is_there
from edge_runtime.provisioning.unit.places import Places, below

_AS_ROOT = "sudo edge-runtime doctor"
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def credentials_finding(service: InstalledService) -> Finding:
    """Whether the secrets that its units hand over are there and nobody else's."""
    subject = "service credentials"
    handed = [
        (unit.name, name, Path(place))
        for unit in service.units
        for name, _, place in (line.partition(":") for line in unit.values("LoadCredential"))
    ]
    for unit_name, name, path in handed:
        if path.is_absolute() and not is_there(below(service.root, path)):
            text = f"{unit_name} needs {path} (credential {name}), which isn't there: it can't start"
            return Finding(subject, FAILED, text, INSTALL)
    for place in (Places().device_key, Places().plan_key):
        problem = _secret_problem(below(service.root, place))
        if problem:
            remedy = f"sudo chown root: {place} && sudo chmod 600 {place}"
            return Finding(subject, WARNING, f"{place}: {problem}", remedy)
    plan_key = Places().plan_key
    if handed and is_there(below(service.root, plan_key)) and plan_key not in (path for _, _, path in handed):
        text = f"{plan_key} isn't handed to the service, so encrypted plans can't be loaded: it came after the units"
        return Finding(subject, WARNING, text, INSTALL)
    names = ", ".join(sorted({name for _, name, _ in handed}))
    without = "none: a systemd before 247 has none, and keys are read from their files"
    return Finding(subject, OK, names or without)


def trust_finding(service: InstalledService) -> Finding:
    """Whom the service trusts, and whether that is the device itself where it builds plans."""
    subject = "service trust"
    try:
        policy = service.policy
        keys = policy.keys
    except ConfigError as error:
        return Finding(subject, FAILED, str(error), "")
    if not policy.require_signed:
        return Finding(subject, WARNING, "plans that nobody signed are loaded ([trust] require_signed is off)", "")
    if not keys:
        return Finding(subject, FAILED, f"{policy.folder} has no key, so that no plan can be loaded", INSTALL)
    if service.builder is not None and not any(key.role == DEVICE_BUILT for key in keys):
        text = f"{policy.folder} has no key of role {DEVICE_BUILT}: plans that are built here can't be loaded"
        return Finding(subject, FAILED, text, INSTALL)
    return Finding(subject, OK, f"signed plans only, of {', '.join(f'{key.name} ({key.role})' for key in keys)}")


def floor_finding(service: InstalledService) -> Finding:
    """Whether the lowest versions that it may load can be read, and leave each model one that there is."""
    subject = "service floor"
    try:
        path = service.policy.floor
        if path is None:
            return Finding(subject, WARNING, "none: an old version of a plan can be put back unseen", INSTALL)
        if path.parent.is_dir() and not os.access(path.parent, os.R_OK | os.X_OK):
            return Finding(subject, WARNING, f"{path.parent} can't be looked into by this user", _AS_ROOT)
        floor, store = RollbackFloor(path), PlanStore(below(service.root, service.engines))
        lowest = {name: floor.lowest(name) for name in store.models()}
        for name, version in lowest.items():
            if max(store.versions(name), default=version) < version:
                text = f"{name}: expected version {version} or later, got {max(store.versions(name))}"
                return Finding(subject, FAILED, text, "sudo systemctl start edge-runtime-build.service")
    except EdgeRuntimeError as error:
        return Finding(subject, FAILED, str(error), "")
    set_for = [f"{name} from version {version} on" for name, version in lowest.items() if version]
    return Finding(subject, OK, ", ".join(set_for) or "no model was found good yet, so that all versions may be loaded")


def plans_finding(service: InstalledService) -> Finding:
    """Whether the service would load the version of each model that its store has it serve."""
    subject = "service plans"
    good, bad = [], {}
    try:
        store = PlanStore(below(service.root, service.engines))
        names = store.models()
    except EdgeRuntimeError as error:
        return Finding(subject, FAILED, str(error), "")
    for name in names:
        try:
            stored = store.open(name)
            verdict = check_signature(stored, service.policy)
            by = f"by {verdict.signer.name}" if verdict.signer is not None else "by nobody"
            good.append(f"{name} version {stored.manifest.version} signed {by}")
        except EdgeRuntimeError as error:
            bad[name] = str(error)
    if bad:
        remedy = f"edge-runtime verify {next(iter(bad))} --engines {service.engines}"
        return Finding(subject, FAILED, "; ".join(bad.values()), remedy)
    return Finding(subject, OK, ", ".join(good) or f"{service.engines} has no plan yet")


def _secret_problem(path: Path) -> str:
    try:
        status = path.lstat()
    except OSError:
        return ""
    if not stat.S_ISREG(status.st_mode):
        return "expected a file that is no link"
    if status.st_mode & _OF_OTHERS:
        return f"expected mode 600 or less, got {stat.S_IMODE(status.st_mode):o}: others can read or write it"
    return ""
