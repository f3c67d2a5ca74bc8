"""What Equinox has no layer for: padding, orders of the channels, and channel-wise convolutions."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from tensorconv.export.jax_arrays import pad
from tensorconv.export.jax_channels import Channelwise, convolve_channels, order_channels
from tensorconv.export.padding import Pairs


class Pad(eqx.Module):
    """Padding as a layer of its own, which Equinox does not have; all its fields are static.

    Parameters
    ----------
    padding : tuple of (int, int)
        Low and high padding per spatial axis; negative, by zeros, it crops.
    mode : {"reflect", "replicate", "circular", "zeros"}
        What is put there.
    """

    padding: Pairs = eqx.field(static=True)
    mode: str = eqx.field(static=True, default="zeros")

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:  # noqa: ARG002  # every Equinox layer takes one
        """Return the padded array.

        Parameters
        ----------
        x : jax.Array, shape (C, L1..LN)
            The input.
        key : jax.Array, optional
            Not used.

        Returns
        -------
        jax.Array
            The padded input.
        """
        return pad(x, self.padding, self.mode)


class ChannelPermutation(eqx.Module):
    """Another order of the channels: ``y[c] = x[order[c]]``; its field is static.

    Parameters
    ----------
    order : tuple of int
        Which channel of the input comes next.
    """

    order: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:  # noqa: ARG002
        """Return the data in the new order.

        Parameters
        ----------
        x : jax.Array, shape (C, L1..LN)
            Data.
        key : jax.Array, optional
            Not used.

        Returns
        -------
        jax.Array
            Of the same shape.
        """
        return order_channels(x[None], self.order)[0]


class ChannelwiseConv(eqx.Module):
    """A convolution along the channels and the spatial axes, as of one channel over N + 1 axes.

    Parameters
    ----------
    weight : jax.Array, shape (J, 1, D, K1..KN)
        The kernels.
    bias : jax.Array, shape (J C',), or None
        Added at the end.
    step : Channelwise
        Channels of the input; stride, padding and dilation of the channels and of the spatial axes. Static.
    """

    weight: jax.Array
    bias: jax.Array | None
    step: Channelwise = eqx.field(static=True)

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:  # noqa: ARG002
        """Return the convolved data.

        Parameters
        ----------
        x : jax.Array, shape (C, L1..LN)
            Data.
        key : jax.Array, optional
            Not used.

        Returns
        -------
        jax.Array, shape (J C', P1..PN)
            The output.
        """
        y = convolve_channels(x[None], self.weight, self.step)[0]
        return y if self.bias is None else y + self.bias.reshape(-1, *(1,) * (y.ndim - 1))
