"""Tests of the phases of a transposed convolution, against counting what every output sums."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tensorconv.convolution.transposed import axis_phases

few = st.integers(1, 6)


@given(few, few, few, st.integers(-7, 7), st.integers(1, 12))
def test_every_output_sums_the_taps_of_its_phase(n_taps: int, stride: int, dilation: int, low: int, n_out: int) -> None:
    found = {}
    for phase in axis_phases(n_taps, stride, dilation, low, n_out):
        for u in range(phase.n):
            reads = {int(k): u + phase.dilation * j - phase.low for j, k in enumerate(phase.taps)}
            found[phase.first + stride * u] = reads
    expected = {q: {} for q in range(n_out)}
    for q, reads in expected.items():
        for k in range(n_taps):
            p, rest = divmod(q + low - dilation * k, stride)  # q = stride p + dilation k - low
            if rest == 0:
                reads[k] = p
    assert found == expected
