"""What the files of a plan hold, and whether it is what their records say."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, Iterator, Mapping, Tuple

from edge_runtime.errors import PlanCorruptError
from edge_runtime.plan.files import Content
from edge_runtime.plan.manifest import FileRecord, PlanRecord
from edge_runtime.tensors import Signature

_CHUNK_NBYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class PlanFiles:
    """A plan as files by name: first its ONNX or its engine and then, if they lie apart, its weights in chunks.

    Chunks are made, or read, anew each time that they are iterated.
    """

    contents: Mapping[str, Content]

    @property
    def model(self) -> bytes:
        """The ONNX, or the serialized engine."""
        content = next(iter(self.contents.values()))
        return content if isinstance(content, bytes) else b"".join(content)

    @property
    def weights(self) -> Iterable[bytes] | None:
        """The weights that the ONNX refers to; None if it holds them."""
        apart = list(self.contents.values())[1:]
        return None if not apart else [apart[0]] if isinstance(apart[0], bytes) else apart[0]

    @property
    def nbytes(self) -> int:
        """The size of all files."""
        return sum(map(_nbytes, self.contents.values()))

    @cached_property
    def record(self) -> PlanRecord:
        """Names, sizes and digests of the files: equal records mean equal plans."""
        model, *weights = [_record(file, content) for file, content in self.contents.items()]
        return PlanRecord(**model, weights=FileRecord(**weights[0]) if weights else None)


@dataclass(frozen=True)
class PlanPart:
    """One plan of a chain: its files, and what it takes and gives; a model that isn't split has one.

    `nodes` are the names of the ONNX nodes that a TensorRT plan was built of.
    """

    files: PlanFiles
    signature: Signature
    nodes: Tuple[str, ...] = ()


def part_file(file: str, number: int) -> str:
    """What the file of a part is called, counted from 0, where that of the first is `file`: `model.1.onnx`."""
    name, _, kind = file.partition(".")
    return f"{name}.{number}.{kind}" if number else file


def _nbytes(content: Content) -> int:
    if isinstance(content, bytes):
        return len(content)
    known = getattr(content, "nbytes", None)
    return known if isinstance(known, int) else sum(map(len, content))


def _record(file: str, content: Content) -> Dict[str, Any]:
    digest, nbytes = hashlib.sha256(), 0
    for chunk in [content] if isinstance(content, bytes) else content:
        digest.update(chunk)
        nbytes += len(chunk)
    return {"file": file, "sha256": digest.hexdigest(), "nbytes": nbytes}


@dataclass(frozen=True)
class StoredFile:
    """The chunks of a file, which are worth nothing before the last one: only then its digest is known.

    Iterating raises PlanCorruptError if the file isn't there, or isn't what the record says.
    """

    path: Path
    record: FileRecord

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks(_CHUNK_NBYTES)

    def read(self) -> bytes:
        """All of the file.

        Raises:
            PlanCorruptError: it isn't there, or isn't what the record says.
        """
        return b"".join(self._chunks(max(self.record.nbytes, 1)))

    def beginning(self, nbytes: int) -> Tuple[bytes, int]:
        """The first bytes of the file, not verified, and its size.

        Raises:
            PlanCorruptError: it can't be read.
        """
        with opened(self.path) as file:
            return file.read(nbytes), os.fstat(file.fileno()).st_size

    def _chunks(self, size: int) -> Iterator[bytes]:
        expected, digest = self.record, hashlib.sha256()
        with opened(self.path) as file:
            nbytes = os.fstat(file.fileno()).st_size
            got = f"{nbytes} bytes"
            if nbytes == expected.nbytes:
                for start in range(0, nbytes, size):
                    chunk = file.read(min(size, nbytes - start))
                    digest.update(chunk)
                    yield chunk
                got = f"sha256 {digest.hexdigest()[:12]}…"
        if nbytes != expected.nbytes or digest.hexdigest() != expected.sha256:
            raise PlanCorruptError(
                f"{self.path}: expected {expected.nbytes} bytes with sha256 {expected.sha256[:12]}…, "
                f"got {got}; build the plan again"
            )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file to read, no link followed.

    Raises:
        PlanCorruptError: it can't be read, now or inside the block.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:  # noqa: PTH123  (a descriptor, opened without following links)
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise PlanCorruptError(f"{path}: isn't a regular file; build the plan again")
            yield file
    except OSError as error:
        raise PlanCorruptError(f"{path}: can't be read ({error.strerror}); build the plan again") from error
