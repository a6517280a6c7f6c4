from __future__ import annotations

import pytest

from edge_runtime.config import environment_layer, validated
from edge_runtime.errors import ConfigError
from edge_runtime.profiler.settings import ProfileSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 5, "duration_s": 2}, r"both n \(5\) and duration_s \(2\); the timed phase has one end"),
        ({"rate_per_s": 1e5, "duration_s": 3600}, r"more than 2,000,000 calls"),
        ({"n": 3_000_000}, "less than or equal to 2000000"),
        ({"rate_per_s": 0}, "greater than 0"),
        ({"rate_per_s": 1_000_001}, "1000000"),
        ({"rate_per_s": float("inf")}, "finite"),
        ({"rate_per_s": float("nan")}, "rate_per_s"),
        ({"warm_up": 0}, "greater than or equal to 1"),
        ({"interval_s": 0.001}, "interval_s"),
        ({"protocol": "grpc"}, "unknown key 'protocol'"),
    ],
)
def test_what_does_not_fit_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        validated(ProfileSettings, values, "[profile]")


def test_a_variable_sets_it():
    layer = environment_layer({"EDGE_RUNTIME_PROFILE__RATE_PER_S": "12.5"}, ("profile",))["profile"]
    assert validated(ProfileSettings, layer, "[profile]").rate_per_s == 12.5


@pytest.mark.parametrize(
    ("values", "seconds"),
    [({}, None), ({"duration_s": 100}, 290), ({"n": 1000, "rate_per_s": 10}, 290)],
)
def test_how_long_the_board_is_watched_is_known_from_the_load(values, seconds):
    assert ProfileSettings(**values).expected_s == seconds
