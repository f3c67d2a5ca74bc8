"""ConvGeometry: the integers of a convolution (stride, padding, dilation, groups), without any array."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tensorconv.errors import GeometryError

Padding = int | Sequence[int | tuple[int, int]]
PerAxis = int | Sequence[int]


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

    Examples
    --------
    >>> geometry = ConvGeometry.of(2, stride=2, padding=1)
    >>> geometry.output_size((224, 224), (3, 3))
    (112, 112)
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False

    def __post_init__(self) -> None:
        stride = _integers("stride", self.stride, at_least=1)
        ndim = len(stride)
        if ndim < 1:
            raise GeometryError("stride must have one entry per spatial axis, at least one, got ()")
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "padding", _pairs(ndim, self.padding))
        object.__setattr__(self, "dilation", _integers("dilation", self.dilation, at_least=1))
        object.__setattr__(self, "groups", _integer("groups", self.groups, at_least=1))
        object.__setattr__(self, "transposed", bool(self.transposed))
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
        stride, dilation : int or sequence of int
            One value for all axes, or one per axis.
        padding : int or sequence of int or of (int, int)
            One value for all sides, one per axis, or (low, high) per axis.
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

        Examples
        --------
        >>> ConvGeometry.of(1, stride=2, padding=1, transposed=True, output_padding=1).padding
        ((1, 0),)
        """
        ndim = _integer("ndim", ndim, at_least=1)
        extra = _per_axis("output_padding", output_padding, ndim, at_least=0)
        if any(extra) and not transposed:
            raise GeometryError(
                f"output_padding={output_padding} belongs to transposed convolutions only; set transposed=True or drop it"
            )
        if isinstance(padding, str):
            raise GeometryError(
                f"padding must be integers, got {padding!r}; resolve it first: ConvGeometry.same(kernel_size, ...).padding"
            )
        pairs = _pairs(ndim, (padding,) * ndim if _is_integer(padding) else padding)
        return cls(
            stride=_per_axis("stride", stride, ndim, at_least=1),
            padding=tuple((low, high - more) for (low, high), more in zip(pairs, extra, strict=True)),
            dilation=_per_axis("dilation", dilation, ndim, at_least=1),
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
        taps = _integers("kernel_size", kernel_size, at_least=1)
        ndim = len(taps)
        strides = _per_axis("stride", stride, ndim, at_least=1)
        dilations = _per_axis("dilation", dilation, ndim, at_least=1)
        if extra not in ("high", "low"):
            raise GeometryError(f'extra must be "high" or "low", got {extra!r}')
        if input_size is None and any(s > 1 for s in strides):
            raise GeometryError(
                f"input_size is needed to resolve same padding at stride {strides}; give the spatial size of the input"
            )
        sizes = (1,) * ndim if input_size is None else _per_axis("input_size", input_size, ndim, at_least=1)
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

    def output_size(self, input_size: Sequence[int], kernel_size: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial size of the output.

        Parameters
        ----------
        input_size : sequence of int
            Spatial size of the input.
        kernel_size : sequence of int
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
        sizes = _per_axis("input_size", input_size, self.ndim, at_least=1)
        taps = _per_axis("kernel_size", kernel_size, self.ndim, at_least=1)
        out = []
        for axis, (x, k) in enumerate(zip(sizes, taps, strict=True)):
            s, d, (low, high) = self.stride[axis], self.dilation[axis], self.padding[axis]
            extent = d * (k - 1) + 1
            out.append(s * (x - 1) + extent - low - high if self.transposed else (x + low + high - extent) // s + 1)
            if out[-1] < 1:
                raise GeometryError(
                    f"input_size {sizes} gives no output on axis {axis}: a {'transposed ' * self.transposed}convolution "
                    f"of {k} taps, dilation {d}, padding {(low, high)} needs a longer axis or more padding"
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
        kept = {_integer("axes", axis, at_least=0) for axis in axes}
        if any(axis >= self.ndim for axis in kept):
            raise GeometryError(f"axes must be from 0 to {self.ndim - 1}, got {sorted(kept)}")
        return ConvGeometry(
            stride=tuple(s if a in kept else 1 for a, s in enumerate(self.stride)),
            padding=tuple(p if a in kept else (0, 0) for a, p in enumerate(self.padding)),
            dilation=tuple(d if a in kept else 1 for a, d in enumerate(self.dilation)),
            groups=groups,
            transposed=self.transposed,
        )

    def __str__(self) -> str:
        words = [f"stride {_short(self.stride)}", f"padding {_short(self.padding)}"]
        if any(d > 1 for d in self.dilation):
            words.append(f"dilation {_short(self.dilation)}")
        if self.groups > 1:
            words.append(f"groups {self.groups}")
        return ", ".join(words + ["transposed"] * self.transposed)


def _short(values: tuple[Any, ...]) -> str:
    """Return one value where all axes (and both sides) agree, else all of them: (2, 2) -> 2."""
    flat = {v for value in values for v in (value if isinstance(value, tuple) else (value,))}
    return str(flat.pop() if len(flat) == 1 else values).replace(" ", "")


def _is_integer(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and getattr(value, "ndim", 0) == 0


def _integer(name: str, value: Any, at_least: int | None = None) -> int:
    if not _is_integer(value):
        raise GeometryError(f"{name} must be an integer, got {value!r}")
    number = operator.index(value)
    if at_least is not None and number < at_least:
        raise GeometryError(f"{name} must be at least {at_least}, got {number}")
    return number


def _integers(name: str, values: Any, at_least: int) -> tuple[int, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise GeometryError(f"{name} must be a tuple of integers, one per spatial axis, got {values!r}")
    return tuple(_integer(name, value, at_least) for value in values)


def _per_axis(name: str, value: Any, ndim: int, at_least: int) -> tuple[int, ...]:
    """Return one checked integer per axis, from one for all or one per axis."""
    numbers = (_integer(name, value, at_least),) * ndim if _is_integer(value) else _integers(name, value, at_least)
    if len(numbers) != ndim:
        raise GeometryError(f"{name} must have one entry per spatial axis, {ndim} here, got {value!r}")
    return numbers


def _pairs(ndim: int, padding: Any) -> tuple[tuple[int, int], ...]:
    """Return one checked (low, high) pair per axis, from one integer or one pair per axis."""
    rule = f"padding must be one integer or one (low, high) pair per spatial axis, {ndim} here, got {padding!r}"
    if isinstance(padding, str) or not isinstance(padding, Iterable):
        raise GeometryError(rule)
    entries = [(entry, entry) if _is_integer(entry) else entry for entry in padding]
    if len(entries) != ndim:
        raise GeometryError(rule)
    pairs = []
    for entry in entries:
        if isinstance(entry, str) or not isinstance(entry, Iterable):
            raise GeometryError(rule)
        sides = tuple(_integer("padding", side) for side in entry)
        if len(sides) != 2:
            raise GeometryError(rule)
        pairs.append((sides[0], sides[1]))
    return tuple(pairs)
