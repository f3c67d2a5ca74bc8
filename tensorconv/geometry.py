"""ConvGeometry: the integers of a convolution (stride, padding, dilation, groups), without any array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tensorconv.errors import GeometryError
from tensorconv.integers import Padding, PerAxis, flag, integer, integers, is_integer, pairs_per_axis, per_axis
from tensorconv.text import short


@dataclass(frozen=True)
class ConvGeometry:
    """Stride, padding, dilation and groups of a convolution over any number of spatial axes.

    A convolution (cross-correlation, no flip) of kernel size ``k`` maps an axis of length ``x`` to
    ``(x + low + high - dilation * (k - 1) - 1) // stride + 1`` positions; a transposed one maps it to
    ``stride * (x - 1) + dilation * (k - 1) + 1 - low - high``. Negative padding crops (or, transposed, extends with
    zeros): a framework's ``output_padding`` is a smaller ``high``.

    Parameters
    ----------
    stride : tuple of int
        One stride per spatial axis, each at least 1.
    padding : tuple of (int, int)
        Low and high zero padding per spatial axis.
    dilation : tuple of int
        One dilation per spatial axis, each at least 1.
    groups : int
        Number of blocks of channels that do not see one another.
    transposed : bool
        Whether this is the adjoint kind of convolution ("deconvolution").

    Raises
    ------
    GeometryError
        If the tuples disagree in length or hold anything but valid integers.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False

    def __post_init__(self) -> None:
        stride = integers("stride", self.stride, at_least=1)
        ndim = len(stride)
        if ndim < 1:
            raise GeometryError("stride must have one entry per spatial axis, at least one, got ()")
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "padding", pairs_per_axis(ndim, self.padding))
        object.__setattr__(self, "dilation", integers("dilation", self.dilation, at_least=1))
        object.__setattr__(self, "groups", integer("groups", self.groups, at_least=1))
        object.__setattr__(self, "transposed", flag("transposed", self.transposed))
        if len(self.dilation) != ndim:
            raise GeometryError(
                f"dilation must have one entry per spatial axis, {ndim} as stride {stride} has, got {self.dilation}"
            )

    @classmethod
    def of(
        cls,
        ndim: int,
        *,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        transposed: bool = False,
        output_padding: PerAxis = 0,
    ) -> ConvGeometry:
        """Make a geometry from integers or per-axis integers.

        Parameters
        ----------
        ndim : int
            Number of spatial axes.
        stride : int or sequence of int
            One value for all axes, or one per axis.
        padding : int or sequence of int or of (int, int)
            One value for all sides, one per axis, or (low, high) per axis.
        dilation : int or sequence of int
            One value for all axes, or one per axis.
        groups : int
            Number of channel groups.
        transposed : bool
            Whether the convolution is transposed.
        output_padding : int or sequence of int
            Extra output positions at the high end of a transposed convolution; folded into the high padding.

        Returns
        -------
        ConvGeometry
            The geometry, with every value spelt out per axis.

        Raises
        ------
        GeometryError
            If a value has another number of axes, or ``output_padding`` is given without ``transposed``.
        """
        ndim = integer("ndim", ndim, at_least=1)
        extra = per_axis("output_padding", output_padding, ndim, at_least=0)
        if any(extra) and not transposed:
            raise GeometryError(
                f"output_padding={output_padding} is for transposed convolutions only; set transposed=True or drop it"
            )
        given: object = padding
        if isinstance(given, str):
            raise GeometryError(
                f"padding must be integers, got {padding!r}; resolve it first by ConvGeometry.same(kernel_size, ...)"
            )
        pairs = pairs_per_axis(ndim, (padding,) * ndim if is_integer(padding) else padding)
        return cls(
            stride=per_axis("stride", stride, ndim, at_least=1),
            padding=tuple((low, high - more) for (low, high), more in zip(pairs, extra, strict=True)),
            dilation=per_axis("dilation", dilation, ndim, at_least=1),
            groups=groups,
            transposed=transposed,
        )

    @classmethod
    def same(
        cls,
        kernel_size: Sequence[int],
        *,
        input_size: Sequence[int] | None = None,
        stride: PerAxis = 1,
        dilation: PerAxis = 1,
        groups: int = 1,
        extra: str = "high",
    ) -> ConvGeometry:
        """Resolve "same" padding to numbers: the output has ``ceil(input / stride)`` positions.

        Parameters
        ----------
        kernel_size : sequence of int
            Taps per spatial axis.
        input_size : sequence of int, optional
            Spatial size of the input; needed where the stride is above 1, since the padding then depends on it.
        stride, dilation : int or sequence of int
            One value for all axes, or one per axis.
        groups : int
            Number of channel groups.
        extra : {"high", "low"}
            The side that gets the odd padded position: "high" as TensorFlow, JAX and ONNX SAME_UPPER do,
            "low" as ONNX SAME_LOWER.

        Returns
        -------
        ConvGeometry
            The geometry with explicit padding.

        Raises
        ------
        GeometryError
            If the stride is above 1 and ``input_size`` is not given.

        Examples
        --------
        >>> ConvGeometry.same((3, 4), input_size=(8, 8), stride=2).padding
        ((0, 1), (1, 1))
        """
        taps = integers("kernel_size", kernel_size, at_least=1)
        ndim = len(taps)
        strides = per_axis("stride", stride, ndim, at_least=1)
        dilations = per_axis("dilation", dilation, ndim, at_least=1)
        if extra not in ("high", "low"):
            raise GeometryError(f'extra must be "high" or "low", got {extra!r}')
        if input_size is None and any(s > 1 for s in strides):
            raise GeometryError(
                f"input_size is needed to resolve same padding at stride {strides}; give the spatial size of the input"
            )
        sizes = (1,) * ndim if input_size is None else per_axis("input_size", input_size, ndim, at_least=1)
        totals = [
            max((-(-x // s) - 1) * s + d * (k - 1) + 1 - x, 0)
            for x, k, s, d in zip(sizes, taps, strides, dilations, strict=True)
        ]
        pairs = [(t // 2, t - t // 2) for t in totals]
        if extra == "low":
            pairs = [(high, low) for low, high in pairs]
        return cls(strides, tuple(pairs), dilations, groups)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.stride)

    @property
    def is_pointwise(self) -> bool:
        """Whether stride is 1 and padding 0 on every axis, so that a kernel of size 1 only mixes channels."""
        return all(s == 1 for s in self.stride) and all(pair == (0, 0) for pair in self.padding)

    def spatial_size(self, size: PerAxis) -> tuple[int, ...]:
        """Return one checked size per spatial axis, from one for all or one per axis.

        Parameters
        ----------
        size : int or sequence of int
            A spatial size.

        Returns
        -------
        tuple of int
            One size per spatial axis.

        Raises
        ------
        GeometryError
            If it has another number of axes, or a size is below 1.
        """
        return per_axis("input_size", size, self.ndim, at_least=1)

    def output_size(self, input_size: PerAxis, kernel_size: PerAxis) -> tuple[int, ...]:
        """Return the spatial size of the output.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.
        kernel_size : int or sequence of int
            Taps per spatial axis.

        Returns
        -------
        tuple of int
            Positions per spatial axis, each at least 1.

        Raises
        ------
        GeometryError
            If the sizes have another number of axes, or an output axis would be empty.
        """
        sizes = self.spatial_size(input_size)
        taps = per_axis("kernel_size", kernel_size, self.ndim, at_least=1)
        out = []
        for axis, (x, k) in enumerate(zip(sizes, taps, strict=True)):
            s, d, (low, high) = self.stride[axis], self.dilation[axis], self.padding[axis]
            extent = d * (k - 1) + 1
            out.append(s * (x - 1) + extent - low - high if self.transposed else (x + low + high - extent) // s + 1)
            if out[-1] < 1:
                raise GeometryError(
                    f"input_size {sizes} gives no output on axis {axis}: a {'transposed ' * self.transposed}"
                    f"convolution of {k} taps, dilation {d}, padding {(low, high)} needs a longer axis or more padding"
                )
        return tuple(out)

    def on_axes(self, axes: Iterable[int], groups: int = 1) -> ConvGeometry:
        """Keep stride, padding and dilation on the given axes and be the identity on the others.

        This is how a factorization hands every spatial axis, whole, to the one layer that owns it.

        Parameters
        ----------
        axes : iterable of int
            Spatial axes to keep, each from 0 to ndim - 1.
        groups : int
            Number of groups of the new geometry.

        Returns
        -------
        ConvGeometry
            The geometry on these axes.

        Raises
        ------
        GeometryError
            If an axis does not exist.
        """
        kept = set(integers("axes", axes, at_least=0))
        if any(axis >= self.ndim for axis in kept):
            raise GeometryError(f"axes must be from 0 to {self.ndim - 1}, got {sorted(kept)}")
        return _restricted(self, frozenset(kept), groups)

    def __str__(self) -> str:
        words = [f"stride {short(self.stride)}", f"padding {short(self.padding)}"]
        if any(d > 1 for d in self.dilation):
            words.append(f"dilation {short(self.dilation)}")
        if self.groups > 1:
            words.append(f"groups {self.groups}")
        return ", ".join(words + ["transposed"] * self.transposed)


@lru_cache(maxsize=4096)  # rank searches ask for the same few geometries thousands of times
def _restricted(geometry: ConvGeometry, kept: frozenset[int], groups: int) -> ConvGeometry:
    return ConvGeometry(
        stride=tuple(s if a in kept else 1 for a, s in enumerate(geometry.stride)),
        padding=tuple(p if a in kept else (0, 0) for a, p in enumerate(geometry.padding)),
        dilation=tuple(d if a in kept else 1 for a, d in enumerate(geometry.dilation)),
        groups=groups,
        transposed=geometry.transposed,
    )
