"""The golden run of a plan: one set of inputs, and what the plan answered to it when it was built.

A plan that answers otherwise later is broken, or runs on something that is. Its own answers are asked for bit by bit
first; other kernels (another CPU, another number of threads) round otherwise, so a little is let pass: of floats a
relative error of 5 % (the norm of the difference over that of the expected), of others 1 % of the elements.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigError, InvalidRequestError, PlanCorruptError
from edge_runtime.plan.manifest import FileRecord, GoldenRecord
from edge_runtime.tensors import DType, Feeds, Signature, TensorSpec, float32_from_bfloat16

if TYPE_CHECKING:
    from edge_runtime.plan.store import StoredPlan

Array = npt.NDArray[Any]

GOLDEN_FILE = "golden.npz"
MAX_NBYTES = 64 << 20

_FLOAT_ERROR = 0.05
_OTHER_SHARE = 0.01
_TINY = 1e-3  # the least size of an element that a relative error is held against


@dataclass(frozen=True, eq=False)
class Golden:
    """Inputs and the outputs that are expected, by name; `origin` says where the inputs come from."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    origin: str

    @property
    def can_be_stored(self) -> bool:
        """Whether a plan's folder holds it: strings can't be, nor over 64 MiB."""
        arrays = [*self.inputs.values(), *self.outputs.values()]
        return not any(array.dtype.hasobject for array in arrays) and sum(each.nbytes for each in arrays) <= MAX_NBYTES

    def difference(self, outputs: Feeds) -> str:
        """What is wrong with other outputs for the same inputs, in words; "" if they are right."""
        if set(outputs) != set(self.outputs):
            return f"outputs {sorted(outputs)} where {sorted(self.outputs)} are expected"
        for name, expected in self.outputs.items():
            text = _difference(outputs[name], expected)
            if text:
                return f"output {name!r}: {text}"
        return ""

    def is_exact(self, outputs: Feeds) -> bool:
        """Whether other outputs are the same, bit for bit."""
        return set(outputs) == set(self.outputs) and all(
            outputs[name].dtype == expected.dtype and _digest(outputs[name]) == _digest(expected)
            for name, expected in self.outputs.items()
        )

    def to_file(self, signature: Signature) -> Tuple[bytes, GoldenRecord]:
        """The content of `golden.npz` (arrays `i0`, … and `o0`, … in the signature's order), and its record."""
        content = self._content(signature)
        file = FileRecord(file=GOLDEN_FILE, sha256=hashlib.sha256(content).hexdigest(), nbytes=len(content))
        return content, self._record(file)

    def is_of(self, record: GoldenRecord) -> bool:
        """Whether a manifest has this record for it."""
        return self._record(record.file) == record

    def _record(self, file: FileRecord) -> GoldenRecord:
        digests = {name: _digest(value) for name, value in self.outputs.items()}
        return GoldenRecord(file=file, origin=self.origin, outputs=digests)

    def _content(self, signature: Signature) -> bytes:
        arrays = {f"i{index}": self.inputs[spec.name] for index, spec in enumerate(signature.inputs)}
        arrays.update({f"o{index}": self.outputs[spec.name] for index, spec in enumerate(signature.outputs)})
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        return content.getvalue()


def read_golden(stored: StoredPlan) -> Golden | None:
    """The golden run that lies beside a plan; None if there is none.

    Raises:
        PlanCorruptError: the file isn't what the manifest says, or doesn't fit the plan.
    """
    record, signature = stored.manifest.golden, stored.manifest.signature
    if record is None:
        return None
    file = stored.file(record.file)
    content = file.read()
    problem = "has other tensors than the plan"
    with contextlib.suppress(ValueError, OSError, KeyError, zipfile.BadZipFile, InvalidRequestError, ConfigError):
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            golden = Golden(
                _named(arrays, "i", signature.inputs), _named(arrays, "o", signature.outputs), record.origin
            )
        for spec in signature.inputs:
            signature.check_input(spec.name, spec.dtype, golden.inputs[spec.name].shape)
        signature.check_shapes({name: value.shape for name, value in golden.inputs.items()})
        if golden.is_of(record):
            return golden
        problem = "has other outputs than its manifest names"
    raise PlanCorruptError(f"{file.path}: {problem}; build the plan again")


def _named(arrays: Mapping[str, Array], kind: str, specs: Sequence[TensorSpec]) -> Dict[str, Array]:
    found = {spec.name: arrays[f"{kind}{index}"] for index, spec in enumerate(specs)}
    for spec in specs:
        if found[spec.name].dtype != spec.dtype.numpy:
            raise ConfigError(f"{spec.name!r} has another data type")
    return found


def _digest(value: Array) -> str:
    digest: Any = hashlib.sha256(repr((value.dtype.str, value.shape)).encode())
    if value.dtype.hasobject:
        for element in value.ravel():
            digest.update(b"%d:%b" % (len(element), element))
    else:
        digest.update(np.ascontiguousarray(value))
    return str(digest.hexdigest())


def _difference(got: Array, expected: Array) -> str:
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return f"{got.dtype} {list(got.shape)} where {expected.dtype} {list(expected.shape)} is expected"
    if not expected.size:
        return ""
    if expected.dtype == DType.BF16.numpy:
        got, expected = float32_from_bfloat16(got), float32_from_bfloat16(expected)
    if expected.dtype.kind != "f":
        share = float(np.mean(got != expected))
        return f"{share:.1%} of its elements differ, at most 1 % may" if share > _OTHER_SHARE else ""
    if not np.array_equal(np.isfinite(got), np.isfinite(expected)):
        return "NaN or infinity where none is expected, or none where it is"
    is_finite = np.isfinite(expected)
    wide, reference = got[is_finite].astype(np.float64), expected[is_finite].astype(np.float64)
    norm = max(float(np.linalg.norm(reference)), _TINY * float(np.sqrt(reference.size)))
    error = float(np.linalg.norm(wide - reference)) / norm if reference.size else 0.0
    return f"differs by {error:.1%}, at most 5 % may" if error > _FLOAT_ERROR else ""
