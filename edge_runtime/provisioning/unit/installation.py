"""The files of an installed service: what would be written, and writing it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

from edge_runtime.errors import ConfigError
from edge_runtime.plan.files import make_folder, write_atomically
from edge_runtime.plan.keys import DEVICE_BUILT, new_key, private_key_text, public_key_text, read_private_key
from edge_runtime.provisioning.unit import texts
from edge_runtime.provisioning.unit.places import Places, below
from edge_runtime.provisioning.unit.site import Site

NEW, CHANGED, UNCHANGED, KEPT, REMOVED = "new", "changed", "unchanged", "kept", "removed"

SYSTEMD = Path("/etc/systemd/system")
_DEVICES = "10-devices.conf"
SOCKETS = (("http", "127.0.0.1:8000"), ("grpc", "127.0.0.1:8001"), ("unix", "/run/edge-runtime.sock"))


@dataclass(frozen=True)
class File:
    """A file as it shall be; one that isn't `ours` is an operator's from the moment on that it is there."""

    path: Path
    text: str
    mode: int = 0o644
    is_ours: bool = True


@dataclass(frozen=True)
class Step:
    """What becomes of a file."""

    path: Path
    state: str
    file: File | None = None


@dataclass(frozen=True)
class Installation:
    """What is to be done with which files, and the commands that come after it."""

    site: Site
    places: Places
    steps: Tuple[Step, ...]
    commands: Tuple[str, ...]

    def record(self) -> Dict[str, Any]:
        """As JSON holds it."""
        return {
            "files": [{"path": str(step.path), "state": step.state} for step in self.steps],
            "commands": list(self.commands),
            "systemd": self.site.systemd,
            "device_nodes": [f"/dev/{name}" for name in self.site.nodes],
        }


def planned(site: Site, has_sockets: bool = False) -> Installation:
    """What would be written on a machine, and what of it is there already.

    Raises:
        ConfigError: a file that is there can't be read.
    """
    places = _places(site, has_sockets)
    files = [*_units(site, places), *_folders_and_users(site, places)]
    steps = [_step(site.root, file) for file in files]
    wanted = {file.path for file in files}
    steps += [Step(path, REMOVED) for path in _ours(site.root) if path not in wanted]
    steps += _key_steps(site, places)
    return Installation(site, places, tuple(steps), tuple(texts.hints(places)))


def _places(site: Site, has_sockets: bool) -> Places:
    usual = Places()
    return replace(
        usual,
        has_plan_key=os.path.lexists(below(site.root, usual.plan_key)),
        sockets=SOCKETS if has_sockets else (),
        unix=Path(SOCKETS[-1][1]) if has_sockets else usual.unix,
    )


def _units(site: Site, places: Places) -> List[File]:
    files = [
        File(SYSTEMD / "edge-runtime.service", texts.service_unit(site, places)),
        File(SYSTEMD / "edge-runtime-build.service", texts.build_unit(site, places)),
        File(SYSTEMD / "edge-runtime-rebuild.path", texts.path_unit(places)),
    ]
    files += [
        File(SYSTEMD / texts.socket_unit_name(name), texts.socket_unit(name, address))
        for name, address in places.sockets
    ]
    if site.nodes:
        files += [
            File(SYSTEMD / f"{unit}.service.d" / _DEVICES, texts.devices_drop_in(site))
            for unit in (texts.SERVER, texts.BUILDER)
        ]
    return files


def _folders_and_users(site: Site, places: Places) -> List[File]:
    return [
        File(Path("/etc/sysusers.d/edge-runtime.conf"), texts.sysusers(site)),
        File(Path("/etc/tmpfiles.d/edge-runtime.conf"), texts.tmpfiles(site, places)),
        File(places.config, texts.server_toml(places), is_ours=False),
    ]


def _ours(root: Path) -> List[Path]:
    """Files that only this writes, and that may be there of an earlier time."""
    paths = [SYSTEMD / texts.socket_unit_name(name) for name, _ in SOCKETS]
    paths += [SYSTEMD / f"{unit}.service.d" / _DEVICES for unit in (texts.SERVER, texts.BUILDER)]
    return [path for path in paths if os.path.lexists(below(root, path))]


def _step(root: Path, file: File) -> Step:
    path = below(root, file.path)
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: expected a file or nothing there; remove it")
        if not file.is_ours:
            return Step(file.path, KEPT, file)
        is_same = path.read_bytes() == file.text.encode() and stat.S_IMODE(status.st_mode) == file.mode
    except FileNotFoundError:
        return Step(file.path, NEW, file)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); run this as root") from error
    return Step(file.path, UNCHANGED if is_same else CHANGED, file)


def _key_steps(site: Site, places: Places) -> List[Step]:
    """The device's key pair: made once, and never shown."""
    private, public = below(site.root, places.device_key), below(site.root, _public(places))
    state = KEPT if os.path.lexists(private) else NEW
    if state == KEPT and not os.path.lexists(public):
        return [Step(places.device_key, KEPT), Step(_public(places), NEW)]
    return [Step(places.device_key, state), Step(_public(places), state)]


def _public(places: Places) -> Path:
    return places.trusted / "device.pub"


def install(installation: Installation) -> None:
    """Writes what was planned; each file is whole or as it was, whenever this ends.

    Raises:
        ConfigError: a file can't be written, or the device's key can't be read.
    """
    root, places = installation.site.root, installation.places
    for step in installation.steps:
        path = below(root, step.path)
        try:
            if step.file is not None and step.state in (NEW, CHANGED):
                _write(path, step.file.text, step.file.mode)
            elif step.state == REMOVED:
                path.unlink()
            elif step.state == NEW and step.path == _public(places):
                _make_key(below(root, places.device_key), path)
        except OSError as error:
            raise ConfigError(f"{path}: can't be written ({error.strerror}); run this as root") from error


def _make_key(private: Path, public: Path) -> None:
    """Makes the private key unless it is there, and the public one of it; the private one is never replaced."""
    if os.path.lexists(private):
        key = read_private_key(private)
    else:
        key = new_key("device", DEVICE_BUILT)
        _write(private, private_key_text(key), 0o600)
    _write(public, public_key_text(key.public), 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    make_folder(path.parent)
    write_atomically(path, text.encode(), mode)
