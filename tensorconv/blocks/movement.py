"""Steps without multiply-accumulates: pooling and channel shuffles."""

from __future__ import annotations

from dataclasses import dataclass

from tensorconv.blocks.steps import Row, Step
from tensorconv.cost import Shape
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis, integer, integers, per_axis


@dataclass(frozen=True)
class Pooling(Step):
    """Pooling of every channel over windows, by maximum or mean: no parameters, no multiply-accumulates.

    Parameters
    ----------
    channels : int
        Channels of the input and the output.
    window : tuple of int
        Positions per spatial axis that are pooled, all of them if empty: global pooling, to size 1.
    geometry : ConvGeometry
        Stride and padding of the windows; how many axes there are for global pooling.

    Raises
    ------
    GeometryError
        If window and geometry do not fit, or the geometry is grouped or transposed.
    """

    channels: int
    window: Shape
    geometry: ConvGeometry

    def __post_init__(self) -> None:
        integer("channels", self.channels, at_least=1)
        object.__setattr__(self, "window", integers("window", self.window, at_least=1))
        if self.window and len(self.window) != self.geometry.ndim:
            raise GeometryError(
                f"window must have one entry for each of the {self.geometry.ndim} spatial axes, or none for global "
                f"pooling, got {self.window}"
            )
        if self.geometry.groups > 1 or self.geometry.transposed:
            raise GeometryError(f"a pooling is neither grouped nor transposed, got {self.geometry}")
        if not self.window and self.geometry != ConvGeometry.of(self.ndim):
            raise GeometryError(
                f"global pooling has no stride, padding or dilation, got {self.geometry}; give a window or drop them"
            )

    @classmethod
    def over_all(cls, channels: int, ndim: int = 2) -> Pooling:
        """Make a global pooling.

        Parameters
        ----------
        channels : int
            Channels of the input and the output.
        ndim : int
            Number of spatial axes.

        Returns
        -------
        Pooling
            To one position per channel.
        """
        return cls(channels, (), ConvGeometry.of(ndim))

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.channels

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.geometry.ndim

    def output_size(self, input_size: PerAxis) -> Shape:
        """One window per position; 1 for global pooling."""
        size = per_axis("input_size", input_size, self.ndim, at_least=1)
        return self.geometry.output_size(size, self.window) if self.window else (1,) * self.ndim

    def rows(self, input_size: Shape | None) -> list[Row]:
        """One line."""
        if not self.window:
            return [self._row("global pooling", input_size)]
        return [self._row("pooling", input_size, "x".join(map(str, self.window)), str(self.geometry))]


@dataclass(frozen=True)
class ChannelShuffle(Step):
    """A fixed permutation of the channels, from (G, n/G) to (n/G, G) (Zhang, Zhou, Lin, Sun, 2018, section 3.1).

    Parameters
    ----------
    channels : int
        Channels of the input and the output.
    groups : int
        Number of groups G.
    n_axes : int
        Number of spatial axes.

    Raises
    ------
    GeometryError
        If the groups do not divide the channels.
    """

    channels: int
    groups: int
    n_axes: int = 2

    def __post_init__(self) -> None:
        integer("n_axes", self.n_axes, at_least=1)
        if integer("channels", self.channels, at_least=1) % integer("groups", self.groups, at_least=1):
            raise GeometryError(
                f"groups must divide the {self.channels} channels, got {self.groups}; choose another number"
            )

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.channels

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.n_axes

    def output_size(self, input_size: PerAxis) -> Shape:
        """The same size."""
        return per_axis("input_size", input_size, self.ndim, at_least=1)

    def rows(self, input_size: Shape | None) -> list[Row]:
        """One line."""
        return [self._row("channel shuffle", input_size, geometry=f"groups {self.groups}")]
