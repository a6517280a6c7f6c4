"""CUDA without a GPU."""

from __future__ import annotations

from typing import Iterator

import pytest
from fakes.cuda import FakeCuda


@pytest.fixture
def fake_cuda() -> Iterator[FakeCuda]:
    """A fake Orin that this thread may use; what a test leaves alive, or does wrong unseen, fails it at its end."""
    fake = FakeCuda()
    fake.use_device(0)
    yield fake
    fake.check_leaks()
