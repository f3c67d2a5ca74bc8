"""Torch modules for the steps that torch has no module for: channel-wise convolutions, and orders of channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tensorconv.errors import KernelError
from tensorconv.export.padding import Pairs


class ChannelPermutation(torch.nn.Module):
    """Another order of the channels: ``y[:, c] = x[:, order[c]]``.

    Parameters
    ----------
    order : sequence of int
        Which channel of the input comes next.
    """

    order: torch.Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor(order, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the data in the new order.

        Parameters
        ----------
        x : torch.Tensor, shape (B, C, L1..LN)
            Data.

        Returns
        -------
        torch.Tensor
            Of the same shape.
        """
        _check_channels(x, len(self.order))
        return x.index_select(1, self.order)


class ChannelwiseConv(torch.nn.Module):
    """A convolution along the channels and the spatial axes, as of one channel over N + 1 axes.

    Parameters
    ----------
    weight : torch.nn.Parameter, shape (J, 1, D, K1..KN)
        The kernels.
    bias : torch.nn.Parameter, shape (J C',), or None
        Added at the end.
    in_channels : int
        Channels of the input.
    stride : tuple of int
        Of the channels first, then of the spatial axes.
    padding : tuple of (int, int)
        Low and high zero padding (negative: cropping) of the same axes.
    dilation : tuple of int
        Of the same axes.
    """

    bias: torch.nn.Parameter | None

    def __init__(
        self,
        weight: torch.nn.Parameter,
        bias: torch.nn.Parameter | None,
        in_channels: int,
        stride: tuple[int, ...],
        padding: Pairs,
        dilation: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.weight = weight
        self.register_parameter("bias", bias)
        self.in_channels = in_channels
        self.stride = stride
        self.padding = padding
        self.dilation = dilation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved data.

        Parameters
        ----------
        x : torch.Tensor, shape (B, C, L1..LN)
            Data.

        Returns
        -------
        torch.Tensor, shape (B, J C', P1..PN)
            The output.
        """
        _check_channels(x, self.in_channels)
        convolve = (torch.nn.functional.conv2d, torch.nn.functional.conv3d)[len(self.stride) - 2]
        sides = [side for pair in reversed(self.padding) for side in pair]
        view = torch.nn.functional.pad(x.unsqueeze(1), sides)
        y = convolve(view, self.weight, None, self.stride, 0, self.dilation).flatten(1, 2)
        return y if self.bias is None else y + self.bias.reshape(-1, *(1,) * (y.ndim - 2))

    def extra_repr(self) -> str:
        """Return the geometry in words.

        Returns
        -------
        str
            What stands between the parentheses of the module.
        """
        return f"{self.in_channels}, {tuple(self.weight.shape)}, {self.stride}, {self.padding}, {self.dilation}"


def _check_channels(x: torch.Tensor, channels: int) -> None:
    if x.shape[1] != channels:
        raise KernelError(f"x must have {channels} channels, got shape {tuple(x.shape)}")
