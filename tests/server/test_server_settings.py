from __future__ import annotations

import pytest

from edge_runtime.config import validated
from edge_runtime.errors import ConfigError
from edge_runtime.server.settings import ServerSettings


@pytest.mark.parametrize(
    "values", [{"slots": 0}, {"queue_size": 0}, {"max_request_bytes": 10}, {"drain_s": -1}, {"htp": "x"}]
)
def test_settings_out_of_range_or_unknown_are_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        validated(ServerSettings, values, "[server]")
