"""Blocks with a shortcut: MobileNet v2's inverted residual, ResNet's bottleneck and basic blocks."""

from __future__ import annotations

from dataclasses import replace

from tensorconv.blocks.block import Block, Form
from tensorconv.blocks.branches import Branches
from tensorconv.blocks.convolutions import Convolution, convolution
from tensorconv.blocks.separable import mobilenet_v1
from tensorconv.blocks.steps import Step
from tensorconv.integers import PerAxis, integer


def with_shortcut(steps: tuple[Step, ...], projection: Convolution | None = None) -> tuple[Step, ...]:
    """Return steps with a shortcut beside them, where channels and strides allow an identity, or with a projection.

    Parameters
    ----------
    steps : tuple of Step
        Convolutions of one branch.
    projection : Convolution, optional
        What the shortcut is where it cannot be the identity.

    Returns
    -------
    tuple of Step
        One addition of branches; the steps themselves where there can be no shortcut.
    """
    m, n = steps[0].in_channels, steps[-1].out_channels
    strides = {s for step in steps if isinstance(step, Convolution) for s in step.geometry.stride}
    identity = m == n and strides == {1}
    if not identity and projection is None:
        return steps
    shortcut = () if identity or projection is None else (projection,)
    return (Branches(m, (steps, shortcut), "add", n_axes=steps[0].ndim),)


def mobilenet_v2(
    in_channels: int,
    out_channels: int,
    kernel_size: PerAxis = 3,
    *,
    stride: PerAxis = 1,
    expansion: int = 6,
    ndim: int = 2,
    norm: bool = False,
) -> Block:
    """Describe MobileNet v2's inverted residual: pointwise to t M channels, depthwise, pointwise, shortcut.

    ``t M (M + K + N)`` parameters; ``t M (P_in M + P K + P N)`` MACs (Sandler and others, 2018, section 3.3, table 1).
    The input is added where stride 1 and M = N allow it. With t = 1 there is no expansion, only a separable one.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis.
    expansion : int
        Expansion factor t.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows each convolution.

    Returns
    -------
    Block
        The linear part of it is ``tc.cp`` of rank t M with merged spatial axes.
    """
    name, width = "MobileNet v2", in_channels * integer("expansion", expansion, at_least=1)
    if expansion == 1:
        plain = mobilenet_v1(in_channels, out_channels, kernel_size, stride=stride, ndim=ndim, norm=norm)
        return Block(name, with_shortcut(plain.steps), plain.dense, plain.form)
    steps = (
        convolution(in_channels, width, ndim=ndim, norm=norm),
        convolution(width, width, kernel_size, stride=stride, groups=width, ndim=ndim, norm=norm),
        convolution(width, out_channels, ndim=ndim, norm=norm),
    )
    layer = convolution(in_channels, out_channels, kernel_size, stride=stride, ndim=ndim)
    return Block(name, with_shortcut(steps), (layer,), Form("cp", width, (("merge_spatial", True),)))


def resnet_bottleneck(
    in_channels: int,
    out_channels: int,
    hidden_channels: int | None = None,
    kernel_size: PerAxis = 3,
    *,
    stride: PerAxis = 1,
    ndim: int = 2,
    norm: bool = False,
) -> Block:
    """Describe ResNet's bottleneck: pointwise to H channels, dense convolution, pointwise, beside a shortcut.

    ``M H + H H K + H N`` parameters; ``P_in M H + P (H H K + H N)`` MACs (He, Zhang, Ren, Sun, 2016, section 4.1,
    figure 5), the stride on the dense convolution: "v1.5", where the paper has it on the first one. Where M and N
    differ or there is a stride, the shortcut is a pointwise convolution of this stride, ``M N`` parameters more.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N.
    hidden_channels : int, optional
        Channels H between; a quarter of the out-channels if not given.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows each convolution.

    Returns
    -------
    Block
        The linear part of it is ``tc.tucker`` of rank (H, H), Tucker-2.
    """
    h = max(1, out_channels // 4) if hidden_channels is None else hidden_channels
    steps = (
        convolution(in_channels, h, ndim=ndim, norm=norm),
        convolution(h, h, kernel_size, stride=stride, ndim=ndim, norm=norm),
        convolution(h, out_channels, ndim=ndim, norm=norm),
    )
    projection = convolution(in_channels, out_channels, stride=stride, ndim=ndim, norm=norm)
    layer = convolution(in_channels, out_channels, kernel_size, stride=stride, ndim=ndim)
    return Block("ResNet bottleneck", with_shortcut(steps, projection), (layer,), Form("tucker", (h, h)))


def resnet_basic(
    in_channels: int,
    out_channels: int,
    kernel_size: PerAxis = 3,
    *,
    stride: PerAxis = 1,
    ndim: int = 2,
    norm: bool = False,
) -> Block:
    """Describe ResNet's basic block: two dense convolutions, the first with the stride, beside a shortcut.

    ``M N K + N N K`` parameters, ``P`` times as many MACs (He, Zhang, Ren, Sun, 2016, section 3.2, figure 2); a
    projection as in :func:`resnet_bottleneck` where the shortcut cannot be the identity. It stands for the same two
    convolutions without a shortcut.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows each convolution.

    Returns
    -------
    Block
        No factorization of one kernel.
    """
    plain = (
        convolution(in_channels, out_channels, kernel_size, stride=stride, ndim=ndim),
        convolution(out_channels, out_channels, kernel_size, ndim=ndim),
    )
    steps = tuple(replace(step, norm=norm) for step in plain)
    projection = convolution(in_channels, out_channels, stride=stride, ndim=ndim, norm=norm)
    return Block("ResNet basic", with_shortcut(steps, projection), plain)
