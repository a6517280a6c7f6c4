"""Against a fake nvpmodel: a made-up script that behaves as the real one was seen, or is known, to behave."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Callable

import pytest
from fakes.boards import power, tree

from edge_runtime.device.nvpmodel import NvpModel, power_mode_from_query
from edge_runtime.device.power_mode import PowerMode
from edge_runtime.errors import ConfigError

MODES = {0: "15W", 1: "7W", 2: "MAXN"}
SCRIPT = """#!/bin/bash
# Made up. Answers as nvpmodel does; what -m does is the test's.
root={root}
names=([0]=15W [1]=7W [2]=MAXN)
now=$(sed 's/pmode:000//' $root/var/lib/nvpmodel/status)
if [ "$1" = -q ]; then
    echo "NVPM WARN: fan mode is not set!" >&2
    {query}
    exit
fi
echo "$2" >> $root/asked
{set}
"""
WORKS = "echo pmode:000$2 > $root/var/lib/nvpmodel/status"
ANSWERS = 'echo "NV Power Mode: ${names[$now]}"; echo $now'


@pytest.fixture
def board(tmp_path: Path) -> Callable[..., NvpModel]:
    def make(does: str = WORKS, query: str = ANSWERS, timeout_s: float = 20.0) -> NvpModel:
        tree(tmp_path, power("pmode:0000", MODES, 0))
        program = tmp_path / "nvpmodel"
        program.write_text(SCRIPT.format(root=tmp_path, set=does, query=query))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return NvpModel([str(program)], tmp_path, timeout_s)

    return make


def test_a_mode_is_set_and_read_back(board: Callable[..., NvpModel], tmp_path: Path) -> None:
    nvpmodel = board()
    assert nvpmodel.current() == "15W"
    nvpmodel.set(PowerMode(1, "7W"))
    assert nvpmodel.current() == "7W"
    assert (tmp_path / "asked").read_text() == "1\n"


def test_the_state_is_read_where_the_program_does_not_say(board: Callable[..., NvpModel]) -> None:
    assert board(query="echo NVPM ERROR: failed to read").current() == "15W"
    assert NvpModel(["/nowhere/nvpmodel"], Path("/nowhere")).current() is None


def test_a_mode_that_wants_a_reboot_and_does_nothing_is_an_error_though_its_status_is_0(
    board: Callable[..., NvpModel],
) -> None:
    nvpmodel = board('read -p "REBOOT required for changing to this power mode, yes/no: " answer; exit 0')
    with pytest.raises(ConfigError, match=r"expected 'MAXN' \(id 2\), got '15W' \(exit status 0.*sudo nvpmodel -m 2"):
        nvpmodel.set(PowerMode(2, "MAXN"))


def test_what_it_prints_on_stderr_is_in_the_message(board: Callable[..., NvpModel]) -> None:
    with pytest.raises(ConfigError, match=r"exit status 3.*said: NVPM ERROR: optMask is 1, no request"):
        board("echo 'NVPM ERROR: optMask is 1, no request' >&2; exit 3").set(PowerMode(1, "7W"))


def test_a_question_finds_no_terminal_and_a_program_that_hangs_is_ended(board: Callable[..., NvpModel]) -> None:
    with pytest.raises(ConfigError, match="said: no terminal"):
        board("[ -t 0 ] || { echo no terminal; exit 1; }").set(PowerMode(1, "7W"))
    with pytest.raises(ConfigError, match=r"no end after 0\.2 s"):
        board("exec tail -f /dev/null", timeout_s=0.2).set(PowerMode(1, "7W"))


def test_the_mode_is_restored_however_the_block_ends(board: Callable[..., NvpModel], tmp_path: Path) -> None:
    def interrupted() -> None:
        nvpmodel.set(PowerMode(1, "7W"))
        raise KeyboardInterrupt

    nvpmodel = board()
    with pytest.raises(KeyboardInterrupt), nvpmodel.restored(PowerMode(0, "15W")):
        interrupted()
    assert nvpmodel.current() == "15W"
    assert (tmp_path / "asked").read_text() == "1\n0\n"


def test_a_mode_that_holds_is_not_set_again(board: Callable[..., NvpModel], tmp_path: Path) -> None:
    with board().restored(PowerMode(0, "15W")):
        pass
    assert not (tmp_path / "asked").exists()


def test_a_signal_while_it_is_restored_does_not_keep_it_from_that(
    board: Callable[..., NvpModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvpmodel = board()
    real = nvpmodel.set
    answers = iter([KeyboardInterrupt()])

    def interrupted(mode: PowerMode) -> None:
        for error in answers:
            raise error
        real(mode)

    real(PowerMode(1, "7W"))
    monkeypatch.setattr(nvpmodel, "set", interrupted)
    with pytest.raises(KeyboardInterrupt), nvpmodel.restored(PowerMode(0, "15W")):
        pass
    assert nvpmodel.current() == "15W"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NV Power Mode: 15W\n0\n", ("15W", 0)),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_15W_6CORE\n2\n", ("MODE_15W_6CORE", 2)),
        ("NV Fan Mode:quiet\nNV Power Mode: MAXN\n0", ("MAXN", 0)),
        ("NVPM ERROR: no such file\nNV Power Mode: MAXN_SUPER", ("MAXN_SUPER", None)),
        ("NV Power Mode: 15W\nNV Fan Mode: 7\n", ("15W", None)),
        ("NVPM ERROR: Error opening /etc/nvpmodel.conf: 2\n", None),
        ("", None),
    ],
)
def test_the_mode_is_found_in_what_nvpmodel_prints(text: str, expected: tuple | None) -> None:
    assert power_mode_from_query(text) == expected
