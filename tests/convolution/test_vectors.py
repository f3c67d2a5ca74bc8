"""Tests of what is known of hosts."""

from __future__ import annotations

import pytest

from tensorconv.convolution.vectors import host_tile


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
