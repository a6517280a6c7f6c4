"""Time per layer on ONNX Runtime: its own profile of a session made for that, traced back to the plan's ONNX nodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from edge_runtime.engine.layers import LayerProfile, LayerTimes, ProfileOptions, precision_text
from edge_runtime.engine.onnxruntime_strings import texts_of
from edge_runtime.engine.weights import read_weights
from edge_runtime.errors import BackendError
from edge_runtime.onnxruntime_api import EXECUTED_MODEL, SessionOptions, end_profiling, load_session, run_unread
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.plan.files import temporary_folder
from edge_runtime.tensors import Feeds

Event = Mapping[str, Any]
Nodes = Sequence[Tuple[str, Tuple[str, ...]]]  # names in execution order, each with the ONNX nodes that it computes

_SUFFIX = "_kernel_time"
_RUN, _GRAPH = "model_run", "SequentialExecutor::Execute"
_TYPES = {
    "float": "FP32",
    "float16": "FP16",
    "bfloat16": "BF16",
    "double": "FP64",
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (4, 8, 16, 32, 64)},
}
_COARSE = "ONNX Runtime counts whole microseconds: a layer that takes less than one is seen as 0 or 1"
_BY_NAME = "the plan's weights lie apart, so layers are traced to ONNX nodes by name only"


def profiled_layers(plan: PlanFiles, feeds: Feeds, options: ProfileOptions, what: str) -> LayerProfile:
    """The layers that ONNX Runtime runs for a plan, in a session of its own with profiling on.

    Raises:
        PlanCorruptError: the weights of the plan aren't what they should be.
        BackendError: ONNX Runtime failed, or there is no room for its profile in the temporary folder.
    """
    with temporary_folder("profile") as folder:
        settings = SessionOptions(intra_op_threads=options.threads, profile_folder=str(folder))
        session = load_session(plan.model, settings, what, read_weights(plan, what))
        fed = {name: texts_of(name, value) if value.dtype.hasobject else value for name, value in feeds.items()}
        for _ in range(options.warm_up + options.runs):
            run_unread(session, fed, what)
        events = end_profiling(session, what)
        nodes = _executed_nodes(plan.model, folder / EXECUTED_MODEL)
    profile = profile_from_events(events, options, nodes, what)
    return profile if plan.weights is None else replace(profile, notes=(*profile.notes, _BY_NAME))


def _executed_nodes(plan: bytes, executed: Path) -> Nodes:
    """What the session ran, traced to the plan; the plan's own nodes if the session didn't say."""
    from edge_runtime.graph.fusion import fused_nodes  # noqa: PLC0415  (needs onnx, as no other engine does)

    graph = executed.read_bytes() if executed.exists() else plan
    return [(node.name, node.nodes) for node in fused_nodes(plan, graph)]


def profile_from_events(events: Sequence[Event], options: ProfileOptions, nodes: Nodes, what: str) -> LayerProfile:
    """The layers of the runs after `options.warm_up` in ONNX Runtime's profile.

    `nodes` are what was run: those of a layer are found by its place if all names agree, else by its name.

    Raises:
        BackendError: no run after the warm-up is complete.
    """
    recorded = _recorded(events)[options.warm_up :]
    sequences = Counter(tuple(event["name"] for event in layers) for _, layers in recorded)
    runs = [(run, layers) for run, layers in recorded if tuple(e["name"] for e in layers) == _usual(sequences)]
    if not runs or not runs[0][1]:
        raise BackendError(f"{what}: ONNX Runtime's profile holds no complete run of {options.runs}; ask for fewer")
    notes = [_COARSE]
    if len(runs) < options.runs:
        notes.append(f"ONNX Runtime recorded {len(runs)} of {options.runs} runs whole; ask for fewer")
    layers = [
        LayerTimes(
            name=_name(first),
            kind=str(first["args"].get("op_name", "")),
            precision=_precision(first["args"]),
            nodes=nodes_of,
            durations_us=tuple(float(layers[index]["dur"]) for _, layers in runs),
            starts_us=tuple(float(layers[index]["ts"]) for _, layers in runs),
        )
        for index, (first, nodes_of) in enumerate(_paired(runs[0][1], nodes))
    ]
    return LayerProfile(
        backend="onnxruntime",
        layers=tuple(layers),
        runs=len(runs),
        whole_us=tuple(float(run["dur"]) for run, _ in runs),
        notes=tuple(notes),
        whole_starts_us=tuple(float(run["ts"]) for run, _ in runs),
    )


def _recorded(events: Sequence[Event]) -> List[Tuple[Event, List[Event]]]:
    """Each run with the kernels of the main graph in it; those of subgraphs are in the time of the node that has them.

    An event comes when it ends, so a graph's kernels come before the graph, and a subgraph before its node.
    """
    runs: List[Tuple[Event, List[Event]]] = []
    open_kernels: List[Event] = []
    graph: List[Event] = []
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_SUFFIX):
            open_kernels.append(event)
        elif name == _GRAPH:
            graph = []
            while open_kernels and open_kernels[-1]["ts"] >= event["ts"]:
                graph.append(open_kernels.pop())
        elif name == _RUN:
            runs.append((event, graph[::-1]))
            open_kernels, graph = [], []
    return runs


def _usual(sequences: Counter[Tuple[str, ...]]) -> Tuple[str, ...]:
    return sequences.most_common(1)[0][0]


def _paired(kernels: Sequence[Event], nodes: Nodes) -> List[Tuple[Event, Tuple[str, ...]]]:
    names = [_name(kernel) for kernel in kernels]
    if len(nodes) == len(names) and all(node in ("", name) for name, (node, _) in zip(names, nodes)):
        return [(kernel, found) for kernel, (_, found) in zip(kernels, nodes)]
    known: Dict[str, Tuple[str, ...]] = dict(nodes)
    return [(kernel, known.get(name, ())) for kernel, name in zip(kernels, names)]


def _name(kernel: Event) -> str:
    return str(kernel["name"])[: -len(_SUFFIX)]


def _precision(arguments: Mapping[str, Any]) -> str:
    before, after = (_data_type(arguments.get(key)) for key in ("input_type_shape", "output_type_shape"))
    return precision_text(before, after)


def _data_type(tensors: Any) -> str:
    """The data type of the first of `[{"float": [1, 3]}, ...]`."""
    first = tensors[0] if isinstance(tensors, list) and tensors else {}
    name = next(iter(first), "") if isinstance(first, dict) else ""
    return _TYPES.get(name, name.upper())
