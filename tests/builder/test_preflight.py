from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.builder import builder
from edge_runtime.builder.builder import BuildOptions, build
from edge_runtime.builder.preflight import Room, check_room, needed_memory_nbytes, room_of
from edge_runtime.errors import ShortageError

MIB = 1 << 20
PLENTY = 1 << 40


@pytest.mark.parametrize(
    ("disk", "memory", "message"),
    [
        (30 * MIB, PLENTY, ""),
        (30 * MIB - 1, PLENTY, "expected 30 MiB free on the file system of /data .*, got 29 MiB; remove old versions"),
        (0, 0, "expected 30 MiB free"),
        (PLENTY, 124 * MIB, ""),
        (PLENTY, 124 * MIB - 1, "expected 124 MiB of memory available for its build, got 123 MiB"),
        (None, None, ""),
        (None, 0, "memory"),
    ],
)
def test_a_build_begins_only_where_there_is_room(disk: int | None, memory: int | None, message: str) -> None:
    room = Room(Path("/data"), disk, memory)
    if not message:
        check_room("m", 10 * MIB, room)
        return
    with pytest.raises(ShortageError, match=message):
        check_room("m", 10 * MIB, room)


def test_room_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000 kB\nMemFree: 1 kB\nMemAvailable: 2000 kB\n")
    room = room_of(tmp_path / "a/b/engines", tmp_path)
    assert (room.folder, room.memory_nbytes) == (tmp_path, 2000 * 1024)
    assert room.disk_nbytes


def test_external_data_counts(tmp_path: Path, classifier: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    path = tmp_path / "m.onnx"
    onnx.save_model(
        onnx.load_from_string(classifier), str(path), save_as_external_data=True, location="w", size_threshold=0
    )
    sizes = []
    monkeypatch.setattr(builder, "check_room", lambda name, nbytes, room: sizes.append(nbytes))
    build({"model": {"path": str(path)}, "precision": {"policy": "fp32"}}, BuildOptions(tmp_path / "engines"))
    assert sizes == [path.stat().st_size + (tmp_path / "w").stat().st_size]


def test_a_shortage_leaves_the_store_as_it_was_and_hinders_no_plan_that_is_there(
    tmp_path: Path, classifier: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(classifier)
    recipe = {"model": {"path": str(tmp_path / "m.onnx")}, "precision": {"policy": "fp32"}}
    options = BuildOptions(tmp_path / "engines")
    short = Room(tmp_path, PLENTY, needed_memory_nbytes(0))
    monkeypatch.setattr(builder, "room_of", lambda engines: short)
    with pytest.raises(ShortageError, match="memory"):
        build(recipe, options)
    assert not options.engines.exists()
    monkeypatch.undo()
    build(recipe, options)
    monkeypatch.setattr(builder, "room_of", lambda engines: short)
    assert build(recipe, options).is_reused
