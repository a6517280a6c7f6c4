"""The raw engine: ONNX Runtime's `session.run` with one thread, in processes of its own.

`python -m serving.raw SECONDS NET...` prints the figures of each net in turn. With `--together` it waits for a line on
its input before it begins, so that two of them begin at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Callable, Dict, List, Sequence

from serving.latencies import Load, load_from_latencies
from serving.nets import Net, net_of
from serving.places import own_environment, own_module
from serving.processes import last_words, output_of, started

_LEAST_RUNS, _WARM_UP_RUNS = 30, 5
_PATIENCE_S = 60.0


def measure(nets: Sequence[Net], seconds: float) -> Dict[str, Load]:
    """Each net alone, by its name."""
    command = own_module("raw", str(seconds), *(net.name for net in nets))
    text = output_of(command, "raw", seconds * len(nets) + _PATIENCE_S, own_environment())
    return {name: Load(**load) for name, load in json.loads(text).items()}


def ceiling(net: Net, seconds: float, processes: int) -> float:
    """Runs a second of so many processes at once, which is what the cores can do without serving anything."""
    command = own_module("raw", "--together", str(seconds), net.name)
    with ExitStack() as stack:
        trees = [
            stack.enter_context(
                started(command, f"ceiling-{index}", own_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for index in range(processes)
        ]
        for index, tree in enumerate(trees):
            if tree.process.stdout.readline() != "ready\n":
                raise RuntimeError(f"raw engine: {last_words(f'ceiling-{index}')}")
        for tree in trees:
            tree.process.stdin.write("go\n")
            tree.process.stdin.flush()
        texts = [tree.process.communicate(timeout=seconds + _PATIENCE_S)[0] for tree in trees]
    return sum(float(json.loads(text)[net.name]["per_s"]) for text in texts)


def main() -> None:
    """Measures the nets that the command line names."""
    words = sys.argv[1:]
    is_together = words[0] == "--together"
    seconds, *names = words[is_together:]
    runs = {name: _run_of(net_of(name)) for name in names}
    if is_together:
        print("ready", flush=True)
        sys.stdin.readline()
    print(json.dumps({name: asdict(_timed(run, float(seconds))) for name, run in runs.items()}))


def _run_of(net: Net) -> Callable[[], Any]:
    import numpy as np  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(net.model), options, providers=["CPUExecutionProvider"])
    feeds = {net.input_name: np.fromfile(net.input_file, np.float32).reshape(net.input_shape)}
    wanted = [net.output_name]
    run = lambda: session.run(wanted, feeds)  # noqa: E731
    for _ in range(_WARM_UP_RUNS):
        run()
    return run


def _timed(run: Callable[[], Any], seconds: float) -> Load:
    clock = time.perf_counter_ns
    durations: List[float] = []
    begin = clock()
    limit = begin + int(seconds * 1e9)
    while clock() < limit or len(durations) < _LEAST_RUNS:
        start = clock()
        run()
        durations.append((clock() - start) / 1e3)
    return load_from_latencies(durations, (clock() - begin) / 1e9)


if __name__ == "__main__":
    main()
