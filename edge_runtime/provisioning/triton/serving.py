"""How requests wait: dynamic batching, priorities and queues."""

from __future__ import annotations

from edge_runtime.provisioning.triton.draft import QUEUE_SIZE, Draft
from edge_runtime.provisioning.triton.fates import honoured, lost, not_needed

_LONGEST_MS = 86_400_000
_QUEUE = "dynamic_batching.default_queue_policy"


def draft_serving(draft: Draft) -> None:
    """Sets `[serving]`, and wishes for the size of the queue."""
    if not draft.config.message.HasField("dynamic_batching"):
        return
    batching = draft.config.message.dynamic_batching
    draft.set("serving", "batching", "on")
    draft.fates["dynamic_batching"] = honoured('[serving] batching = "on"')
    if batching.default_priority_level:
        level = int(batching.default_priority_level)
        draft.set("serving", "priority", level)
        draft.fates["dynamic_batching.default_priority_level"] = honoured(f"[serving] priority = {level}")
    policy = batching.default_queue_policy
    rejects = policy.timeout_action == 0
    if draft.config.line(f"{_QUEUE}.timeout_action") is not None:
        draft.fates[f"{_QUEUE}.timeout_action"] = (
            honoured("a request whose deadline can't be kept is refused")
            if rejects
            else lost("a late request isn't put off; send it again, or without a deadline")
        )
    _draft_deadline(draft, int(policy.default_timeout_microseconds), rejects)
    if policy.max_queue_size:
        draft.wish(QUEUE_SIZE, f"{_QUEUE}.max_queue_size", int(policy.max_queue_size))
    elif draft.config.line(f"{_QUEUE}.max_queue_size") is not None:
        text = "a model's queue has EDGE_RUNTIME_SERVER__QUEUE_SIZE places, 256 by default"
        draft.fates[f"{_QUEUE}.max_queue_size"] = not_needed(text)


def _draft_deadline(draft: Draft, timeout_us: int, rejects: bool) -> None:
    path = f"{_QUEUE}.default_timeout_microseconds"
    if not timeout_us:
        return
    if not rejects:
        draft.fates[path] = lost("no deadline is set: a late request would be refused, not put off")
        return
    deadline_ms = min(timeout_us / 1000, _LONGEST_MS)
    draft.set("serving", "deadline_ms", deadline_ms)
    draft.fates[path] = honoured(
        f"[serving] deadline_ms = {deadline_ms:g}, which counts to the answer, not to the run's start"
    )
