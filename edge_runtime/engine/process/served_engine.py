"""The process that has a plan: it loads what it is asked for and runs it, until whoever started it lets it go."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, List

from edge_runtime.engine.process.channel import Channel, Frame, Kind
from edge_runtime.errors import BackendError, DeviceLostError, EdgeRuntimeError

if TYPE_CHECKING:
    from edge_runtime.engine.process.served_slot import ServedSlot

EXIT_DEVICE_LOST = 70

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_OOM_STEP = 300


def main() -> None:
    """Serves on the socket whose descriptor is the first argument."""
    status = 1
    try:
        _prepare()
        control = Channel(socket.socket(fileno=int(sys.argv[1])))
        frame = control.receive()
        if frame is not None and _is_loaded(control, frame):
            control.receive()  # nothing comes but the end: the user has closed the engine, or is gone
        status = 0
    except BaseException:
        logger.exception("the engine's process ends")
    finally:
        logging.shutdown()
        os._exit(status)  # destroying an engine library's objects may wait for ever


def _prepare() -> None:
    """Ends with the thread that started it, at the latest, and leaves signals to that thread's process.

    A service manager and a terminal send theirs to all processes of a service or a job. This one has to go on until
    the last request is answered, and is told so by its socket.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):  # of the kernel, when memory runs out: rather this than its user
        path.write_text(str(min(1000, int(path.read_text(encoding="ascii")) + _OOM_STEP)), encoding="ascii")


def _is_loaded(control: Channel, frame: Frame) -> bool:
    """Loads the plan and serves each slot in a thread of its own; False if the plan can't be had."""
    from edge_runtime.engine.process.served_slot import failure_text  # noqa: PLC0415  (once signals are ignored)

    try:
        _serve(control, frame.head)
    except EdgeRuntimeError as error:
        control.send(Kind.FAILED, 0, failure_text(error))
        if isinstance(error, DeviceLostError):
            os._exit(EXIT_DEVICE_LOST)
        return False
    except MemoryError:
        control.send(Kind.FAILED, 0, failure_text(BackendError("Python ran out of memory")))
        return False
    return True


def _serve(control: Channel, request: bytes) -> None:
    from edge_runtime.engine.golden_run import verified_golden  # noqa: PLC0415
    from edge_runtime.engine.loading import load  # noqa: PLC0415  (once signals are ignored, for it takes long)
    from edge_runtime.engine.process.blocks import Blocks  # noqa: PLC0415
    from edge_runtime.engine.process.request import request_from_text  # noqa: PLC0415
    from edge_runtime.engine.process.served_slot import ServedSlot  # noqa: PLC0415
    from edge_runtime.plan.golden import read_golden  # noqa: PLC0415

    blocks = Blocks()
    wanted = request_from_text(request, allocate=blocks.allocate)
    engine = load(wanted.plan, wanted.options)
    golden = read_golden(wanted.plan)
    if golden is not None:
        verified_golden(engine, golden)
    threads: List[threading.Thread] = []
    for number in range(engine.slot_count):
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        slot = ServedSlot(engine.acquire(), engine.signature, engine.segment_count, channel, blocks)
        slot.describe(control, number, theirs.fileno())
        theirs.close()
        threads.append(threading.Thread(target=_answer_all, args=(slot, channel), daemon=True))
    gc.collect()
    gc.freeze()  # what is there now stays: later collections needn't look at it
    for thread in threads:
        thread.start()
    control.send(Kind.LOADED)


def _answer_all(slot: ServedSlot, channel: Channel) -> None:
    """Answers requests for runs until the channel ends; the top frame of a slot's thread."""
    while True:
        frame = channel.receive()
        if frame is None:
            return
        try:
            _answer(slot, frame)
        except OSError:  # the user is gone
            return


def _answer(slot: ServedSlot, frame: Frame) -> None:
    try:
        slot.answer(frame)
    except DeviceLostError as error:
        logger.error("%s", error)
        slot.fail(error)
        logging.shutdown()
        os._exit(EXIT_DEVICE_LOST)
    except EdgeRuntimeError as error:
        slot.fail(error)
    except MemoryError:
        slot.fail(BackendError("Python ran out of memory"))
    except OSError:
        raise
    except Exception as error:
        logger.exception("a run failed")
        slot.fail(BackendError(f"unexpected {type(error).__name__}"))
