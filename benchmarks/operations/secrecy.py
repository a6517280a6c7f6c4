"""Figure 14: what a disk holds of a plan that is encrypted at rest.

A plan is built, served and crashed with all that a server could write on an ext4 of a loop device: its working folder,
home, temporary files, state, core dumps. The image is then searched, free blocks and journal too, for every stretch of
32 bytes of the plain text. The same is done with a plan that isn't encrypted, whose stretches must be found. What is
written in another form (compressed, as text) would not be.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, Sequence, Tuple
from unittest import mock

import numpy as np
from robustness.rows import BESIDE, NOT_MEASURED, Row, verdict_of
from serving.processes import output_of, process_table, started
from serving.servers import own_program, ready_line

from edge_runtime.client.client import Client
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.plan.plan_key import new_plan_key, write_plan_key
from edge_runtime.plan.store import PlanStore, StoredPlan
from operations.disk import Disk, missing, new_disk
from operations.places import own_environment

MODEL, WIDTH, LAYERS = "secret", 512, 3
_DISK_MIB = 1024  # with room for core dumps
_CRASHED = {"plain": [["--engine-process"]], "encrypted": [["--engine-process"], []], "encrypted later": []}
_STRETCH_NBYTES, _LEAST_VALUES = 32, 8
_BUILD_S, _ASKED, _ANSWERED_S = 120.0, 100, 20.0
_POLL_S = 0.02
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Site:
    """Where things are: what must be on no disk in `memory`, all else on the disk; the environment says so."""

    memory: Path
    disk: Path

    @property
    def engines(self) -> Path:
        """The store."""
        return self.disk / "engines"

    @property
    def environment(self) -> Dict[str, str]:
        """Of what serves: the key alone comes from elsewhere."""
        places = {name: str(self.disk / name.lower()) for name in ("HOME", "TMPDIR", "STATE_DIRECTORY")}
        for place in places.values():
            Path(place).mkdir(exist_ok=True)
        return {**own_environment(), **places, "EDGE_RUNTIME_TRUST__PLAN_KEY": str(self.memory / "plan.key")}

    @property
    def builder_environment(self) -> Dict[str, str]:
        """Of what builds, whose scratch files are plain."""
        return {**self.environment, "TMPDIR": str(self.memory)}


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """What the image holds, beside what it would hold without encryption."""
    del options
    goal = "no plain text of it on the disk"
    if missing():
        yield Row("14 encrypted plan", goal, missing(), 0, NOT_MEASURED)
        return
    # In this order: whoever has read a key, as this process does to compare, allows its children no core dumps.
    plain, sealed, later = (_searched(kind) for kind in ("plain", "encrypted", "encrypted later"))
    is_held, was_sought = not sealed.found, plain.found == plain.sought
    text = f"{sealed.text} after a build, two servers and their crashes; of a plan that isn't encrypted, {plain.text}"
    text += "" if plain.core_dumps else "; core dumps aren't allowed here, or go elsewhere"
    yield Row("14 encrypted plan", goal, text, sealed.sought, verdict_of(is_held) if was_sought else NOT_MEASURED)
    yield Row(
        "14 a plan that was encrypted later, and its plain version removed", "-", later.text, later.sought, BESIDE
    )


@dataclass(frozen=True)
class Search:
    """How many stretches of plain text were looked for, how many are on the image, and core dumps that are there."""

    sought: int
    found: int
    nbytes: int
    core_dumps: int

    @property
    def text(self) -> str:
        """In words."""
        where = f"{self.nbytes >> 20} MiB, {self.core_dumps} core dumps"
        return f"{self.found:,} of {self.sought:,} stretches found in {where}"


def _searched(kind: str) -> Search:
    """The life of a plan on a disk of its own, and what is left there."""
    with new_disk(_DISK_MIB) as disk, tempfile.TemporaryDirectory(prefix="edge-runtime-secrecy-", dir=_MEMORY) as name:
        disk.format()
        disk.mount()
        site = Site(Path(name), disk.folder)
        write_plan_key(new_plan_key(), "plan", site.memory)
        stored = build(site, kind == "encrypted")
        if kind == "encrypted later":
            _program(site.environment, "encrypt", MODEL, "--engines", str(site.engines))
            shutil.rmtree(stored.folder)
            stored = PlanStore(site.engines).open(MODEL)
        for arguments in _CRASHED[kind]:
            _serve_and_crash(site, arguments)
        with mock.patch.dict(os.environ, site.environment):
            secrets = stretches(stored, (site.memory / "model.onnx").read_bytes())
        core_dumps = len(list(site.disk.glob("core*")))
        disk.unmount()
        found, nbytes = search(disk, secrets)
        return Search(len(secrets), found, nbytes, core_dumps)


def build(site: Site, is_encrypted: bool, seed: int = 0, name: str = MODEL) -> StoredPlan:
    """A plan of random weights, and its ONNX in memory."""
    model = site.memory / "model.onnx"
    model.write_bytes(_onnx_bytes(seed))
    flags = ["--name", name, "--precision", "fp32", "--engines", str(site.engines)]
    flags += ["--calib-cache", str(site.disk / "calib_cache"), *(["--encrypt"] if is_encrypted else [])]
    _program(site.builder_environment, "build", str(model), *flags)
    return PlanStore(site.engines).open(name)


def _onnx_bytes(seed: int) -> bytes:
    """Layers that are nothing but weights, a little over a MiB each."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    values = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array((values.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32), f"w{layer}")
        for layer in range(LAYERS)
    ]
    names = ["x", *(f"h{layer}" for layer in range(1, LAYERS)), "y"]
    nodes = [
        helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]], f"m{layer}")
        for layer in range(LAYERS)
    ]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", WIDTH]) for end in "xy"]
    graph = helper.make_graph(nodes, MODEL, ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _program(environment: Dict[str, str], *words: str) -> None:
    output_of([own_program(), *words, "--json"], "secrecy", _BUILD_S, environment)


def _serve_and_crash(site: Site, arguments: Sequence[str]) -> None:
    """A server answers; what holds the plan is ended by SIGSEGV, with core dumps allowed, and by SIGKILL."""
    words = [own_program(), "serve", MODEL, "--engines", str(site.engines), "--json", *arguments]
    words += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--board", "none"]
    for number in (signal.SIGSEGV, signal.SIGKILL):
        command = ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *words]
        streams: Dict[str, Any] = {"stdout": subprocess.PIPE, "cwd": site.disk}
        with started(command, "secrecy-serve", site.environment, **streams) as tree:
            with Client(f"http://{ready_line(tree)['http']}") as client:
                _ask(client)
                for pid in [pid for pid, entry in process_table().items() if entry.parent == tree.process.pid]:
                    os.kill(pid, number)
                    _ask(client)
            os.kill(tree.process.pid, number)
            tree.process.wait(_ANSWERED_S)


def _ask(client: Client) -> None:
    """Some answers, once there are any again."""
    x = np.ones((1, WIDTH), np.float32)
    limit_s, answered = time.monotonic() + _ANSWERED_S, 0
    while answered < _ASKED:
        try:
            client.infer(MODEL, {"x": x})
            answered += 1
        except ServerUnavailableError:
            if time.monotonic() > limit_s:
                raise RuntimeError(f"no answer for {_ANSWERED_S:.0f} s") from None
            time.sleep(_POLL_S)


def stretches(stored: StoredPlan, *more: bytes) -> FrozenSet[bytes]:
    """Every stretch of a plan's files and of other texts that says something, and that its manifest doesn't."""
    public = (stored.folder / "manifest.json").read_bytes()
    texts = [stored.file(record).read() for record in stored.manifest.files]
    found = {
        text[at : at + _STRETCH_NBYTES]
        for text in (*texts, *more)
        for at in range(0, len(text) - _STRETCH_NBYTES + 1, _STRETCH_NBYTES)
    }
    return frozenset(each for each in found if len(set(each)) >= _LEAST_VALUES and each not in public)


def search(disk: Disk, secrets: FrozenSet[bytes]) -> Tuple[int, int]:
    """How many of them lie where anything was ever written on an image, and how much of it that is."""
    found, nbytes = set(), 0
    for extent in _extents(disk.image):
        nbytes += len(extent)
        last = len(extent) - _STRETCH_NBYTES + 1
        found |= secrets.intersection(extent[at : at + _STRETCH_NBYTES] for at in range(last))
    return len(found), nbytes


def _extents(image: Path) -> Iterator[bytes]:
    """What isn't a hole."""
    with image.open("rb") as file:
        end, nbytes = 0, image.stat().st_size
        while end < nbytes:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                return  # nothing but a hole is left
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield os.pread(file.fileno(), end - start, start)
