"""Findings about the installed service, out of files alone: what keeps it from starting, or from loading plans."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding
from edge_runtime.provisioning.unit.access_findings import devices_finding, limits_finding
from edge_runtime.provisioning.unit.installed import INSTALL, InstalledService, command_of, installed_service
from edge_runtime.provisioning.unit.places import Places, below
from edge_runtime.provisioning.unit.trust_findings import (
    credentials_finding,
    floor_finding,
    plans_finding,
    trust_finding,
)


def service_findings(root: Path) -> List[Finding]:
    """What there is to say of the service below `root`; one finding where none is installed, or can't start at all."""
    service = installed_service(root)
    if service is None:
        return [Finding("service", OK, "not installed as a service of systemd; edge-runtime install-unit does that")]
    first = service_finding(service)
    if first.state == FAILED:
        return [first]
    return [
        first,
        devices_finding(service),
        credentials_finding(service),
        trust_finding(service),
        floor_finding(service),
        plans_finding(service),
        limits_finding(service),
    ]


def service_finding(service: InstalledService) -> Finding:
    """Whether its users, its program, its folders and its settings are there, and right."""
    subject = "service"
    for unit in service.units:
        if service.account(unit) is None:
            return Finding(
                subject, FAILED, f"{unit.name}: there is no user {unit.value('User')}", "sudo systemd-sysusers"
            )
        program = Path(next(iter(command_of(unit)), ""))
        if not program.is_absolute() or not os.access(below(service.root, program), os.X_OK):
            return Finding(subject, FAILED, f"{unit.name}: its program {program} isn't there, or can't be run", INSTALL)
    try:
        service.policy  # noqa: B018  (reads the settings)
    except EdgeRuntimeError as error:
        return Finding(subject, FAILED, f"settings: {error}", f"sudo editor {service.config or Places().config}")
    if not os.access(below(service.root, service.engines), os.R_OK | os.X_OK):
        text = f"{service.engines} isn't there, or this user can't look into it"
        return Finding(subject, WARNING, text, "sudo systemd-tmpfiles --create")
    pids = service.server.pids
    running = f"running (process {pids[0]})" if pids else "not running"
    return Finding(
        subject, OK, f"{service.server.name} is installed for user {service.server.value('User')}, {running}"
    )
