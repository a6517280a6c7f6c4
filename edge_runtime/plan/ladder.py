"""Which models stand in for a model while the board is too hot or too much is asked of it: `[serving.ladder]`."""

from __future__ import annotations

from typing import Optional, Tuple

from pydantic import Field, field_validator, model_validator

from edge_runtime.config import Settings
from edge_runtime.errors import ConfigError
from edge_runtime.plan.names import check_model_name

MOST_RUNGS = 8
_MARGIN_C = 5.0


class LadderTable(Settings):
    """Rungs below the model itself, what makes it step down to them, and when it returns.

    A figure whose threshold isn't set is no trigger. Each has a second threshold for the return, which is stricter.
    """

    rungs: Tuple[str, ...] = Field(
        (), description="Models of the store that stand in, the next one down first; the same inputs and outputs."
    )
    on_throttle: bool = Field(True, strict=True, description="Step down while the board is throttled.")
    headroom_c: Optional[float] = Field(
        None, ge=0, le=200, description="Step down while the zone nearest to its trip point is less than this below it."
    )
    headroom_return_c: Optional[float] = Field(
        None, gt=0, le=200, description="Return only with at least this headroom (default: 5 °C more)."
    )
    power_budget_w: Optional[float] = Field(None, gt=0, le=10_000, description="Step down while power is above this.")
    power_return_w: Optional[float] = Field(
        None, gt=0, le=10_000, description="Return only at this power or less (default: nine tenths of the budget)."
    )
    queue_delay_ms: Optional[float] = Field(
        None, gt=0, le=3_600_000, description="Step down while requests wait longer than this for their run, mean, ms."
    )
    queue_return_ms: Optional[float] = Field(
        None, gt=0, le=3_600_000, description="Return only at this wait or less (default: half of queue_delay_ms)."
    )
    miss_share: Optional[float] = Field(
        None, gt=0, lt=1, description="Step down while more than this share of requests is refused or late."
    )
    miss_return: Optional[float] = Field(
        None, ge=0, lt=1, description="Return only at this share or less (default: half of miss_share)."
    )
    window_s: float = Field(5.0, ge=1, le=600, description="Time over which waits and misses are counted, seconds.")
    dwell_s: float = Field(10.0, ge=1, le=3600, description="Least time on a rung before a step down, seconds.")
    return_dwell_s: float = Field(
        30.0, ge=1, le=86_400, description="Least time of calm on a rung before a return, seconds."
    )
    most_return_dwell_s: float = Field(
        1800.0, ge=1, le=604_800, description="What that time doubles up to, after returns that had to be undone."
    )

    @field_validator("rungs")
    @classmethod
    def _names(cls, values: Tuple[str, ...]) -> Tuple[str, ...]:
        if len(set(values)) < len(values) or len(values) > MOST_RUNGS:
            raise ValueError(f"expected up to {MOST_RUNGS} models, each once")
        try:
            return tuple(check_model_name(value) for value in values)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _bands(self) -> LadderTable:
        for trigger, back in (
            ("headroom_c", "headroom_return_c"),
            ("power_budget_w", "power_return_w"),
            ("queue_delay_ms", "queue_return_ms"),
            ("miss_share", "miss_return"),
        ):
            limit, inner = getattr(self, trigger), getattr(self, back)
            if inner is None:
                continue
            if limit is None:
                raise ValueError(f"{back} is for {trigger}, which isn't set")
            if inner <= limit if trigger == "headroom_c" else inner >= limit:
                raise ValueError(f"expected {back} on the calm side of {trigger} {limit:g}, got {inner:g}")
        if self.most_return_dwell_s < self.return_dwell_s:
            raise ValueError("expected most_return_dwell_s to be at least return_dwell_s")
        return self

    def below(self, model: str) -> Tuple[str, ...]:
        """The rungs of a model; if they name it, as where many share one list, those behind its name."""
        return self.rungs[self.rungs.index(model) + 1 :] if model in self.rungs else self.rungs

    @property
    def calm_headroom_c(self) -> float:
        """The headroom from which on a return may be."""
        return self.headroom_return_c if self.headroom_return_c is not None else (self.headroom_c or 0) + _MARGIN_C

    @property
    def calm_power_w(self) -> float:
        """The power up to which a return may be."""
        return self.power_return_w if self.power_return_w is not None else 0.9 * (self.power_budget_w or 0)

    @property
    def calm_queue_ms(self) -> float:
        """The wait up to which a return may be."""
        return self.queue_return_ms if self.queue_return_ms is not None else 0.5 * (self.queue_delay_ms or 0)

    @property
    def calm_misses(self) -> float:
        """The share of misses up to which a return may be."""
        return self.miss_return if self.miss_return is not None else 0.5 * (self.miss_share or 0)
