"""`pack`, `unpack`, `build --report` and `inspect` of a report, as a host and a device use them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest

from edge_runtime.cli.main import main
from tests.fakes.packs import Host

RECIPE = """
[model]
path = "m.onnx"
[calibration]
data = "c.npz"
[held_out]
data = "h.npz"
[precision]
policy = "int8"
[gate]
max_drop = 0.1
latency_budget_s = 0.1
"""


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, classifier: bytes
) -> Callable[..., Any]:
    """Runs a verb on a host that is a device too, with keys of both; gives its JSON document."""
    host = Host(tmp_path / "host", classifier)
    (host.folder / "m.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__FOLDER", "trusted.d")
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__REQUIRE_SIGNED", "false")

    def run(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == code, err
        return json.loads(out)

    Path("trusted.d").mkdir(mode=0o755)
    for words in (("acme",), ("board", "--role", "device-built")):
        run("keygen", *words, "--out", "keys")
        shutil.copy(f"keys/{words[0]}.pub", "trusted.d")
    return run


def test_a_pack_goes_from_host_to_device_and_its_verdict_back(run: Callable[..., Any]) -> None:
    made = run("pack", "host/m.toml", "--out", "m.pack", "--key", "keys/acme.key")
    assert (made["signed"], made["release"], made["record"]["model"]) == (True, 1, "m")
    there = run("unpack", "m.pack")
    assert (there["sha256"], there["signer"]["name"], there["unchanged"]) == (made["sha256"], "acme", False)
    built = run("build", there["recipe"], "--sign", "keys/board.key", "--report", "v.json")
    assert built["manifest"]["source"]["pack"] == made["sha256"]
    shown = run("inspect", "v.json")
    assert (shown["signer"]["name"], shown["verdict"]["state"]) == ("board", "published")
    assert shown["verdict"]["pack_sha256"] == made["sha256"]
    assert run("verify", "m")["signature"]["pack_sha256"] == made["sha256"]


def test_a_build_that_fails_is_reported_too(run: Callable[..., Any]) -> None:
    run("pack", "host/m.toml", "--out", "m.pack")
    recipe = run("unpack", "m.pack")["recipe"]
    run("build", recipe, "--max-drop", "0", "--metric", "max-abs", "--report", "v.json", code=1)
    verdict = run("inspect", "v.json")
    assert (verdict["signer"], verdict["verdict"]["state"]) == (None, "refused")
    assert verdict["verdict"]["candidates"]


def test_an_unsigned_pack_is_said_to_be_one(
    run: Callable[..., Any], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["pack", "host/m.toml", "--out", "m.pack"], ["unpack", "m.pack"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert (ended.value.code, "NOT SIGNED" in capsys.readouterr().out) == (0, True)
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__REQUIRE_SIGNED", "true")
    assert run("unpack", "m.pack", code=78)["error"]["type"] == "PlanUntrustedError"


def test_going_back_is_asked_for(run: Callable[..., Any]) -> None:
    for release in ("1", "2"):
        run("pack", "host/m.toml", "--out", f"{release}.pack", "--release", release, "--no-held-out")
    run("unpack", "2.pack")
    assert run("unpack", "1.pack", code=78)["error"]["type"] == "PlanRollbackError"
    assert run("unpack", "1.pack", "--allow-older")["removed"] == [2]
