"""Kernel layouts: the frameworks' orders of out-channels O, in-channels I and spatial axes *, to ours and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, KernelError
from tensorconv.geometry import ConvGeometry


def swap_channels(kernel: Array, groups: int) -> Array:
    """Swap O and I within each group: (O, I/G, K..) to (I, O/G, K..), and back.

    Parameters
    ----------
    kernel : ndarray, shape (O, I/G, K1..KN)
        The kernel.
    groups : int
        Number of groups G.

    Returns
    -------
    ndarray, shape (I, O/G, K1..KN)
        The kernel of the adjoint map; also PyTorch's and ONNX's layout of a transposed convolution.
    """
    total, per_group, *size = kernel.shape
    blocks = kernel.reshape(groups, total // groups, per_group, *size)
    return np.swapaxes(blocks, 1, 2).reshape(groups * per_group, total // groups, *size)


def merge_groups(kernel: Array, groups: int, fewer: int = 1) -> Array:
    """Return a kernel of some groups as one of fewer groups, with zero blocks off the diagonal.

    Parameters
    ----------
    kernel : ndarray, shape (O, I/G, K1..KN)
        The kernel.
    groups : int
        Number of groups G.
    fewer : int
        Number of groups F, which divides G.

    Returns
    -------
    ndarray, shape (O, I/F, K1..KN)
        The kernel with its zeros; the same array where F is G.
    """
    if groups == fewer:
        return kernel
    ratio = groups // fewer
    n_out, n_in, *size = kernel.shape
    merged = np.zeros((fewer, ratio, n_out // groups, ratio, n_in, *size), kernel.dtype)
    for i in range(ratio):
        merged[:, i, :, i] = kernel.reshape(fewer, ratio, n_out // groups, n_in, *size)[:, i]
    return merged.reshape(n_out, ratio * n_in, *size)


def spread_taps(kernel: Array, factors: Sequence[int]) -> Array:
    """Return a kernel with zeros between its taps: that of a dilation which is this many times smaller.

    Parameters
    ----------
    kernel : ndarray, shape (O, I, K1..KN)
        The kernel.
    factors : sequence of int
        One per spatial axis.

    Returns
    -------
    ndarray, shape (O, I, f1*(K1-1)+1..fN*(KN-1)+1)
        The kernel with its zeros; the same array where every factor is 1.
    """
    if all(f == 1 for f in factors):
        return kernel
    size = tuple(f * (k - 1) + 1 for f, k in zip(factors, kernel.shape[2:], strict=True))
    spread = np.zeros((*kernel.shape[:2], *size), kernel.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, f) for f in factors))] = kernel
    return spread


def _layout_axes(ndim: int, layout: str) -> list[int]:
    """Return where O (or D), I and the spatial axes stand in an array of this layout."""
    if not isinstance(layout, str) or sorted(layout) not in (["*", "I", "O"], ["*", "D", "I"]):
        raise KernelError(
            'layout must hold O, I and * once each, as "OI*" or "*IO"; in a depthwise kernel by multiplier D for O, as '
            f'"*ID"; got {layout!r}'
        )
    at = layout.index("*")
    axes = {"*": list(range(at, at + ndim - 2))}
    for letter in layout.replace("*", ""):
        position = layout.index(letter)
        axes[letter] = [position if position < at else position + ndim - 3]
    return axes["D" if "D" in layout else "O"] + axes["I"] + axes["*"]


def from_layout(array: Array, layout: str, geometry: ConvGeometry) -> Array:
    """Return a kernel (O, I, K1..KN) from an array whose axes stand in another order.

    Parameters
    ----------
    array : ndarray
        The kernel in a framework's layout.
    layout : str
        Order of O, I and *, as in :meth:`ConvLayer.of`.
    geometry : ConvGeometry
        Its groups and ``transposed`` decide which channel axis holds all groups.

    Returns
    -------
    ndarray, shape (O, I, K1..KN)
        The kernel, I per group.

    Raises
    ------
    KernelError
        If the layout is not an order of O (or D), I and *.
    GeometryError
        If the groups do not divide the channels, or are not the channels where D is their multiplier.
    """
    kernel = np.transpose(array, _layout_axes(array.ndim, layout))
    if "D" in layout:
        _check_depthwise(layout, geometry, kernel.shape[1])
        return np.swapaxes(kernel, 0, 1).reshape(-1, 1, *kernel.shape[2:])
    if not _splits_out_channels(layout, geometry):
        return kernel
    if kernel.shape[1] % geometry.groups:
        raise GeometryError(f"groups must divide the {kernel.shape[1]} in-channels, got groups={geometry.groups}")
    return swap_channels(np.swapaxes(kernel, 0, 1), geometry.groups)


def to_layout(kernel: Array, layout: str, geometry: ConvGeometry) -> Array:
    """Return a kernel with its axes in a framework's order, the inverse of :func:`from_layout`.

    Parameters
    ----------
    kernel : ndarray, shape (O, I, K1..KN)
        The kernel, I per group.
    layout : str
        Order of O, I and *, as in :meth:`ConvLayer.of`.
    geometry : ConvGeometry
        Its groups and ``transposed`` decide which channel axis holds all groups.

    Returns
    -------
    ndarray
        A C-contiguous array.

    Raises
    ------
    KernelError
        If the layout is not an order of O (or D), I and *.
    GeometryError
        If D is the channels' multiplier and the groups are not the channels.
    """
    axes = _layout_axes(kernel.ndim, layout)
    if "D" in layout:
        _check_depthwise(layout, geometry, kernel.shape[1] * geometry.groups)
        kernel = np.swapaxes(kernel.reshape(geometry.groups, -1, *kernel.shape[2:]), 0, 1)
    elif _splits_out_channels(layout, geometry):
        kernel = np.swapaxes(swap_channels(kernel, geometry.groups), 0, 1)
    return np.ascontiguousarray(np.transpose(kernel, np.argsort(axes)))


def _check_depthwise(layout: str, geometry: ConvGeometry, in_channels: int) -> None:
    if geometry.groups != in_channels:
        raise GeometryError(
            f"layout {layout!r} is for depthwise kernels, one group per in-channel: groups must be {in_channels}, got "
            f"{geometry.groups}"
        )


def _splits_out_channels(layout: str, geometry: ConvGeometry) -> bool:
    """Whether an array of this layout holds (I, O/G), as PyTorch's grouped transposed kernels do."""
    return geometry.transposed and geometry.groups > 1 and layout.index("I") < layout.index("O")
