"""ChannelwiseLayer: a convolution along the channels, whose kernel they share as positions share it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.cost import Stored
from tensorconv.errors import GeometryError, KernelError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import integer
from tensorconv.layers.layer import ConvLayer


@dataclass(frozen=True, eq=False, repr=False)
class ChannelwiseLayer:
    """A channel-wise convolution: data (B, C, L1..LN) seen as one channel over N + 1 axes, the first the channels.

    ``y[(j, c')] = sum_{t, k} w[j, t, k] x[s c' + d t - low](s_n p + d_n k - low_n)``: kernel j gives the out-channels
    j C' to (j + 1) C' (Gao, Wang and Ji, "ChannelNets", 2018, sections 3.2 to 3.4).

    Parameters
    ----------
    kernel : array_like, shape (J, D, K1..KN)
        J kernels of D channels each; K = 1 for a convolution along the channels alone. Copied once.
    in_channels : int
        Channels C of the input.
    geometry : ConvGeometry
        Stride, padding and dilation, of the channels first and then of the N spatial axes; neither groups nor
        transposed.
    bias : array_like, shape (J C',), optional
        Added to every output position.
    name : str
        A label that exporters and reports keep.

    Raises
    ------
    KernelError, KernelTypeError
        If kernel or bias cannot be used.
    GeometryError
        If the geometry has another number of axes, groups, is transposed, or leaves no out-channel.

    Examples
    --------
    >>> geometry = ConvGeometry.of(2, padding=((1, 1), (0, 0)))
    >>> layer = ChannelwiseLayer(np.ones((1, 3, 1)), 16, geometry)
    >>> print(layer)
    16 -> 16, channel kernel 3, kernel 1, stride 1, padding ((1,1),(0,0))
    """

    kernel: Array
    in_channels: int
    geometry: ConvGeometry
    bias: Array | None = None
    name: str = ""

    def __post_init__(self) -> None:
        kernel = np.asarray(self.kernel)
        if kernel.ndim < 3:
            raise KernelError(
                f"kernel must have shape (J, D, K1..KN) with at least one spatial axis, got {kernel.shape}; a kernel "
                "along the channels alone has one tap per axis"
            )
        view = ConvLayer(kernel[:, None], self.geometry, name=self.name)
        if self.geometry.groups > 1 or self.geometry.transposed:
            raise GeometryError(f"a channel-wise convolution has neither groups nor is transposed, got {self.geometry}")
        channels = integer("in_channels", self.in_channels, at_least=1)
        n_out = self._on_channels().output_size(channels, view.kernel_size[0])[0] * len(kernel)
        bias = None if self.bias is None else as_float_array("bias", self.bias)
        if bias is not None:
            if bias.shape != (n_out,):  # before anything as wide is made: in_channels may be any number
                raise KernelError(f"bias must have shape ({n_out},), one entry per out-channel, got {bias.shape}")
            bias = ConvLayer(np.zeros((n_out, 1, 1), view.dtype), ConvGeometry.of(1), bias).bias
        object.__setattr__(self, "kernel", view.kernel[:, 0])
        object.__setattr__(self, "in_channels", channels)
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "name", view.name)

    @property
    def view(self) -> ConvLayer:
        """The convolution (J, 1, D, K1..KN) of one in-channel over N + 1 axes, without the bias."""
        return ConvLayer(self.kernel[:, None], self.geometry, name=self.name)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.geometry.ndim - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the kernel."""
        return self.kernel.dtype

    @property
    def out_channels(self) -> int:
        """Channels of the output, those of all kernels one after another."""
        return len(self.kernel) * self._on_channels().output_size(self.in_channels, self.kernel.shape[1])[0]

    @property
    def n_parameters(self) -> int:
        """Stored entries of kernel and bias."""
        return int(self.kernel.size) + (0 if self.bias is None else int(self.bias.size))

    @property
    def stored(self) -> Stored:
        """Entries that are stored, and products per position of the output."""
        return Stored(int(self.kernel.size), self.out_channels * math.prod(self.kernel.shape[1:]))

    def macs(self, input_size: int | Sequence[int]) -> int:
        """Return the multiply-accumulates for one image of this spatial size, padded taps counted.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            ``O D K P``, P the output positions.
        """
        return self.stored.products * math.prod(self.output_size(input_size))

    def output_size(self, input_size: int | Sequence[int]) -> tuple[int, ...]:
        """Return the spatial size of the output.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        tuple of int
            Spatial size of the output.
        """
        return self._on_space().output_size(input_size, self.kernel.shape[2:])

    @property
    def convolution(self) -> ConvLayer:
        """The dense convolution that this is: along the channels its kernel is a banded Toeplitz matrix."""
        on_channels, n_taps = self._on_channels(), self.kernel.shape[1]
        (stride,), ((low, _),), (dilation,) = on_channels.stride, on_channels.padding, on_channels.dilation
        n_maps = self.out_channels // len(self.kernel)
        dense = np.zeros((len(self.kernel), n_maps, self.in_channels, *self.kernel.shape[2:]), self.dtype)
        for c in range(n_maps):
            for t in range(n_taps):
                source = stride * c + dilation * t - low
                if 0 <= source < self.in_channels:
                    dense[:, c, source] += self.kernel[:, t]
        return ConvLayer(dense.reshape(-1, *dense.shape[2:]), self._on_space(), self.bias, self.name)

    def _on_channels(self) -> ConvGeometry:
        g = self.geometry
        return ConvGeometry(g.stride[:1], g.padding[:1], g.dilation[:1])

    def _on_space(self) -> ConvGeometry:
        g = self.geometry
        return replace(g, stride=g.stride[1:], padding=g.padding[1:], dilation=g.dilation[1:])

    def __reduce__(self) -> tuple[Any, ...]:
        return (ChannelwiseLayer, (np.array(self.kernel), self.in_channels, self.geometry, self.bias, self.name))

    def __str__(self) -> str:
        size = "x".join(map(str, self.kernel.shape[2:]))
        words = f"{self.in_channels} -> {self.out_channels}, channel kernel {self.kernel.shape[1]}, kernel {size}"
        return f"{words}, {self.geometry}{', bias' if self.bias is not None else ''}"

    def __repr__(self) -> str:
        return f"<ChannelwiseLayer{self.name and f' {self.name!r}'}: {self}, {self.dtype}>"
