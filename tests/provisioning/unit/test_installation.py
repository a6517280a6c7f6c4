from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Dict

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.plan.keys import DEVICE_BUILT, public_key_from_text, read_private_key
from edge_runtime.provisioning.unit.installation import install, planned
from edge_runtime.provisioning.unit.site import Site, read_site

PROGRAM = Path("/opt/edge-runtime/bin/edge-runtime")
SYSTEMD = Path("etc/systemd/system")


def tree(root: Path, systemd: str = "249.11-0ubuntu3.12") -> Path:
    """The root of a made-up Orin."""
    for folder in ("etc", "var/lib/dpkg", "dev/dri", "dev/nvgpu/igpu0"):
        (root / folder).mkdir(parents=True)
    (root / "etc/group").write_text("root:x:0:\nvideo:x:44:\nrender:x:104:\n")
    for node in ("nvmap", "nvidia0", "nvhost-ctrl-gpu", "host1x-fence", "dri/renderD128", "nvgpu/igpu0/as", "null"):
        (root / "dev" / node).touch()
    status = f"Package: bash\nVersion: 5.1\n\nPackage: systemd\nStatus: install ok installed\nVersion: {systemd}\n\n"
    (root / "var/lib/dpkg/status").write_text(status)
    return root


def states(site: Site, has_sockets: bool = False) -> Dict[str, str]:
    return {step.path.name: step.state for step in planned(site, has_sockets).steps}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return read_site(tree(tmp_path), PROGRAM)


def unit(site: Site, name: str) -> str:
    return (site.root / SYSTEMD / name).read_text()


def test_everything_is_written_once_and_then_left(site: Site) -> None:
    assert set(states(site).values()) == {"new"}
    install(planned(site))
    assert set(states(site).values()) == {"unchanged", "kept"}


def test_nothing_is_written_by_planning(site: Site) -> None:
    planned(site)
    assert not (site.root / SYSTEMD).exists()


def test_a_unit_that_was_changed_is_written_anew_and_settings_are_kept(site: Site) -> None:
    install(planned(site))
    (site.root / SYSTEMD / "edge-runtime.service").write_text("[Service]\n")
    (site.root / "etc/edge-runtime/server.toml").write_text("[server]\nslots = 1\n")
    found = states(site)
    assert (found["edge-runtime.service"], found["server.toml"]) == ("changed", "kept")
    install(planned(site))
    assert "ExecStart=" in unit(site, "edge-runtime.service")
    assert (site.root / "etc/edge-runtime/server.toml").read_text() == "[server]\nslots = 1\n"


def test_the_services_may_open_the_nodes_that_there_are_and_no_others(site: Site) -> None:
    install(planned(site))
    for name in ("edge-runtime", "edge-runtime-build"):
        allowed = re.findall(r"DeviceAllow=(\S+) rw", unit(site, f"{name}.service.d/10-devices.conf"))
        assert {"/dev/nvmap", "/dev/nvidia0", "/dev/dri/renderD128", "/dev/nvgpu/igpu0/as"} <= set(allowed)
        assert "/dev/host1x-fence" in allowed
        assert "/dev/null" not in allowed
        assert "SupplementaryGroups=video render\n" in unit(site, f"{name}.service")


def test_nodes_that_are_gone_take_their_drop_in_with_them(site: Site) -> None:
    install(planned(site))
    shutil.rmtree(site.root / "dev")
    without = read_site(site.root, PROGRAM)
    assert states(without)["10-devices.conf"] == "removed"
    install(planned(without))
    assert not (site.root / SYSTEMD / "edge-runtime.service.d/10-devices.conf").exists()


def test_the_devices_key_is_made_once_readable_by_root_alone_and_good_for_one_role(site: Site) -> None:
    install(planned(site))
    private, public = site.root / "etc/edge-runtime/device.key", site.root / "etc/edge-runtime/trusted.d/device.pub"
    assert (stat.S_IMODE(private.stat().st_mode), stat.S_IMODE(public.stat().st_mode)) == (0o600, 0o644)
    key, text = read_private_key(private), private.read_text()
    assert public_key_from_text(public.read_text(), "") == key.public
    assert key.role == DEVICE_BUILT
    public.unlink()
    install(planned(site))
    assert private.read_text() == text
    assert public_key_from_text(public.read_text(), "") == key.public


@pytest.mark.parametrize(
    ("systemd", "has_credentials", "has_abort"),
    [("237-3ubuntu10.57", False, False), ("245.4-4ubuntu3.24", False, True), ("255.4-1ubuntu8", True, True)],
)
def test_an_older_systemd_gets_only_what_it_knows(
    tmp_path: Path, systemd: str, has_credentials: bool, has_abort: bool
) -> None:
    site = read_site(tree(tmp_path, systemd), PROGRAM)
    install(planned(site))
    build = unit(site, "edge-runtime-build.service")
    assert ("LoadCredential=signing.key:" in build) is has_credentials
    assert ("TimeoutAbortSec=" in unit(site, "edge-runtime.service")) is has_abort
    key_for_the_builder = (
        "device.key 0400 edge-runtime-build" in (site.root / "etc/tmpfiles.d/edge-runtime.conf").read_text()
    )
    assert key_for_the_builder is not has_credentials


def test_a_key_of_encrypted_plans_is_handed_to_both_services(site: Site) -> None:
    (site.root / "etc/edge-runtime").mkdir()
    (site.root / "etc/edge-runtime/plan.key").touch()
    install(planned(site))
    for name in ("edge-runtime", "edge-runtime-build"):
        assert "LoadCredential=plan.key:/etc/edge-runtime/plan.key\n" in unit(site, f"{name}.service")


def test_sockets_come_and_go(site: Site) -> None:
    names = {f"edge-runtime-{name}.socket" for name in ("http", "grpc", "unix")}
    install(planned(site, has_sockets=True))
    assert names <= {path.name for path in (site.root / SYSTEMD).iterdir()}
    assert "Sockets=edge-runtime-http.socket" in unit(site, "edge-runtime.service")
    install(planned(site))
    assert not names & {path.name for path in (site.root / SYSTEMD).iterdir()}


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("bin/edge-runtime", "absolute"),
        ("/opt/my runtime/bin/edge-runtime", "blanks"),
        ("/home/jetson/venv/bin/edge-runtime", "home folder"),
        ("/root/.venv/bin/edge-runtime", "home folder"),
    ],
)
def test_a_program_that_a_service_cannot_run_is_refused(tmp_path: Path, program: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        read_site(tree(tmp_path), Path(program))


def test_signs_that_mean_something_in_units_are_escaped(tmp_path: Path) -> None:
    site = read_site(tree(tmp_path), Path("/opt/100%/$x/bin/edge-runtime"))
    install(planned(site))
    assert "ExecStart=/opt/100%%/$$x/bin/edge-runtime serve" in unit(site, "edge-runtime.service")


def test_a_root_without_systemd_or_with_one_of_old_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no systemd"):
        read_site(tmp_path, PROGRAM)
    with pytest.raises(ConfigError, match="237 or later, got 229"):
        read_site(tree(tmp_path / "old", "229-4ubuntu21"), PROGRAM)


def test_a_link_in_place_of_a_unit_is_refused(site: Site) -> None:
    (site.root / SYSTEMD).mkdir(parents=True)
    (site.root / SYSTEMD / "edge-runtime.service").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="expected a file"):
        planned(site)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd isn't installed")
@pytest.mark.parametrize("name", ["edge-runtime.service", "edge-runtime-build.service"])
def test_units_are_little_exposed(site: Site, name: str) -> None:
    install(planned(site))
    path = site.root / SYSTEMD / name
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd isn't installed")
def test_units_have_no_key_or_value_that_systemd_does_not_know(tmp_path: Path) -> None:
    site = read_site(tree(tmp_path), Path("/bin/true"))
    install(planned(site, has_sockets=True))
    for path in sorted((site.root / SYSTEMD).glob("*.*")):
        if path.is_file():
            command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            unknown = [line for line in done.stderr.splitlines() if path.name in line and "command" not in line.lower()]
            assert not unknown, done.stderr
