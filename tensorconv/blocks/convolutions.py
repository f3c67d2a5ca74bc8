"""Convolutions as steps: over positions, and along the channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tensorconv.blocks.steps import Row, Step
from tensorconv.cost import Shape, chain_cost
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis, flag, integer, integers, per_axis


@dataclass(frozen=True)
class Convolution(Step):
    """A convolution, given by the shape of its kernel.

    Parameters
    ----------
    shape : tuple of int
        (O, I, K1..KN) of the kernel, I per group.
    geometry : ConvGeometry
        Stride, padding, dilation, groups, transposed.
    bias : bool
        Whether it has a bias.
    norm : bool
        Whether a batch normalization follows.

    Raises
    ------
    GeometryError
        If the shape is none, does not fit the geometry, or the groups do not divide the out-channels.
    """

    shape: Shape
    geometry: ConvGeometry
    bias: bool = False
    norm: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", integers("shape", self.shape, at_least=1))
        flag("bias", self.bias)
        flag("norm", self.norm)
        if len(self.shape) != self.geometry.ndim + 2:
            raise GeometryError(
                f"shape must be (O, I, K1..KN) with the {self.geometry.ndim} spatial axes of the geometry, "
                f"got {self.shape}"
            )
        if self.shape[0] % self.geometry.groups:
            raise GeometryError(
                f"groups must divide the {self.shape[0]} out-channels, got {self.geometry.groups}; choose others"
            )

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.shape[1] * self.geometry.groups

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.geometry.ndim

    @property
    def kernel_size(self) -> Shape:
        """Taps per spatial axis."""
        return self.shape[2:]

    def output_size(self, input_size: PerAxis) -> Shape:
        """The geometry's."""
        return self.geometry.output_size(input_size, self.kernel_size)

    @property
    def n_parameters(self) -> int:
        """Entries of the kernel and the bias."""
        n_bias = self.out_channels if self.bias else 0
        return int(chain_cost([(self.shape, self.geometry)], "parameters", n_bias=n_bias))

    @property
    def n_norm_parameters(self) -> int:
        """A scale and a shift per channel."""
        return 2 * self.out_channels if self.norm else 0

    def macs(self, input_size: PerAxis) -> int:
        """As :func:`tensorconv.cost.chain_cost` counts them."""
        return int(chain_cost([(self.shape, self.geometry)], "macs", input_size))

    def rows(self, input_size: Shape | None) -> list[Row]:
        """One line."""
        pointwise = math.prod(self.kernel_size) == 1
        depthwise = self.shape[1] == 1 and self.geometry.groups > 1
        kind = "depthwise" if depthwise else "pointwise" if pointwise else "convolution"
        grouped = "grouped " if self.geometry.groups > 1 and not depthwise else ""
        geometry = str(self.geometry) + ", bias" * self.bias + ", norm" * self.norm
        return [self._row(grouped + kind, input_size, "x".join(map(str, self.kernel_size)), geometry)]


@dataclass(frozen=True)
class ChannelConvolution(Step):
    """A convolution that slides along the channels, its weights shared by all positions and channel offsets.

    The channels are one more axis, before the spatial ones: G kernels of size (d_c, K1..KN) give G maps of
    ``geometry.output_size`` each, whose channels follow one another (Gao, Wang, Ji, 2018, sections 3.1 to 3.4). G
    kernels of length d_c with channel stride G are a group channel-wise convolution: ``d_c G`` parameters and
    ``d_c n P`` MACs for n channels at P positions.

    Parameters
    ----------
    channels : int
        Channels of the input.
    kernel_size : tuple of int
        (d_c, K1..KN).
    geometry : ConvGeometry
        Over 1 + N axes, the channels first; neither grouped nor transposed.
    n_kernels : int
        Number of kernels G.

    Raises
    ------
    GeometryError
        If the geometry has another number of axes, is grouped or transposed, or no channel is left.
    """

    channels: int
    kernel_size: Shape
    geometry: ConvGeometry
    n_kernels: int = 1

    def __post_init__(self) -> None:
        integer("channels", self.channels, at_least=1)
        integer("n_kernels", self.n_kernels, at_least=1)
        object.__setattr__(self, "kernel_size", integers("kernel_size", self.kernel_size, at_least=1))
        if self.geometry.ndim != len(self.kernel_size) or self.geometry.ndim < 2:
            raise GeometryError(
                "kernel_size and geometry must have the channel axis and at least one spatial axis, got "
                f"{self.kernel_size} and {self.geometry.ndim} axes"
            )
        if self.geometry.groups > 1 or self.geometry.transposed:
            raise GeometryError(
                f"a channel-wise convolution is neither grouped nor transposed, got {self.geometry}; "
                "n_kernels and the stride of the channel axis make its groups"
            )
        self.geometry.on_axes([0]).output_size((self.channels, *(1,) * self.ndim), (self.kernel_size[0], *self._ones))

    @property
    def _ones(self) -> Shape:
        return (1,) * self.ndim

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.channels

    @property
    def out_channels(self) -> int:
        """Maps of all kernels."""
        along = self.geometry.on_axes([0])
        return self.n_kernels * along.output_size((self.channels, *self._ones), (self.kernel_size[0], *self._ones))[0]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.geometry.ndim - 1

    def output_size(self, input_size: PerAxis) -> Shape:
        """The geometry's, without the channel axis."""
        return self.geometry.output_size(self._volume(input_size), self.kernel_size)[1:]

    @property
    def n_parameters(self) -> int:
        """Entries of the kernels."""
        return int(chain_cost([self._layer], "parameters"))

    def macs(self, input_size: PerAxis) -> int:
        """As :func:`tensorconv.cost.chain_cost` counts them."""
        return int(chain_cost([self._layer], "macs", self._volume(input_size)))

    @property
    def _layer(self) -> tuple[Shape, ConvGeometry]:
        return (self.n_kernels, 1, *self.kernel_size), self.geometry

    def _volume(self, input_size: PerAxis) -> Shape:
        return (self.channels, *per_axis("input_size", input_size, self.ndim, at_least=1))

    def rows(self, input_size: Shape | None) -> list[Row]:
        """One line."""
        kernels = f"{self.n_kernels} kernels, " if self.n_kernels > 1 else ""
        return [
            self._row("channel-wise", input_size, "x".join(map(str, self.kernel_size)), kernels + str(self.geometry))
        ]


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: PerAxis = 1,
    *,
    stride: PerAxis = 1,
    groups: int = 1,
    ndim: int = 2,
    bias: bool = False,
    norm: bool = False,
) -> Convolution:
    """Return a convolution with padding that keeps the size: ``(k - 1) // 2`` low and ``k // 2`` high.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    kernel_size, stride : int or sequence of int
        One for all spatial axes, or one per axis.
    groups : int
        Number of groups.
    ndim : int
        Number of spatial axes.
    bias : bool
        Whether it has a bias.
    norm : bool
        Whether a batch normalization follows.

    Returns
    -------
    Convolution
        The step.

    Raises
    ------
    GeometryError
        If the groups do not divide the channels, or a value is no valid integer.
    """
    groups = integer("groups", groups, at_least=1)
    if integer("in_channels", in_channels, at_least=1) % groups or integer("out_channels", out_channels, 1) % groups:
        raise GeometryError(
            f"groups must divide the channels, {in_channels} in and {out_channels} out, got {groups}; choose another "
            "number"
        )
    taps = per_axis("kernel_size", kernel_size, ndim, at_least=1)
    padding = tuple(((k - 1) // 2, k // 2) for k in taps)
    geometry = ConvGeometry.of(ndim, stride=stride, padding=padding, groups=groups)
    return Convolution((out_channels, in_channels // groups, *taps), geometry, bias, norm)
