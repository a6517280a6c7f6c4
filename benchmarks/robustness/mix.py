"""Figure 4: one good client among twenty slow ones, a hog and a storm of bad requests."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Iterator, List

from serving.processes import started

from robustness import peer
from robustness.load import GRPC, HTTP, Order, Tally, loading, tally_of
from robustness.nets import CHAIN
from robustness.nuisance import SLOW_CLIENTS
from robustness.others import FOREIGN_CORES, Others
from robustness.ours import Ours, serving
from robustness.places import environment, own_module
from robustness.rows import BESIDE, NOT_HELD, NOT_MEASURED, Row, p99_verdict, tail_of, tail_text

_HOG = 64  # requests of one client under way
_ALONE_S, _MIX_S = 5.0, 12.0
_GRACE_MS, _TIMES = 20.0, 2.0


def rows() -> Iterator[Row]:
    """Ours with the good client and the hog on the Unix socket and on gRPC, then Triton's on HTTP and gRPC.

    A hog over HTTP needs a connection for each of its requests. On loopback nothing tells those from others' (without
    tokens), so that it would be 64 clients there; on the Unix socket it is one.
    """
    with serving() as ours:
        for way, address in ((HTTP, ours.unix), (GRPC, ours.grpc)):
            yield _row(ours, way, address)
    with contextlib.suppress(peer.UnavailableError), peer.triton(CHAIN) as triton:
        for way, address in ((HTTP, triton.http), (GRPC, triton.grpc)):
            try:
                yield _row(triton, way, address, triton.label)
            except RuntimeError as error:  # what another server does isn't our failure
                yield Row(f"4 good client, {way}", "", f"ended early: {error}", 0, BESIDE, triton.label)


def _row(running: Ours | peer.Triton, way: str, address: str, server: str = "ours") -> Row:
    """The good client's p99 in the mix against alone."""
    good = Order(way, address, CHAIN, _ALONE_S, concurrency=1)
    alone = tail_of(_tallies([good])[0].ok_ms)
    hog = Order(way, address, CHAIN, _MIX_S, concurrency=_HOG)
    others = Others(running.tree)
    with _nuisances(running.http):
        mixed, hogged = _tallies([Order(way, address, CHAIN, _MIX_S, concurrency=1), hog])
    foreign_cores = others.cores()  # the nuisances have ended, and count as our children
    tail = tail_of(mixed.ok_ms)
    base_ms = None if alone is None else alone.p99_ms
    limit_ms = float("inf") if base_ms is None else _TIMES * base_ms + _GRACE_MS
    verdict = p99_verdict(tail, limit_ms)
    if verdict == NOT_HELD and foreign_cores > FOREIGN_CORES and p99_verdict(tail, 2 * limit_ms) != NOT_HELD:
        verdict = NOT_MEASURED  # others may have done that; unfairness does more
    lost = len(mixed.refused_ms) + mixed.lost + sum(mixed.others.values())
    text = f"alone {tail_text(alone)}; in the mix {tail_text(tail)} of {limit_ms:.0f} ms"
    text += f"{f'; {lost} refused or lost' if lost else ''}; the hog got {len(hogged.ok_ms)} answers"
    text += f"; others used {foreign_cores:.1f} cores"
    goal = f"{SLOW_CLIENTS} slow, a hog of {_HOG}, bad requests: p99 <= 2 x alone + 20 ms"
    where = " (Unix socket)" if address.startswith("/") else ""
    return Row(
        f"4 good client, {way}{where}", goal, text, len(mixed.ok_ms), verdict if server == "ours" else BESIDE, server
    )


def _tallies(orders: List[Order]) -> List[Tally]:
    with loading(orders) as children:
        return [tally_of(child, index) for index, child in enumerate(children)]


@contextlib.contextmanager
def _nuisances(http: str) -> Iterator[None]:
    """Slow clients and bad requests, which have begun."""
    with contextlib.ExitStack() as stack:
        for role in ("slow", "bad"):
            command = own_module("nuisance", role, http)
            tree = stack.enter_context(started(command, f"nuisance-{role}", environment(), stdout=subprocess.PIPE))
            assert tree.process.stdout is not None
            tree.process.stdout.readline()
        yield
