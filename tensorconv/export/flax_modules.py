"""What Flax has no layer for: padding, orders of the channels, and channel-wise convolutions."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from tensorconv.export.jax_arrays import pad
from tensorconv.export.jax_channels import Channelwise, convolve_channels, order_channels
from tensorconv.export.padding import Pairs


@dataclass(frozen=True)
class Pad:
    """Padding as a function, where no Flax layer has it.

    Parameters
    ----------
    padding : tuple of (int, int)
        Low and high padding per spatial axis; negative, by zeros, it crops.
    mode : {"reflect", "replicate", "circular", "zeros"}
        What is put there.
    name : str
        Name of the layer.
    """

    padding: Pairs
    mode: str = "zeros"
    name: str = ""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the padded array.

        Parameters
        ----------
        x : jax.Array, shape (B, L1..LN, C)
            The input.

        Returns
        -------
        jax.Array
            The padded input.
        """
        return pad(x, self.padding, self.mode, channels_last=True)


@dataclass(frozen=True)
class ChannelPermutation:
    """Another order of the channels: ``y[..., c] = x[..., order[c]]``.

    Parameters
    ----------
    order : tuple of int
        Which channel of the input comes next.
    name : str
        Name of the layer.
    """

    order: tuple[int, ...]
    name: str = ""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the data in the new order.

        Parameters
        ----------
        x : jax.Array, shape (B, L1..LN, C)
            Data.

        Returns
        -------
        jax.Array
            Of the same shape.
        """
        return order_channels(x, self.order, channels_last=True)


class ChannelwiseConv(nnx.Module):
    """A convolution along the channels and the spatial axes, as of one channel over N + 1 axes.

    Parameters
    ----------
    kernel : jax.Array, shape (D, K1..KN, 1, J)
        The kernels.
    bias : jax.Array, shape (J C',), or None
        Added at the end.
    step : Channelwise
        Channels of the input; stride, padding and dilation of the channels and of the spatial axes.
    precision : str or None
        Of the products, in the words of ``jax.lax.Precision``.
    name : str
        Name of the layer.
    """

    def __init__(
        self,
        kernel: jax.Array,
        bias: jax.Array | None,
        step: Channelwise,
        *,
        precision: str | None = "highest",
        name: str = "",
    ) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = None if bias is None else nnx.Param(bias)
        self.step = step
        self.precision = precision
        self.name = name

    __signature__ = inspect.signature(__init__)  # the metaclass of Flax says *args, **kwargs

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the convolved data, in the common data type of data and kernel, as Flax's layers do.

        Parameters
        ----------
        x : jax.Array, shape (B, L1..LN, C)
            Data.

        Returns
        -------
        jax.Array, shape (B, P1..PN, J C')
            The output.
        """
        kernel: Any = self.kernel[...]
        dtype = jnp.result_type(x, kernel)
        y = convolve_channels(
            x.astype(dtype), kernel.astype(dtype), self.step, channels_last=True, precision=self.precision
        )
        return y if self.bias is None else y + self.bias[...].astype(dtype)
