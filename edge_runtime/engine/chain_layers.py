"""The layers of a chain of plans: those of its parts, each timed by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Sequence

from edge_runtime.engine.layers import LayerProfile, LayerTimes


def joined_profile(profiles: Sequence[LayerProfile]) -> LayerProfile:
    """The layers of all parts in order, as if run n of one part were followed by run n of the next.

    The parts have no clock in common, so only durations are kept; of runs, as many as every part has.
    """
    runs = min(profile.runs for profile in profiles)
    layers: List[LayerTimes] = [
        replace(layer, durations_us=layer.durations_us[:runs], starts_us=())
        for profile in profiles
        for layer in profile.layers
    ]
    has_whole = all(len(profile.whole_us) >= runs for profile in profiles)
    whole_us = tuple(sum(profile.whole_us[run] for profile in profiles) for run in range(runs)) if has_whole else ()
    counts = ", ".join(str(len(profile.layers)) for profile in profiles)
    own = f"the model is split into {len(profiles)} plans of {counts} layers, which were timed one after the other"
    notes = dict.fromkeys(note for profile in profiles for note in profile.notes)
    return LayerProfile(profiles[0].backend, tuple(layers), runs, whole_us, (own, *notes))
