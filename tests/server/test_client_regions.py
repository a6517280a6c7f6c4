from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fakes.region_clients import SharedObject

from edge_runtime.errors import InvalidRequestError, NameTakenError, TooManyError, UnknownNameError, UnsupportedError
from edge_runtime.server.client_regions import ClientRegions, most_regions
from edge_runtime.server.region_access import NO_REGIONS, RegionAccess
from edge_runtime.server.shared_objects import is_in_memory, opened_object
from edge_runtime.wire.inference import RegionPlace

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 24 0:23 / /dev/shm rw,nosuid - tmpfs tmpfs rw,size=100k
26 24 0:24 / /dev/mqueue rw - mqueue tmpfs rw
"""


@pytest.mark.parametrize(
    ("device", "expected"), [((0, 23), True), ((8, 1), False), ((0, 24), False), ((0, 2), False), ((0, 233), False)]
)
def test_a_device_is_memory_if_its_mount_says_tmpfs(device: tuple, expected: bool) -> None:
    assert is_in_memory(os.makedev(*device), MOUNTS) is expected


def test_a_file_outside_tmpfs_can_not_be_opened() -> None:
    with pytest.raises(InvalidRequestError, match="cannot open"):
        opened_object(str(Path(__file__).parent), Path(__file__).name, 0, 16)


@pytest.mark.parametrize("key", ["name", "/name", "///name"])
def test_slashes_before_a_key_are_none_of_it(key: str) -> None:
    with SharedObject(16) as made:
        descriptor = opened_object("/dev/shm", key.replace("name", made.key), 0, 16)
        assert os.fstat(descriptor).st_ino == Path("/dev/shm", made.key).stat().st_ino
        os.close(descriptor)


def test_a_refused_object_leaves_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with SharedObject(16) as made, pytest.raises(InvalidRequestError):
        opened_object("/dev/shm", made.key, 1, 16)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_cap_of_regions_is_kept() -> None:
    table = ClientRegions(most=2)
    with SharedObject(16) as made:
        table.register("a", made.key, 0, 16)
        table.register("b", made.key, 0, 16)
        with pytest.raises(TooManyError, match="2 regions"):
            table.register("c", made.key, 0, 16)
        table.unregister("a")
        table.register("c", made.key, 0, 16)
        table.close()
        assert table.listed() == []


@pytest.mark.parametrize(("descriptors", "expected"), [(1, 1), (64, 32), (1024, 512), (65536, 1000)])
def test_regions_leave_descriptors_for_connections(descriptors: int, expected: int) -> None:
    assert most_regions(descriptors) == expected


def test_names_are_known_once() -> None:
    table = ClientRegions()
    with SharedObject(16) as made:
        table.register("a", made.key, 0, 16)
        with pytest.raises(NameTakenError):
            table.register("a", made.key, 0, 8)
        table.close()
    with pytest.raises(UnknownNameError):
        table.find("a")


def test_a_region_that_went_can_not_be_held_any_more() -> None:
    table = ClientRegions()
    with SharedObject(16) as made:
        table.register("a", made.key, 0, 16)
        region = table.find("a")
        table.unregister("a")
        with pytest.raises(UnknownNameError, match="'a'"):
            region.hold()


def test_a_use_that_is_closed_writes_no_more() -> None:
    table = ClientRegions()
    with SharedObject(16) as made:
        table.register("a", made.key, 0, 16)
        place, array = RegionPlace("a", 0, 16), np.ones(4, np.float32)
        with RegionAccess(table, 100).use() as use:
            use.hold(place)
        use.write([(place, array)])
        assert made.get(4) == [0] * 4
        use.close()
        table.close()


def test_a_full_tmpfs_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    table = ClientRegions()
    with SharedObject(16) as made:
        table.register("a", made.key, 0, 16)
        place = RegionPlace("a", 0, 16)
        with RegionAccess(table, 100).use() as use:
            use.hold(place)
            monkeypatch.setattr(os, "pwritev", full)
            with pytest.raises(InvalidRequestError, match="can't be written"):
                use.write([(place, np.ones(4, np.float32))])
        table.close()


def test_a_read_that_comes_in_pieces_is_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda descriptor, views, at: whole(descriptor, [views[0][:3]], at))
    table = ClientRegions()
    with SharedObject(16) as made:
        made.put(np.arange(4, dtype=np.float32))
        table.register("a", made.key, 0, 16)
        with RegionAccess(table, 100).use() as use:
            assert np.frombuffer(use.read(RegionPlace("a", 0, 16)), np.float32).tolist() == [0, 1, 2, 3]
        table.close()


def test_where_it_is_off_every_word_names_the_flag() -> None:
    with pytest.raises(UnsupportedError, match="--allow-client-shm"):
        NO_REGIONS.table.listed()
    with NO_REGIONS.use() as use, pytest.raises(InvalidRequestError, match="--allow-client-shm"):
        use.hold(RegionPlace("a", 0, 1))


def test_a_use_that_was_closed_holds_and_reads_nothing_more(tmp_path) -> None:
    regions = ClientRegions(str(tmp_path))
    use = RegionAccess(regions, 1000).use()
    use.close()
    for call in (use.read, use.hold):
        with pytest.raises(InvalidRequestError, match="given up"):
            call(RegionPlace("r", 0, 16))
    regions.close()
