"""Blocks in a row: dense convolution, MobileNet v1, Xception, EffNet."""

from __future__ import annotations

from tensorconv.blocks.block import Block, Form
from tensorconv.blocks.convolutions import Convolution, convolution
from tensorconv.blocks.movement import Pooling
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis, integer


def dense(
    in_channels: int,
    out_channels: int,
    kernel_size: PerAxis = 3,
    *,
    stride: PerAxis = 1,
    ndim: int = 2,
    bias: bool = False,
    norm: bool = False,
) -> Block:
    """Describe a dense convolution, ``M N K`` parameters and ``M N K P`` MACs, which the other blocks stand for.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis; K is the number of all taps.
    ndim : int
        Number of spatial axes.
    bias : bool
        Whether it has a bias.
    norm : bool
        Whether a batch normalization follows.

    Returns
    -------
    Block
        One step.
    """
    step = convolution(in_channels, out_channels, kernel_size, stride=stride, ndim=ndim, bias=bias, norm=norm)
    return Block("dense convolution", (step,), (step,))


def _separable(name: str, layer: Convolution, terms: int, order: str, norms: tuple[bool, bool]) -> Block:
    """Return a sum of separable convolutions in the place of a dense layer, with norms after either of the two."""
    m, n, k, stride = layer.in_channels, layer.out_channels, layer.kernel_size, layer.geometry.stride
    r, ndim = integer("terms", terms, at_least=1), layer.ndim
    if order == "depthwise-first":
        steps = (
            convolution(m, m * r, k, stride=stride, groups=m, ndim=ndim, norm=norms[0]),
            convolution(m * r, n, ndim=ndim, norm=norms[1]),
        )
    elif order == "pointwise-first":
        steps = (
            convolution(m, n * r, ndim=ndim, norm=norms[0]),
            convolution(n * r, n, k, stride=stride, groups=n, ndim=ndim, norm=norms[1]),
        )
    else:
        raise GeometryError(f'order must be "depthwise-first" or "pointwise-first", got {order!r}')
    return Block(name, steps, (layer,), Form("depthwise_separable", r, (("order", order),)))


def mobilenet_v1(
    in_channels: int,
    out_channels: int,
    kernel_size: PerAxis = 3,
    *,
    stride: PerAxis = 1,
    terms: int = 1,
    ndim: int = 2,
    norm: bool = False,
) -> Block:
    """Describe MobileNet's depthwise separable convolution: depthwise, then pointwise.

    ``M K + M N`` parameters; ``P (M K + M N)`` MACs, ``1/N + 1/K`` of the dense layer's (Howard and others, 2017,
    section 3.1). With R terms the depthwise one has R filters per channel, and all costs are R times as large.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis.
    terms : int
        Number of terms R, the multiplier of the depthwise convolution; 1 in the paper.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows each of the two convolutions.

    Returns
    -------
    Block
        The linear part of it is ``tc.depthwise_separable`` of rank R.
    """
    layer = convolution(in_channels, out_channels, kernel_size, stride=stride, ndim=ndim)
    return _separable("MobileNet v1", layer, terms, "depthwise-first", (norm, norm))


def xception(
    in_channels: int,
    out_channels: int,
    kernel_size: PerAxis = 3,
    *,
    stride: PerAxis = 1,
    terms: int = 1,
    order: str = "pointwise-first",
    ndim: int = 2,
    norm: bool = False,
) -> Block:
    """Describe the extreme Inception module: pointwise, then one spatial convolution per output channel.

    ``M N + N K`` parameters; ``P_in M N + P N K`` MACs (Chollet, 2017, section 1.2, figure 4). Frameworks run
    the two in the other order, and so does the paper's network: ``order="depthwise-first"``.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis; the stride is the depthwise convolution's.
    terms : int
        Number of terms R, channels that each output channel sums over; 1 in the paper.
    order : {"pointwise-first", "depthwise-first"}
        Which comes first.
    ndim : int
        Number of spatial axes.
    norm : bool
        Whether a batch normalization follows the second convolution.

    Returns
    -------
    Block
        The linear part of it is ``tc.depthwise_separable`` of rank R in this order.

    Raises
    ------
    GeometryError
        If there is no such order.
    """
    layer = convolution(in_channels, out_channels, kernel_size, stride=stride, ndim=ndim)
    return _separable("Xception", layer, terms, order, (False, norm))


def effnet(in_channels: int, out_channels: int, hidden_channels: int | None = None, *, norm: bool = False) -> Block:
    """Describe EffNet's block: 1x1, depthwise 1x3, pooling (2, 1), depthwise 3x1, 2x1 with stride (1, 2).

    With H hidden channels ``M H + 3 H + 3 H + 2 H N`` parameters, and ``P (4 (M H + 3 H) + 2 (3 H) + 2 H N)`` MACs at
    P = P_in / 4 positions of the output (Freeman, Roese-Koerner, Kummert, 2018, figure 1): both axes are
    halved, one by the pooling, the other by the last stride. It stands for a dense 3x3 convolution of stride 2.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels M and N.
    hidden_channels : int, optional
        Channels H between; half of the out-channels if not given.
    norm : bool
        Whether a batch normalization follows each convolution.

    Returns
    -------
    Block
        Over two spatial axes; the kernels of its two spatial steps are not those of a factorization, since the pooling
        stands between them.
    """
    h = max(1, out_channels // 2) if hidden_channels is None else hidden_channels
    return Block(
        "EffNet",
        (
            convolution(in_channels, h, norm=norm),
            convolution(h, h, (1, 3), groups=h, norm=norm),
            Pooling(h, (2, 1), ConvGeometry.of(2, stride=(2, 1))),
            convolution(h, h, (3, 1), groups=h, norm=norm),
            convolution(h, out_channels, (2, 1), stride=(1, 2), norm=norm),
        ),
        (convolution(in_channels, out_channels, 3, stride=2),),
    )
