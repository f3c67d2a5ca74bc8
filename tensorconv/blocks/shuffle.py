"""Blocks with grouped convolutions and channel shuffles: the units of ShuffleNet v1 and v2."""

from __future__ import annotations

import math

from tensorconv.blocks.block import Block
from tensorconv.blocks.branches import Branches
from tensorconv.blocks.convolutions import convolution
from tensorconv.blocks.movement import ChannelShuffle, Pooling
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis, per_axis


def shufflenet_v1(
    in_channels: int,
    out_channels: int,
    groups: int = 3,
    kernel_size: PerAxis = 3,
    *,
    stride: PerAxis = 1,
    first_groups: int | None = None,
    ndim: int = 2,
    norm: bool = False,
) -> Block:
    """Describe ShuffleNet's unit: grouped pointwise to H = N/4 channels, shuffle, depthwise, grouped pointwise.

    At stride 1 the input is added: ``M H / G + H K + H N / G`` parameters, P times as many MACs, where a bottleneck
    without groups has ``2 M H + H H K``. With a stride the input is pooled by means over 3 positions per axis and
    concatenated, so that the branch only gives N - M channels (Zhang, Zhou, Lin, Sun, 2018, section 3.2, figure 2).

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N: equal at stride 1, growing otherwise.
    groups : int
        Groups G of the pointwise convolutions.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis.
    first_groups : int, optional
        Groups of the first pointwise convolution where they are others: 1 in the first unit of the paper's networks.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows each convolution.

    Returns
    -------
    Block
        Additions, concatenations, shuffles and pooling take no MACs.

    Raises
    ------
    GeometryError
        If the channels do not fit the groups, a quarter, or the stride.
    """
    strides = per_axis("stride", stride, ndim, at_least=1)
    strided = math.prod(strides) > 1
    if out_channels % 4 or (out_channels <= in_channels if strided else out_channels != in_channels):
        raise GeometryError(
            f"out_channels must be a multiple of 4 and {'above' if strided else 'equal to'} the {in_channels} "
            f"in-channels at stride {strides}, got {out_channels}"
        )
    hidden, given = out_channels // 4, out_channels - in_channels if strided else out_channels
    branch = (
        convolution(in_channels, hidden, groups=groups if first_groups is None else first_groups, ndim=ndim, norm=norm),
        ChannelShuffle(hidden, groups, ndim),
        convolution(hidden, hidden, kernel_size, stride=strides, groups=hidden, ndim=ndim, norm=norm),
        convolution(hidden, given, groups=groups, ndim=ndim, norm=norm),
    )
    pooling = Pooling(in_channels, (3,) * ndim, ConvGeometry.of(ndim, stride=strides, padding=1))
    shortcut = (pooling,) if strided else ()
    step = Branches(in_channels, (shortcut, branch), "concat" if strided else "add", n_axes=ndim)
    layer = convolution(in_channels, out_channels, kernel_size, stride=strides, ndim=ndim)
    return Block("ShuffleNet v1", (step,), (layer,))


def shufflenet_v2(
    in_channels: int,
    out_channels: int,
    kernel_size: PerAxis = 3,
    *,
    stride: PerAxis = 1,
    ndim: int = 2,
    norm: bool = False,
) -> Block:
    """Describe ShuffleNet v2's unit: the channels are split, one half goes through three convolutions, then a shuffle.

    At stride 1, with H = N/2: ``2 H H + H K`` parameters, P times as many MACs. With a stride there is no split: one
    branch is depthwise and pointwise, ``M K + M H``, the other pointwise, depthwise and pointwise, ``M H + H K + H H``
    (Ma, Zhang, Zheng, Sun, 2018, section 3, figure 3).

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N, the latter even; equal at stride 1.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows each convolution.

    Returns
    -------
    Block
        Split, concatenation and shuffle take no MACs.

    Raises
    ------
    GeometryError
        If the channels are odd, or differ at stride 1.
    """
    strides = per_axis("stride", stride, ndim, at_least=1)
    strided = math.prod(strides) > 1
    if out_channels % 2 or (not strided and out_channels != in_channels):
        raise GeometryError(
            f"out_channels must be even{'' if strided else f' and equal to the {in_channels} in-channels'} at stride "
            f"{strides}, got {out_channels}"
        )
    half = out_channels // 2
    given = in_channels if strided else half
    branch = (
        convolution(given, half, ndim=ndim, norm=norm),
        convolution(half, half, kernel_size, stride=strides, groups=half, ndim=ndim, norm=norm),
        convolution(half, half, ndim=ndim, norm=norm),
    )
    other = (
        convolution(given, given, kernel_size, stride=strides, groups=given, ndim=ndim, norm=norm),
        convolution(given, half, ndim=ndim, norm=norm),
    )
    joined = Branches(in_channels, (other if strided else (), branch), "concat", split=not strided, n_axes=ndim)
    layer = convolution(in_channels, out_channels, kernel_size, stride=strides, ndim=ndim)
    return Block("ShuffleNet v2", (joined, ChannelShuffle(out_channels, 2, ndim)), (layer,))
