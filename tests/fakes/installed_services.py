"""A made-up Orin Nano with our services installed, below a root; plans in it are those of fakes/signed_versions.py."""

from __future__ import annotations

from pathlib import Path

from fakes import boards

from edge_runtime.provisioning.unit.installation import install, planned
from edge_runtime.provisioning.unit.places import Places, below
from edge_runtime.provisioning.unit.site import read_site

PROGRAM = Path("/opt/edge-runtime/bin/edge-runtime")
UNITS = ("edge-runtime.service", "edge-runtime-build.service")
_USERS = "root:x:0:0:root:/root:/bin/bash\nedge-runtime:x:990:991::/:\nedge-runtime-build:x:992:993::/:\n"
_GROUPS = "edge-runtime:x:991:\nedge-runtime-build:x:993:\n"


def installed_board(root: Path, systemd: str = "249.11-0ubuntu3.12") -> Path:
    """All is well there but that plans needn't be signed, for only root could make a folder that is trusted then."""
    boards.orin_nano_jp6(root)
    boards.tree(
        root,
        boards.package(systemd, name="systemd"),
        {"etc/group": boards.GROUPS + _GROUPS, "etc/passwd": _USERS, str(PROGRAM.relative_to("/")): ""},
    )
    below(root, PROGRAM).chmod(0o755)
    for node in (root / "dev").rglob("*"):
        if node.is_file():
            node.chmod(0o666)
    install(planned(read_site(root, PROGRAM)))
    below(root, Places().engines).mkdir(parents=True)
    drop_in(root, "20-of-test.conf", "Environment=EDGE_RUNTIME_TRUST__REQUIRE_SIGNED=false")
    return root


def drop_in(root: Path, name: str, *lines: str, unit: str = UNITS[0]) -> None:
    """Adds lines to a unit's [Service]."""
    path = root / "etc/systemd/system" / f"{unit}.d" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["[Service]", *lines, ""]))
