"""ConvSequence: convolutions in order, the narrow waist between factorizations and everything that reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorconv import cost
from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, KernelError, KernelTypeError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers.layer import ConvLayer
from tensorconv.text import aligned_table


@dataclass(frozen=True, eq=False, repr=False)
class ConvSequence:
    """Convolutions applied one after another.

    Only the last layer may have a bias: an inner bias is not the same at zero-padded borders as inside.

    Parameters
    ----------
    layers : iterable of ConvLayer
        The layers in order.

    Raises
    ------
    KernelError
        If there is no layer, the channels do not chain, or a layer but the last has a bias.
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

    layers: tuple[ConvLayer, ...]

    def __post_init__(self) -> None:
        if isinstance(self.layers, ConvLayer) or not isinstance(self.layers, Iterable):
            raise KernelTypeError(
                f"layers must be an iterable of ConvLayer, got {type(self.layers).__name__}; put one layer in a list"
            )
        layers = tuple(self.layers)
        if not layers:
            raise KernelError("layers must hold at least one ConvLayer, got none")
        for i, layer in enumerate(layers):
            if not isinstance(layer, ConvLayer):
                raise KernelTypeError(
                    f"layers[{i}] must be a ConvLayer, got {type(layer).__name__}; use ConvLayer.of(...)"
                )
            if layer.geometry.ndim != layers[0].geometry.ndim:
                raise GeometryError(
                    f"layers must have one number of spatial axes, got {layers[0].geometry.ndim} in layer 0 and "
                    f"{layer.geometry.ndim} in layer {i}"
                )
            if layer.dtype != layers[0].dtype:
                raise KernelTypeError(
                    f"layers must be of one data type, got {layers[0].dtype} in layer 0 and {layer.dtype} in layer {i}"
                    "; convert the kernels first"
                )
            if i and layer.in_channels != layers[i - 1].out_channels:
                raise KernelError(
                    f"layer {i} takes {layer.in_channels} channels, layer {i - 1} gives {layers[i - 1].out_channels}"
                )
            if layer.bias is not None and i < len(layers) - 1:
                raise KernelError(
                    f"layer {i} has a bias; only the last layer may (an inner bias is wrong at zero-padded borders), "
                    "so move it through the later kernels where no padding follows"
                )
        object.__setattr__(self, "layers", layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[ConvLayer]:
        return iter(self.layers)

    @property
    def sequence(self) -> ConvSequence:
        """The sequence itself."""
        return self

    @property
    def chain(self) -> list[tuple[tuple[int, ...], ConvGeometry]]:
        """Kernel shape and geometry of every layer, as :mod:`tensorconv.cost` counts them."""
        return [(layer.kernel.shape, layer.geometry) for layer in self.layers]

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.layers[0].in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.layers[-1].out_channels

    @property
    def bias(self) -> Array | None:
        """Bias of the last layer."""
        return self.layers[-1].bias

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of all kernels."""
        return self.layers[0].dtype

    @property
    def n_parameters(self) -> int:
        """Stored entries of all kernels and the bias."""
        return sum(layer.n_parameters for layer in self.layers)

    def macs(self, input_size: int | Sequence[int]) -> int:
        """Return the multiply-accumulates for one image of this spatial size, padded taps counted.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            Sum over the layers, each at its own size.
        """
        return int(cost.chain_cost(self.chain, "macs", input_size))

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
        return cost.chain_output_size(self.chain, input_size)

    def __str__(self) -> str:
        rows = [("layer", "channels", "kernel", "geometry", "parameters")]
        for i, layer in enumerate(self.layers):
            size = "x".join(map(str, layer.kernel_size))
            bias = "" if layer.bias is None else ", bias"
            channels = f"{layer.in_channels} -> {layer.out_channels}"
            rows.append((layer.name or str(i), channels, size, f"{layer.geometry}{bias}", f"{layer.n_parameters:,}"))
        return aligned_table(rows)

    def __repr__(self) -> str:
        inside = ", ".join(str(layer.kernel.shape) for layer in self.layers)
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
