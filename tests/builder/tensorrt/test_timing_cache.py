from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fakes.tensorrt import fake_tensorrt
from fakes.tensorrt_session import Session, dense_model

from edge_runtime.builder.tensorrt.timing_cache import TimingCache
from edge_runtime.tensorrt_api import from_module


def built(path: Path, surface: str = "10.3") -> Any:
    """The configuration of a build that used and kept the file's tactics."""
    module = fake_tensorrt(surface)
    session = Session(module)
    config = session.builder.create_builder_config()
    profile = session.builder.create_optimization_profile()
    profile.set_shape("x", (1, 4), (1, 4), (2, 4))
    config.add_optimization_profile(profile)
    cache = TimingCache(from_module("tensorrt", module), str(path))
    cache.use(config)
    assert session.plan(dense_model(), config)
    cache.keep(config)
    return config


def test_tactics_are_kept_in_a_file_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "deep/tactics.cache"
    built(path)
    first = path.read_bytes()
    assert first
    built(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("content", [b"", b"damaged", bytes(1000)])
def test_a_file_that_tensorrt_does_not_know_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tactics.cache"
    path.write_bytes(content)
    built(path)
    assert path.read_bytes() not in (b"", content)


def test_a_file_that_cannot_be_written_costs_time_and_not_the_build(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        built(tmp_path / "file/tactics.cache")
    assert "the next build times again" in caplog.text
