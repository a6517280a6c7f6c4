"""How busy a server was between two of its live documents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Sequence

from edge_runtime.errors import RemoteError


@dataclass(frozen=True)
class ServingLoad:
    """What was seen in so many seconds; None is unknown.

    Attributes:
        utilisation: share of the time in which the busiest accelerator ran something.
        miss_share: of the requests that were refused or answered late.
        slack_ms: what the model nearest to its own deadline had left at its p99 of the last minute.
        p99_ms: of that model.
        power_w: of the board, at the end; of one that is replayed nothing counts.
    """

    seconds: float
    requests: int
    utilisation: float
    miss_share: float | None
    slack_ms: float | None
    p99_ms: float | None
    is_throttled: bool
    power_w: float | None

    def record(self) -> Dict[str, Any]:
        """As reports write it."""
        return asdict(self)


def serving_load(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float, name: str = "") -> ServingLoad:
    """The load between two documents, `seconds` apart; of one model alone, if it is named.

    Raises:
        RemoteError: the documents aren't those of one server of this version, or it doesn't serve that model.
    """
    try:
        return _load(before, after, seconds, name)
    except (KeyError, TypeError, AttributeError) as error:
        raise RemoteError(
            f"the server's live document lacks what is needed ({error}); is it of this version?", 200
        ) from None


def _load(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float, name: str) -> ServingLoad:
    earlier = {(each["name"], each["version"]): each for each in before["models"]}
    models = [each for each in after["models"] if (each["name"], each["version"]) in earlier]
    wanted = [each for each in models if name in ("", each["name"])]
    if not wanted:
        raise RemoteError(f"the server serves no model {name!r}" if name else "the server serves no model", 404)
    busy: Dict[str, float] = {}
    answered = missed = refused = 0
    for each in models:  # whatever else runs there keeps the accelerator busy too
        was = earlier[each["name"], each["version"]]
        share = (each["busy_s"] - was["busy_s"]) / (each["at_once"] if each["device"] == "cpu" else 1)
        busy[each["device"]] = busy.get(each["device"], 0.0) + share
    for each in wanted:
        was = earlier[each["name"], each["version"]]
        answered += each["total"]["succeeded"] - was["total"]["succeeded"]
        refused += each["total"]["failed"]["REJECTED"] - was["total"]["failed"]["REJECTED"]
        missed += each["late"] - was["late"]
    asked = answered + refused
    board = after["board"]
    is_real = board["replay_of"] is None
    slack_ms, p99_ms = _slack(wanted)
    return ServingLoad(
        seconds=seconds,
        requests=asked,
        utilisation=max(busy.values(), default=0.0) / seconds,
        miss_share=(missed + refused) / asked if asked else None,
        slack_ms=slack_ms,
        p99_ms=p99_ms,
        is_throttled=is_real and bool(board["throttles"]),
        power_w=board["power_mw"] / 1000 if is_real and board["power_mw"] is not None else None,
    )


def _slack(models: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Of the model with the least, what is left until its own deadline at its p99, and that p99."""
    found = [
        (each["deadline_ms"] - each["windows"][-1]["latency"]["p99_ms"], each["windows"][-1]["latency"]["p99_ms"])
        for each in models
        if each["deadline_ms"] is not None and each["windows"][-1]["latency"]["p99_ms"] is not None
    ]
    return min(found) if found else (None, None)
