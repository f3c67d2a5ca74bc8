"""Exporter "jax": a sequence as a pytree of parameters and a function of them, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax import lax

from tensorconv.errors import FormatError, GeometryError, KernelError, KernelTypeError, UnsupportedExportError
from tensorconv.export.jax_arrays import flipped, lax_padding, pad, read_layer, to_jax
from tensorconv.export.jax_channels import Channelwise, convolve_channels, order_channels, read_channelwise
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer, Step, as_sequence

Params = list[dict[str, jax.Array]]
Integers = ConvGeometry | Channelwise | PermuteLayer | PadLayer


@dataclass(frozen=True)
class Apply:
    """The function of a sequence: it holds every integer and no array, so that it is a static argument to JAX.

    Parameters
    ----------
    steps : tuple of ConvGeometry, Channelwise, PermuteLayer or PadLayer
        What to do, one step after another.
    names : tuple of str
        Names of the layers, one per step.
    precision : str or None
        Of the products, in the words of ``jax.lax.Precision``; None is JAX's default, which on accelerators rounds
        float32 factors.
    """

    steps: tuple[Integers, ...]
    names: tuple[str, ...]
    precision: str | None = "highest"

    def __call__(self, params: Sequence[Mapping[str, Any]], x: Any) -> jax.Array:
        """Return the output of the sequence.

        Parameters
        ----------
        params : sequence of dict
            Arrays "kernel" (O, I, K1..KN), channel-wise (J, 1, D, K1..KN), and, where the layer has one, "bias" (O,)
            per step; none for a padding or an order of the channels.
        x : jax.Array, shape (B, C, L1..LN)
            The input, of the kernels' data type.

        Returns
        -------
        jax.Array, shape (B, O, M1..MN)
            The output.

        Raises
        ------
        GeometryError
            If the input is too small or has another number of axes.
        KernelError
            If the input of a step along the channels has another number of them.
        FormatError
            If there is not one entry of parameters per step.
        """
        _check_length(params, self)
        y: jax.Array = x
        for step, arrays in zip(self.steps, params, strict=True):
            if isinstance(step, PadLayer):
                y = pad(y, step.padding, step.mode)
            elif isinstance(step, PermuteLayer):
                y = order_channels(y, step.order)
            elif isinstance(step, Channelwise):
                y = convolve_channels(y, arrays["kernel"], step, precision=self.precision)
            else:
                y = _convolve(y, arrays["kernel"], step, self.precision)
            if "bias" in arrays:
                y = y + arrays["bias"].reshape(-1, *(1,) * (y.ndim - 2))
        return y


def dump(sequence: Any) -> tuple[Params, Apply]:
    """Return a sequence as parameters and the function that applies them.

    The function is one ``jax.lax.conv_general_dilated`` per convolution, transposed ones too, over any number of
    spatial axes, and slices where the padding is negative. In a channel-wise one the channels are one more axis. It
    works with ``jax.jit``, ``jax.grad`` and ``jax.vmap``.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.

    Returns
    -------
    params : list of dict of jax.Array
        "kernel" (O, I, K1..KN), channel-wise (J, 1, D, K1..KN), and, where the layer has one, "bias" (O,) per layer;
        nothing for a padding or an order of the channels.
    apply : Apply
        ``apply(params, x)`` takes x (B, C, L1..LN) to (B, O, M1..MN).

    Raises
    ------
    UnsupportedExportError
        If the kernels are float64 and JAX's 64-bit mode is off.
    """
    layers = as_sequence(sequence).layers
    steps = tuple(_integers(layer) for layer in layers)
    return [_arrays(layer) for layer in layers], Apply(steps, tuple(layer.name for layer in layers))


def load(obj: tuple[Sequence[Mapping[str, Any]], Apply]) -> ConvSequence:
    """Return the sequence of parameters and their function, the inverse of :func:`dump`.

    Parameters
    ----------
    obj : tuple of (list of dict, Apply)
        What :func:`dump` made; the parameters may have been trained, and be JAX or numpy arrays.

    Returns
    -------
    ConvSequence
        Kernels and bias bitwise the parameters.

    Raises
    ------
    UnsupportedExportError
        If it is no such pair.
    FormatError
        If the parameters are not those of the function.
    """
    if not isinstance(obj, tuple) or len(obj) != 2 or not isinstance(obj[1], Apply):
        raise UnsupportedExportError(
            f"obj must be the pair (params, apply) that dump makes, got {type(obj).__name__}; a kernel of another "
            "function becomes a layer by ConvLayer.of(kernel, ...)"
        )
    params, apply = obj
    _check_length(params, apply)
    try:
        return ConvSequence(
            tuple(
                _layer(i, step, arrays, name)
                for i, (step, arrays, name) in enumerate(zip(apply.steps, params, apply.names, strict=True))
            )
        )
    except (GeometryError, KernelError, KernelTypeError) as error:
        raise FormatError(f"the parameters make no sequence of convolutions: {error}") from error


def _convolve(x: jax.Array, kernel: Any, geometry: ConvGeometry, precision: str | None) -> jax.Array:
    size, transposed = kernel.shape[2:], geometry.transposed
    geometry.output_size(x.shape[2:], size)  # refuses an empty output, and an input with other axes
    padding, left = lax_padding(geometry, size)
    ones = (1,) * geometry.ndim
    y = lax.conv_general_dilated(
        x if transposed else pad(x, left, "zeros"),
        flipped(kernel) if transposed else kernel,
        window_strides=ones if transposed else geometry.stride,
        padding=padding,
        lhs_dilation=geometry.stride if transposed else ones,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        precision=precision,
    )
    return pad(y, left, "zeros") if transposed else y


def _integers(layer: Step) -> Integers:
    if isinstance(layer, ChannelwiseLayer):
        return Channelwise(layer.in_channels, layer.geometry)
    return layer.geometry if isinstance(layer, ConvLayer) else layer


def _arrays(layer: Step) -> dict[str, jax.Array]:
    if isinstance(layer, (PadLayer, PermuteLayer)):
        return {}
    kernel = layer.kernel[:, None] if isinstance(layer, ChannelwiseLayer) else layer.kernel
    arrays = {"kernel": kernel} if layer.bias is None else {"kernel": kernel, "bias": layer.bias}
    return {key: to_jax(array) for key, array in arrays.items()}


def _check_length(params: Any, apply: Apply) -> None:
    if not isinstance(params, (list, tuple)) or len(params) != len(apply.steps):
        size = f" of {len(params)}" if hasattr(params, "__len__") else ""
        raise FormatError(
            f"params must be a list of one dict per step, {len(apply.steps)} in all, got {type(params).__name__}{size}"
            "; give the list that dump made"
        )


def _layer(i: int, step: Integers, arrays: Any, name: str) -> Step:
    wanted = set() if isinstance(step, (PadLayer, PermuteLayer)) else {"kernel"}
    keys = set(arrays) if isinstance(arrays, Mapping) else None
    if keys not in (wanted, wanted and wanted | {"bias"}):
        raise FormatError(
            f"params[{i}] must be a dict of "
            f"{'arrays kernel and, where there is one, bias' if wanted else f'nothing, for {step}'}, got "
            f"{type(arrays).__name__ if keys is None else sorted(map(str, keys))}"
        )
    if isinstance(step, (PadLayer, PermuteLayer)):
        return replace(step, name=name)
    if isinstance(step, Channelwise):
        return read_channelwise(arrays["kernel"], arrays.get("bias"), step, name)
    return read_layer(arrays["kernel"], arrays.get("bias"), step, name)
