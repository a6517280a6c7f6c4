from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Callable, Iterator

import pytest

from edge_runtime.server.service_manager import ServiceManager, service_manager

Told = Callable[[], "dict[str, str]"]


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@edge-runtime-test{tmp_path}"


@pytest.fixture
def told(address: str) -> Iterator[Told]:
    """`told()`: the fields of the next message that reaches the address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        receiver.settimeout(5)

        def read() -> dict[str, str]:
            return dict(line.split("=", 1) for line in receiver.recv(4096).decode().splitlines())

        yield read


def test_each_message_is_one_datagram_of_its_fields(address: str, told: Told) -> None:
    manager = ServiceManager(address, clock_ns=lambda: 7_000_000)
    manager.starting("loads a", 90)
    assert told() == {"STATUS": "loads a", "EXTEND_TIMEOUT_USEC": "90000000"}
    manager.ready("serves a")
    assert told() == {"READY": "1", "STATUS": "serves a"}
    manager.reloading()
    assert told() == {"RELOADING": "1", "MONOTONIC_USEC": "7000"}
    manager.alive()
    assert told() == {"WATCHDOG": "1"}
    manager.stopping("answers what was taken in", 20)
    assert told() == {"STOPPING": "1", "STATUS": "answers what was taken in", "EXTEND_TIMEOUT_USEC": "20000000"}


def test_a_longer_wait_is_asked_for_and_kept(address: str, told: Told) -> None:
    manager = ServiceManager(address, watchdog_s=2)
    manager.wait_longer(7.5)
    assert (told(), manager.watchdog_s) == ({"WATCHDOG_USEC": "7500000"}, 7.5)


def test_no_text_can_add_a_field(address: str, told: Told) -> None:
    ServiceManager(address).status("a\nWATCHDOG=1\n" + "x" * 4000)
    fields = told()
    assert list(fields) == ["STATUS"]
    assert fields["STATUS"].startswith("a WATCHDOG=1 x")
    assert len(fields["STATUS"]) == 1024


def test_a_manager_that_is_gone_ends_nothing_and_is_said_once(tmp_path: Path, caplog) -> None:
    manager = ServiceManager(str(tmp_path / "gone"))
    with caplog.at_level(logging.WARNING):
        manager.alive()
        manager.alive()
    assert [record.getMessage() for record in caplog.records] == [
        f"the service manager at {tmp_path / 'gone'} can't be told: No such file or directory"
    ]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (False, None)),
        ({"NOTIFY_SOCKET": "relative", "WATCHDOG_USEC": "5"}, (False, None)),
        ({"NOTIFY_SOCKET": "/run/n"}, (True, None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2500000"}, (True, 2.5)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "12"}, (True, 2.5)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "13"}, (True, None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "0"}, (True, None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "soon"}, (True, None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "9" * 400}, (True, None)),
    ],
)
def test_the_environment_says_who_started_it(environ: dict, expected: tuple) -> None:
    manager = service_manager(environ, pid=12)
    assert (manager.is_there, manager.watchdog_s) == expected
