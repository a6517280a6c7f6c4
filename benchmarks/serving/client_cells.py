"""What a program sees that asks with `edge_runtime.client`: one request at a time, copies of the answer included.

`python -m serving.client_cells SECONDS HTTP_ADDRESS SOCKET_PATH NET...` prints the latencies of each way and net; an
address may be `-`. A child process, as a program that asks is one.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Sequence, Tuple

from serving.latencies import Load, load_from_latencies
from serving.nets import Net, net_of
from serving.places import own_environment, own_module
from serving.processes import output_of
from serving.ways import CLIENT_HTTP, CLIENT_SHM, HTTP, UNIX, UnavailableError

if TYPE_CHECKING:
    import numpy as np

Ask = Callable[[], "np.ndarray[Any, Any]"]
_NONE = "-"
_WARM_UP, _LEAST = 20, 30
_PATIENCE_S = 60.0


def measure(addresses: Mapping[str, str], nets: Sequence[Net], seconds: float) -> Dict[Tuple[str, str], Load | str]:
    """The figures by way and net's name, or why there are none.

    Raises:
        RuntimeError: an answer was wrong, or the child failed.
    """
    words = [str(seconds), addresses.get(HTTP, _NONE), addresses.get(UNIX, _NONE), *(net.name for net in nets)]
    text = output_of(
        own_module("client_cells", *words), "client", 2 * seconds * len(nets) + _PATIENCE_S, own_environment()
    )
    rows = json.loads(text)
    return {(way, name): load if isinstance(load, str) else Load(**load) for way, name, load in rows}


def http_client(address: str, net: Net, tensor: np.ndarray[Any, Any]) -> Ask:
    """A request by our client over HTTP."""
    from edge_runtime.client import Client  # noqa: PLC0415

    client = Client(f"http://{address}")
    feeds = {net.input_name: tensor}
    return lambda: client.infer(net.name, feeds)[net.output_name]


def shared_memory_client(path: str, net: Net, tensor: np.ndarray[Any, Any]) -> Ask | None:
    """A request by our client whose tensors lie in memory shared through the Unix socket at `path`.

    The input is copied in and the output out, as a program that keeps its own arrays does. None where
    `edge_runtime.client` has no such thing.
    """
    try:
        from edge_runtime.client.lane import Frames  # noqa: PLC0415
        from edge_runtime.wire.lane import LaneOpen  # noqa: PLC0415
    except ImportError:
        return None
    frame = Frames(path, LaneOpen(net.name, "", {net.input_name: net.input_shape}), _PATIENCE_S)[0]
    place = frame.inputs[net.input_name]

    def ask() -> np.ndarray[Any, Any]:
        place[...] = tensor
        return frame.run()[net.output_name].copy()

    return ask


def main() -> None:
    """Measures the nets that the command line names, on each way."""
    seconds, http, path, *names = sys.argv[1:]
    rows: List[Tuple[str, str, Any]] = []
    for net in map(net_of, names):
        for way, address, make in ((CLIENT_HTTP, http, http_client), (CLIENT_SHM, path, shared_memory_client)):
            try:
                rows.append((way, net.name, asdict(_timed(_made(make, address, net), net, float(seconds)))))
            except UnavailableError as error:
                rows.append((way, net.name, str(error)))
    print(json.dumps(rows))


def _made(make: Callable[[str, Net, Any], Ask | None], address: str, net: Net) -> Ask:
    import numpy as np  # noqa: PLC0415

    if address == _NONE:
        raise UnavailableError("the server has no such address")
    ask = make(address, net, np.fromfile(net.input_file, np.float32).reshape(net.input_shape))
    if ask is None:
        raise UnavailableError("edge_runtime.client has no such client")
    return ask


def _timed(ask: Ask, net: Net, seconds: float) -> Load:
    import numpy as np  # noqa: PLC0415

    expected = np.fromfile(net.expected_file, np.float32)
    for _ in range(_WARM_UP):
        if not np.allclose(ask().ravel(), expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max())):
            raise SystemExit(f"{net.name}: our client's answer isn't ONNX Runtime's")
    clock = time.perf_counter_ns
    durations: List[float] = []
    begin = clock()
    limit = begin + int(seconds * 1e9)
    while clock() < limit or len(durations) < _LEAST:
        start = clock()
        ask()
        durations.append((clock() - start) / 1e3)
    return load_from_latencies(durations, (clock() - begin) / 1e9)


if __name__ == "__main__":
    main()
