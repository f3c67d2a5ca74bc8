"""Blocks of ChannelNets: group modules, depthwise separable channel-wise convolution, convolutional classification."""

from __future__ import annotations

from tensorconv.blocks.block import Block
from tensorconv.blocks.branches import Branches
from tensorconv.blocks.convolutions import ChannelConvolution, Convolution, convolution
from tensorconv.blocks.movement import Pooling
from tensorconv.blocks.steps import Step
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis, integer, per_axis


def channelwise(channels: int, length: int, groups: int = 1, *, ndim: int = 2) -> ChannelConvolution:
    """Return a group channel-wise convolution, which fuses groups of channels and keeps their number.

    G kernels of length d_c with channel stride G and padding ``(d_c - G) / 2``, one more at the high end where that is
    odd: ``d_c G`` parameters, ``d_c n P`` MACs (Gao, Wang, Ji, 2018, section 3.2).

    Parameters
    ----------
    channels : int
        Channels n, a multiple of the groups.
    length : int
        Length d_c of the kernels, at least G.
    groups : int
        Number of kernels G.
    ndim : int
        Number of spatial axes.

    Returns
    -------
    ChannelConvolution
        From n to n channels.

    Raises
    ------
    GeometryError
        If the groups do not divide the channels, or the kernels are shorter than the stride.
    """
    if integer("channels", channels, at_least=1) % integer("groups", groups, at_least=1):
        raise GeometryError(f"groups must divide the {channels} channels, got {groups}; choose another number")
    excess = integer("length", length, at_least=groups) - groups
    geometry = ConvGeometry.of(
        1 + ndim,
        stride=(groups, *(1,) * ndim),
        padding=((excess // 2, excess - excess // 2), *((0, 0),) * ndim),
    )
    return ChannelConvolution(channels, (length, *(1,) * ndim), geometry, groups)


def _grouped(channels: int, kernel_size: PerAxis, groups: int, ndim: int, norm: bool) -> tuple[Convolution, ...]:
    """Two depthwise separable convolutions whose pointwise ones are grouped."""
    pair = (
        convolution(channels, channels, kernel_size, groups=channels, ndim=ndim),
        convolution(channels, channels, groups=groups, ndim=ndim, norm=norm),
    )
    return (*pair, *pair)


def group_module(
    channels: int, groups: int = 2, kernel_size: PerAxis = 3, *, ndim: int = 2, norm: bool = False
) -> Block:
    """Describe ChannelNet's group module: two depthwise separable convolutions with grouped pointwise ones, a shortcut.

    ``2 (n K + n n / G)`` parameters, P times as many MACs (Gao, Wang, Ji, 2018, section 3.5). It takes the
    place of two depthwise separable convolutions, so it stands for two dense ones.

    Parameters
    ----------
    channels : int
        Channels n.
    groups : int
        Groups G of the pointwise convolutions.
    kernel_size : int or sequence of int
        One for all spatial axes, or one per axis.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows each pointwise convolution.

    Returns
    -------
    Block
        Stride 1.
    """
    branch: tuple[Step, ...] = _grouped(channels, kernel_size, groups, ndim, norm)
    layer = convolution(channels, channels, kernel_size, ndim=ndim)
    return Block("ChannelNet GM", (Branches(channels, (branch, ()), n_axes=ndim),), (layer, layer))


def group_channelwise_module(
    channels: int,
    groups: int = 2,
    length: int = 8,
    kernel_size: PerAxis = 3,
    *,
    ndim: int = 2,
    norm: bool = False,
) -> Block:
    """Describe ChannelNet's group channel-wise module: a channel-wise convolution, then a group module.

    The first step fuses the groups that the others keep apart: ``d_c G`` parameters and ``d_c n P`` MACs more than
    :func:`group_module` (Gao, Wang, Ji, 2018, section 3.5). Where it stands among them does not change the counts.

    Parameters
    ----------
    channels : int
        Channels n.
    groups : int
        Groups G of the pointwise convolutions, and kernels of the channel-wise one.
    length : int
        Length d_c of these kernels; 8 in the paper.
    kernel_size : int or sequence of int
        One for all spatial axes, or one per axis.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows each pointwise convolution.

    Returns
    -------
    Block
        Stride 1.
    """
    branch = (channelwise(channels, length, groups, ndim=ndim), *_grouped(channels, kernel_size, groups, ndim, norm))
    layer = convolution(channels, channels, kernel_size, ndim=ndim)
    return Block("ChannelNet GCWM", (Branches(channels, (branch, ()), n_axes=ndim),), (layer, layer))


def depthwise_separable_channelwise(
    channels: int, length: int = 64, kernel_size: PerAxis = 3, *, stride: PerAxis = 1, ndim: int = 2
) -> Block:
    """Describe a depthwise convolution whose pointwise partner is one channel-wise kernel, shared by all channels.

    ``m K + d_c`` parameters, ``P (m K + d_c m)`` MACs (Gao, Wang, Ji, 2018, section 3.3): the pointwise matrix is
    banded Toeplitz.

    Parameters
    ----------
    channels : int
        Channels m of input and output.
    length : int
        Length d_c of the kernel along the channels; 64 in the paper.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis.
    ndim : int
        Number of spatial axes.

    Returns
    -------
    Block
        From m to m channels.
    """
    steps = (
        convolution(channels, channels, kernel_size, stride=stride, groups=channels, ndim=ndim),
        channelwise(channels, length, ndim=ndim),
    )
    dense = (convolution(channels, channels, kernel_size, stride=stride, ndim=ndim),)
    return Block("ChannelNet DWSCW", steps, dense)


def convolutional_classifier(in_channels: int, n_classes: int, window: PerAxis = 7, *, ndim: int = 2) -> Block:
    """Describe ChannelNet's convolutional classification layer: one kernel over all positions and some channels.

    Pooling and a fully connected layer from m features to n classes become one kernel of size d_f x d_f along
    ``m - n + 1`` channels, valid: ``d_f d_f (m - n + 1)`` parameters, n times as many MACs (Gao, Wang, Ji, 2018,
    section 3.4). For 1024 features of 7x7 and 1000 classes these are 1,225 parameters in the place of 1,024,000.

    Parameters
    ----------
    in_channels : int
        Features m.
    n_classes : int
        Classes n, at most m.
    window : int or sequence of int
        Size of the feature maps d_f, one for all spatial axes or one per axis.
    ndim : int
        Number of spatial axes.

    Returns
    -------
    Block
        To one position.

    Raises
    ------
    GeometryError
        If there are more classes than features.
    """
    if integer("n_classes", n_classes, at_least=1) > integer("in_channels", in_channels, at_least=1):
        raise GeometryError(
            f"n_classes must be at most the {in_channels} in-channels, got {n_classes}; widen the layer before"
        )
    size = per_axis("window", window, ndim, at_least=1)
    kernel = (in_channels - n_classes + 1, *size)
    step = ChannelConvolution(in_channels, kernel, ConvGeometry.of(1 + ndim))
    dense = (Pooling.over_all(in_channels, ndim), convolution(in_channels, n_classes, ndim=ndim))
    return Block("ChannelNet classifier", (step,), dense)
