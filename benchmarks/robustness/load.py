"""Load from child processes: what each is told, what it counts, and all of it put together.

`python -m robustness.load ORDER` makes the load that the JSON text describes, and prints its tally.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Dict, Iterator, List, Sequence

from serving.processes import last_words, started

from robustness.places import environment, own_module

OK, REFUSED = 200, (503, 429)
HTTP, GRPC = "HTTP", "gRPC"
_IMPORT_S = 2.0  # from a child's start to its first request
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Order:
    """A load: open (`rate` a second) or closed (`concurrency` at once), from `start_s` of the monotonic clock on."""

    way: str
    address: str
    model: str
    seconds: float
    start_s: float = 0.0
    rate: float = 0.0
    concurrency: int = 0
    channels: int = 1
    seed: int = 0


@dataclass
class Tally:
    """What came of it; latencies count from the moment of sending.

    `goodput` counts the answers within the time, `late_ms` by how much later than planned each request was sent;
    `ok_at_s` is when each of `ok_ms` ended, of the monotonic clock.
    """

    sent: int = 0
    lost: int = 0
    goodput: int = 0
    ok_ms: List[float] = field(default_factory=list)
    refused_ms: List[float] = field(default_factory=list)
    late_ms: List[float] = field(default_factory=list)
    ok_at_s: List[float] = field(default_factory=list)
    others: Dict[str, int] = field(default_factory=dict)

    def add(self, status: int, latency_ms: float, is_in_time: bool) -> None:
        """Counts an answer."""
        if status == OK:
            self.goodput += is_in_time
            self.ok_ms.append(latency_ms)
            self.ok_at_s.append(time.monotonic())
        elif status in REFUSED:
            self.refused_ms.append(latency_ms)
        else:
            self.others[str(status)] = self.others.get(str(status), 0) + 1


def sum_of(tallies: Sequence[Tally]) -> Tally:
    """All as one."""
    whole = Tally()
    for each in tallies:
        whole.sent += each.sent
        whole.lost += each.lost
        whole.goodput += each.goodput
        whole.ok_ms += each.ok_ms
        whole.ok_at_s += each.ok_at_s
        whole.refused_ms += each.refused_ms
        whole.late_ms += each.late_ms
        for status, count in each.others.items():
            whole.others[status] = whole.others.get(status, 0) + count
    return whole


def arrivals_s(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """The times of a Poisson process."""
    rng, at_s = random.Random(seed), 0.0
    while True:
        at_s += rng.expovariate(rate)
        if at_s >= seconds:
            return
        yield at_s


@contextlib.contextmanager
def loading(orders: Sequence[Order]) -> Iterator[List[subprocess.Popen[str]]]:
    """The children of orders, which begin together after their imports; they are ended at the end."""
    start_s = time.monotonic() + _IMPORT_S
    with contextlib.ExitStack() as stack:
        children = []
        for index, order in enumerate(orders):
            command = own_module("load", json.dumps({**asdict(order), "start_s": start_s}))
            tree = stack.enter_context(
                started(command, f"load-{index}", environment(), stdout=subprocess.PIPE)  # type: ignore[arg-type]
            )
            children.append(tree.process)
        yield children


def tally_of(child: subprocess.Popen[str], index: int) -> Tally:
    """What a child counted, once it has ended.

    Raises:
        RuntimeError: it failed.
    """
    text, _ = child.communicate(timeout=_PATIENCE_S)
    if child.returncode:
        raise RuntimeError(f"load: {last_words(f'load-{index}')}")
    return Tally(**json.loads(text))


def measured(orders: Sequence[Order]) -> Tally:
    """The sum of what all orders came to."""
    with loading(orders) as children:
        return sum_of([tally_of(child, index) for index, child in enumerate(children)])


def main() -> None:
    """Makes one load."""
    from robustness.grpc_load import GrpcLoad  # noqa: PLC0415
    from robustness.http_load import HttpLoad  # noqa: PLC0415

    order = Order(**json.loads(sys.argv[1]))
    load = HttpLoad(order) if order.way == HTTP else GrpcLoad(order)
    if order.rate:
        load.open_loop()
    else:
        load.closed_loop()
    print(json.dumps(asdict(load.tally)))


if __name__ == "__main__":
    main()
