"""The fake board of this process: one FakeCuda and one fake TensorRT, as environment variables name them.

FAKE_TENSORRT is a surface ("8.2" to "11.4"), FAKE_TENSORRT_BOARD the fields of its `Board` as JSON. Both fakes say it
of themselves: nothing timed on this board is a measurement.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from fakes.board_runtime import BoardRuntime
from fakes.cuda import NANO, ORIN, FakeCuda
from fakes.tensorrt import fake_tensorrt

# The CUDA that a JetPack with that TensorRT has.
CUDA_VERSIONS = {
    "8.2": 10020,
    "8.4": 11040,
    "8.5": 11040,
    "8.6": 12020,
    "10.3": 12060,
    "10.13": 13000,
    "11.4": 13020,
}


def board_cuda(surface: str) -> FakeCuda:
    """The GPU of a board that has that TensorRT: a Nano's for 8.2, else an Orin's."""
    return FakeCuda(NANO if surface == "8.2" else ORIN, driver=CUDA_VERSIONS[surface])


def board_tensorrt(surface: str, cuda: FakeCuda, **board: Any) -> Any:
    """Its TensorRT, for that GPU."""
    capability = cuda.attributes(0).compute_capability
    return fake_tensorrt(surface, cuda, **{"compute_capability": capability, **board})


@functools.lru_cache(maxsize=None)
def process_cuda() -> FakeCuda:
    return board_cuda(os.environ["FAKE_TENSORRT"])


@functools.lru_cache(maxsize=None)
def process_runtime() -> BoardRuntime:
    return BoardRuntime(process_cuda(), CUDA_VERSIONS[os.environ["FAKE_TENSORRT"]])


@functools.lru_cache(maxsize=None)
def process_tensorrt() -> Any:
    board = json.loads(os.environ.get("FAKE_TENSORRT_BOARD", "{}"))
    return board_tensorrt(os.environ["FAKE_TENSORRT"], process_cuda(), **board)
