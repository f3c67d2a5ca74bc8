"""Plan a convolution once and run it on many inputs, on as many threads as the machine grants."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.convolution.channels import convolve_channels, permute_channels
from tensorconv.convolution.pad import pad_by_values
from tensorconv.convolution.plans import Plan, planned
from tensorconv.errors import KernelError, KernelTypeError
from tensorconv.integers import per_axis
from tensorconv.layers import ChannelwiseLayer, ConvLayer, PadLayer, PermuteLayer, as_sequence


@dataclass(frozen=True, eq=False)
class Prepared:
    """A sequence planned for one input size and data type; call it on inputs.

    Parameters
    ----------
    steps : tuple of callable
        The planned steps in order, from array to array.
    in_channels : int
        Channels that it takes.
    input_size : tuple of int
        Spatial size it takes.
    dtype : dtype
        Type of the computation, float32 or float64.
    """

    steps: tuple[Callable[[Array], Array], ...]
    in_channels: int
    input_size: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, x: Any) -> Array:
        """Apply the sequence.

        Parameters
        ----------
        x : array_like, shape (B, C, L1..LN)
            Data of the planned size and type.

        Returns
        -------
        ndarray, shape (B, O, P1..PN)
            The output, in the type of x.

        Raises
        ------
        KernelError
            If x has another shape than planned.
        KernelTypeError
            If x is of another type than planned.
        """
        return self._apply(as_float_array("x", x, finite=False))

    def _apply(self, data: Array) -> Array:
        """Apply the sequence to an array that is not known to be finite yet."""
        planned = (self.in_channels, *self.input_size)
        if data.ndim != len(planned) + 1 or data.shape[1:] != planned:
            raise KernelError(f"x must have shape (B, {', '.join(map(str, planned))}) here, got {data.shape}")
        if data.dtype != self.dtype:
            raise KernelTypeError(f"x must be {self.dtype} as prepared, got {data.dtype}; convert it or prepare anew")
        first = self.steps[0]
        if isinstance(first, Plan):
            y, is_finite = first.judge(data)
        else:
            y, is_finite = data, False
        if not is_finite:
            as_float_array("x", data)
        for step in self.steps[isinstance(first, Plan) :]:
            y = step(y)
        return y


def prepare(sequence: Any, input_size: int | Sequence[int], dtype: Any = "float64") -> Prepared:
    """Plan a layer or sequence for one input size and data type: tables and weights are laid out once.

    Parameters
    ----------
    sequence : ConvLayer, ConvSequence or object with ``.sequence``
        What to apply.
    input_size : int or sequence of int
        Spatial size of the inputs to come.
    dtype : dtype
        Type of the computation, float32 or float64.

    Returns
    -------
    Prepared
        A callable on data of shape ``(B, C, *input_size)``.

    Raises
    ------
    KernelTypeError
        If the type is neither float32 nor float64.
    GeometryError
        If the size has another number of axes or some output would be empty.

    Examples
    --------
    >>> import tensorconv as tc
    >>> blur = tc.ConvLayer.of(np.full((1, 1, 3), 1 / 3), padding=1)
    >>> tc.prepare(blur, [4])(np.array([[[3.0, 0.0, 3.0, 6.0]]]))
    array([[[1., 2., 3., 3.]]])
    """
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise KernelTypeError(f"dtype must be float32 or float64, got {dtype!r}") from error
    if kind.name not in ("float32", "float64"):
        raise KernelTypeError(
            f'dtype must be float32 or float64, got {kind}; convert the data, e.g. x.astype("float32")'
        )
    steps = as_sequence(sequence)
    whole = size = per_axis("input_size", input_size, steps.ndim, at_least=1)
    prepared: list[Callable[[Array], Array]] = []
    for _, group in itertools.groupby(steps.layers, lambda layer: isinstance(layer, ConvLayer)):
        alike = list(group)
        prepared += planned(tuple(layer for layer in alike if isinstance(layer, ConvLayer)), size, kind)
        for layer in alike:
            if not isinstance(layer, ConvLayer):
                prepared.append(_prepare_step(layer, size, kind))
            size = layer.output_size(size)
    return Prepared(tuple(prepared), steps.in_channels, whole, kind)


def convolve(x: Any, sequence: Any) -> Array:
    """Apply a layer or a sequence of layers to data: the reference that everything is checked against.

    Cross-correlation, ``y[o, p] = b[o] + sum_ik W[o, i, k] x[i, stride * p + dilation * k - low]``, zeros outside; a
    transposed layer adds ``W[o, i, k] x[i, p]`` at ``stride * p + dilation * k - low`` instead.

    Parameters
    ----------
    x : array_like, shape (B, C, L1..LN)
        Data, float32 or float64; the computation is in this type.
    sequence : ConvLayer, ConvSequence or object with ``.sequence``
        What to apply.

    Returns
    -------
    ndarray, shape (B, O, P1..PN)
        The output, in the type of x; bitwise the same for any number of threads.

    Raises
    ------
    KernelError
        If x has the wrong shape, or holds NaN or inf.
    KernelTypeError
        If x is neither float32 nor float64.
    GeometryError
        If some output would be empty.

    Examples
    --------
    >>> import tensorconv as tc
    >>> edge = tc.ConvLayer.of(np.array([[[-1.0, 1.0]]]))
    >>> tc.convolve(np.array([[[0.0, 0.0, 2.0, 2.0]]]), edge)
    array([[[0., 2., 0.]]])
    """
    steps = as_sequence(sequence)
    data = as_data(x, steps.ndim, finite=False)
    if data.dtype.name not in ("float32", "float64"):
        raise KernelTypeError(f'x must be float32 or float64, got {data.dtype}; convert it, e.g. x.astype("float32")')
    return prepare(steps, data.shape[2:], data.dtype)._apply(data)


def as_data(x: Any, ndim: int, *, finite: bool = True) -> Array:
    """Return data as a floating-point array of the right number of axes.

    Parameters
    ----------
    x : array_like, shape (B, C, L1..LN)
        Data.
    ndim : int
        Number of spatial axes N.
    finite : bool
        Whether to look at every number.

    Returns
    -------
    ndarray
        The data, not necessarily a copy.

    Raises
    ------
    KernelError
        If it has another number of axes, or holds NaN or inf.
    """
    data = as_float_array("x", x, finite=finite)
    if data.ndim != ndim + 2:
        raise KernelError(f"x must have shape (B, C, {ndim} spatial axes), got {data.shape}; add a batch axis: x[None]")
    return data


def _prepare_step(
    layer: PadLayer | PermuteLayer | ChannelwiseLayer, size: tuple[int, ...], dtype: np.dtype[Any]
) -> Callable[[Array], Array]:
    if isinstance(layer, PadLayer):
        return partial(pad_by_values, layer=layer)
    if isinstance(layer, PermuteLayer):
        return partial(permute_channels, layer=layer)
    (view,) = planned((layer.view,), (layer.in_channels, *size), dtype)
    return partial(convolve_channels, view=view, bias=None if layer.bias is None else layer.bias.astype(dtype))
