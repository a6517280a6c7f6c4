from __future__ import annotations

import mmap
import os

import numpy as np
import pytest
from fakes.ended_processes import descriptor_count

from edge_runtime.device.sealed_memory import mapped_memory
from edge_runtime.engine.process.blocks import Blocks
from edge_runtime.engine.process.tensors import Place
from edge_runtime.errors import BackendError


def test_another_mapping_sees_what_is_written_into_a_view() -> None:
    blocks = Blocks()
    values = blocks.allocate(8, np.dtype(np.float32))
    place = blocks.place_of(values[2:4].reshape(1, 2))
    assert place == Place(0, 8)
    other = np.frombuffer(mapped_memory(blocks.descriptor_of(place.block)), np.float32)
    values[:] = np.arange(8)
    np.testing.assert_array_equal(other, np.arange(8))


def test_memory_cannot_be_resized_and_memory_that_can_is_refused() -> None:
    blocks = Blocks()
    values = blocks.allocate(8, np.dtype(np.float32))
    descriptor = blocks.descriptor_of(0)
    for nbytes in (0, mmap.PAGESIZE * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, nbytes)
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(loose, 8)
    with pytest.raises(OSError, match="isn't sealed"):
        mapped_memory(loose)
    os.close(loose)
    assert values.size == 8


def test_a_block_goes_with_the_last_view_of_it() -> None:
    before = descriptor_count()
    blocks = Blocks()
    values = blocks.allocate(8, np.dtype(np.float32))
    view = values[:2].reshape(2, 1)
    del values
    assert blocks.numbers == {0}
    assert view.base is not None
    del view
    assert blocks.numbers == set()
    assert descriptor_count() == before


@pytest.mark.parametrize("values", [np.zeros(4), np.zeros((4, 4)).T[:, 1:]], ids=["private", "not contiguous"])
def test_other_memory_is_in_no_block(values: np.ndarray) -> None:
    blocks = Blocks()
    kept = blocks.allocate(8, np.dtype(np.float32))
    assert blocks.place_of(values) is None
    assert blocks.place_of(kept.reshape(2, 4).T) is None


def test_what_the_machine_has_not_is_refused() -> None:
    with pytest.raises(BackendError, match="bytes of shared memory can't be had"):
        Blocks().allocate(1 << 60, np.dtype(np.uint8))
