"""Triton beside ours, where `make serving-peers` has set it up."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from serving.places import TRITON, TRITON_BACKENDS, TRITON_LABEL
from serving.processes import Tree, last_words, started
from serving.servers import PEERS, free_ports, need_set_up
from serving.setup_peers import triton_binary, triton_libraries
from serving.ways import UnavailableError

from robustness.nets import WIDTH, model_path
from robustness.requests import ask_once, http

__all__ = ["Triton", "UnavailableError", "triton"]

LOG = "triton-robustness"
_READY_S, _POLL_S = 60.0, 0.05


@dataclass(frozen=True)
class Triton:
    """A running Triton; it has no Unix socket."""

    tree: Tree
    http: str
    grpc: str
    label: str = TRITON_LABEL

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.tree.process.poll() is None


@contextlib.contextmanager
def triton(*models: str) -> Iterator[Triton]:
    """The tritonserver of PyTriton's wheel, with one instance of each model, as it comes: its queue has no bound.

    Its dynamic batcher could bound it, but stalls for 500 ms at a time with this backend.

    Raises:
        UnavailableError: it isn't set up here, or doesn't start.
    """
    need_set_up("triton")
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder:
        for name in models:
            _write_model(name, Path(folder) / "models" / name)
        http_port, grpc_port = free_ports(2)
        prefix = f"edge_robust_{http_port}_"
        command = [triton_binary(), f"--model-repository={folder}/models", f"--backend-directory={TRITON_BACKENDS}"]
        command += ["--http-address=127.0.0.1", f"--http-port={http_port}", "--grpc-address=127.0.0.1"]
        command += [f"--grpc-port={grpc_port}", "--allow-metrics=false", "--exit-timeout-secs=5"]
        command += [f"--backend-config=python,shm-region-prefix-name={prefix}"]
        command += ["--model-control-mode=explicit", "--load-model=*"]
        env = {"PATH": f"{TRITON / 'bin'}:/usr/bin:/bin", "HOME": folder, "LD_LIBRARY_PATH": triton_libraries()}
        try:
            with started(command, LOG, env) as tree:
                made = Triton(tree, f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}")
                _wait_until_ready(made)
                yield made
        finally:
            for region in Path("/dev/shm").glob(f"{prefix}*"):
                region.unlink()


def _wait_until_ready(made: Triton) -> None:
    limit_s = time.monotonic() + _READY_S
    while time.monotonic() < limit_s and made.is_alive:
        with contextlib.suppress(OSError):
            if ask_once(made.http, http("GET", "/v2/health/ready"))[0] == 200:
                return
        time.sleep(_POLL_S)
    raise UnavailableError(f"Triton isn't ready: {last_words(LOG)}")


def _write_model(name: str, folder: Path) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copy(PEERS / "triton_model.py", folder / "1" / "model.py")
    ends = "".join(
        f'{kind} [{{ name: "{end}" data_type: TYPE_FP32 dims: [-1, {WIDTH}] }}]\n'
        for kind, end in (("input", "x"), ("output", "y"))
    )
    (folder / "config.pbtxt").write_text(
        f'backend: "python"\nmax_batch_size: 0\n{ends}'
        f"instance_group [{{ count: 1 kind: KIND_CPU }}]\n"
        f'parameters {{ key: "onnx" value: {{ string_value: "{model_path(name)}" }} }}\n'
    )
