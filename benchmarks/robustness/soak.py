"""Figures 5 and 6: what many requests, dying clients, refused requests and mutations leave behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from functools import partial
from typing import Callable, Dict, Iterator, List, Tuple

from robustness.nets import DOUBLE
from robustness.nuisance import bad_requests
from robustness.ours import Ours, serving
from robustness.requests import INFER_METHOD, ask_once, asking, connection, doubled, grpc_infer, http_infer, read_answer
from robustness.requests import rows as random_rows
from robustness.rows import Row, verdict_of

_REQUESTS, _SECONDS = 20_000, 60.0
_WARM_UP = 4_000
_CHECKED = 50  # different tensors
_KILL_EVERY = 250  # requests
_GROWN_NBYTES = 1 << 20  # of memory for each 10,000 requests
_REFUSED, _REFUSED_NBYTES = 2_000, 8 << 20
_HTTP_MUTATIONS, _GRPC_MUTATIONS = 300, 200
_HANG_S = 5.0
_SETTLE_S, _SAME_S = 5.0, 0.5


def soak_rows() -> Iterator[Row]:
    """20,000 checked requests over HTTP on TCP and the Unix socket, with clients that are killed among them."""
    rng = random.Random(0)
    tensors = [random_rows(index % 7 + 1, rng) for index in range(_CHECKED)]
    made = [(http_infer(DOUBLE, tensor), doubled(tensor)) for tensor in tensors]
    with serving() as ours:
        _soaked(ours, made, rng, _WARM_UP, _SECONDS)
        before = _settled(ours)
        count, wrong, killed = _soaked(ours, made, rng, _REQUESTS, _SECONDS)
        after = _settled(ours)
        is_alive = ours.is_alive
    grown = (after[0] - before[0]) / count * 10_000
    text = (
        f"{grown / 2**20:+.2f} MiB per 10,000; descriptors {before[1]} -> {after[1]}, threads {before[2]} -> {after[2]}"
    )
    text += f"; {wrong} wrong; {killed} clients killed"
    is_held = grown < _GROWN_NBYTES and after[1:] == before[1:] and not wrong and is_alive
    yield Row("5 soak", "< 1 MiB per 10,000, nothing left, 0 wrong", text, count, verdict_of(is_held and count > 0))


def _held(ours: Ours) -> Tuple[int, int, int]:
    return ours.rss(), ours.descriptors(), ours.threads()


def _settled(ours: Ours) -> Tuple[int, int, int]:
    """What it holds once it has seen that its clients went: when that is the same for half a second."""
    limit_s, last, since_s = time.monotonic() + _SETTLE_S, ours.descriptors(), time.monotonic()
    while time.monotonic() < min(limit_s, since_s + _SAME_S):
        time.sleep(0.05)
        now = ours.descriptors()
        if now != last:
            last, since_s = now, time.monotonic()
    return _held(ours)


def _soaked(
    ours: Ours, made: List[Tuple[bytes, bytes]], rng: random.Random, most: int, seconds: float
) -> Tuple[int, int, int]:
    """Requests answered, wrong answers, and clients killed."""
    limit_s, count, wrong, killed = time.monotonic() + seconds, 0, 0, 0
    with asking(ours.http) as tcp, asking(ours.unix) as unix:
        while count < most and time.monotonic() < limit_s:
            request, expected = made[count % len(made)]
            status, body = (tcp, unix)[count % 2](request)
            wrong += (status, body[-len(expected) :]) != (200, expected)
            count += 1
            if count % _KILL_EVERY == 0:
                killed += 1
                with killed_client(rng.uniform(0, 0.01), partial(_inferring, (ours.http, ours.unix)[killed % 2])):
                    pass
    return count, wrong, killed


def _inferring(address: str, begun: Callable[[], None]) -> None:
    request = http_infer(DOUBLE, bytes(7 * 256))
    with connection(address) as made:
        begun()
        while True:
            made.sendall(request * 4)
            made.recv(1 << 12)


@contextlib.contextmanager
def killed_client(after_s: float, work: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """A client forked off, whose `work` has called what it is given; it is killed -9 after the block and a while.

    Only for processes that have no other threads.
    """
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(lambda: os.close(telling))
        finally:
            os._exit(1)
    os.close(telling)
    try:
        os.read(told, 1)  # ends when the client says so, or dies
        yield
        time.sleep(after_s)
    finally:
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def refusal_rows() -> Iterator[Row]:
    """2,000 refusals, then mutations of good requests over both protocols."""
    with serving(settings={"body_timeout_s": "0.2", "idle_timeout_s": "0.2"}) as ours:
        _refuse(ours, 200)
        ours.forget_peak()
        before = ours.peak()
        statuses = _refuse(ours, _REFUSED)
        grown = ours.peak() - before
        others = sorted(set(statuses) - {400, 404})
        text = f"{grown / 2**20:+.2f} MiB at the peak{f'; statuses {others} among them' if others else ''}"
        is_held = grown < _REFUSED_NBYTES and not others
        yield Row("6 refused requests", "< 8 MiB", text, _REFUSED, verdict_of(is_held))
        for name, play in (("HTTP", _http_mutations), ("gRPC", _grpc_mutations)):
            found, hangs, harm = play(ours)
            text = ", ".join(f"{key} x {count}" for key, count in sorted(found.items()))
            text += f"; {hangs} hung; {harm} good requests harmed"
            is_held = not hangs and not harm and ours.is_alive and not any(key[:1] == "5" for key in found)
            yield Row(f"6 mutations, {name}", "no hang, no death", text, sum(found.values()), verdict_of(is_held))


def _refuse(ours: Ours, count: int) -> List[int]:
    requests = bad_requests()
    return [ask_once(ours.http, requests[index % len(requests)])[0] for index in range(count)]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four small changes: overwritten, cut, inserted, repeated, or a bit flipped."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, span = rng.randrange(len(changed)), rng.choice((1, 1, 4, 30))
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + span] = rng.getrandbits(8 * span).to_bytes(span, "little")
        elif kind == 1 and len(changed) > span:
            del changed[at : at + span]
        elif kind == 2:
            changed[at:at] = rng.choice((b"\r\n", b"\0", b"-1", b"9" * 20, b'"', b"[", b"\xff", b"{}"))
        elif kind == 3:
            changed[at:at] = changed[at : at + span]
        else:
            changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _http_mutations(ours: Ours) -> Tuple[Dict[str, int], int, int]:
    """Outcomes by status, hangs, and good requests that weren't answered well in between."""
    tensor = random_rows(1, random.Random(1))
    good, expected = http_infer(DOUBLE, tensor), doubled(tensor)
    rng, found, hangs, harm = random.Random(0), {}, 0, 0
    for _ in range(_HTTP_MUTATIONS):
        outcome = "closed"
        try:
            with connection(ours.http, _HANG_S) as made, made.makefile("rb") as file:
                made.sendall(mutated(good, rng))
                outcome = str(read_answer(file)[0])
        except socket.timeout:
            hangs += 1
        except OSError:
            pass
        found[outcome] = found.get(outcome, 0) + 1
        harm += ask_once(ours.http, good)[1][-len(expected) :] != expected
    return found, hangs, harm


def _grpc_mutations(ours: Ours) -> Tuple[Dict[str, int], int, int]:
    import grpc  # noqa: PLC0415  (after the last fork)

    good = grpc_infer(DOUBLE, random_rows(1, random.Random(1)))
    rng, found, hangs, harm = random.Random(0), {}, 0, 0
    with grpc.insecure_channel(ours.grpc) as channel:
        infer = channel.unary_unary(INFER_METHOD)
        for _ in range(_GRPC_MUTATIONS):
            code = "OK"
            try:
                infer(mutated(good, rng), timeout=_HANG_S)
            except grpc.RpcError as error:
                code = error.code().name
            hangs += code == "DEADLINE_EXCEEDED"
            found[code] = found.get(code, 0) + 1
            try:
                infer(good, timeout=_HANG_S)
            except grpc.RpcError:
                harm += 1
    return found, hangs, harm
