"""A plan of the fakes on a FakeCuda, ready to run."""

from __future__ import annotations

from typing import Any, Sequence, Tuple

import numpy as np
from fakes.cuda import FakeCuda
from fakes.tensorrt import fake_tensorrt
from fakes.tensorrt_session import Session, dense_model

ROWS = ((1, 4), (2, 4), (8, 4))
X = np.arange(8, dtype=np.float32).reshape(2, 4)
Y = np.maximum(X @ np.arange(12, dtype=np.float32).reshape(4, 3) - 20, 0)


class Running:
    """An engine on a GPU, with a stream."""

    def __init__(
        self, surface: str, model: bytes, config: Any = None, profiles: Sequence[Any] = (), **board: Any
    ) -> None:
        self.cuda = FakeCuda()
        self.cuda.use_device(0)
        self.session = Session(fake_tensorrt(surface, self.cuda, **board))
        self.trt = self.session.module
        config = self.session.config() if config is None else config(self.session)
        for shapes in profiles:
            added = self.session.builder.create_optimization_profile()
            for name, limits in shapes.items():
                added.set_shape(name, *limits)
            config.add_optimization_profile(added)
        self.plan = self.session.plan(model, config)
        self.runtime = self.trt.Runtime(self.session.logger)
        self.engine = self.runtime.deserialize_cuda_engine(self.plan)
        assert self.engine is not None, self.session.messages
        self.stream = self.cuda.create_stream()

    def put(self, values: np.ndarray) -> int:
        address = self.cuda.allocate_device(max(values.nbytes, 1))
        self.cuda.view(address, values.nbytes)[:] = values.reshape(-1).view(np.uint8)
        return address

    def room(self, nbytes: int) -> int:
        return self.cuda.allocate_device(nbytes)

    def read(self, address: int, shape: Tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.cuda.view(address, nbytes).view(dtype).reshape(shape)

    def finish(self) -> None:
        self.cuda.synchronize_stream(self.stream)


def dense(surface: str, profiles: Sequence[Any] = ({"x": ROWS},), **more: Any) -> Running:
    return Running(surface, dense_model(), profiles=profiles, **more)


def bound(found: Running, context: Any = None) -> Tuple[Any, int]:
    """A context with x and y set by name; where y is."""
    context = context or found.engine.create_execution_context()
    context.set_input_shape("x", (2, 4))
    output = found.room(24)
    assert context.set_tensor_address("x", found.put(X))
    assert context.set_tensor_address("y", output)
    return context, output
