"""Compose a sequence: the one convolution that it is, where there is one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, as_sequence

Part = tuple[Array, ConvGeometry]
ENTRIES = 2**21  # of the kernel that are summed at a time, so that the parts of a large one take little memory


def compose(sequence: Any) -> ConvLayer:
    """Return the one convolution that a sequence is.

    Layer 1, then layer 2, per axis: taps at ``s1 d2 k2 + d1 k1``, stride ``s1 s2``, padding ``p1 + s1 p2``; transposed:
    taps at ``s2 d1 k1 + d2 k2``, padding ``s2 p1 + p2``. The sum over the channels between runs in float64.

    Parameters
    ----------
    sequence : ConvLayer, ConvSequence or object with ``.sequence``
        The sequence.

    Returns
    -------
    ConvLayer
        The convolution, in the sequence's data type, with the last layer's bias.

    Raises
    ------
    GeometryError
        If no single convolution does the same on every input that all layers can run on: padding between layers that
        the first one's kernel or crop would see, a transposed crop before a kernel, or a mix of convolution and
        transposed convolution.

    Examples
    --------
    >>> import tensorconv as tc
    >>> rows = tc.ConvLayer.of(np.ones((1, 1, 3, 1)), padding=(1, 0))
    >>> columns = tc.ConvLayer.of(np.ones((1, 1, 1, 3)), padding=(0, 1))
    >>> print(tc.compose(tc.ConvSequence([rows, columns])))
    1 -> 1, kernel 3x3, stride 1, padding 1
    """
    steps = as_sequence(sequence)
    if steps.pads:
        raise GeometryError(
            "a sequence that pads by values is no single convolution at its borders; compose the convolutions between "
            "its paddings: ConvSequence(sequence.layers[1:]) after a first padding"
        )
    if len(steps) == 1:
        return steps.convolutions[0]
    kernel, geometry = compose_parts([(layer.kernel, layer.geometry) for layer in steps.convolutions])
    with np.errstate(over="ignore"):
        return ConvLayer(kernel.astype(steps.dtype), geometry, steps.bias)


def compose_parts(parts: list[Part]) -> Part:
    """Return kernel and geometry of the composition of plain kernels, in float64.

    Parameters
    ----------
    parts : list of (kernel, geometry)
        Kernels (O, I, K1..KN) in order, any real type.

    Returns
    -------
    (ndarray, ConvGeometry)
        The float64 kernel and its geometry.

    Raises
    ------
    GeometryError
        If no single convolution does the same.
    """
    from tensorconv.linalg import one_blas_thread  # with SciPy, which convolutions do without

    first, *rest = [(np.asarray(kernel, np.float64), geometry) for kernel, geometry in parts]
    with one_blas_thread():
        return reduce(_compose_two, rest, first)


def _compose_two(first: Part, second: Part) -> Part:
    (w1, g1), (w2, g2) = first, second
    transposed = _kind(first, second)
    # A transposed composition is the convolution's with the layers' roles swapped: its adjoint runs in reverse.
    (k_in, g_in), (k_out, g_out) = ((w2, g2), (w1, g1)) if transposed else ((w1, g1), (w2, g2))
    stride, dilation, taps = [], [], []
    padding: list[tuple[int, int]] = []
    for axis, (a, b) in enumerate(zip(k_in.shape[2:], k_out.shape[2:], strict=True)):
        s = g_in.stride[axis]
        _check_borders(axis, w1.shape[2 + axis], g1, w2.shape[2 + axis], g2, transposed)
        d_in, d_out = g_in.dilation[axis], s * g_out.dilation[axis]
        if a > 1 and b > 1:
            unit = math.gcd(d_in, d_out)
        elif a == b == 1:
            unit = max(d_in, g_out.dilation[axis])
        else:
            unit = d_in if a > 1 else d_out
        at = (d_in * np.arange(a)[:, None] + d_out * np.arange(b)[None, :]) // unit
        taps.append(at.T if transposed else at)
        stride.append(s * g_out.stride[axis])
        (low, high), (low_out, high_out) = g_in.padding[axis], g_out.padding[axis]
        padding.append((low + s * low_out, high + s * high_out))
        dilation.append(unit)
    groups = math.gcd(g1.groups, g2.groups)
    geometry = ConvGeometry(tuple(stride), tuple(padding), tuple(dilation), groups, transposed)
    return _contract(w1, g1.groups, w2, g2.groups, taps), geometry


def _kind(first: Part, second: Part) -> bool:
    """Return whether the composition is transposed; a pointwise layer goes with either kind."""
    kinds = {g.transposed for w, g in (first, second) if not (g.is_pointwise and math.prod(w.shape[2:]) == 1)}
    if len(kinds) == 2:
        raise GeometryError(
            "a convolution and a transposed convolution are one convolution only where one of them has kernel size 1, "
            "stride 1 and padding 0"
        )
    return kinds.pop() if kinds else first[1].transposed and second[1].transposed


def _check_borders(axis: int, k1: int, g1: ConvGeometry, k2: int, g2: ConvGeometry, transposed: bool) -> None:
    """Refuse what is a convolution inside but not at the borders."""
    for p1, p2 in zip(g1.padding[axis], g2.padding[axis], strict=True):
        if not transposed and p2 > 0 and (k1 > 1 or p1 < 0):
            raise GeometryError(
                f"layer 2 pads axis {axis} by {p2} after a layer of {k1} taps and padding {p1}: no single convolution "
                "has zeros there; give the whole padding to the first layer of the axis"
            )
        if transposed and p1 > 0 and (k2 > 1 or p2 <= -g2.stride[axis]):
            raise GeometryError(
                f"transposed layer 1 crops axis {axis} by {p1} before a layer of {k2} taps and padding {p2}, which "
                "would spread what was cropped; give the whole crop to the last layer of the axis"
            )


def _contract(w1: Array, groups1: int, w2: Array, groups2: int, taps: list[Array]) -> Array:
    """Sum over the channels between: (O, C/G, T) from (M, C/G1, K1) and (O, M/G2, K2), G = gcd(G1, G2)."""
    groups = math.gcd(groups1, groups2)
    n_out, n_mid, n_in = w2.shape[0], w1.shape[0], w1.shape[1] * groups1
    size = tuple(int(at.max()) + 1 for at in taps)
    where = np.zeros((1, 1), np.int64)  # (K1, K2) -> flat tap of the result
    for at, extent in zip(taps, size, strict=True):
        where = (where[:, None, :, None] * extent + at[None, :, None, :]).reshape(
            where.shape[0] * at.shape[0], where.shape[1] * at.shape[1]
        )
    distinct = len(np.unique(where)) == where.size
    result = np.zeros((n_out, n_in // groups, math.prod(size)))
    flat1 = w1.reshape(*w1.shape[:2], -1)
    flat2 = w2.reshape(*w2.shape[:2], -1)
    for start, stop in _overlaps(n_mid, groups1, groups2):
        group1, group2 = start * groups1 // n_mid, start * groups2 // n_mid
        first_row, last_row = group2 * n_out // groups2, (group2 + 1) * n_out // groups2
        column = group1 % (groups1 // groups) * w1.shape[1]
        columns = slice(column, column + w1.shape[1])
        offset = group2 * n_mid // groups2
        at_once = max(1, ENTRIES // (flat2.shape[2] * math.prod(flat1.shape[1:])))
        for row in range(first_row, last_row, at_once):
            rows = slice(row, min(last_row, row + at_once))
            # (O/G2, K2, C/G1, K1)
            part = np.tensordot(flat2[rows, start - offset : stop - offset], flat1[start:stop], axes=(1, 0))
            if distinct:
                result[rows, columns, where.T.ravel()] += part.transpose(0, 2, 1, 3).reshape(*part.shape[0::2], -1)
            else:
                for k1, k2 in np.ndindex(where.shape):
                    result[rows, columns, where[k1, k2]] += part[:, k2, :, k1]
    return result.reshape(n_out, n_in // groups, *size)


def _overlaps(n_mid: int, groups1: int, groups2: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of channels between that lie in one group of both layers."""
    edges = sorted({*range(0, n_mid + 1, n_mid // groups1), *range(0, n_mid + 1, n_mid // groups2)})
    yield from itertools.pairwise(edges)
