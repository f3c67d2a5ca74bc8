"""Plan a convolution once and run it on many inputs, on as many threads as the machine grants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.convolution import loops
from tensorconv.convolution.channels import convolve_channels, permute_channels
from tensorconv.convolution.pad import pad_by_values
from tensorconv.convolution.tables import OffsetTables, offset_tables
from tensorconv.convolution.threads import run_tasks
from tensorconv.errors import KernelError, KernelTypeError
from tensorconv.integers import per_axis
from tensorconv.layers import ChannelwiseLayer, ConvLayer, PadLayer, PermuteLayer, Step, as_sequence

TILE_BYTES = 2**18  # the panel of one tile stays in a core's second-level cache


@dataclass(frozen=True, eq=False)
class PreparedLayer:
    """One layer's tables and weights for one input size and data type.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    tables : OffsetTables
        What each tap touches.
    weights : ndarray
        (G, O/G, I K) for a convolution, (G, O/G, K, I) for a transposed one, in the type of the computation.
    bias : ndarray, shape (O,)
        The bias, zeros where the layer has none.
    output_size : tuple of int
        Spatial size of the output.
    tile : int
        Positions worked on at a time.
    """

    layer: ConvLayer
    tables: OffsetTables
    weights: Array
    bias: Array
    output_size: tuple[int, ...]
    tile: int

    def __call__(self, x: Array) -> Array:
        """Apply the layer to x of shape (B, C, *L) and of the planned size and type."""
        y = np.empty((len(x), self.layer.out_channels, math.prod(self.output_size)), x.dtype)
        x = np.ascontiguousarray(x).reshape(len(x), x.shape[1], -1)
        tasks = self._transposed_tasks(x, y) if self.layer.geometry.transposed else self._tasks(x, y)
        run_tasks(tasks, n_macs=self.weights.size * y.shape[2] * len(x))
        return y.reshape(*y.shape[:2], *self.output_size)

    def _tasks(self, x: Array, y: Array) -> Iterable[Callable[[], None]]:
        """One task per image and tile of output positions."""
        for image in range(len(x)):
            for first in range(0, y.shape[2], self.tile):
                yield partial(self._gather, x[image], y[image, :, first : first + self.tile], first)

    def _gather(self, x: Array, y: Array, first: int) -> None:
        tables = self.tables
        offsets = np.empty((math.prod(tables.taps), y.shape[1]), np.int64)
        panel = np.empty((self.weights.shape[2], y.shape[1]), x.dtype)
        loops.tile_offsets(tables.entries, tables.taps, tables.positions, first, offsets)
        loops.gather(x, self.weights, self.bias, offsets, panel, y)

    def _transposed_tasks(self, x: Array, y: Array) -> Iterable[Callable[[], None]]:
        """One task per image, group and block of out-channels: no two tasks add to the same output element."""
        n_groups, n_out, _, n_in = self.weights.shape
        block = max(1, -(-n_out // 8))
        for image in range(len(x)):
            for g in range(n_groups):
                for o in range(0, n_out, block):
                    rows = slice(g * n_out + o, g * n_out + min(o + block, n_out))
                    inputs = x[image, g * n_in : (g + 1) * n_in]
                    yield partial(
                        self._scatter, inputs, self.weights[g, o : o + block], self.bias[rows], y[image, rows]
                    )

    def _scatter(self, x: Array, weights: Array, bias: Array, y: Array) -> None:
        tables = self.tables
        offsets = np.empty((weights.shape[1], self.tile), np.int64)
        column = np.empty(self.tile, x.dtype)
        loops.scatter(x, weights, bias, tables.entries, tables.taps, tables.positions, offsets, column, y)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A sequence planned for one input size and data type; call it on inputs.

    Parameters
    ----------
    steps : tuple of callable
        The planned steps in order, from array to array.
    in_channels : int
        Channels that it takes.
    input_size : tuple of int
        Spatial size it takes.
    dtype : dtype
        Type of the computation, float32 or float64.
    """

    steps: tuple[Callable[[Array], Array], ...]
    in_channels: int
    input_size: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, x: Any) -> Array:
        """Apply the sequence.

        Parameters
        ----------
        x : array_like, shape (B, C, L1..LN)
            Data of the planned size and type.

        Returns
        -------
        ndarray, shape (B, O, P1..PN)
            The output, in the type of x.

        Raises
        ------
        KernelError
            If x has another shape than planned.
        KernelTypeError
            If x is of another type than planned.
        """
        return self._apply(as_float_array("x", x))

    def _apply(self, data: Array) -> Array:
        """Apply the sequence to an array that is known to be finite."""
        planned = (self.in_channels, *self.input_size)
        if data.ndim != len(planned) + 1 or data.shape[1:] != planned:
            raise KernelError(f"x must have shape (B, {', '.join(map(str, planned))}) here, got {data.shape}")
        if data.dtype != self.dtype:
            raise KernelTypeError(f"x must be {self.dtype} as prepared, got {data.dtype}; convert it or prepare anew")
        for step in self.steps:
            data = step(data)
        return data


def prepare(sequence: Any, input_size: int | Sequence[int], dtype: Any = "float64") -> Prepared:
    """Plan a layer or sequence for one input size and data type: tables and weights are laid out once.

    Parameters
    ----------
    sequence : ConvLayer, ConvSequence or object with ``.sequence``
        What to apply.
    input_size : int or sequence of int
        Spatial size of the inputs to come.
    dtype : dtype
        Type of the computation, float32 or float64.

    Returns
    -------
    Prepared
        A callable on data of shape (B, C, *input_size).

    Raises
    ------
    KernelTypeError
        If the type is neither float32 nor float64.
    GeometryError
        If the size has another number of axes or some output would be empty.

    Examples
    --------
    >>> import tensorconv as tc
    >>> blur = tc.ConvLayer.of(np.full((1, 1, 3), 1 / 3), padding=1)
    >>> tc.prepare(blur, [4])(np.array([[[3.0, 0.0, 3.0, 6.0]]]))
    array([[[1., 2., 3., 3.]]])
    """
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise KernelTypeError(f"dtype must be float32 or float64, got {dtype!r}") from error
    if kind.name not in ("float32", "float64"):
        raise KernelTypeError(
            f'dtype must be float32 or float64, got {kind}; convert the data, e.g. x.astype("float32")'
        )
    steps = as_sequence(sequence)
    planned = size = per_axis("input_size", input_size, steps.ndim, at_least=1)
    prepared = []
    for layer in steps.layers:
        prepared.append(_prepare_step(layer, size, kind))
        size = layer.output_size(size)
    return Prepared(tuple(prepared), steps.in_channels, planned, kind)


def convolve(x: Any, sequence: Any) -> Array:
    """Apply a layer or a sequence of layers to data: the reference that everything is checked against.

    Cross-correlation, ``y[o, p] = b[o] + sum_ik W[o, i, k] x[i, stride * p + dilation * k - low]``, zeros outside; a
    transposed layer adds ``W[o, i, k] x[i, p]`` at ``stride * p + dilation * k - low`` instead.

    Parameters
    ----------
    x : array_like, shape (B, C, L1..LN)
        Data, float32 or float64; the computation is in this type.
    sequence : ConvLayer, ConvSequence or object with ``.sequence``
        What to apply.

    Returns
    -------
    ndarray, shape (B, O, P1..PN)
        The output, in the type of x; bitwise the same for any number of threads.

    Raises
    ------
    KernelError
        If x has the wrong shape, or holds NaN or inf.
    KernelTypeError
        If x is neither float32 nor float64.
    GeometryError
        If some output would be empty.

    Examples
    --------
    >>> import tensorconv as tc
    >>> edge = tc.ConvLayer.of(np.array([[[-1.0, 1.0]]]))
    >>> tc.convolve(np.array([[[0.0, 0.0, 2.0, 2.0]]]), edge)
    array([[[0., 2., 0.]]])
    """
    steps = as_sequence(sequence)
    data = as_data(x, steps.ndim)
    if data.dtype.name not in ("float32", "float64"):
        raise KernelTypeError(f'x must be float32 or float64, got {data.dtype}; convert it, e.g. x.astype("float32")')
    return prepare(steps, data.shape[2:], data.dtype)._apply(data)


def as_data(x: Any, ndim: int) -> Array:
    """Return data as a floating-point array of the right number of axes.

    Parameters
    ----------
    x : array_like, shape (B, C, L1..LN)
        Data.
    ndim : int
        Number of spatial axes N.

    Returns
    -------
    ndarray
        The data, not necessarily a copy.

    Raises
    ------
    KernelError
        If it has another number of axes, or holds NaN or inf.
    """
    data = as_float_array("x", x)
    if data.ndim != ndim + 2:
        raise KernelError(f"x must have shape (B, C, {ndim} spatial axes), got {data.shape}; add a batch axis: x[None]")
    return data


def _prepare_step(layer: Step, size: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[Array], Array]:
    if isinstance(layer, PadLayer):
        return partial(pad_by_values, layer=layer)
    if isinstance(layer, PermuteLayer):
        return partial(permute_channels, layer=layer)
    if isinstance(layer, ChannelwiseLayer):
        view = _prepare_layer(layer.view, (layer.in_channels, *size), dtype)
        return partial(convolve_channels, view=view, bias=None if layer.bias is None else layer.bias.astype(dtype))
    return _prepare_layer(layer, size, dtype)


def _prepare_layer(layer: ConvLayer, size: tuple[int, ...], dtype: np.dtype[Any]) -> PreparedLayer:
    geometry = layer.geometry
    output_size = layer.output_size(size)
    positions, touched = (size, output_size) if geometry.transposed else (output_size, size)
    n_groups, n_in = geometry.groups, layer.kernel.shape[1]
    n_taps = math.prod(layer.kernel_size)
    weights: Array = layer.kernel.reshape(n_groups, layer.out_channels // n_groups, n_in, n_taps)
    n_rows = n_taps if geometry.transposed else n_in * n_taps
    weights = np.swapaxes(weights, 2, 3) if geometry.transposed else weights.reshape(*weights.shape[:2], n_rows)
    with np.errstate(over="ignore"):
        weights = as_float_array(f"kernel as {dtype}", np.ascontiguousarray(weights, dtype))
        bias = np.zeros(layer.out_channels, dtype) if layer.bias is None else layer.bias.astype(dtype)
    tile = min(max(32, TILE_BYTES // (n_rows * dtype.itemsize)), 1024, math.prod(positions))
    return PreparedLayer(
        layer,
        offset_tables(geometry, layer.kernel_size, positions, touched),
        weights,
        as_float_array(f"bias as {dtype}", bias),
        output_size,
        tile,
    )
