"""ConvSequence: convolutions and paddings in order, the waist between factorizations and everything that reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, KernelError, KernelTypeError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import per_axis
from tensorconv.layers.layer import ConvLayer
from tensorconv.layers.pad import PadLayer
from tensorconv.text import aligned_table


@dataclass(frozen=True, eq=False, repr=False)
class ConvSequence:
    """Convolutions, and paddings by values, applied one after another.

    Only the last layer may have a bias: an inner bias is not the same at zero-padded borders as inside.

    Parameters
    ----------
    layers : iterable of ConvLayer or PadLayer
        The layers in order, at least one of them a convolution.

    Raises
    ------
    KernelError
        If there is no convolution, the channels do not chain, or a layer but the last has a bias.
    KernelTypeError
        If the layers are of different data types or not layers.
    GeometryError
        If the layers have different numbers of spatial axes.

    Examples
    --------
    >>> import numpy as np
    >>> depthwise = ConvLayer.of(np.ones((4, 1, 3, 3)), padding=1, groups=4)
    >>> pointwise = ConvLayer.of(np.ones((8, 4, 1, 1)))
    >>> print(ConvSequence([depthwise, pointwise]))
    layer  channels  kernel  geometry                       parameters
    0      4 -> 4    3x3     stride 1, padding 1, groups 4          36
    1      4 -> 8    1x1     stride 1, padding 0                    32
    """

    layers: tuple[ConvLayer | PadLayer, ...]

    def __post_init__(self) -> None:
        if isinstance(self.layers, (ConvLayer, PadLayer)) or not isinstance(self.layers, Iterable):
            raise KernelTypeError(
                f"layers must be an iterable of ConvLayer, got {type(self.layers).__name__}; put one layer in a list"
            )
        layers = tuple(self.layers)
        for i, layer in enumerate(layers):
            if not isinstance(layer, (ConvLayer, PadLayer)):
                raise KernelTypeError(
                    f"layers[{i}] must be a ConvLayer or a PadLayer, got {type(layer).__name__}; use ConvLayer.of(...)"
                )
            if layer.ndim != layers[0].ndim:
                raise GeometryError(
                    f"layers must have one number of spatial axes, got {layers[0].ndim} in layer 0 and {layer.ndim} in "
                    f"layer {i}"
                )
        object.__setattr__(self, "layers", layers)
        self._check_convolutions()

    def _check_convolutions(self) -> None:
        """Refuse convolutions that do not follow from one another."""
        numbered = [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, ConvLayer)]
        if not numbered:
            raise KernelError(
                f"layers must hold at least one ConvLayer, got {'only paddings' if self.layers else 'none'}"
            )
        at, before = numbered[0]
        for i, layer in numbered[1:]:
            if layer.dtype != before.dtype:
                raise KernelTypeError(
                    f"layers must be of one data type, got {before.dtype} in layer {at} and {layer.dtype} in layer {i}"
                    "; convert the kernels first"
                )
            if layer.in_channels != before.out_channels:
                raise KernelError(
                    f"layer {i} takes {layer.in_channels} channels, layer {at} gives {before.out_channels}"
                )
            at, before = i, layer
        for i, layer in numbered:
            if layer.bias is not None and i < numbered[-1][0]:
                raise KernelError(
                    f"layer {i} has a bias; only the last convolution may (an inner bias is wrong at zero-padded "
                    "borders), so move it through the later kernels where no padding follows"
                )

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[ConvLayer | PadLayer]:
        return iter(self.layers)

    @property
    def sequence(self) -> ConvSequence:
        """The sequence itself."""
        return self

    @property
    def convolutions(self) -> tuple[ConvLayer, ...]:
        """The convolutions alone, in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, ConvLayer))

    @property
    def pads(self) -> bool:
        """Whether a layer pads by values, so that the sequence is no convolution at the borders."""
        return len(self.convolutions) < len(self.layers)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.layers[0].ndim

    @property
    def chain(self) -> list[tuple[tuple[int, ...], ConvGeometry]]:
        """Kernel shape and geometry of every convolution, as :mod:`tensorconv.cost` counts them."""
        return [(layer.kernel.shape, layer.geometry) for layer in self.convolutions]

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.convolutions[0].in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.convolutions[-1].out_channels

    @property
    def bias(self) -> Array | None:
        """Bias of the last convolution."""
        return self.convolutions[-1].bias

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of all kernels."""
        return self.convolutions[0].dtype

    @property
    def n_parameters(self) -> int:
        """Stored entries of all kernels and the bias."""
        return sum(layer.n_parameters for layer in self.convolutions)

    def macs(self, input_size: int | Sequence[int]) -> int:
        """Return the multiply-accumulates for one image of this spatial size, padded taps counted.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            Sum over the convolutions, each at its own size; a padding takes none.
        """
        return sum(layer.macs(size) for layer, size in self._sized(input_size) if isinstance(layer, ConvLayer))

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
        """
        *_, (last, size) = self._sized(input_size)
        return last.output_size(size)

    def _sized(self, input_size: int | Sequence[int]) -> Iterator[tuple[ConvLayer | PadLayer, tuple[int, ...]]]:
        """Yield every layer with the spatial size of its input."""
        size = per_axis("input_size", input_size, self.ndim, at_least=1)
        for i, layer in enumerate(self.layers):
            if i:
                size = self.layers[i - 1].output_size(size)
            yield layer, size

    def __str__(self) -> str:
        rows = [("layer", "channels", "kernel", "geometry", "parameters")]
        for i, layer in enumerate(self.layers):
            if isinstance(layer, PadLayer):
                rows.append((layer.name or str(i), "", "", str(layer), "0"))
                continue
            size = "x".join(map(str, layer.kernel_size))
            bias = "" if layer.bias is None else ", bias"
            channels = f"{layer.in_channels} -> {layer.out_channels}"
            rows.append((layer.name or str(i), channels, size, f"{layer.geometry}{bias}", f"{layer.n_parameters:,}"))
        return aligned_table(rows)

    def __repr__(self) -> str:
        inside = ", ".join(str(layer.kernel.shape if isinstance(layer, ConvLayer) else layer) for layer in self.layers)
        return f"<ConvSequence of {len(self.layers)}: {inside}, {self.dtype}>"


def as_sequence(value: Any) -> ConvSequence:
    """Return the sequence that a layer, a sequence, or anything with ``.sequence`` means.

    Parameters
    ----------
    value : ConvLayer, ConvSequence or object with ``.sequence``
        What to execute, check or export.

    Returns
    -------
    ConvSequence
        The sequence.

    Raises
    ------
    KernelTypeError
        If it is none of these.
    """
    sequence = getattr(value, "sequence", None)
    if not isinstance(sequence, ConvSequence):
        raise KernelTypeError(
            f"sequence must be a ConvLayer, a ConvSequence or have .sequence, got {type(value).__name__}; "
            "a plain array becomes a layer by ConvLayer.of(array, stride=..., padding=...)"
        )
    return sequence
