"""Memory that nothing uses."""

from __future__ import annotations

import ctypes

import psutil
import pytest

from mltrain.trainers.memory import return_free_memory


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="NOT TESTED: the C library is not glibc")
def test_what_lies_below_a_block_in_use_is_given_back() -> None:
    def resident() -> float:
        return float(psutil.Process().memory_info().rss / 2**20)

    return_free_memory()
    before = resident()
    blocks = [bytearray(50_000) for _ in range(6_000)]
    top = blocks[-1]
    blocks.clear()
    kept = resident() - before
    return_free_memory()
    assert len(top) == 50_000
    assert kept > 200
    assert resident() - before < 50
