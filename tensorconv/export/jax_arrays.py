"""What JAX and the layers built on it share: arrays, padding by values, and what lax calls padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.errors import FormatError, UnsupportedExportError
from tensorconv.export.padding import Pairs
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import Padding, PerAxis, is_integer, pairs_per_axis
from tensorconv.layers import ConvLayer, PadLayer
from tensorconv.layers.pad import NUMPY_MODES

_ALIGNMENT = 64  # bytes, as XLA wants it


def to_jax(array: Array) -> jax.Array:
    """Return a JAX array of its own memory with the same bits.

    Parameters
    ----------
    array : ndarray
        An array of one of the library's data types.

    Returns
    -------
    jax.Array
        The copy, on JAX's default device.

    Raises
    ------
    UnsupportedExportError
        If it is float64 and JAX's 64-bit mode is off, in which JAX would round it to float32.
    """
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise UnsupportedExportError(
            f"kernels are {array.dtype}, which JAX has in its 64-bit mode only and rounds otherwise; call "
            'jax.config.update("jax_enable_x64", True) first, or convert the kernels to float32'
        )
    room = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    made: jax.Array = jax.device_put(copy)  # on a CPU this takes over aligned memory, whatever it is asked for
    return made


def read_arrays(kernel: Any, bias: Any) -> tuple[Array, Array | None]:
    """Return a framework's arrays as numpy's.

    Parameters
    ----------
    kernel : array_like
        The kernel.
    bias : array_like, optional
        The bias.

    Returns
    -------
    kernel : ndarray
        The kernel, bitwise.
    bias : ndarray or None
        The bias, bitwise.

    Raises
    ------
    FormatError
        If they are of different data types.
    """
    kernel = as_float_array("kernel", kernel)
    bias = None if bias is None else as_float_array("bias", bias)
    if bias is not None and bias.dtype != kernel.dtype:
        raise FormatError(
            f"kernel and bias must be of one data type, got {kernel.dtype} and {bias.dtype}; convert one of them"
        )
    return kernel, bias


def read_layer(kernel: Any, bias: Any, geometry: ConvGeometry, name: str) -> ConvLayer:
    """Return a layer from arrays of a framework.

    Parameters
    ----------
    kernel : array_like, shape (O, I, K1..KN)
        The kernel, I per group.
    bias : array_like, shape (O,), optional
        The bias.
    geometry : ConvGeometry
        The geometry.
    name : str
        Name of the layer.

    Returns
    -------
    ConvLayer
        The layer, its entries bitwise the arrays'.

    Raises
    ------
    FormatError
        If the arrays are of different data types.
    """
    kernel, bias = read_arrays(kernel, bias)
    return ConvLayer(kernel, geometry, bias, name)


def flipped(kernel: Any) -> Any:
    """Return a kernel with every spatial axis reversed, as a transposed convolution is one over a dilated input.

    Parameters
    ----------
    kernel : ndarray or jax.Array, shape (O, I, K1..KN)
        The kernel.

    Returns
    -------
    ndarray or jax.Array, shape (O, I, K1..KN)
        The reversed kernel, a view where it is numpy's.
    """
    return kernel[(slice(None), slice(None), *(slice(None, None, -1),) * (kernel.ndim - 2))]


def mirrored_padding(padding: Sequence[tuple[int, int]], kernel_size: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """Return the padding of the dilated input that crops a transposed convolution's output so, and the other way round.

    Parameters
    ----------
    padding : sequence of (int, int)
        One of the two, per spatial axis.
    kernel_size, dilation : sequence of int
        Taps and dilation per spatial axis.

    Returns
    -------
    tuple of (int, int)
        The other one.
    """
    return tuple(
        (d * (k - 1) - low, d * (k - 1) - high)
        for (low, high), k, d in zip(padding, kernel_size, dilation, strict=True)
    )


def resolved_padding(
    padding: str | Padding,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    input_size: PerAxis | None,
) -> Pairs:
    """Return in numbers what a padding argument says to lax's convolution.

    Parameters
    ----------
    padding : str, int or sequence of int or of (int, int)
        "SAME", "SAME_LOWER", "VALID", or numbers.
    kernel_size, stride, dilation : sequence of int
        Taps, stride and dilation per spatial axis.
    input_size : int or sequence of int, optional
        Spatial size of the input, on which "SAME" depends where the stride and the kernel are above 1.

    Returns
    -------
    tuple of (int, int)
        Low and high padding per spatial axis.

    Raises
    ------
    UnsupportedExportError
        If lax has no such word.
    GeometryError
        If the input size is needed and not given.
    """
    ndim = len(kernel_size)
    if not isinstance(padding, str):
        return pairs_per_axis(ndim, (padding,) * ndim if is_integer(padding) else padding)
    word = padding.upper()
    if word == "VALID":
        return ((0, 0),) * ndim
    if word not in ("SAME", "SAME_LOWER"):
        raise UnsupportedExportError(f"no convolution is defined by padding {padding!r}; give (low, high) pairs")
    strides = [1 if k == 1 else s for k, s in zip(kernel_size, stride, strict=True)]  # one tap needs no padding
    extra = "low" if word == "SAME_LOWER" else "high"
    sizes = None if input_size is None else ConvGeometry.of(ndim).spatial_size(input_size)
    return ConvGeometry.same(kernel_size, input_size=sizes, stride=strides, dilation=dilation, extra=extra).padding


def pad(x: jax.Array, padding: Pairs, mode: str, *, channels_last: bool = False) -> jax.Array:
    """Return an array padded by its own values, or padded by zeros and cropped.

    Parameters
    ----------
    x : jax.Array, shape (..., C, L1..LN) or (..., L1..LN, C)
        The array.
    padding : tuple of (int, int)
        Low and high padding per spatial axis; negative, with mode "zeros", crops what is there after the others pad.
    mode : {"reflect", "replicate", "circular", "zeros"}
        What is put there.
    channels_last : bool
        Whether the channels are the last axis.

    Returns
    -------
    jax.Array
        The padded array.

    Raises
    ------
    GeometryError
        If an axis is too short to be mirrored, wrapped or cropped this far, where JAX starts over or returns nothing.
    """
    last = x.ndim - int(channels_last)
    first = max(last - len(padding), 0)
    size = x.shape[first:last]
    if mode in NUMPY_MODES:
        PadLayer(padding, mode).output_size(size)
    else:
        padded_size(padding, size)
    if not any(side for pair in padding for side in pair):
        return x
    added = [(max(low, 0), max(high, 0)) for low, high in padding]
    x = jnp.pad(x, [(0, 0)] * first + added + [(0, 0)] * (x.ndim - last), mode=NUMPY_MODES.get(mode, "constant"))
    kept = [slice(max(-low, 0), n - max(-high, 0)) for n, (low, high) in zip(x.shape[first:last], padding, strict=True)]
    return x[(..., *kept, *(slice(None),) * (x.ndim - last))]


def padded_size(padding: Pairs, input_size: PerAxis) -> tuple[int, ...]:
    """Return the spatial size after padding by zeros and cropping.

    Parameters
    ----------
    padding : tuple of (int, int)
        Low and high padding per spatial axis.
    input_size : int or sequence of int
        Spatial size before.

    Returns
    -------
    tuple of int
        Spatial size after.

    Raises
    ------
    GeometryError
        If nothing is left of an axis.
    """
    return ConvGeometry.of(len(padding), padding=padding).output_size(input_size, 1)


def lax_padding(geometry: ConvGeometry, kernel_size: Sequence[int]) -> tuple[Pairs, Pairs]:
    """Return the padding that a lax convolution does, never negative, and what is left to a step of its own.

    The step comes before a convolution, or after a transposed one, whose output it crops. XLA takes negative padding
    too, but on a CPU it computes some strided convolutions wrongly then.

    Parameters
    ----------
    geometry : ConvGeometry
        The convolution.
    kernel_size : sequence of int
        Its taps per spatial axis.

    Returns
    -------
    own : tuple of (int, int)
        Padding of the convolution, of its input dilated by the stride where it is transposed.
    left : tuple of (int, int)
        Padding of the step.
    """
    none = ((0, 0),) * geometry.ndim
    if not geometry.transposed:
        return (none, geometry.padding) if min(map(min, geometry.padding)) < 0 else (geometry.padding, none)
    own = mirrored_padding(geometry.padding, kernel_size, geometry.dilation)
    return (
        tuple((max(low, 0), max(high, 0)) for low, high in own),
        tuple((min(low, 0), min(high, 0)) for low, high in own),
    )
