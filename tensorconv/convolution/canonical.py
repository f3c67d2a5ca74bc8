"""Canonical forms: two convolutions on common groups and a common tap grid, so that their kernels can be compared."""

from __future__ import annotations

import math
from dataclasses import replace

from tensorconv.convolution.compose import Part
from tensorconv.layers import merge_groups, spread_taps


def comparable(first: Part, second: Part) -> tuple[Part, Part]:
    """Return two convolutions on common groups and a common tap grid.

    Blocks that another group count makes explicit, and taps between the dilated ones, are zeros. The dilation of an
    axis with one tap and the direction of a pointwise layer mean nothing and are set to a fixed value. Zero taps at the
    ends of a kernel are kept: with their padding they are another geometry.

    Parameters
    ----------
    first, second : (ndarray, ConvGeometry)
        Kernels (O, I, K1..KN) and their geometries.

    Returns
    -------
    ((ndarray, ConvGeometry), (ndarray, ConvGeometry))
        Both, the same maps as before.
    """
    groups = math.gcd(first[1].groups, second[1].groups)
    steps = [
        math.gcd(*(g.dilation[axis] for w, g in (first, second) if w.shape[2 + axis] > 1)) or 1
        for axis in range(first[1].ndim)
    ]
    return _on_grid(first, groups, steps), _on_grid(second, groups, steps)


def _on_grid(part: Part, groups: int, steps: list[int]) -> Part:
    kernel, geometry = merge_groups(part[0], part[1].groups, groups), part[1]
    factors = [d // s if k > 1 else 1 for d, s, k in zip(geometry.dilation, steps, kernel.shape[2:], strict=True)]
    kernel = spread_taps(kernel, factors)
    is_pointwise = geometry.is_pointwise and math.prod(kernel.shape[2:]) == 1
    transposed = geometry.transposed and not is_pointwise
    return kernel, replace(geometry, groups=groups, dilation=tuple(steps), transposed=transposed)
