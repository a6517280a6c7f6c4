"""docker/: what can be known of images and scripts without a board to build them on."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from edge_runtime.cli.main import VERBS
from edge_runtime.server.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
SCRIPTS = sorted((ROOT / "docker").glob("*.sh"))
SERVERS = [path for path in DOCKERFILES if "bindings" not in path.name]
BOARDS = [path for path in SERVERS if path.name != "cpu.Dockerfile"]
COMPOSE = ROOT / "docker" / "compose.yaml"


def instructions(path: Path) -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction, comments left out and continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(keyword, arguments.strip()) for keyword, _, arguments in found]


def head(path: Path) -> str:
    """The comment that the file begins with, its lines joined."""
    lines = path.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.lstrip("#! ") for line in lines[:first])


def lint(linter: str, *arguments: str) -> None:
    program = shutil.which(linter, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.skip(f"{linter} isn't installed; run: make install")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Answers every request with the status of its attribute `answer`, and keeps the last path in `asked`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.asked = self.path
            self.send_response(self.server.answer)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def compose() -> Dict[str, Any]:
    yaml: Any = pytest.importorskip("yaml", reason="PyYAML isn't installed; run: make install")
    content: Dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return content


def test_there_is_an_image_for_each_jetpack_and_a_build_of_bindings_for_the_fourth() -> None:
    assert [path.name for path in BOARDS] == [f"jetpack{major}.Dockerfile" for major in (5, 6, 7)]
    assert {path.name for path in DOCKERFILES} - {path.name for path in SERVERS} == {"jetpack4-bindings.Dockerfile"}
    assert [path.name for path in SCRIPTS] == ["build-bindings-jp4.sh"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    lint("hadolint", str(path))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    lint("shellcheck", str(path))


@pytest.mark.parametrize("path", [*DOCKERFILES, *SCRIPTS, COMPOSE], ids=lambda path: path.name)
def test_its_head_says_that_it_was_not_built_here_how_to_and_whose_names_it_uses(path: Path) -> None:
    text = head(path)
    assert "not built here" in text
    assert f"docker/{path.name}" in text
    assert "github.com/" in text or path == COMPOSE


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_pinned_to_a_release(path: Path) -> None:
    images = [arguments.split()[0] for keyword, arguments in instructions(path) if keyword == "FROM"]
    assert images
    for image in images:
        assert re.search(r":r?[0-9][0-9.]*[0-9](-slim-[a-z]+)?$", image), image


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_it_copies_exists_and_is_let_into_the_build_context(path: Path) -> None:
    let_in = path.with_name(path.name + ".dockerignore").read_text().splitlines()
    assert let_in[0] == "*"
    copies = [arguments.split() for keyword, arguments in instructions(path) if keyword in ("COPY", "ADD")]
    sources = [source for words in copies for source in words[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_in


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_it_does_not_run_as_root(path: Path) -> None:
    user = [arguments for keyword, arguments in instructions(path) if keyword == "USER"][-1]
    assert int(user.partition(":")[0]) > 0


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.name)
def test_it_installs_the_extra_of_its_jetpack_and_starts_edge_runtime(path: Path) -> None:
    text = " ".join(arguments for keyword, arguments in instructions(path) if keyword == "RUN")
    assert re.findall(r"edge-runtime\[(\w+)\]", text) == [f"jp{path.name[len('jetpack')]}"]
    assert "--system-site-packages" in text
    assert "--groups video,render" in text
    assert ("ENTRYPOINT", '["edge-runtime"]') in instructions(path)


@pytest.mark.parametrize("path", SERVERS, ids=lambda path: path.name)
@pytest.mark.parametrize(("answer", "is_healthy"), [(200, True), (503, False)])
def test_its_health_is_the_ready_route_of_the_default_address(
    path: Path, answer: int, is_healthy: bool, server: HTTPServer
) -> None:
    (arguments,) = [arguments for keyword, arguments in instructions(path) if keyword == "HEALTHCHECK"]
    program, flag, code = json.loads(arguments.partition("CMD ")[2])
    assert (program, flag) == ("python", "-c")
    server.answer = answer
    here = code.replace(ServerSettings().http, f"127.0.0.1:{server.server_port}")
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, check=False)
    assert (done.returncode == 0) is is_healthy
    assert server.asked == "/v2/health/ready"


@pytest.mark.parametrize("path", SERVERS, ids=lambda path: path.name)
def test_every_image_of_a_server_is_built_once_and_serves_what_that_built(path: Path, compose: Dict[str, Any]) -> None:
    services = compose["services"]
    (name,) = [
        name for name, one in services.items() if one.get("build", {}).get("dockerfile") == f"docker/{path.name}"
    ]
    served = services[name[: -len("-build")]]
    assert served["image"] == services[name]["image"]
    assert served["profiles"] == services[name]["profiles"]
    assert served["depends_on"] == {name: {"condition": "service_completed_successfully"}}
    assert (COMPOSE.parent / services[name]["build"]["context"]).resolve() == ROOT


def test_every_service_can_write_nothing_but_the_store_and_has_no_right_of_roots(compose: Dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
        assert writable == ["${STORE:-/srv/edge-runtime}:/var/lib/edge-runtime"], name


def test_the_commands_of_all_services_are_ours_and_a_drain_has_its_time(compose: Dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        verb, *options = service["command"]
        assert verb in VERBS, name
        done = subprocess.run(
            [sys.executable, "-c", "from edge_runtime.cli.main import main; main()", verb, "--help"],
            env={**os.environ, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert all(option in done.stdout for option in options if option.startswith("--")), (name, options)
        if verb == "serve":
            assert float(service["stop_grace_period"].rstrip("s")) > ServerSettings().drain_s


@pytest.mark.skipif(platform.machine() == "aarch64", reason="it would build")
@pytest.mark.parametrize(
    ("machine", "message"),
    [("x86_64", "this is x86_64, expected aarch64; run it on the board"), ("aarch64", "sudo apt-get install")],
)
def test_the_bindings_are_refused_off_a_board_with_what_is_missing(tmp_path: Path, machine: str, message: str) -> None:
    (tmp_path / "uname").write_text(f"#!/bin/sh\necho {machine}\n")
    (tmp_path / "uname").chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    script = ROOT / "docker" / "build-bindings-jp4.sh"
    done = subprocess.run(
        [str(script), str(tmp_path / "out")], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("build-bindings-jp4: ")
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
