"""Patches: the input entries that every output position of a layer sees, gathered as the columns of a matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.convolution.run import as_data
from tensorconv.errors import KernelError
from tensorconv.layers import ConvLayer, as_layer

Tile = tuple[slice, ...]
# A chunk fits a large cache; where patches are long it grows, so that a product does more than adding it to the sums.
_CHUNK_BYTES, _MOST_BYTES = 2**24, 2**26


def patches(x: Any, layer: Any) -> Array:
    """Return the patches of data: the matrix that a layer's kernel multiplies.

    Parameters
    ----------
    x : array_like, shape (B, C, L1..LN)
        Data of any floating-point type.
    layer : ConvLayer or array_like
        The layer; of an array (O, I, K1..KN), stride 1 without padding. Its geometry and kernel shape matter only.

    Returns
    -------
    ndarray, shape (G, n, P)
        In float64, n = I K entries in the kernel's order (I, K1..KN), P = B times the output positions, in the order
        (image, position): ``kernel.reshape(G, O / G, n) @ patches`` is the response without bias. Zero where a tap
        sees padding, and for a transposed layer also where a tap does not reach the position.

    Raises
    ------
    KernelError
        If x has another number of axes or channels, or holds NaN or inf.
    KernelTypeError
        If x is of another type.
    GeometryError
        If the output would be empty.

    Examples
    --------
    >>> patches(np.array([[[1.0, 2.0, 3.0]]]), np.ones((1, 1, 2)))
    array([[[1., 2.],
            [2., 3.]]])
    """
    one = as_layer(layer)
    data, size = as_input(x, one)
    n_groups = one.geometry.groups
    found = np.empty((n_groups, one.kernel[0].size, len(data) * math.prod(size)))
    _gather(_grouped(data, n_groups), one, tuple(slice(0, n) for n in (n_groups, len(data), *size)), found)
    return found


def as_input(x: Any, layer: ConvLayer) -> tuple[Array, tuple[int, ...]]:
    """Return data that a layer takes, and the spatial size of its output.

    Parameters
    ----------
    x : array_like, shape (B, C, L1..LN)
        Data.
    layer : ConvLayer
        The layer.

    Returns
    -------
    data : ndarray
        The data, not necessarily a copy.
    size : tuple of int
        Output positions per axis.

    Raises
    ------
    KernelError
        If x has another number of axes or channels, or holds NaN or inf.
    """
    data = as_data(x, layer.geometry.ndim)
    if data.shape[1] != layer.in_channels:
        raise KernelError(
            f"x must have the {layer.in_channels} channels of the layer on its second axis, got {data.shape}; "
            "the axes of x are (B, C, L1..LN)"
        )
    return data, layer.output_size(data.shape[2:])


def as_target(target: Any, shape: tuple[int, ...]) -> Array:
    """Return targets of a layer's output.

    Parameters
    ----------
    target : array_like, shape (B, O, P1..PN)
        The targets.
    shape : tuple of int
        The shape of the output.

    Returns
    -------
    ndarray
        The targets, not necessarily a copy.

    Raises
    ------
    KernelError
        If they have another shape, or hold NaN or inf.
    """
    array = as_float_array("target", target)
    if array.shape != shape:
        raise KernelError(f"target must have shape {shape}, that of the layer's output for this x, got {array.shape}")
    return array


def chunks(x: Array, target: Array | None, layer: ConvLayer) -> Iterator[tuple[slice, Array]]:
    """Cut patches, with targets below them, into matrices of bounded size.

    Parameters
    ----------
    x : ndarray, shape (B, C, L1..LN)
        Data that the layer takes.
    target : ndarray, shape (B, O, P1..PN), optional
        Numbers that belong to the output positions.
    layer : ConvLayer
        The layer.

    Yields
    ------
    groups : slice
        Some of the groups.
    columns : ndarray, shape (g, m, p + 1)
        For each of these groups one position per column, and a free column at the end; m counts the entries of a patch
        and its targets. Valid until the next chunk is asked for.
    """
    geometry, n = layer.geometry, layer.kernel[0].size
    sources = [_grouped(array, geometry.groups) for array in (x, target) if array is not None]
    length = n + sum(len(source[0]) for source in sources[1:])
    shape = (geometry.groups, len(x), *layer.output_size(x.shape[2:]))
    most = min(_MOST_BYTES, max(_CHUNK_BYTES, 8 * length**2)) // (8 * length)
    buffer = np.empty(0)
    for tile in tiles(shape, most):
        g, *counts = (part.stop - part.start for part in tile)
        p = math.prod(counts)
        n_entries = g * length * (p + 1)
        buffer = buffer if buffer.size else np.empty(n_entries)  # the first tile is the largest
        columns = buffer[:n_entries].reshape(g, length, p + 1)
        _gather(sources[0], layer, tile, columns[:, :n, :p])
        for source in sources[1:]:
            columns[:, n:, :p].reshape(g, length - n, *counts)[...] = source[tile[0], :, *tile[1:]]
        yield tile[0], columns


def tiles(shape: Sequence[int], most: int) -> Iterator[Tile]:
    """Cut an index space into boxes, the later axes whole where possible.

    Parameters
    ----------
    shape : sequence of int
        Sizes of the axes.
    most : int
        Largest number of elements of a box.

    Returns
    -------
    iterator of tuple of slice
        One slice per axis and box; all boxes together hold every element once, and none is larger than the first.
    """
    sizes: list[int] = []
    for n in reversed(shape):
        sizes.insert(0, max(1, min(n, most // math.prod(sizes))))
    cuts = [[slice(i, min(i + size, n)) for i in range(0, n, size)] for n, size in zip(shape, sizes, strict=True)]
    return itertools.product(*cuts)


def _grouped(data: Array, n_groups: int) -> Array:
    """Return a view (G, C / G, B, L1..LN) of data (B, C, L1..LN)."""
    return np.moveaxis(data.reshape(len(data), n_groups, -1, *data.shape[2:]), 0, 2)


def _gather(source: Array, layer: ConvLayer, tile: Tile, out: Array) -> None:
    """Write the patches of a tile of groups, images and positions of each axis, of grouped data, to (g, n, p)."""
    groups, images, *places = tile
    seen = source[groups, :, images]
    counts = [part.stop - part.start for part in tile[1:]]
    by_tap = out.reshape(*seen.shape[:2], *layer.kernel_size, *counts)  # splits axes only: a view
    for tap in np.ndindex(*layer.kernel_size):
        pairs = [_reached(layer, a, k, places[a], source.shape[3 + a]) for a, k in enumerate(tap)]
        positions: tuple[Any, ...] = (..., *(to for to, _ in pairs))
        entries: tuple[Any, ...] = (..., *(read for _, read in pairs))
        block = by_tap[:, :, *tap]
        written = block[positions]
        if written.size < block.size:
            block[...] = 0
        written[...] = seen[entries]


def _reached(layer: ConvLayer, axis: int, tap: int, place: slice, size: int) -> tuple[slice, slice]:
    """Return which positions of a tile a tap serves on one axis, and which input entries it reads for them."""
    geometry, count = layer.geometry, place.stop - place.start
    stride, offset = geometry.stride[axis], geometry.dilation[axis] * tap - geometry.padding[axis][0]
    if geometry.transposed:  # position p sees entry (p - offset) / stride
        read, to = _meeting(size, count, stride, offset - place.start)
        return to, read
    return _meeting(count, size, stride, stride * place.start + offset)


def _meeting(n_few: int, n_many: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Return all i in range(n_few) with ``stride i + offset`` in range(n_many), and these."""
    first = max(0, -(offset // stride))
    stop = max(first, min(n_few, (n_many - 1 - offset) // stride + 1))
    if first == stop:
        return slice(0, 0), slice(0, 0)
    return slice(first, stop), slice(stride * first + offset, stride * (stop - 1) + offset + 1, stride)
