"""INT8 without Q/DQ: TensorRT's calibrator, fed from a cache or from batches."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List, Protocol, Sequence, TypeVar

import numpy as np

from edge_runtime.builder.tensorrt.spool import Batches
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer
from edge_runtime.device.cuda.port import CopyKind, Cuda
from edge_runtime.device.cuda.streams import Stream
from edge_runtime.errors import CalibrationError
from edge_runtime.tensorrt_api import TensorRT
from edge_runtime.tensors import TensorSpec, element_count

T = TypeVar("T")


class CalibrationSource(Protocol):
    """Where a calibrator's answers come from; it may raise, which the calibrator stores."""

    batch_size: int

    def addresses(self, names: Sequence[str]) -> List[int] | None:
        """Device addresses of the next batch, in the order of `names`; None after the last."""

    def cache(self) -> bytes | None:
        """The cache to use instead of batches, or None."""

    def store(self, cache: bytes) -> None:
        """Takes the cache that calibrating made."""


class CacheSource:
    """Scales that were measured before. Its header gets the version that runs: TensorRT ignores another one's."""

    batch_size = 1

    def __init__(self, text: str, version: str) -> None:
        table = CalibrationTable.from_cache_text(text, "calibration cache")
        self._text = CalibrationTable(table.scales).to_cache_text(version)

    def addresses(self, names: Sequence[str]) -> List[int] | None:
        """TensorRT asks for batches only if it can't use the cache."""
        raise CalibrationError(
            f"TensorRT doesn't take the calibration cache and asks for batches of {', '.join(names)}; "
            "calibrate again, or build fp16"
        )

    def cache(self) -> bytes | None:
        """The cache."""
        return self._text.encode()

    def store(self, cache: bytes) -> None:
        """TensorRT writes back what it read."""


class BatchSource:
    """Batches from files, through pinned memory to the device. A context manager.

    `specs` are the network's inputs, whose data types TensorRT takes; `device` is the GPU's ordinal.
    """

    def __init__(self, batches: Batches, specs: Sequence[TensorSpec], cuda: Cuda, device: int) -> None:
        self.stored: bytes | None = None
        self._batches = batches
        self._cuda = cuda
        self._ordinal = device
        self._next = 0
        self._shapes = batches.shapes()
        self._dtypes = {spec.name: spec.dtype for spec in specs}
        self.batch_size = next((shape[0] for shape in self._shapes.values() if shape), 1)
        self._host: Dict[str, HostBuffer] = {}
        self._device: Dict[str, DeviceBuffer] = {}
        with contextlib.ExitStack() as stack:
            self._stream = stack.enter_context(Stream(cuda))
            for name, shape in self._shapes.items():
                nbytes = element_count(shape) * self._dtypes[name].itemsize
                self._host[name] = stack.enter_context(HostBuffer(cuda, nbytes))
                self._device[name] = stack.enter_context(DeviceBuffer(cuda, nbytes))
            self._memory = stack.pop_all()

    def addresses(self, names: Sequence[str]) -> List[int] | None:
        """The next batch on the device."""
        if sorted(names) != sorted(self._shapes):
            raise CalibrationError(f"calibration: expected batches of {list(self._shapes)}, got {list(names)} to feed")
        if self.is_complete:
            return None
        self._cuda.use_device(self._ordinal)  # which thread TensorRT asks on is its own affair
        for name, value in self._batches.read(self._next).items():
            host = self._host[name]
            np.copyto(host.array(self._dtypes[name].numpy, self._shapes[name]), value, casting="unsafe")
            self._stream.copy(self._device[name].address, host.address, host.nbytes, CopyKind.HOST_TO_DEVICE)
        self._stream.synchronize()
        self._next += 1
        return [self._device[name].address for name in names]

    @property
    def is_complete(self) -> bool:
        """Whether TensorRT took every batch."""
        return self._next == self._batches.count

    def cache(self) -> bytes | None:
        """None: what is in the folder is to be measured."""
        return None

    def store(self, cache: bytes) -> None:
        """Keeps the cache until it is known to be whole."""
        self.stored = cache

    def close(self) -> None:
        """Gives the memory back; idempotent."""
        self._memory.close()

    def __enter__(self) -> BatchSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StoredErrors:
    """What went wrong in callbacks: TensorRT swallows exceptions, or the process ends by them."""

    def __init__(self) -> None:
        self._first: BaseException | None = None

    def guarded(self, call: Callable[[], T], otherwise: T) -> T:
        """What `call` gives; if it raises, `otherwise`, and the exception is kept."""
        if self._first is not None:
            return otherwise
        try:
            return call()
        except BaseException as error:  # noqa: BLE001  (a callback's top frame: `raise_first` raises it on our side)
            self._first = error
            return otherwise

    def raise_first(self) -> None:
        """Raises the first exception that was kept."""
        if self._first is not None:
            raise self._first


def make_calibrator(library: TensorRT, source: CalibrationSource, errors: StoredErrors) -> Any:
    """An `IInt8EntropyCalibrator2` over a source; it must outlive the build.

    Its methods never raise: an exception would end the process on 8.2, and make a half calibration on later ones.
    """
    base = library.module.IInt8EntropyCalibrator2

    class Calibrator(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def get_batch_size(self) -> int:
            return source.batch_size

        def get_batch(self, names: Sequence[str]) -> List[int] | None:
            found = errors.guarded(lambda: source.addresses(names), None)
            return found if found is not None and len(found) == len(names) else None

        def read_calibration_cache(self) -> bytes | None:
            return errors.guarded(source.cache, None)

        def write_calibration_cache(self, cache: Any) -> None:
            errors.guarded(lambda: source.store(bytes(memoryview(cache))), None)

    return Calibrator()
