"""Tactics that were timed before on this device: a file that every build adds to."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path
from typing import Any, Iterator

from edge_runtime.plan.files import make_folder, write_atomically
from edge_runtime.tensorrt_api import Capability, TensorRT

logger = logging.getLogger(__name__)


class TimingCache:
    """The file of one library on one device. What is wrong with it costs time, never the build."""

    def __init__(self, library: TensorRT, path: str) -> None:
        self._library = library
        self._path = Path(path) if path and library.has(Capability.TIMING_CACHE) else None

    def use(self, config: Any) -> None:
        """Gives a configuration the tactics of the file, or an empty cache to fill."""
        if self._path is None:
            return
        cache = self._read(config)
        if cache is None or not config.set_timing_cache(cache, False):
            logger.info("%s: timing cache of another version or device; it will be replaced", self._path)
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def keep(self, config: Any) -> None:
        """Adds what a build timed, whether it succeeded or not; other builds may do so at the same time."""
        if self._path is None:
            return
        cache = config.get_timing_cache()
        if cache is None:
            return
        try:
            make_folder(self._path.parent)
            with _locked(self._path.parent):
                others = self._read(config)
                if others is not None:
                    cache.combine(others, False)
                write_atomically(self._path, bytes(memoryview(cache.serialize())))
        except OSError as error:
            logger.warning("%s: timing cache can't be written (%s); the next build times again", self._path, error)

    def _read(self, config: Any) -> Any:
        """The cache in the file; None if there is none, or TensorRT doesn't know it."""
        assert self._path is not None
        try:
            data = self._path.read_bytes()
        except OSError:
            data = b""
        return config.create_timing_cache(data)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
