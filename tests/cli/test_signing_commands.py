"""`keygen`, `sign`, `verify` and `encrypt` on one small plan."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from fakes.multiplying_plans import publish

from edge_runtime.cli.main import main
from edge_runtime.cli.startup import raise_floor, warn_of_unsigned
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.plan.store import PlanStore


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, classifier: bytes) -> Path:
    """A folder with a plan `m` in its store."""
    folder = tmp_path_factory.mktemp("signing")
    (folder / "m.onnx").write_bytes(classifier)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(SystemExit) as ended:
            main(["build", "m.onnx", "--json"])
    assert ended.value.code == 0
    return folder


@pytest.fixture
def run(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., Any]:
    """Runs a verb in a folder of its own with the plan; gives its JSON document. There is a vendor's key in `keys`."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__FOLDER", "trusted.d")
    np.savez("i.npz", x=np.ones((2, 4), np.float32))

    def run(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == code, err
        return json.loads(out)

    run("keygen", "acme", "--out", "keys")
    Path("trusted.d").mkdir(mode=0o755)
    shutil.copy("keys/acme.pub", "trusted.d")
    return run


def test_a_key_is_made_and_its_secret_is_not_printed(run: Callable[..., Any]) -> None:
    facts = run("keygen", "board-7", "--role", "device-built", "--out", "keys")
    assert (facts["role"], facts["key"], facts["public"]) == ("device-built", "keys/board-7.key", "keys/board-7.pub")
    assert len(facts["key_id"]) == 64
    secret = Path("keys/board-7.key").read_text().splitlines()[3]
    assert secret not in json.dumps(facts)
    assert run("keygen", "board-7", "--out", "keys", code=78)["error"]["type"] == "ConfigError"


def test_an_unknown_role_is_a_usage_error(run: Callable[..., Any]) -> None:
    run("keygen", "k", "--role", "root", code=2)


def test_a_plan_is_signed_and_verified(run: Callable[..., Any]) -> None:
    error = run("verify", "m", code=78)["error"]
    assert "edge-runtime sign m@1 --key FILE" in error["message"]
    assert run("sign", "m@1", "--key", "keys/acme.key")["signature"] == "engines/m/1/manifest.dsse.json"
    document = run("verify", "m")
    assert document["signature"]["signer"]["name"] == "acme"
    assert (document["digests"], document["version"], document["floor"]) == ("ok", 1, None)
    assert run("verify", "engines/m/1") == document
    assert run("inspect", "m")["signature"] == document["signature"]


def test_who_is_not_trusted_is_named_by_every_verb_that_loads(run: Callable[..., Any]) -> None:
    run("keygen", "stranger", "--out", "keys")
    run("sign", "m", "--key", "keys/stranger.key")
    for words in (["verify", "m"], ["infer", "m", "--input", "i.npz"], ["bench", "m", "-n", "70"], ["serve", "m"]):
        error = run(*words, code=78)["error"]
        assert error["type"] == "PlanUntrustedError", words
        assert "isn't trusted: trusted.d has acme" in error["message"]
    assert "isn't trusted" in run("inspect", "m")["signature"]["problem"]
    shutil.copy("keys/stranger.pub", "trusted.d")
    assert run("infer", "m", "--input", "i.npz")["outputs"]


def test_a_plan_without_a_signature_is_refused_where_one_is_required(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("infer", "m", "--input", "i.npz")
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__REQUIRE_SIGNED", "true")
    assert "require_signed is on" in run("infer", "m", "--input", "i.npz", code=78)["error"]["message"]


def test_a_damaged_file_fails_and_an_older_version_is_refused(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("sign", "m", "--key", "keys/acme.key")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    RollbackFloor(tmp_path / "floor.json").raise_floor("m", 2)
    assert run("verify", "m", code=78)["error"]["type"] == "PlanRollbackError"
    RollbackFloor(tmp_path / "floor.json").allow("m", 1)
    assert run("verify", "m")["floor"] == 1
    Path("engines/m/1/model.onnx").write_bytes(b"damaged")
    assert run("verify", "m", code=1)["error"]["type"] == "PlanCorruptError"


def test_a_key_on_a_command_line_must_be_a_private_file(run: Callable[..., Any]) -> None:
    Path("keys/acme.key").chmod(0o644)
    message = run("sign", "m", "--key", "keys/acme.key", code=78)["error"]["message"]
    assert "expected mode 600 or less, got 644" in message
    assert run("sign", "m", code=78)["error"]["type"] == "ConfigError"


def test_a_pack_is_named_by_its_digest(run: Callable[..., Any]) -> None:
    run("sign", "m", "--key", "keys/acme.key", "--pack-sha256", "7" * 63, code=2)
    run("sign", "m", "--key", "keys/acme.key", "--pack-sha256", "7" * 64)
    assert run("verify", "m")["signature"]["pack_sha256"] == "7" * 64


@pytest.mark.parametrize("target", ["m@", "m@x", "m@-1", "m@1234567890"])
def test_a_version_is_a_number(run: Callable[..., Any], target: str) -> None:
    run("verify", target, code=2)


def test_a_plan_is_encrypted_as_a_new_version(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no key" in run("encrypt", "m", code=78)["error"]["message"]
    run("keygen", "plan", "--role", "encryption", "--out", "keys")
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__PLAN_KEY", "keys/plan.key")
    document = run("encrypt", "m", "--sign", "keys/acme.key")
    assert (document["version"], document["signed"]) == (2, True)
    assert run("verify", "m")["encrypted"] is True
    assert run("infer", "m", "--input", "i.npz")["outputs"]
    assert run("inspect", "m")["plan"] == "engines/m/2/model.onnx.enc"
    assert "encrypted already" in run("encrypt", "m", code=1)["error"]["message"]
    plain = Path("engines/m/1/model.onnx").read_bytes()
    assert not any(plain[:64] in path.read_bytes() for path in Path("engines/m/2").iterdir())
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__PLAN_KEY", "keys/absent.key")
    assert run("infer", "m", "--input", "i.npz", code=78)["error"]["type"] == "PlanSealedError"


def test_a_build_signs_and_encrypts_what_it_publishes(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run("keygen", "plan", "--role", "encryption", "--out", "keys")
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__PLAN_KEY", "keys/plan.key")
    assert run("build", "m.onnx", "--sign", "keys/acme.key")["reused"] is True
    assert run("verify", "m")["version"] == 1
    assert run("build", "m.onnx", "--sign", "keys/acme.key", "--encrypt")["plan"] == "engines/m/2"
    assert run("verify", "m")["encrypted"] is True
    assert run("build", "m.onnx", "--encrypt")["reused"] is True


def test_a_start_warns_once_of_all_plans_without_a_signature(
    run: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PlanStore(Path("engines")).open("m")
    with caplog.at_level(logging.WARNING):
        warn_of_unsigned([plan, plan])
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == ["not signed: m, m"]
    caplog.clear()
    run("sign", "m", "--key", "keys/acme.key")
    warn_of_unsigned([plan])
    assert not caplog.records


def test_a_version_that_was_found_good_becomes_the_floor(
    run: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = PlanStore(Path("engines")).open("m")
    raise_floor(plan)
    assert not list(tmp_path.glob("**/floor.json"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    raise_floor(plan)
    assert RollbackFloor(tmp_path / "state/floor.json").lowest("m") == 1
    (tmp_path / "state/floor.json").write_text("nonsense")
    raise_floor(plan)
    assert "older versions of model m aren't refused" in caplog.text


def test_a_version_that_was_gone_back_from_while_it_was_loaded_does_not_become_the_floor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = (publish(tmp_path / "engines", "m", factor) for factor in (1, 2))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    PlanStore(tmp_path / "engines").serve("m", old.manifest.version)
    raise_floor(new)
    assert RollbackFloor(tmp_path / "floor.json").lowest("m") == old.manifest.version
