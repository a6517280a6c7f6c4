"""Where everything of an installed service lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Tuple


@dataclass(frozen=True)
class Places:
    """Paths as they are on the machine; `sockets` are the names and addresses that systemd listens on."""

    config: Path = Path("/etc/edge-runtime/server.toml")
    trusted: Path = Path("/etc/edge-runtime/trusted.d")
    device_key: Path = Path("/etc/edge-runtime/device.key")
    plan_key: Path = Path("/etc/edge-runtime/plan.key")
    has_plan_key: bool = False
    engines: Path = Path("/var/lib/edge-runtime-build/engines")
    requests: Path = Path("/run/edge-runtime-rebuild")
    unix: Path = Path("/run/edge-runtime/edge.sock")
    sockets: Tuple[Tuple[str, str], ...] = ()


def below(root: Path, path: Path) -> Path:
    """A path of the machine as seen from here, where its root is `root`."""
    return root / path.relative_to("/")
