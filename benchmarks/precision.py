"""INT8 on five real models: every candidate measured on held-out data, the choice, and whether it is good enough.

    python benchmarks/precision.py [--precision int8|auto] [--models cls det rec magika minilm] [--keep FOLDER]

Each model is built from its recipe. The chosen plan must keep float's score, and (under int8) do most of the
multiply-accumulates of its convolutions and products in INT8; TensorRT-RTX, where installed, must build it too. Exit
status 1 if one doesn't. What a calibration takes against ONNX Runtime's comes last.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping

from rich.console import Console
from rich.table import Table

import edge_runtime
from edge_runtime.builder.builder import BuildOptions, BuiltPlan
from edge_runtime.builder.recipe import load_recipe
from edge_runtime.cli.output import Output
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.plan.manifest import CandidateRecord, RangeRecord
from edge_runtime.profiler.environment import read_environment

HERE = Path(__file__).resolve().parent
LATENCY_BUDGET_S = 1.0
OK, BAD = "ok", "MISSED"


@dataclass(frozen=True)
class Target:
    """What INT8 must come to: its score over float's on so many samples, and the multiply-accumulates in INT8."""

    recipe: str
    held_out: int
    score: float = 0.99
    lower_is_better: bool = False
    int8_macs: float = 0.8

    def keeps(self, score: float, floating: float) -> bool:
        """Whether a score is near enough to float's."""
        return score <= self.score * floating if self.lower_is_better else score >= self.score * floating

    def __str__(self) -> str:
        return f"{'<=' if self.lower_is_better else '>='} {self.score:g} x float"


TARGETS = {
    "cls": Target("../engines/text-direction.toml", 512),
    "det": Target("precision/det.toml", 24),
    "rec": Target("precision/rec.toml", 128, score=1.5, lower_is_better=True),
    "magika": Target("precision/magika.toml", 400),
    "minilm": Target("precision/minilm.toml", 300, int8_macs=0.6),
}
SUMMARY = "model, metric, n, float, chosen, its score, target, MACs in INT8, TensorRT-RTX, result".split(", ")
CANDIDATES = "candidate, {} (95 % interval), cosine, SQNR dB, MACs in INT8, nodes in float, bytes, latency ratio".split(
    ", "
)
WIDTH_OF_A_FILE = 150
console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)


def main() -> int:
    """Builds all, and prints the tables; 0 if every target is met."""
    options = arguments()
    summary = Table(*SUMMARY, title=f"Policy {options.precision}: the choice for each model", title_justify="left")
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models:
            row = judged(name, options.precision, options.keep or Path(temporary))
            failed = failed or row[-1] != OK
            summary.add_row(*row)
    console.print(summary)
    for label, text in read_environment().rows():
        console.print(f"{label}: {text}", highlight=False)
    if options.calibration:
        command = [sys.executable, str(HERE / "calibration.py"), *options.models, "--rounds", "3"]
        failed = bool(subprocess.run(command, check=False).returncode) or failed
    return int(failed)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("int8", "auto"), default="int8")
    parser.add_argument("--models", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--keep", type=Path, help="keep plans and calibration tables in this folder")
    parser.add_argument("--no-calibration", dest="calibration", action="store_false", help="skip the last comparison")
    return parser.parse_args()


def judged(name: str, precision: str, folder: Path) -> List[str]:
    """Builds one model, prints its candidates, and says in a row of the summary how it did."""
    target = TARGETS[name]
    flags = {
        "precision": {"policy": precision},
        "gate": {"latency_budget_s": LATENCY_BUDGET_S, "publish_failed": precision == "int8"},
    }
    start = time.perf_counter()
    try:
        with Output(is_json=True).progress() as progress:
            recipe = load_recipe(HERE / target.recipe, flags)
            built = edge_runtime.build(recipe, BuildOptions(folder / "engines", folder / "calib_cache"), progress)
    except EdgeRuntimeError as error:
        console.print(f"{name}: {error}", highlight=False)
        return [name, *[""] * 5, str(target), "", "", f"{BAD}: not built"]
    console.print(candidates_table(name, built, time.perf_counter() - start))
    return summary_row(name, built, precision)


def candidates_table(name: str, built: BuiltPlan, seconds: float) -> Table:
    """Every candidate of a build, why it was taken or not, and what the chosen one leaves in float."""
    manifest = built.manifest
    lines = [f"{named(each)} {each.verdict}: {each.reason}" for each in manifest.candidates]
    lines += [
        f"in float: {', '.join(each.kept_float)}" for each in manifest.candidates if is_taken(each) and each.kept_float
    ]
    metric = manifest.candidates[0].metric
    header = [column.format(short(metric.name) if metric else "metric") for column in CANDIDATES]
    title = f"{name} on {manifest.backend.name} {manifest.backend.version}, built in {seconds:.0f} s"
    table = Table(*header, title=title, caption="\n".join(lines), title_justify="left", caption_justify="left")
    for each in manifest.candidates:
        table.add_row(*candidate_cells(each), style="bold" if is_taken(each) else None)
    return table


def candidate_cells(candidate: CandidateRecord) -> List[str]:
    """A candidate's row."""
    metric, agreement, latency = candidate.metric, candidate.agreement, candidate.latency
    return [
        named(candidate),
        f"{number(metric.value)} ({number(metric.low)}-{number(metric.high)})" if metric else "",
        number(agreement.cosine) if agreement else "",
        number(agreement.sqnr_db, ".1f") if agreement else "",
        number(candidate.int8_macs, ".1%"),
        str(len(candidate.kept_float)) if candidate.precision == "int8" else "",
        number(candidate.nbytes, ","),
        f"{latency.ratio:.2f} of {latency.against}'s" if latency else "",
    ]


def summary_row(name: str, built: BuiltPlan, precision: str) -> List[str]:
    """The summary's row for a plan; its last cell is OK or what was missed."""
    target, manifest = TARGETS[name], built.manifest
    chosen = next(each for each in manifest.candidates if is_taken(each))
    floating, scored = manifest.candidates[0].metric, chosen.metric
    assert floating is not None
    assert scored is not None
    built_by_rtx = tensorrt_rtx_build(built.read_plan(), manifest.profile)
    missed = [
        what
        for what, holds in (
            (f"{target.held_out} samples", scored.n >= target.held_out),
            ("score", None not in (scored.value, floating.value) and target.keeps(scored.value, floating.value)),
            ("MACs", precision == "auto" or (chosen.int8_macs or 0) >= target.int8_macs),
            ("TensorRT-RTX", built_by_rtx in ("built", "not installed")),
        )
        if not holds
    ]
    return [
        name,
        short(scored.name),
        str(scored.n),
        number(floating.value),
        named(chosen),
        number(scored.value),
        str(target),
        number(chosen.int8_macs, ".1%") + (f" (>= {target.int8_macs:.0%})" if precision == "int8" else ""),
        built_by_rtx,
        f"{BAD}: {', '.join(missed)}" if missed else OK,
    ]


def tensorrt_rtx_build(onnx: bytes, profile: Mapping[str, RangeRecord]) -> str:
    """What TensorRT-RTX's builder, which needs no GPU, says to a plan: built, not installed, or why not."""
    try:
        import tensorrt_rtx as trt  # noqa: PLC0415
    except ImportError:
        return "not installed"

    class Messages(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: List[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.ERROR and "cudaError" not in text:  # mere noise without a driver
                self.errors.append(text)

    messages = Messages()
    builder = trt.Builder(messages)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, messages)
    if not parser.parse(onnx):
        return str(parser.get_error(0).desc())
    config = builder.create_builder_config()
    shapes = builder.create_optimization_profile()
    for name, limits in profile.items():
        shapes.set_shape(name, limits.minimum, limits.optimum, limits.maximum)
    config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    return "built" if plan is not None else "; ".join(messages.errors)


def is_taken(candidate: CandidateRecord) -> bool:
    """Whether a candidate is the plan that was published."""
    return candidate.verdict in ("chosen", "forced")


def short(metric: str) -> str:
    """A metric's name for people: a function without its module."""
    return metric.rpartition(":")[2].replace("_", " ")


def named(candidate: CandidateRecord) -> str:
    """What a candidate is called."""
    return candidate.name or candidate.precision


def number(value: Any, form: str = ".4f") -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else format(value, form)


if __name__ == "__main__":
    sys.exit(main())
