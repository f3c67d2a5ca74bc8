"""Tests of what is known of hosts, and of the counter that threads share."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tensorconv.convolution.vectors import claim, host_tile


@pytest.mark.parametrize(
    ("features", "triple", "registers"),
    [("+avx2,+avx512f,+fma", "x86_64-linux", 32), ("+avx2,+fma", "x86_64-linux", 16), ("+neon", "aarch64-linux", 32)],
)
def test_a_tile_fits_the_registers(features: str, triple: str, registers: int) -> None:
    size, channels, vectors = host_tile(features, triple)
    assert size in (16, 32, 64)
    assert channels * vectors + vectors + 1 <= registers


@pytest.mark.parametrize(
    ("features", "triple"), [("+sse2", "x86_64-linux"), ("+avx2", "x86_64"), ("", "ppc64le-linux")]
)
def test_other_hosts_have_no_tile(features: str, triple: str) -> None:
    assert host_tile(features, triple) == (0, 0, 0)


def test_no_part_is_claimed_twice() -> None:
    counter, claimed = np.zeros(1, np.int64), list[int]()

    def work() -> None:
        claimed.extend(claim(counter.ctypes.data) for _ in range(1000))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(4000))
