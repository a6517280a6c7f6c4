from __future__ import annotations

import json
import os
from collections import namedtuple
from pathlib import Path
from typing import Any, Dict

import pytest

from edge_runtime.errors import (
    ConfigError,
    EdgeRuntimeError,
    PlanCorruptError,
    PlanError,
    PlanRollbackError,
    PlanUntrustedError,
    ShortageError,
)
from edge_runtime.plan.keys import VENDOR, new_key
from edge_runtime.plan.unpacked import unpacked_pack
from tests.fakes.packs import Device, Host, contents_of, pack_bytes


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory, classifier: bytes) -> Dict[str, bytes]:
    """The members of a small pack, release 1."""
    host = Host(tmp_path_factory.mktemp("packs") / "host", classifier)
    return contents_of(host.pack({"precision": {"policy": "fp32"}, "gate": {"max_drop": 0.5}}).path.read_bytes())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.pack"


def of_release(contents: Dict[str, bytes], release: int, **record: Any) -> Dict[str, bytes]:
    """The same members as those of another release."""
    text = {**json.loads(contents["pack.json"]), "release": release, **record}
    return {**contents, "pack.json": json.dumps(text).encode()}


def released(device: Device, file: Path, contents: Dict[str, bytes], release: int, **how: bool) -> Any:
    file.write_bytes(pack_bytes(of_release(contents, release), release, device.trust.vendor))
    return device.unpack(file, require_signed=True, **how)


def test_what_is_unpacked_is_the_pack_and_says_so(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    unpacked = released(device, file, contents, 1)
    folder = device.packs / "m/1"
    assert {name: (folder / name).read_bytes() for name in contents} == of_release(contents, 1)
    found = unpacked_pack(folder, device.policy(require_signed=True))
    assert (found.sha256, found.signer) == (unpacked.sha256, device.trust.vendor.public)
    assert (folder / "pack.sha256").read_text().strip() == unpacked.sha256


def test_the_same_pack_again_changes_nothing(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    released(device, file, contents, 1)
    before = {name: (device.engines / name).stat().st_mtime_ns for name in device.files}
    assert released(device, file, contents, 1).is_unchanged
    assert {name: (device.engines / name).stat().st_mtime_ns for name in device.files} == before


def test_other_bytes_of_the_same_release_are_refused(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    released(device, file, contents, 1)
    before = device.files
    file.write_bytes(pack_bytes(of_release(contents, 1, reason="another"), 1, device.trust.vendor))
    with pytest.raises(ConfigError, match="higher --release"):
        device.unpack(file)
    assert device.files == before


def test_an_older_release_is_refused_unless_it_is_wanted(
    device: Device, file: Path, contents: Dict[str, bytes]
) -> None:
    released(device, file, contents, 2)
    with pytest.raises(PlanRollbackError, match="--allow-older"):
        released(device, file, contents, 1)
    assert not (device.packs / "m/1").exists()
    assert released(device, file, contents, 1, allows_older=True).removed == [2]
    assert [path.name for path in (device.packs / "m").iterdir()] == ["1"]
    assert released(device, file, contents, 2).removed == []


def test_a_release_that_was_removed_is_still_remembered(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    released(device, file, contents, 5)
    for path in (device.packs / "m/5").iterdir():
        path.unlink()
    (device.packs / "m/5").rmdir()
    with pytest.raises(PlanRollbackError):
        released(device, file, contents, 4)
    (device.packs / ".releases.json").write_text("{")
    with pytest.raises(PlanRollbackError, match="can't be read"):
        released(device, file, contents, 6)


def test_one_older_release_is_kept(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    removed = [released(device, file, contents, release).removed for release in (1, 2, 3, 7)]
    assert removed == [[], [], [1], [2]]
    assert sorted(path.name for path in (device.packs / "m").iterdir()) == ["3", "7"]


def test_a_damaged_release_is_replaced(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    folder = released(device, file, contents, 1).folder
    (folder / "model.onnx").write_bytes(b"bit rot")
    with pytest.raises(PlanCorruptError):
        device.build(folder / "recipe.toml")
    assert not released(device, file, contents, 1).is_unchanged
    assert (folder / "model.onnx").read_bytes() == contents["model.onnx"]


@pytest.mark.parametrize("where", ["model.onnx", "recipe.toml", "pack.dsse.json"])
def test_a_pack_changed_in_place_isnt_built(device: Device, file: Path, contents: Dict[str, bytes], where: str) -> None:
    folder = released(device, file, contents, 1).folder
    data = bytearray((folder / where).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / where).write_bytes(data)
    with pytest.raises((PlanCorruptError, PlanUntrustedError, ConfigError)):
        device.build(folder / "recipe.toml")
    assert not (device.engines / "m").exists()


def test_something_put_beside_the_members_isnt_built(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    folder = released(device, file, contents, 1).folder
    (folder / "numpy.py").write_text("")
    with pytest.raises(PlanCorruptError, match=r"numpy\.py"):
        device.build(folder / "recipe.toml")


@pytest.mark.parametrize("signer", ["nobody", "device", "stranger"])
def test_only_packs_of_a_trusted_vendor_are_taken(
    device: Device, file: Path, contents: Dict[str, bytes], signer: str
) -> None:
    key = {"nobody": None, "device": device.trust.device, "stranger": new_key("stranger", VENDOR)}[signer]
    file.write_bytes(pack_bytes(contents, 1, key))
    with pytest.raises(PlanUntrustedError):
        device.unpack(file, require_signed=True)
    assert not device.engines.exists()


def test_an_unsigned_pack_is_built_only_where_none_needs_to_be_signed(
    device: Device, file: Path, contents: Dict[str, bytes]
) -> None:
    file.write_bytes(pack_bytes(contents, 1))
    unpacked = device.unpack(file)
    assert (unpacked.signer, device.build(unpacked.recipe).manifest.source.pack) == (None, unpacked.sha256)
    with pytest.raises(PlanUntrustedError):
        device.build(unpacked.recipe, require_signed=True)


def test_no_flipped_bit_and_no_beginning_leaves_anything(
    device: Device, file: Path, contents: Dict[str, bytes]
) -> None:
    data = pack_bytes(contents, 1, device.trust.vendor)
    damaged = [data[:end] for end in range(0, len(data), 512)]
    for index in range(0, len(data), 97):
        flipped = bytearray(data)
        flipped[index] ^= 1 << (index % 8)
        damaged.append(bytes(flipped))
    for one in damaged:
        file.write_bytes(one)
        with pytest.raises((PlanCorruptError, PlanUntrustedError)):
            device.unpack(file)
    assert not device.packs.exists() or list(device.packs.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("recipe.toml", '[model]\nname = "m"\npath = "../../secret.onnx"'),
        ("recipe.toml", '[model]\nname = "m"\npath = "/etc/passwd"'),
        ("recipe.toml", '[model]\nname = "m"\npackage = "evil"\nfile = "m.onnx"'),
        ("recipe.toml", '[model]\nname = "m"\npath = "model.onnx"\n[held_out]\ndata = "os:system"'),
        ("recipe.toml", '[model]\nname = "m"\npath = "model.onnx"\n[calibration]\ndata = "os:system"'),
        ("recipe.toml", '[model]\nname = "m"\npath = "model.onnx"\n[calibration]\ntable = "../t.cache"'),
        ("recipe.toml", '[model]\nname = "m"\npath = "model.onnx"\n[metric]\nname = "os:system"'),
        ("recipe.toml", '[model]\nname = "m"\npath = "model.onnx"\n[backend]\nplugins = ["model.onnx"]'),
        ("recipe.toml", '[model]\nname = "other"\npath = "model.onnx"'),
        ("recipe.toml", "[model]\nunknown = 1"),
        ("recipe.toml", "not TOML"),
        ("pack.json", "{}"),
        ("pack.json", "[]"),
    ],
)
def test_a_pack_that_wants_more_than_it_holds_is_refused(
    device: Device, file: Path, contents: Dict[str, bytes], name: str, text: str
) -> None:
    file.write_bytes(pack_bytes({**contents, name: text.encode()}, 1, device.trust.vendor))
    with pytest.raises(PlanCorruptError):
        device.unpack(file)
    assert device.files == []


def test_a_record_of_another_release_is_refused(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    file.write_bytes(pack_bytes(contents, 9, device.trust.vendor))
    with pytest.raises(PlanCorruptError, match="expected model 'm' release 9"):
        device.unpack(file)


def test_what_a_killed_run_left_is_cleared(device: Device, file: Path, contents: Dict[str, bytes]) -> None:
    strays = [device.packs / ".stage-dead", device.packs / "m/.trash-1-dead"]
    for stray in strays:
        stray.mkdir(parents=True)
        (stray / "model.onnx").write_bytes(b"half")
    released(device, file, contents, 1)
    assert not any(stray.exists() for stray in strays)


def test_too_small_a_disk_is_said_before_anything_is_written(
    device: Device, file: Path, contents: Dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = namedtuple("full", "f_bavail f_frsize")(1, 4096)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(ShortageError, match="4,096"):
        released(device, file, contents, 1)
    assert device.files == []


@pytest.mark.parametrize("name", ["missing.pack", "."])
def test_what_is_no_file_is_said_to_be_none(device: Device, tmp_path: Path, name: str) -> None:
    with pytest.raises(PlanError, match="isn't a file"):
        device.unpack(tmp_path / name)
    with pytest.raises(EdgeRuntimeError):
        device.unpack(Path(os.devnull))
