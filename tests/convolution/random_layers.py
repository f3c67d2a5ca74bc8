"""Layers and inputs of small integers drawn at random: convolutions of them are exact in any order of summation."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

import tensorconv as tc
from tensorconv.arrays import Array

seeds = st.integers(0, 2**32 - 1)


def whole_numbers(shape: tuple[int, ...], rng: np.random.Generator, dtype: str = "float64") -> Array:
    """Return integers from -4 to 4, none of them 0: a tap that goes missing changes the result."""
    return rng.choice(np.array([-4, -3, -2, -1, 1, 2, 3, 4], dtype), shape)


def smallest_size(geometry: tc.ConvGeometry, kernel_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the smallest input size that has an output, from the output-size formula solved for the input."""
    sizes = []
    for k, s, d, (low, high) in zip(kernel_size, geometry.stride, geometry.dilation, geometry.padding, strict=True):
        if geometry.transposed:  # s (x - 1) + d (k - 1) + 1 - low - high >= 1
            sizes.append(max(1, 1 - (d * (k - 1) - low - high) // s))
        else:  # x + low + high >= d (k - 1) + 1
            sizes.append(max(1, d * (k - 1) + 1 - low - high))
    return tuple(sizes)


@st.composite
def convolutions(draw: st.DrawFn, *, transposed: bool | None = None, max_ndim: int = 3) -> tuple[tc.ConvLayer, Array]:
    """Draw a layer of any geometry and an input of it, each attribute its own value per axis and side."""
    ndim = draw(st.integers(1, max_ndim))

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    groups, taps = draw(st.integers(1, 3)), axes(1, 3)
    geometry = tc.ConvGeometry(
        stride=axes(1, 3),
        padding=tuple(zip(axes(-2, 3), axes(-2, 3), strict=True)),
        dilation=axes(1, 3),
        groups=groups,
        transposed=draw(st.booleans()) if transposed is None else transposed,
    )
    size = tuple(n + more for n, more in zip(smallest_size(geometry, taps), axes(0, 4), strict=True))
    n_in, n_out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(seeds))
    kernel = whole_numbers((groups * n_out, n_in, *taps), rng)
    bias: Any = whole_numbers((groups * n_out,), rng) if draw(st.booleans()) else None
    x = whole_numbers((draw(st.integers(1, 2)), groups * n_in, *size), rng)
    return tc.ConvLayer(kernel, geometry, bias), x
