"""ConvSequence: steps in order, the narrow waist between factorizations and everything that reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tensorconv import cost
from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, KernelError, KernelTypeError
from tensorconv.integers import per_axis
from tensorconv.layers.channelwise import ChannelwiseLayer
from tensorconv.layers.layer import ConvLayer
from tensorconv.layers.pad import PadLayer
from tensorconv.layers.permute import PermuteLayer
from tensorconv.text import aligned_table

Step = ConvLayer | ChannelwiseLayer | PermuteLayer | PadLayer
_STEPS = (ConvLayer, ChannelwiseLayer, PermuteLayer, PadLayer)


@dataclass(frozen=True, eq=False, repr=False)
class ConvSequence:
    """Convolutions, and steps between them, applied one after another.

    Only the last convolution may have a bias: an inner bias is not the same at zero-padded borders as inside.

    Parameters
    ----------
    layers : iterable of ConvLayer, ChannelwiseLayer, PermuteLayer or PadLayer
        The steps in order, at least one of them with a kernel.

    Raises
    ------
    KernelError
        If there is no kernel, the channels do not chain, or a convolution but the last has a bias.
    KernelTypeError
        If the kernels are of different data types, or a step is none.
    GeometryError
        If the steps have different numbers of spatial axes.

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

    layers: tuple[Step, ...]

    def __post_init__(self) -> None:
        if isinstance(self.layers, _STEPS) or not isinstance(self.layers, Iterable):
            raise KernelTypeError(
                f"layers must be an iterable of ConvLayer, got {type(self.layers).__name__}; put one layer in a list"
            )
        object.__setattr__(self, "layers", tuple(self.layers))
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, _STEPS):
                raise KernelTypeError(
                    f"layers[{i}] must be a ConvLayer, ChannelwiseLayer, PermuteLayer or PadLayer, got "
                    f"{type(layer).__name__}; use ConvLayer.of(...)"
                )
        if not self._weighted:
            raise KernelError(f"layers must hold at least one ConvLayer, got {len(self.layers)} steps without a kernel")
        self._check_kinds()
        self._check_channels()

    def _check_kinds(self) -> None:
        """Refuse kernels and paddings that are not of one kind."""
        axes = {
            layer.ndim: i for i, layer in reversed([*enumerate(self.layers)]) if not isinstance(layer, PermuteLayer)
        }
        types = {layer.dtype: i for i, layer in reversed([*self._weighted.items()])}
        if len(axes) > 1:
            (first, i), (other, j) = sorted(axes.items(), key=lambda item: item[1])[:2]
            raise GeometryError(
                f"layers must have one number of spatial axes, got {first} in layer {i} and {other} in layer {j}"
            )
        if len(types) > 1:
            (one, i), (another, j) = sorted(types.items(), key=lambda item: item[1])[:2]
            raise KernelTypeError(
                f"layers must be of one data type, got {one} in layer {i} and {another} in layer {j}; convert the "
                "kernels first"
            )

    def _check_channels(self) -> None:
        """Refuse steps that do not follow from one another."""
        numbered = [(i, layer) for i, layer in enumerate(self.layers) if not isinstance(layer, PadLayer)]
        for (at, before), (i, layer) in itertools.pairwise(numbered):
            if layer.in_channels != before.out_channels:
                raise KernelError(
                    f"layer {i} takes {layer.in_channels} channels, layer {at} gives {before.out_channels}"
                )
        *inner, _ = self._weighted
        for i in inner:
            if self._weighted[i].bias is not None:
                raise KernelError(
                    f"layer {i} has a bias; only the last convolution may (an inner bias is wrong at zero-padded "
                    "borders), so move it through the later kernels where no padding follows"
                )

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.layers)

    @property
    def sequence(self) -> ConvSequence:
        """The sequence itself."""
        return self

    @cached_property
    def _weighted(self) -> dict[int, ConvLayer | ChannelwiseLayer]:
        """The steps with kernels, by position."""
        return {i: layer for i, layer in enumerate(self.layers) if isinstance(layer, (ConvLayer, ChannelwiseLayer))}

    @cached_property
    def plain(self) -> tuple[ConvLayer | PadLayer, ...]:
        """The same map by convolutions and paddings alone: every other step as the convolution that it is."""
        plain: list[ConvLayer | PadLayer] = []
        for layer in self.layers:
            if isinstance(layer, PermuteLayer):
                plain.append(layer.convolution(self.ndim, self.dtype))
            else:
                plain.append(layer.convolution if isinstance(layer, ChannelwiseLayer) else layer)
        last = max(i for i, layer in enumerate(plain) if isinstance(layer, ConvLayer))
        for i, layer in enumerate(plain):
            bias = self.bias if i == last else None
            if isinstance(layer, ConvLayer) and layer.bias is not bias:  # one that channels are ordered after
                plain[i] = replace(layer, bias=bias)
        return tuple(plain)

    @property
    def convolutions(self) -> tuple[ConvLayer, ...]:
        """The convolutions that the steps are, in order; paddings are left out."""
        return tuple(layer for layer in self.plain if isinstance(layer, ConvLayer))

    @property
    def pads(self) -> bool:
        """Whether a step pads by values, so that the sequence is no convolution at the borders."""
        return any(isinstance(layer, PadLayer) for layer in self.layers)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return next(iter(self._weighted.values())).ndim

    @property
    def chain(self) -> cost.Chain:
        """Kernel shape and geometry of every convolution, and what is stored of it where that is not all."""
        chain: list[Any] = []
        for layer, one in zip((s for s in self.layers if not isinstance(s, PadLayer)), self.convolutions, strict=True):
            if isinstance(layer, ConvLayer):
                chain += layer.chain
            else:
                counts = cost.Stored(0, 0) if isinstance(layer, PermuteLayer) else layer.stored
                chain.append((one.kernel.shape, one.geometry, counts))
        return chain

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return next(layer.in_channels for layer in self.layers if not isinstance(layer, PadLayer))

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return next(layer.out_channels for layer in reversed(self.layers) if not isinstance(layer, PadLayer))

    @property
    def bias(self) -> Array | None:
        """Bias of the output, in the order of its channels."""
        last, bias = [*self._weighted.items()][-1][0], [*self._weighted.values()][-1].bias
        for layer in self.layers[last + 1 :]:
            if isinstance(layer, PermuteLayer) and bias is not None:
                bias = bias[list(layer.order)]
        return bias

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of all kernels."""
        return next(iter(self._weighted.values())).dtype

    @property
    def n_parameters(self) -> int:
        """Stored entries of all kernels and the bias."""
        return sum(layer.n_parameters for layer in self._weighted.values())

    def macs(self, input_size: int | Sequence[int]) -> int:
        """Return the multiply-accumulates for one image of this spatial size, padded taps counted.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            Sum over the convolutions, each at its own size; paddings and orders of channels take none.
        """
        kinds = (ConvLayer, ChannelwiseLayer)
        return sum(layer.macs(size) for layer, size in self._sized(input_size) if isinstance(layer, kinds))

    def additions(self, input_size: int | Sequence[int]) -> int:
        """Return the additions for one image that follow no product: those of fixed and binary kernels.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            Sum over the convolutions.
        """
        return sum(layer.additions(size) for layer, size in self._sized(input_size) if isinstance(layer, ConvLayer))

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

    def _sized(self, input_size: int | Sequence[int]) -> Iterator[tuple[Step, tuple[int, ...]]]:
        """Yield every layer with the spatial size of its input."""
        size = per_axis("input_size", input_size, self.ndim, at_least=1)
        for i, layer in enumerate(self.layers):
            if i:
                size = self.layers[i - 1].output_size(size)
            yield layer, size

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Every step in words: layer, channels, kernel, geometry, parameters."""
        rows = []
        for i, layer in enumerate(self.layers):
            name = layer.name or str(i)
            if isinstance(layer, PadLayer):
                rows.append((name, "", "", str(layer), "0"))
                continue
            channels = f"{layer.in_channels} -> {layer.out_channels}"
            if isinstance(layer, PermuteLayer):
                rows.append((name, channels, "", str(layer), "0"))
                continue
            kind = layer.entries if isinstance(layer, ConvLayer) else "channel-wise"
            size = "x".join(map(str, layer.kernel.shape[2 if isinstance(layer, ConvLayer) else 1 :]))
            words = [str(layer.geometry)] + [kind] * (kind != "dense") + ["bias"] * (layer.bias is not None)
            geometry = ", ".join(words)
            rows.append((name, channels, size, geometry, f"{layer.n_parameters:,}"))
        return tuple(rows)

    def __str__(self) -> str:
        return aligned_table([("layer", "channels", "kernel", "geometry", "parameters"), *self.rows])

    def __repr__(self) -> str:
        inside = ", ".join(str(getattr(getattr(layer, "kernel", layer), "shape", layer)) for layer in self.layers)
        return f"<ConvSequence of {len(self.layers)}: {inside}, {self.dtype}>"
