"""The README tells the truth: its commands and its Python run as they stand there, its links and make targets exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMAND = [sys.executable, "-c", "from edge_runtime.cli.main import main; main()"]
HTTP = "127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """Words of every `edge-runtime` command of the README, after the program's name."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("edge-runtime")]


def detector() -> bytes:
    """images f32[batch, 3, height, width] -> map f32[batch, 4, height, width]."""
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["map"], name="conv", pads=[1, 1, 1, 1])],
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, real_path: Callable[[str], Path]) -> Path:
    """A folder with what the README's commands name."""
    real_path("cls")
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "engines", folder / "engines", ignore=lambda top, names: [n for n in names if "." not in n])
    images = np.random.default_rng(1).normal(size=(8, 3, 320, 320)).astype(np.float32)
    np.savez(folder / "c.npz", images=images[:4])
    np.savez(folder / "h.npz", images=images[4:])
    np.savez(folder / "line.npz", x=np.zeros((1, 3, 48, 192), np.float32))
    (folder / "model.onnx").write_bytes(detector())
    shutil.copy(ROOT / "tests/data/tegrastats/lines.log", folder / "tegrastats.log")
    repository = folder / "models/detector"
    (repository / "1").mkdir(parents=True)
    (repository / "1/model.onnx").write_bytes(detector())
    image = 'name: "images" data_type: TYPE_FP32 dims: [ 3, 32, 32 ]'
    (repository / "config.pbtxt").write_text(f"max_batch_size: 2 input {{ {image} }}")
    (folder / "image/var/lib/dpkg").mkdir(parents=True)
    (folder / "image/var/lib/dpkg/status").write_text("Package: systemd\nVersion: 255.4-1ubuntu8\n\n")
    return folder


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    profile = {"PROFILE__N": "70", "PROFILE__LAYER_RUNS": "5", "PROFILE__BASELINE_S": "0"}
    quick = {"GATE__LATENCY_BUDGET_S": "0.2", "BENCH__N": "70", "BENCH__LAYER_RUNS": "5", "SWEEP__ENERGY": "false"}
    settings = {f"EDGE_RUNTIME_{key}": value for key, value in {**quick, **profile}.items()}
    return {**os.environ, **settings, "PYTHONWARNINGS": "error", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def server(folder: Path, environ: dict[str, str]) -> Iterator[str]:
    """The README's `serve`, on a free port; the HTTP address."""
    build = next(words for words in commands() if words[0] == "build")
    subprocess.run([*COMMAND, *build], cwd=folder, env=environ, check=True, capture_output=True)
    words = next(words for words in commands() if words[0] == "serve")
    free = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json"]
    process = subprocess.Popen([*COMMAND, *words, *free], cwd=folder, env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["http"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()


def finished_commands() -> Iterator[Any]:
    """Those that end by themselves; measuring every layer's share of the error takes half a minute."""
    for words in commands():
        if words[0] not in ("serve", "power"):  # which a Jetson alone can answer
            yield pytest.param(words, id=" ".join(words), marks=[pytest.mark.slow] * ("--explain" in words))


@pytest.mark.parametrize("words", list(finished_commands()))
def test_a_command_of_the_readme_runs(words: list[str], folder: Path, environ: dict[str, str], server: str) -> None:
    here = [word.replace(HTTP, server) for word in words]
    done = subprocess.run([*COMMAND, *here], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_python_of_the_readme_runs(folder: Path, environ: dict[str, str], server: str) -> None:
    (code,) = blocks("python")
    code = code.replace(HTTP, server) + "\nassert next(iter(outputs.values())).shape == (1, 2)\n"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environ, check=True)


def documents() -> Iterator[Any]:
    """Those with commands; the marked ones measure for half a minute."""
    names = "recipes provisioning packs serving profiling regression sweep signing telemetry telemetry-sources triton"
    for name in names.split():
        yield pytest.param(name, marks=[pytest.mark.slow] * (name in ("profiling", "regression", "sweep")))


@pytest.mark.parametrize("name", list(documents()))
def test_the_commands_of_the_documentation_run(name: str, folder: Path, environ: dict[str, str], server: str) -> None:
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / f"docs/{name}.md").read_text(), re.DOTALL):
        shim = f'edge-runtime() {{ {" ".join(map(shlex.quote, COMMAND))} "$@"; }}\n'
        done = subprocess.run(["bash", "-ec", shim + block], cwd=folder, env=environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_every_verb_make_target_and_link_of_the_readme_exists() -> None:
    from edge_runtime.cli.main import VERBS

    assert {words[0] for words in commands()} == set(VERBS)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        set(re.findall(r"`make ([a-z-]+)", README)) | set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
        <= targets
    )
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_no_placeholder_is_left(name: str) -> None:
    assert not re.findall(r"^[A-Z_]{4,}$|TODO|TBD", (ROOT / name).read_text(), re.MULTILINE)


def test_the_readme_is_short_and_draws_the_rooms_that_there_are() -> None:
    assert len(README.splitlines()) <= 400
    rooms = {p.name for p in (ROOT / "edge_runtime").iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert {room for room in rooms if f"  {room}/" not in README} == set()


def test_the_recipe_of_the_documentation_is_valid(tmp_path: Path) -> None:
    from edge_runtime.builder.recipe import RecipeTables
    from edge_runtime.config import read_toml, validated

    text = (ROOT / "docs/recipes.md").read_text()
    (recipe,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "r.toml").write_text(recipe)
    tables = validated(RecipeTables, read_toml(tmp_path / "r.toml"), "docs/recipes.md")
    named = {line.split("]")[0].strip("[").split(".")[0] for line in recipe.splitlines() if line.startswith("[")}
    assert named == set(RecipeTables.model_fields)
    assert tables.gate.min_gain == RecipeTables.model_fields["gate"].default.min_gain
