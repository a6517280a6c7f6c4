from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Sequence

import numpy as np
import pytest
from fakes.fleets import write_recipe
from fakes.heard import Heard

from edge_runtime.plan.keys import DEVICE_BUILT, new_key, write_key_pair
from edge_runtime.plan.signature import check_signature
from edge_runtime.plan.store import PlanStore
from edge_runtime.plan.trust import TrustPolicy
from edge_runtime.provisioning.recipe_build import FAILED, FleetOptions, Outcome, recipe_outcome
from edge_runtime.provisioning.sources import Source


@pytest.fixture
def options(tmp_path: Path) -> FleetOptions:
    return FleetOptions(tmp_path / "engines", tmp_path / "calib_cache")


def outcome(options: FleetOptions, path: Path, heard: Heard | None = None, pack_sha256: str = "") -> Outcome:
    source = Source("m", path, bool(pack_sha256), pack_sha256)
    return recipe_outcome(source, options, heard or Heard())


def test_a_recipe_is_built_and_then_recognised(options: FleetOptions, classifier: bytes) -> None:
    path, heard = write_recipe(options.engines, "m", classifier), Heard()
    built = outcome(options, path, heard)
    assert (built.state, built.version, built.precision, built.is_signed) == ("built", 1, "fp32", False)
    assert "publishing" in heard.stages
    assert built.duration_s > 0
    again = outcome(options, path)
    assert (again.state, again.version) == ("unchanged", 1)


def test_a_plan_of_a_pack_is_signed_by_the_device_and_names_the_pack(
    options: FleetOptions, classifier: bytes, tmp_path: Path
) -> None:
    private, _ = write_key_pair(new_key("device", DEVICE_BUILT), tmp_path / "keys")
    path = write_recipe(options.engines / ".packs/m/1", "recipe", classifier)
    assert outcome(replace(options, sign=private), path, pack_sha256="ab" * 32).is_signed
    verdict = check_signature(PlanStore(options.engines).open("m"), TrustPolicy(True, tmp_path / "keys"))
    assert verdict.signer is not None
    assert verdict.provenance is not None
    assert (verdict.signer.role, verdict.provenance.is_device_built) == (DEVICE_BUILT, True)
    assert verdict.provenance.pack_sha256 == "ab" * 32


def test_a_recipe_that_is_wrong_is_an_outcome(options: FleetOptions) -> None:
    failed = outcome(options, write_recipe(options.engines, "m"))
    assert (failed.state, failed.version) == ("failed", None)
    assert "no such file" in failed.reason


def test_what_the_gate_refuses_is_told_apart(options: FleetOptions, classifier: bytes) -> None:
    path = write_recipe(options.engines, "m", classifier)
    rows = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    np.savez(options.engines / "c.npz", x=rows)
    path.write_text(
        '[model]\npath = "m.onnx"\n[precision]\npolicy = "int8"\n[calibration]\ndata = "c.npz"\nalgorithm = "max"\n'
        '[metric]\nname = "mse"\n[gate]\nmax_drop = 1e-12\nlatency_budget_s = 0.1\n'
    )
    refused = outcome(options, path)
    assert refused.state == "refused"
    assert "nothing was published" in refused.reason


def test_a_function_of_the_recipes_that_ends_the_process_is_an_outcome(
    options: FleetOptions, classifier: bytes
) -> None:
    path = write_recipe(options.engines, "m", classifier, '[held_out]\ndata = "killer:rows"\n')
    (options.engines / "killer.py").write_text("import os\n\ndef rows():\n    os.abort()\n    yield {}\n")
    failed = outcome(options, path)
    assert failed.state == FAILED
    assert "ended by SIGABRT" in failed.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(3)", "with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "most likely memory ran out"),
        ('import sys, os; sys.stdin.readline(); os.write(int(sys.argv[-1]), b\'{"event": "bui\')', "with status 0"),
    ],
)
def test_a_process_that_gives_no_answer_is_an_outcome(options: FleetOptions, code: str, reason: str) -> None:
    command: Sequence[str] = (sys.executable, "-c", code)
    failed = recipe_outcome(Source("m", Path("m.toml")), options, Heard(), command=command)
    assert failed.state == FAILED
    assert reason in failed.reason


def test_an_interruption_ends_the_process_that_builds(options: FleetOptions) -> None:
    code = (
        "import json, os, sys, time\n"
        "try:\n"
        "    line = json.dumps({'event': 'stage', 'name': str(os.getpid()), 'total': None})\n"
        "    os.write(int(sys.argv[-1]), line.encode() + b'\\n')\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt: os.write(int(sys.argv[-1]), b'')\n"
    )
    seen = []

    class Interrupting(Heard):
        def stage(self, name: str, total: int | None = None) -> None:
            seen.append(int(name))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe_outcome(Source("m", Path("m.toml")), options, Interrupting(), command=(sys.executable, "-c", code))
    assert not Path(f"/proc/{seen[0]}").exists()
