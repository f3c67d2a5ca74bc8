"""Steps along the channels in JAX: another order of them, and convolutions in which they are one more axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tensorconv.errors import FormatError, GeometryError, KernelError
from tensorconv.export.jax_arrays import lax_padding, pad, read_arrays
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer


@dataclass(frozen=True)
class Channelwise:
    """The integers of a channel-wise convolution.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    geometry : ConvGeometry
        Stride, padding and dilation of the channels and of the N spatial axes.
    """

    in_channels: int
    geometry: ConvGeometry


def order_channels(x: Any, order: Sequence[int], *, channels_last: bool = False) -> jax.Array:
    """Return data with its channels in another order.

    Parameters
    ----------
    x : array, shape (B, C, L1..LN) or (B, L1..LN, C)
        The data.
    order : sequence of int
        Which channel of the data comes next, each once.
    channels_last : bool
        Whether the channels are the last axis.

    Returns
    -------
    jax.Array
        Of the same shape.

    Raises
    ------
    KernelError
        If the data have another number of channels, where JAX would take what there is.
    """
    axis = x.ndim - 1 if channels_last else 1
    _check_channels(x.shape[axis], len(order))
    return jnp.take(x, np.array(order), axis=axis, mode="clip", unique_indices=True)  # clips nothing: all are in range


def convolve_channels(
    x: Any, kernel: Any, step: Channelwise, *, channels_last: bool = False, precision: str | None = None
) -> jax.Array:
    """Return the channel-wise convolution of data, without bias.

    Parameters
    ----------
    x : array, shape (B, C, L1..LN) or (B, L1..LN, C)
        The data.
    kernel : array, shape (J, 1, D, K1..KN), or (D, K1..KN, 1, J) with the channels last
        J kernels of D channels each.
    step : Channelwise
        The integers.
    channels_last : bool
        Whether the channels are the last axis.
    precision : str or None
        Of the products, in the words of ``jax.lax.Precision``.

    Returns
    -------
    jax.Array, shape (B, J C', P1..PN) or (B, P1..PN, J C')
        The channels of one kernel after those of another.

    Raises
    ------
    KernelError
        If the data have another number of channels.
    GeometryError
        If the data have another number of axes, or there is no output.
    """
    geometry, n = step.geometry, step.geometry.ndim
    size = (x.shape[-1], *x.shape[1:-1]) if channels_last else x.shape[1:]
    taps = kernel.shape[:-2] if channels_last else kernel.shape[2:]
    geometry.output_size(size, taps)  # refuses an empty output, and an input with other axes
    _check_channels(size[0], step.in_channels)
    own, left = lax_padding(geometry, taps)
    if channels_last:  # the maps come out before the channels of each
        dimensions = lax.ConvDimensionNumbers(
            (0, n + 1, n, *range(1, n)), (n + 1, n, *range(n)), (0, n, n + 1, *range(1, n))
        )
        view = pad(x, (*left[1:], left[0]), "zeros")[..., None]
    else:
        dimensions = None
        view = pad(x, left, "zeros")[:, None]
    y = lax.conv_general_dilated(
        view,
        kernel,
        window_strides=geometry.stride,
        padding=own,
        rhs_dilation=geometry.dilation,
        dimension_numbers=dimensions,
        precision=precision,
    )
    if channels_last:
        return y.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1])
    return y.reshape(y.shape[0], y.shape[1] * y.shape[2], *y.shape[3:])


def read_channelwise(kernel: Any, bias: Any, step: Channelwise, name: str) -> ChannelwiseLayer:
    """Return a channel-wise convolution from arrays of a framework.

    Parameters
    ----------
    kernel : array_like, shape (J, 1, D, K1..KN)
        The kernel.
    bias : array_like, shape (J C',), optional
        The bias.
    step : Channelwise
        The integers.
    name : str
        Name of the layer.

    Returns
    -------
    ChannelwiseLayer
        The layer, its entries bitwise the arrays'.

    Raises
    ------
    FormatError
        If the arrays do not fit the integers, or are of different data types.
    """
    kernel, bias = read_arrays(kernel, bias)
    if kernel.ndim != step.geometry.ndim + 2 or kernel.shape[1] != 1:
        raise FormatError(
            f"the kernels of a channel-wise convolution over {step.geometry.ndim - 1} spatial axes must have one "
            f"in-channel, the channels and those axes, got shape {kernel.shape}; make the layer anew for it"
        )
    try:
        return ChannelwiseLayer(kernel[:, 0], step.in_channels, step.geometry, bias, name)
    except (GeometryError, KernelError) as error:
        raise FormatError(f"the arrays and integers make no channel-wise convolution: {error}") from error


def _check_channels(given: int, wanted: int) -> None:
    if given != wanted:
        raise KernelError(f"x must have {wanted} channels, got {given}; check the order of its axes")
