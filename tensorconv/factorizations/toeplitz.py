"""Channel-wise convolutions: a layer as one convolution along its channels, in the order that suits it best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.errors import GeometryError, KernelError, RankError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import flag, integer, integers
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PermuteLayer, as_layer
from tensorconv.linalg import ToeplitzBand, ToeplitzSeriation, as_generator, one_blas_thread, square_safe_scale
from tensorconv.linalg import toeplitz_seriation as seriation


@dataclass(frozen=True, eq=False, repr=False)
class ChannelwiseFit:
    """A layer written as a channel-wise convolution between two orders of the channels.

    Parameters
    ----------
    original : ConvLayer
        The layer; of :func:`classification_layer`, the full connection as a pointwise layer.
    sequence : ConvSequence
        An order of the in-channels, the channel-wise convolution with the bias, an order of the out-channels; an order
        that changes nothing is left out.
    relative_error : float
        True relative Frobenius error of the stored kernel; 0.0 for a zero kernel.
    pooled : tuple of int
        Spatial size over which the mean is taken before a full connection; () for a layer.
    """

    original: ConvLayer
    sequence: ConvSequence
    relative_error: float
    pooled: tuple[int, ...] = ()
    method: ClassVar[str] = "channelwise"

    @cached_property
    def layer(self) -> ConvLayer:
        """The convolution that the sequence stands for: the original, or pooling and full connection in one."""
        if not self.pooled:
            return self.original
        mean = self.original.kernel.astype(np.float64) / math.prod(self.pooled)
        kernel = np.broadcast_to(mean, (*mean.shape[:2], *self.pooled)).astype(self.original.dtype)
        return ConvLayer(kernel, self.original.geometry, self.original.bias, self.original.name)

    @property
    def convolution(self) -> ChannelwiseLayer:
        """The channel-wise convolution of the sequence."""
        return next(step for step in self.sequence if isinstance(step, ChannelwiseLayer))

    @property
    def length(self) -> int:
        """Taps along the channels."""
        return int(self.convolution.kernel.shape[1])

    @property
    def groups(self) -> int:
        """Number of kernels, each of which gives as many out-channels."""
        return int(self.convolution.kernel.shape[0])

    @cached_property
    def kernel(self) -> Array:
        """The dense kernel (O, C, K1..KN) that the sequence means."""
        kernel = self.convolution.convolution.kernel
        at = next(i for i, step in enumerate(self.sequence) if isinstance(step, ChannelwiseLayer))
        for step in self.sequence.layers[:at]:
            if isinstance(step, PermuteLayer):
                kernel = kernel[:, list(step.inverse.order)]
        for step in self.sequence.layers[at + 1 :]:
            if isinstance(step, PermuteLayer):
                kernel = kernel[list(step.order)]
        kernel.flags.writeable = False
        return kernel

    @property
    def n_parameters(self) -> int:
        """Stored entries of the sequence, which are few: orders of channels store none."""
        return self.sequence.n_parameters

    def __str__(self) -> str:
        share = self.n_parameters / self.original.n_parameters
        words = f"{share:.1%} of the layer's {self.original.n_parameters:,} parameters"
        return f"{self._summary}, {words}\n{self.sequence}"

    def __repr__(self) -> str:
        return f"<ChannelwiseFit: {self._summary}>"

    @property
    def _summary(self) -> str:
        groups = f", groups {self.groups}" if self.groups > 1 else ""
        return f"{self.method}, length {self.length}{groups}, relative error {self.relative_error:.3g}"


def channelwise(
    layer: Any, length: int, *, groups: int = 1, permute: bool = True, n_perturbations: int = 16, rng: Any = 0
) -> ChannelwiseFit:
    """Fit a layer by a channel-wise convolution: kernels that the channels share as positions share them.

    ``W[o, i, k] = kernel[j, t, k]`` for out-channel ``(j, p)`` of J groups, ``t = i - s p + (D - s) // 2``, stride
    ``s = J C / O`` along the channels (Gao, Wang and Ji, "ChannelNets", 2018): with several groups their group
    channel-wise convolution, with one the pointwise stage of their depthwise separable channel-wise convolution, of D
    parameters where the layer has C O. As a matrix that is a banded Toeplitz matrix, and the nearest one has the
    averages along the diagonals. Since the channels of a trained layer are in no order, the order that suits best is
    sought (:func:`tensorconv.linalg.toeplitz_seriation`) and becomes a step before and after. The spatial geometry is
    kept; a kernel of more than one spatial tap becomes one of D taps along the channels and as many along space.

    A layer that is channel-wise, its channels shuffled, is recovered. A layer trained without this structure is not
    near it: expect relative errors of 0.8 and more, and a network that must be trained on.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, C, K1..KN)
        The layer, of one group; an array means stride 1 without padding.
    length : int
        Taps D along the channels, from s to ``2 C - s``.
    groups : int
        Kernels J; it divides O, and O divides ``J C``.
    permute : bool
        Whether channels may be reordered.
    n_perturbations : int
        How often the best orders are disturbed to search on from there.
    rng : int or numpy.random.Generator
        Seed of the perturbations.

    Returns
    -------
    ChannelwiseFit
        Sequence, true error, kernel.

    Raises
    ------
    GeometryError
        If the layer has groups or is transposed, or the groups do not fit its channels.
    RankError
        If the length is out of range.

    Examples
    --------
    >>> import tensorconv as tc
    >>> kernel = np.random.default_rng(0).standard_normal((16, 16, 1, 1))
    >>> f = channelwise(kernel, 8, groups=2)
    >>> f.n_parameters, f.sequence.macs((7, 7)), f.relative_error < channelwise(kernel, 8, permute=False).relative_error
    (16, 6272, True)
    """
    dense = as_layer(layer)
    if dense.geometry.groups > 1 or dense.geometry.transposed:
        raise GeometryError(
            f"layer must have one group and not be transposed, got {dense.geometry}; factorize it first, for example "
            "by depthwise_separable, and fit the pointwise layer"
        )
    band = _group_band(dense, groups, length)
    found = _seriated(dense.kernel, band, permute=permute, n_perturbations=n_perturbations, rng=rng)
    return _finished(dense, dense.kernel, band, found)


def classification_layer(
    weight: Any,
    bias: Any = None,
    *,
    size: Sequence[int],
    permute: bool = True,
    n_perturbations: int = 16,
    rng: Any = 0,
    name: str = "",
) -> ChannelwiseFit:
    """Fit global average pooling and a full connection by one convolution over space and channels.

    The convolutional classification layer of ChannelNets (Gao, Wang and Ji, 2018): from C channels to O classes a
    kernel of ``C - O + 1`` taps along the channels and all positions of space, without padding, so that one position
    is left and the channels' windows are the classes: 1,225 parameters for 1024 channels of 7x7 and 1000 classes, where
    the full connection has 1,024,000, though not fewer multiplications. The nearest to a mean over space is constant
    there, and the structure is far from a trained full connection: the network must be trained on.

    Parameters
    ----------
    weight : array_like, shape (O, C)
        The full connection, at most as many classes as channels.
    bias : array_like, shape (O,), optional
        Its bias, kept.
    size : sequence of int
        Spatial size of what is pooled.
    permute : bool
        Whether channels and classes may be reordered.
    n_perturbations : int
        How often the best orders are disturbed to search on from there.
    rng : int or numpy.random.Generator
        Seed of the perturbations.
    name : str
        A label.

    Returns
    -------
    ChannelwiseFit
        Its ``original`` is the full connection, its ``layer`` what the sequence stands for.

    Raises
    ------
    KernelError
        If the weight is no matrix, or has more classes than channels.

    Examples
    --------
    >>> weight = np.random.default_rng(0).standard_normal((10, 12))
    >>> f = classification_layer(weight, size=(7, 7))
    >>> f.n_parameters, f.original.n_parameters, f.sequence.output_size((7, 7))
    (147, 120, (1, 1))
    """
    matrix = as_float_array("weight", weight)
    if matrix.ndim != 2 or matrix.shape[0] > matrix.shape[1]:
        raise KernelError(
            f"weight must have shape (O, C) with at most as many classes O as channels C, got {matrix.shape}; more "
            "classes than channels leave no window"
        )
    pooled = integers("size", size, at_least=1)
    geometry = ConvGeometry.of(len(pooled))
    original = ConvLayer(matrix.reshape(*matrix.shape, *(1,) * len(pooled)), geometry, bias, name)
    n_out, n_in = matrix.shape
    band = ToeplitzBand(1, n_out, n_in, n_in - n_out + 1)
    found = _seriated(matrix, band, permute=permute, n_perturbations=n_perturbations, rng=rng)
    return _finished(original, matrix, band, found, pooled)


def _group_band(layer: ConvLayer, groups: int, length: int) -> ToeplitzBand:
    n_out, n_in = layer.kernel.shape[:2]
    n_kernels = integer("groups", groups, at_least=1)
    if n_out % n_kernels or n_kernels * n_in % n_out:
        raise GeometryError(
            f"groups must divide the {n_out} out-channels, which must divide groups times the {n_in} in-channels, got "
            f"groups={n_kernels}; {n_out // math.gcd(n_out, n_in)} is the smallest that does"
        )
    stride = n_kernels * n_in // n_out
    n_taps = integer("length", length)
    if not stride <= n_taps <= 2 * n_in - stride:
        raise RankError(
            f"length must be from {stride}, the stride along the channels, to {2 * n_in - stride}, which reaches every "
            f"channel from every one, got {n_taps}"
        )
    return ToeplitzBand(n_kernels, n_out // n_kernels, n_in, n_taps, stride, (n_taps - stride) // 2)


def _seriated(kernel: Array, band: ToeplitzBand, *, permute: bool, n_perturbations: int, rng: Any) -> ToeplitzSeriation:
    matrix = kernel.astype(np.float64)
    generator, n_moves = as_generator(rng), integer("n_perturbations", n_perturbations, at_least=0)
    if flag("permute", permute):
        return seriation(matrix, band, n_perturbations=n_moves, rng=generator)
    scale = square_safe_scale(matrix)
    with one_blas_thread():
        kernels = scale * band.projection(matrix / scale)
    return ToeplitzSeriation(np.arange(matrix.shape[0]), np.arange(matrix.shape[1]), kernels, 0.0)


def _finished(
    original: ConvLayer, dense: Array, band: ToeplitzBand, found: ToeplitzSeriation, pooled: tuple[int, ...] = ()
) -> ChannelwiseFit:
    """Store the kernels, between the orders, and measure what is stored."""
    n_pooled = math.prod(pooled)
    taps = (found.kernels / n_pooled).astype(original.dtype)
    matrix = dense.astype(np.float64)[found.rows][:, found.columns]
    scale = square_safe_scale(matrix)
    with one_blas_thread():
        error = band.relative_error(matrix / scale, taps.astype(np.float64) / scale * n_pooled)
    stored = np.broadcast_to(taps.reshape(*taps.shape, *(1,) * len(pooled)), (*taps.shape, *pooled))
    g, high = original.geometry, band.stride * (band.n_maps - 1) + band.length - band.n_columns - band.low
    geometry = ConvGeometry((band.stride, *g.stride), ((band.low, high), *g.padding), (1, *g.dilation))
    bias = None if original.bias is None else original.bias[found.rows]
    steps: list[PermuteLayer | ChannelwiseLayer] = [
        PermuteLayer(tuple(found.columns.tolist())),
        ChannelwiseLayer(stored, band.n_columns, geometry, bias),
        PermuteLayer(tuple(np.argsort(found.rows).tolist())),
    ]
    kept = [s for s in steps if not isinstance(s, PermuteLayer) or s.order != tuple(range(len(s.order)))]
    if original.name:
        kept = [replace(step, name=f"{original.name}.{i}") for i, step in enumerate(kept)]
    return ChannelwiseFit(original, ConvSequence(tuple(kept)), error, pooled)
