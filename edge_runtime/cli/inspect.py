"""`edge-runtime inspect`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import typer

from edge_runtime.cli.flags import engines_option, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.report import show_report
from edge_runtime.cli.tables import show_candidates, show_sensitivity

if TYPE_CHECKING:
    from edge_runtime.calibration.histogram import Histogram
    from edge_runtime.calibration.report import CalibrationReport
    from edge_runtime.calibration.table import CalibrationTable
    from edge_runtime.graph.model import OnnxModel
    from edge_runtime.plan.manifest import ChainRecord, TargetRecord, TensorRecord
    from edge_runtime.plan.store import StoredPlan
    from edge_runtime.tensors import TensorSpec


_PLAN_SUFFIXES = (".plan", ".engine", ".trt")


def command(
    target: str = typer.Argument(
        ...,
        metavar="MODEL|PATH",
        help="A model's name, a folder of a plan or of a calibration, an .onnx file, a TensorRT .plan or .engine file, "
        "a calibration .cache file, or the .json report of a build.",
    ),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Show what a plan, an ONNX model or a calibration cache holds, and whether a plan loads on this machine."""
    from edge_runtime.calibration.histogram_file import HISTOGRAMS_FILE
    from edge_runtime.calibration.report import read_report
    from edge_runtime.calibration.table import CalibrationTable
    from edge_runtime.graph.model import load_model
    from edge_runtime.plan.store import PlanStore, open_plan

    configure_logging()
    output = Output(is_json)
    path = Path(target)
    if os.sep in target and not _is_there(path / HISTOGRAMS_FILE):
        path = _latest(path, HISTOGRAMS_FILE) or path
    if path.suffix.lower() == ".onnx":
        _show_model(load_model(path), output)
    elif path.suffix in _PLAN_SUFFIXES:
        _show_plan_file(path, output)
    elif path.suffix == ".cache":
        _show_table(path, CalibrationTable.read(path), output)
    elif path.suffix == ".json":
        show_report(path, output)
    elif path.name == HISTOGRAMS_FILE:
        _show_calibration(path.parent, read_report(path.parent), output)
    elif _is_there(path / HISTOGRAMS_FILE):
        _show_calibration(path, read_report(path), output)
    elif os.sep in target or target in (".", ".."):
        _show_plan(open_plan(path), output)
    else:
        _show_plan(PlanStore(engines).open(target), output)


def _show_plan_file(path: Path, output: Output) -> None:
    """A TensorRT plan from anywhere, by what its header says."""
    from edge_runtime.plan.header import read_header

    header = read_header(path)
    gpus = None if header.capabilities is None else [f"{major}.{minor}" for major, minor in header.capabilities]
    if output.is_json:
        version = ".".join(map(str, header.version)) or None
        output.document(
            {"plan": str(path), "library": header.library, "version": version, "compute_capabilities": gpus}
        )
        return
    rows = [["made by", header.text], ["compute capabilities", ", ".join(gpus) if gpus else "not in the header"]]
    output.table(f"{path} ({path.stat().st_size:,} bytes)", ("", ""), rows)


def _verdict(stored: StoredPlan) -> tuple[str, List[str]]:
    """Whether a plan loads on this machine, and what should be known of that."""
    from edge_runtime.errors import EdgeRuntimeError
    from edge_runtime.plan.target import preflight

    try:
        warnings = preflight(stored)
    except EdgeRuntimeError as error:
        return "no", [str(error)]
    return "yes", list(warnings)


def _signed(stored: StoredPlan) -> tuple[str, Dict[str, Any]]:
    """Who vouches for a plan, or why nobody does that is trusted here: in a line, and for JSON."""
    from edge_runtime.errors import EdgeRuntimeError
    from edge_runtime.plan.signature import check_signature
    from edge_runtime.plan.trust import trust_policy

    try:
        verdict = check_signature(stored, trust_policy())
    except EdgeRuntimeError as error:
        return f"refused: {error}", {"signed": stored.is_signed, "problem": str(error)}
    return verdict.text, verdict.record()


def _target_rows(target: Optional[TargetRecord]) -> List[List[str]]:
    if target is None:
        return []
    major_minor = "not known" if target.compute_capability is None else ".".join(map(str, target.compute_capability))
    facts = {
        "form": target.form,
        "GPU": f"{target.gpu}, compute capability {major_minor}",
        "DLA core": target.dla_core,
        "L4T": target.l4t,
        "power mode": target.power_mode,
        "loads elsewhere": ", ".join(
            ["later TensorRT"] * target.version_compatible
            + [target.hardware_compatibility] * (target.hardware_compatibility != "none")
        ),
        "plugins": ", ".join(record.path for record in target.plugins),
    }
    return [[name, str(value)] for name, value in facts.items() if value not in (None, "")]


def _chain_rows(chain: Optional[ChainRecord]) -> List[List[str]]:
    """The parts of a plan that is split, and what goes from one to another."""
    if chain is None:
        return []
    latency = chain.latency
    cost = "latency against the whole not measured"
    if latency is not None:
        cost = f"latency {latency.ratio:.2f} ({latency.low:.2f}-{latency.high:.2f}) of the whole's"
    rows = [["split at", f"{', '.join(chain.split)}; {cost}"]]
    made: Dict[str, TensorRecord] = {}
    for number, part in enumerate(chain.parts, 1):
        rows.append([f"part {number}", f"{part.plan.file} ({part.plan.total_nbytes:,} bytes)"])
        for record in part.inputs:
            if record.name in made:
                limits = part.signature.profile[record.name]
                rows.append([f"part {number} takes", f"{record.name} {record.dtype.value} {limits}"])
        made.update((record.name, record) for record in part.outputs)
    return rows


def _show_plan(stored: StoredPlan, output: Output) -> None:
    """A plan; its bytes are checked against the manifest on the way."""
    stored.read_plan()
    manifest = stored.manifest
    loads, remarks = _verdict(stored)
    signed = _signed(stored)
    if output.is_json:
        document = manifest.model_dump(mode="json", by_alias=True)
        here = {"loads": loads == "yes", "remarks": remarks}
        facts = {"plan": str(stored.plan_path), "digest": "ok", "encrypted": stored.is_sealed, "signature": signed[1]}
        output.document({**facts, "here": here, "manifest": document})
        return
    signature = manifest.signature
    rows: List[List[str]] = [
        ["plan", f"{stored.plan_path} ({manifest.total_nbytes:,} bytes, digest ok)"],
        ["signature", signed[0]],
        *_chain_rows(manifest.chain),
        ["precision", manifest.precision + (" (forced: it failed the gate)" if manifest.forced else "")],
        ["backend", f"{manifest.backend.name} {manifest.backend.version} on {manifest.backend.device}"],
        ["loads here", loads],
        *_target_rows(manifest.target),
        ["built", f"{manifest.created} from {manifest.source.source}"],
        ["largest batch", str(manifest.max_batch_size or "not batched")],
        *([f"input {spec.name}", f"{spec.dtype.value} {signature.profile[spec.name]}"] for spec in signature.inputs),
        *([f"output {spec.name}", f"{spec.dtype.value} {list(spec.shape)}"] for spec in signature.outputs),
    ]
    output.table(f"{manifest.name} version {manifest.version}", ("", ""), rows)
    show_candidates("candidates", manifest.candidates, output)
    show_sensitivity(manifest.candidates, manifest.sensitivity, output)
    for line in (*manifest.notes, f"chosen {manifest.reason}", *remarks):
        output.say(line)


def _show_model(model: OnnxModel, output: Output) -> None:
    if output.is_json:
        tensors = {"inputs": _specs(model.inputs), "outputs": _specs(model.outputs)}
        output.document({"model": model.name, "opset": model.opset, "digest": model.digest, **tensors})
        return
    rows = [["opset", str(model.opset)], ["digest", model.digest]]
    for kind, specs in (("input", model.inputs), ("output", model.outputs)):
        rows += [[f"{kind} {spec.name}", f"{spec.dtype.value} {list(spec.shape)}"] for spec in specs]
    output.table(model.name, ("", ""), rows)


def _specs(specs: tuple[TensorSpec, ...]) -> List[Dict[str, Any]]:
    return [{"name": spec.name, "dtype": spec.dtype.value, "shape": list(spec.shape)} for spec in specs]


def _show_table(path: Path, table: CalibrationTable, output: Output) -> None:
    from edge_runtime.calibration.report import log_bars

    if output.is_json:
        output.document({"table": str(path), "algorithm": table.algorithm, "scales": dict(table.scales)})
        return
    bars = log_bars(list(table.scales.values()))
    rows = [[name, f"{scale:.6g}", f"{scale * 127:.6g}", bar] for (name, scale), bar in zip(table.scales.items(), bars)]
    output.table(f"{path} ({table.algorithm})", ("tensor", "scale", "dynamic range", "its logarithm"), rows)


def _show_calibration(folder: Path, report: CalibrationReport, output: Output) -> None:
    """Histograms and tables; the bar in the plot is the cut of the first algorithm."""
    if output.is_json:
        tensors = report.record()
        output.document({"calibration": str(folder), "samples": report.samples, "tensors": tensors})
        return
    from edge_runtime.calibration.report import sparkline

    rows = []
    for name, histogram in report.histograms.items():
        ranges = report.ranges(name)
        cells = [_range_text(histogram, ranges.get(algorithm)) for algorithm in report.tables]
        rows.append([name, f"{histogram.amax:.4g}", *cells, sparkline(histogram, next(iter(ranges.values()), None))])
    header = ("tensor", "amax", *report.tables, "log count to amax")
    output.table(f"{folder}: {report.samples} samples; dynamic ranges and the share that each clips", header, rows)


def _range_text(histogram: Histogram, limit: float | None) -> str:
    return "" if limit is None else f"{limit:.4g} ({histogram.share_above(limit):.2%})"


def _latest(folder: Path, name: str) -> Optional[Path]:
    """The folder in `folder` whose file of that name was written last: a model's newest calibration."""
    try:
        found = sorted(folder.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime_ns)
    except OSError:
        return None
    return found[-1].parent if found else None


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False
