"""The stages of a call: their names, and the stamps between them."""

from __future__ import annotations

from typing import Tuple

PARSE, QUEUE, COPY_IN, ENQUEUE, COMPUTE, COPY_OUT, FRAME = STAGES = (
    "parse",
    "queue",
    "copy in",
    "enqueue",
    "compute",
    "copy out",
    "frame",
)

# Stamps of a call: when it should begin, when its caller was free for it, and what was done by then. `SUBMITTED` is 0
# where the backend doesn't tell it. `WAITED` is no moment: how long the thread waited for a core, -1 is unknown.
ARRIVAL, READY, START, PARSED, ACQUIRED, COPIED_IN, SUBMITTED, COMPUTED, COPIED_OUT, END, WAITED = range(11)
WIDTH = 11

NO_ENQUEUE = "this backend runs in one call: enqueueing is within compute"

# In the order of time, each stage with the stamps that it lies between; a call queues for a caller, and for a slot.
_SPANS: Tuple[Tuple[str, int, int], ...] = (
    (QUEUE, ARRIVAL, START),
    (PARSE, START, PARSED),
    (QUEUE, PARSED, ACQUIRED),
    (COPY_IN, ACQUIRED, COPIED_IN),
    (ENQUEUE, COPIED_IN, SUBMITTED),
    (COMPUTE, SUBMITTED, COMPUTED),
    (COPY_OUT, COMPUTED, COPIED_OUT),
    (FRAME, COPIED_OUT, END),
)


def stage_spans(tells_submission: bool) -> Tuple[Tuple[str, int, int], ...]:
    """Each stage with its first and last stamp, in the order of time; enqueueing is in compute where nobody tells."""
    if tells_submission:
        return _SPANS
    return tuple((name, COPIED_IN if name == COMPUTE else start, end) for name, start, end in _SPANS if name != ENQUEUE)
