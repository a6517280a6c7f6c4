"""The only import of ONNX Runtime: sessions from bytes, and its errors in our words."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple, Type

import numpy as np
import numpy.typing as npt

from edge_runtime.device.identity import saturates_int8
from edge_runtime.errors import BackendError, BackendUnavailableError, UnsupportedModelError
from edge_runtime.tensors import DType, element_count

EXECUTED_MODEL = "executed.onnx"

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")

_BFLOAT16, _ONNX_BFLOAT16 = "tensor(bfloat16)", 16  # ONNX Runtime's name for it, onnx.TensorProto's number

# ONNX Runtime 1.31 ends the process where it fuses an FP16 product with a transpose of the leading axes. What the
# fusion saves elsewhere isn't measurable.
_BROKEN_OPTIMIZERS = ["MatmulTransposeFusion"]

# On x86 without VNNI its INT8 kernels add pairs of products in 16 bits, where they saturate. There Q/DQ stay what they
# are, and layers compute in float in between, with weights that are dequantised once. (`session.x64quantprecision`
# doesn't help where both factors are activations, and refuses weights with two users.)
_WITHOUT_INT8_KERNELS = ("session.disable_quant_qdq", "1")

# Version 1.32, unlike 1.19, makes an identifier of the machine and sends events to its vendor, by a thread that waits
# by the wall clock. Nothing here sends anything to anybody unasked; a variable that is set stays.
_WITHOUT_UPLOADS = ("ORT_DISABLE_TELEMETRY", "1")


@dataclass(frozen=True)
class SessionOptions:
    """How a session runs: threads inside one run, whether idle ones spin, and whether memory is planned ahead.

    Planning saves time where shapes repeat, and takes more memory than one run needs. With a `profile_folder` the
    session writes its profile into it and, unless it has weights apart, the graph that it runs, as `EXECUTED_MODEL`.
    """

    intra_op_threads: int = 1
    allow_spinning: bool = False
    plans_memory: bool = True
    profile_folder: str | None = None


def version() -> str | None:
    """The installed version, without importing the library; None where there is none."""
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "unknown" if importlib.util.find_spec("onnxruntime") else None


def load_session(
    model: bytes, options: SessionOptions, what: str, weights: Mapping[str, npt.NDArray[Any]] | None = None
) -> Any:
    """A CPU `InferenceSession` over the ONNX bytes of `what` (a name for messages).

    `weights` stand for the initializers that the bytes refer to in another file, which is never opened. The session
    keeps them and may use their memory.

    Raises:
        BackendUnavailableError: ONNX Runtime isn't installed.
        UnsupportedModelError: it has no kernel for a node of the model.
        BackendError: any other refusal, with its text.
    """
    runtime = _library()
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    settings.enable_mem_pattern = options.plans_memory
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.allow_spinning else "0")
    if saturates_int8():
        settings.add_session_config_entry(*_WITHOUT_INT8_KERNELS)
    if options.profile_folder is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(options.profile_folder) / "profile")
        if not weights:
            settings.optimized_model_filepath = str(Path(options.profile_folder) / EXECUTED_MODEL)
    with translated(f"{what}: ONNX Runtime can't load it"):
        values = {name: runtime.OrtValue.ortvalue_from_numpy(value) for name, value in (weights or {}).items()}
        settings.add_external_initializers(list(values), list(values.values()))
        session = runtime.InferenceSession(
            model, settings, providers=["CPUExecutionProvider"], disabled_optimizers=_BROKEN_OPTIMIZERS
        )
        session.weights = values
        return session


def end_profiling(session: Any, what: str) -> List[Dict[str, Any]]:
    """The events of a session that was loaded with a `profile_folder`, in the order in which they ended.

    They are those of Chrome's trace format, times in whole microseconds. The session records no more.

    Raises:
        BackendError: the profile is missing or damaged, as on a full disk.
    """
    with translated(f"{what}: ONNX Runtime can't end its profile"):
        path = Path(session.end_profiling())
    try:
        events = json.loads(path.read_text(encoding="utf-8", errors="replace"), strict=False)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"{what}: ONNX Runtime's profile {path} can't be read ({error}); free space there, or upgrade onnxruntime, "
            "which didn't always escape the names of nodes"
        ) from None
    return [event for event in events if isinstance(event, dict)]


def run_bound(session: Any, binding: Any, what: str, options: Any = None) -> None:
    """Runs what is bound, as `options` (of `trimming_options`) say.

    Raises:
        BackendError: the run failed; ONNX Runtime's text is in the message.
    """
    try:
        session.run_with_iobinding(binding, options)
    except _failures() as error:
        raise _translated(error, f"{what}: the run failed") from error


def run_feeds(session: Any, outputs: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]], what: str) -> List[Any]:
    """The outputs of those names, in memory of their own; strings are `str` in arrays of objects, both ways.

    Raises:
        BackendError: the run failed; ONNX Runtime's text is in the message.
    """
    try:
        return list(session.run(list(outputs), dict(feeds)))
    except _failures() as error:
        raise _translated(error, f"{what}: the run failed") from error


def bound_type(dtype: DType, what: str) -> Any:
    """What a binding calls a data type: NumPy's type or, where NumPy has none, ONNX's number.

    Raises:
        BackendError: this version knows no numbers; `what` is the tensor.
    """
    if dtype is not DType.BF16:
        return dtype.numpy.type
    if not hasattr(_library().OrtValue, "ortvalue_from_numpy_with_onnx_type"):
        raise BackendError(
            f"{what} is of BF16, which onnxruntime {version()} can't be given; install onnxruntime 1.20 or later "
            "(Python 3.9 or later), or export the model with float32 there"
        )
    return _ONNX_BFLOAT16


def run_unread(session: Any, feeds: Mapping[str, npt.NDArray[Any]], what: str) -> None:
    """Runs `feeds` (strings being `str`) and leaves the outputs unread, among which may be types that NumPy lacks.

    Raises:
        BackendError: the run failed; ONNX Runtime's text is in the message.
    """
    with translated(f"{what}: the run failed"):
        if all(item.type != _BFLOAT16 for item in (*session.get_inputs(), *session.get_outputs())):
            session.run(None, dict(feeds))
            return
        make = _library().OrtValue
        values = {
            name: make.ortvalue_from_numpy_with_onnx_type(value.view(np.uint16), _ONNX_BFLOAT16)
            if value.dtype == DType.BF16.numpy
            else make.ortvalue_from_numpy(value)
            for name, value in feeds.items()
        }
        session.run_with_ort_values(None, values)


def output_array(value: Any) -> npt.NDArray[Any]:
    """A value that a run made, copied where NumPy has no such type."""
    if value.data_type() != _BFLOAT16:
        return value.numpy()  # type: ignore[no-any-return]
    shape = tuple(value.shape())
    bits = (ctypes.c_uint16 * element_count(shape)).from_address(value.data_ptr())
    return np.array(bits, np.uint16).view(DType.BF16.numpy).reshape(shape)


def trimming_options() -> Any:
    """Options of a run that gives the memory it needed for what is between the layers back to the system."""
    options = _library().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns an ONNX Runtime failure inside the block into ours, `what` first."""
    try:
        yield
    except _failures() as error:
        raise _translated(error, what) from error


def _translated(error: BaseException, what: str) -> BackendError | UnsupportedModelError:
    text = " ".join(str(error).split())
    kind = UnsupportedModelError if type(error).__name__ == "NotImplemented" else BackendError
    return kind(f"{what}: {text[:500]}")


def _library() -> Any:
    os.environ.setdefault(*_WITHOUT_UPLOADS)
    try:
        import onnxruntime  # noqa: PLC0415  (loading it takes 100 ms and 50 MB)
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend onnxruntime: the package can't be imported ({error}); pip install onnxruntime"
        ) from error
    return onnxruntime


def _failures() -> Tuple[Type[BaseException], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415

    named = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*named, RuntimeError, ValueError)
