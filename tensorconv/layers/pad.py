"""PadLayer: padding by the data's own values, a step of a sequence that is no convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tensorconv.errors import GeometryError
from tensorconv.integers import Padding, is_integer, pairs_per_axis, per_axis
from tensorconv.text import short

PAD_MODES = ("reflect", "replicate", "circular")
# what numpy, JAX and ONNX call them
NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@dataclass(frozen=True)
class PadLayer:
    """Padding of every channel by its own values; zeros are the business of a convolution's geometry.

    Parameters
    ----------
    padding : tuple of (int, int)
        Low and high padding per spatial axis, none negative.
    mode : {"reflect", "replicate", "circular"}
        What is put there, in PyTorch's words: the values mirrored at the border, which is not repeated (at most one
        less than the axis has); the border's value; the values from the other end (at most as many as the axis has).
    name : str
        A label that exporters and reports keep.

    Raises
    ------
    GeometryError
        If the padding is negative or not in pairs, or the mode is another.

    Examples
    --------
    >>> import numpy as np, tensorconv as tc
    >>> mirror = tc.PadLayer(((1, 1),), "reflect")
    >>> sums = tc.ConvLayer.of(np.ones((1, 1, 2)))
    >>> tc.convolve(np.array([[[1.0, 2.0, 3.0]]]), tc.ConvSequence([mirror, sums]))
    array([[[3., 3., 5., 5.]]])
    """

    padding: tuple[tuple[int, int], ...]
    mode: str
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.padding, Sequence):
            raise GeometryError(
                f"padding must be (low, high) pairs, one per spatial axis, got {self.padding!r}; use PadLayer.of"
            )
        pairs = pairs_per_axis(len(self.padding), self.padding)
        if not pairs or any(side < 0 for pair in pairs for side in pair):
            raise GeometryError(
                f"padding must have a (low, high) pair of at least 0 per spatial axis, got {self.padding}; cropping "
                "is negative padding of a convolution"
            )
        if self.mode not in PAD_MODES:
            raise GeometryError(
                f"mode must be one of {', '.join(PAD_MODES)}, got {self.mode!r}; padding by zeros belongs to a "
                "convolution's geometry"
            )
        object.__setattr__(self, "padding", pairs)
        object.__setattr__(self, "name", "" if self.name is None else str(self.name))

    @classmethod
    def of(cls, ndim: int, padding: Padding, mode: str, name: str = "") -> PadLayer:
        """Make a step from integers or per-axis integers.

        Parameters
        ----------
        ndim : int
            Number of spatial axes.
        padding : int or sequence of int or of (int, int)
            One value for all sides, one per axis, or (low, high) per axis.
        mode : {"reflect", "replicate", "circular"}
            What is put there.
        name : str
            A label.

        Returns
        -------
        PadLayer
            The step.
        """
        return cls(pairs_per_axis(ndim, (padding,) * ndim if is_integer(padding) else padding), mode, name)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.padding)

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

        Raises
        ------
        GeometryError
            If an axis is too short to be mirrored or wrapped this far.
        """
        size = per_axis("input_size", input_size, self.ndim, at_least=1)
        for axis, (n, pair) in enumerate(zip(size, self.padding, strict=True)):
            most = {"reflect": n - 1, "circular": n}.get(self.mode, max(pair))
            if max(pair) > most:
                raise GeometryError(
                    f"input_size {size} allows {self.mode} padding of at most {most} on axis {axis}, got {pair}; give "
                    "a longer input or less padding"
                )
        return tuple(n + low + high for n, (low, high) in zip(size, self.padding, strict=True))

    def __str__(self) -> str:
        return f"{self.mode} padding {short(self.padding)}"
