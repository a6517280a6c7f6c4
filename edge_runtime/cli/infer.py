"""`edge-runtime infer`."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import typer

from edge_runtime.cli.credentials import credentials_from
from edge_runtime.cli.feeds import Arrays, feeds_from_npz
from edge_runtime.cli.flags import engines_option, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.output_file import check_output_file, write_output_file
from edge_runtime.errors import DataError
from edge_runtime.tensors import DType, float32_from_bfloat16

_MAX_PRINTED = 10_000


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="Name of the model."),
    inputs: Path = typer.Option(
        ..., "--input", metavar="I.npz", help="One array per input, under its name, as one feed."
    ),
    save: Optional[Path] = typer.Option(None, "--output", metavar="O.npz", help="Where to write the outputs."),
    url: Optional[str] = typer.Option(
        None,
        "--url",
        help="Ask a server (http, https, grpc or grpcs://HOST:PORT, unix:///PATH) instead of running the plan here.",
    ),
    version: Optional[int] = typer.Option(
        None, "--version", min=1, help="Version of the plan (default: the served one)."
    ),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Run a plan once, in this process or on a server."""
    from edge_runtime.client.client import Client
    from edge_runtime.engine.loading import load
    from edge_runtime.plan.store import PlanStore

    configure_logging()
    if save is not None:
        check_output_file(save, "--output")
    feeds = feeds_from_npz(inputs)
    if url is not None:
        with Client(url, credentials=credentials_from(os.environ)) as client:
            outputs = client.infer(model, feeds, version=None if version is None else str(version))
        backend = f"server at {url}"
    else:
        with load(PlanStore(engines).open(model, version)) as engine:
            outputs = engine.infer(feeds)
            backend = engine.info.backend
        outputs = {name: _widened(value) for name, value in outputs.items()}
    if save is not None:
        _write(save, outputs)
    _print(model, backend, outputs, Output(is_json))


def _widened(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """BF16 as floats, as a client has it."""
    return float32_from_bfloat16(value) if value.dtype == DType.BF16.numpy else value


def _write(path: Path, outputs: Arrays) -> None:
    """An .npz file, strings as NumPy's bytes; numpy.savez can't write an array that is called `file`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _storable(name, value), allow_pickle=False)
    write_output_file(path, buffer.getvalue(), "--output")


def _storable(name: str, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not value.dtype.hasobject:
        return value
    if any(element.endswith(b"\0") for element in value.ravel()):
        raise DataError(f"output {name!r}: a string ends in a zero byte, which NumPy would drop; leave --output out")
    return np.array(value.tolist(), np.bytes_).reshape(value.shape)


def _print(model: str, backend: str, outputs: Arrays, output: Output) -> None:
    if output.is_json:
        described = {name: _described(value) for name, value in outputs.items()}
        output.document({"model": model, "backend": backend, "outputs": described})
        return
    rows = [(name, _kind(value), "x".join(map(str, value.shape)), _preview(value)) for name, value in outputs.items()]
    output.table(f"{model} on {backend}", ("output", "type", "shape", "values"), rows)


def _kind(value: np.ndarray[Any, Any]) -> str:
    return "bytes" if value.dtype.hasobject else str(value.dtype)


def _described(value: np.ndarray[Any, Any]) -> Dict[str, Any]:
    """Shape, type and values; no values where there are too many, or where JSON has no word for one."""
    is_small = value.size <= _MAX_PRINTED
    if value.dtype.hasobject:
        return _described_strings(value)
    is_printable = is_small and (value.dtype.kind != "f" or bool(np.isfinite(value).all()))
    reason = None if is_printable else ("not finite" if is_small else f"over {_MAX_PRINTED} values")
    described = {
        "shape": list(value.shape),
        "dtype": _kind(value),
        "data": value.tolist() if is_printable else None,
    }
    return described if reason is None else {**described, "omitted": f"{reason}; use --output"}


def _described_strings(value: np.ndarray[Any, Any]) -> Dict[str, Any]:
    described: Dict[str, Any] = {"shape": list(value.shape), "dtype": _kind(value), "data": None}
    if value.size > _MAX_PRINTED:
        return {**described, "omitted": f"over {_MAX_PRINTED} values; use --output"}
    try:
        texts = [element.decode() for element in value.ravel()]
    except UnicodeDecodeError:
        return {**described, "omitted": "not UTF-8; use --output"}
    return {**described, "data": np.array(texts, np.object_).reshape(value.shape).tolist()}


def _preview(value: np.ndarray[Any, Any]) -> str:
    return np.array2string(value.ravel()[:8], precision=4, separator=", ") + (" ..." if value.size > 8 else "")
