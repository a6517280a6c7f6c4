"""INT8 without Q/DQ: TensorRT's calibrator, fed from a cache or from batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Protocol, Sequence, TypeVar

import numpy as np

from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer
from edge_runtime.device.cuda.port import CopyKind, Cuda
from edge_runtime.device.cuda.streams import Stream
from edge_runtime.errors import CalibrationError
from edge_runtime.tensorrt_api import TensorRT

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

    `folder` holds `names.txt` with the inputs' names, and `<batch>-<input>.npy` for each batch, all of one shape.
    """

    def __init__(self, folder: Path, cuda: Cuda, device: int) -> None:
        self._cuda = cuda
        self._ordinal = device
        self.stored: bytes | None = None
        self._names = (folder / "names.txt").read_text(encoding="utf-8").splitlines()
        self._folder = folder
        self._count = len(list(folder.glob("*-0.npy")))
        self._next = 0
        first = [np.load(self._path(0, index), mmap_mode="r") for index in range(len(self._names))]
        self.batch_size = first[0].shape[0] if first[0].shape else 1
        self._host: List[HostBuffer] = []
        self._device: List[DeviceBuffer] = []
        try:
            self._stream = Stream(cuda)
            for array in first:
                self._host.append(HostBuffer(cuda, array.nbytes))
                self._device.append(DeviceBuffer(cuda, array.nbytes))
        except BaseException:
            self.close()
            raise

    def _path(self, batch: int, index: int) -> Path:
        return self._folder / f"{batch}-{index}.npy"

    def addresses(self, names: Sequence[str]) -> List[int] | None:
        """The next batch on the device."""
        if sorted(names) != sorted(self._names):
            raise CalibrationError(f"calibration: expected batches of {self._names}, TensorRT wants {list(names)}")
        if self._next == self._count:
            return None
        self._cuda.use_device(self._ordinal)  # which thread TensorRT asks on is its own affair
        for index, (host, device) in enumerate(zip(self._host, self._device)):
            array = np.load(self._path(self._next, index), mmap_mode="r")
            if array.nbytes != host.nbytes:
                raise CalibrationError(
                    f"calibration batch {self._next}: expected {host.nbytes} bytes, got {array.nbytes}"
                )
            np.copyto(host.array(array.dtype, array.shape), array)
            self._stream.copy(device.address, host.address, array.nbytes, CopyKind.HOST_TO_DEVICE)
        self._stream.synchronize()
        self._next += 1
        return [self._device[self._names.index(name)].address for name in names]

    @property
    def is_complete(self) -> bool:
        """Whether TensorRT took every batch."""
        return self._next == self._count

    def cache(self) -> bytes | None:
        """None: what is in the folder is to be measured."""
        return None

    def store(self, cache: bytes) -> None:
        """Keeps the cache until it is known to be whole."""
        self.stored = cache

    def close(self) -> None:
        """Gives the memory back; idempotent."""
        for buffer in (*self._host, *self._device):
            buffer.close()
        if hasattr(self, "_stream"):
            self._stream.close()

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
