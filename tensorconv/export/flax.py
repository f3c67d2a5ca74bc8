"""Exporter "flax": a sequence as flax.nnx.Sequential of convolutions, and back; Linen layers are read too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import linen, nnx

from tensorconv.errors import UnsupportedExportError
from tensorconv.export.flax_modules import ChannelPermutation, ChannelwiseConv, Pad
from tensorconv.export.flax_reader import MODES, read_convolution, wrapping
from tensorconv.export.jax_arrays import flipped, to_jax
from tensorconv.export.jax_channels import Channelwise, read_channelwise
from tensorconv.export.lax_steps import PaddedConvolution, lax_steps, read_modules
from tensorconv.export.padding import Other, Pairs
from tensorconv.integers import PerAxis
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer, as_sequence

_LAYERS = (nnx.Conv, nnx.ConvTranspose)
_LINEN_LAYERS = (linen.Conv, linen.ConvTranspose)


def dump(sequence: Any) -> nnx.Sequential:
    """Return a sequence as Flax NNX layers.

    Every convolution is one ``nnx.Conv``, over any number of spatial axes. A transposed one is an ``nnx.Conv`` whose
    ``input_dilation``, given per axis, is the stride and whose kernel is flipped: what ``nnx.ConvTranspose`` runs, but
    with groups, and with a padding that has one meaning. Padding by values is the "CIRCULAR" or "REFLECT" of the layer
    after it where that is the same, else a :class:`Pad`, and so is cropping, which JAX on a CPU computes wrongly
    as negative padding of a convolution. An order of the channels is a function
    (:class:`~tensorconv.export.flax_modules.ChannelPermutation`), a channel-wise convolution a module with a trainable
    kernel and bias (:class:`~tensorconv.export.flax_modules.ChannelwiseConv`). A layer's name is its attribute
    ``name``. Products are of the precision "highest", as the attribute ``precision`` says.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.

    Returns
    -------
    flax.nnx.Sequential
        Layers with parameters of the kernels' data type, for channels last (B, L1..LN, C).

    Raises
    ------
    UnsupportedExportError
        If the kernels are float64 and JAX's 64-bit mode is off.
    """
    return nnx.Sequential(*(_module(step) for step in lax_steps(as_sequence(sequence), _joins)))


def load(obj: Any, *, input_size: PerAxis | None = None) -> ConvSequence:
    """Return the sequence of Flax layers, the inverse of :func:`dump`.

    Parameters
    ----------
    obj : flax.nnx.Sequential, Conv, ConvTranspose or tuple of (flax.linen.Conv or ConvTranspose, dict)
        A sequence of convolutions, or one; a Linen layer comes with its variables, {"params": {...}}, or parameters.
    input_size : int or sequence of int, optional
        Spatial size of the input, where a padding "SAME" depends on it.

    Returns
    -------
    ConvSequence
        Kernels and bias bitwise the parameters; "CIRCULAR" and "REFLECT" become a padding before the layer.

    Raises
    ------
    UnsupportedExportError
        If it holds anything else, such as an activation, or a layer has a mask or computes in another type than its
        parameters'.
    FormatError
        If the attributes of a layer contradict its arrays.
    GeometryError
        If the input size is needed and not given.
    KernelError
        If a convolution before the last has a bias.
    """
    return read_modules(obj.layers if type(obj) is nnx.Sequential else [obj], _read, input_size)


def _joins(pad: PadLayer, layer: ConvLayer) -> bool:
    geometry = layer.geometry
    return (
        not geometry.transposed
        and not pad.name
        and pad.mode in MODES.values()
        and geometry.padding == ((0, 0),) * geometry.ndim
        and pad.padding == wrapping(layer.kernel_size, geometry.dilation)
        and pad.padding != geometry.padding
    )


def _module(step: PaddedConvolution | Other | Pairs) -> Any:
    if isinstance(step, PaddedConvolution):
        return _convolution(step)
    if isinstance(step, PermuteLayer):
        return ChannelPermutation(step.order, step.name)
    if isinstance(step, ChannelwiseLayer):
        kernel = to_jax(np.moveaxis(step.kernel, 0, -1)[..., None, :])
        bias = None if step.bias is None else to_jax(step.bias)
        return ChannelwiseConv(kernel, bias, Channelwise(step.in_channels, step.geometry), name=step.name)
    return Pad(step.padding, step.mode, step.name) if isinstance(step, PadLayer) else Pad(step)


def _convolution(step: PaddedConvolution) -> Any:
    layer, values = step.layer, step.values
    geometry, kernel = layer.geometry, layer.kernel
    options: dict[str, Any] = {"strides": geometry.stride}
    if geometry.transposed:
        kernel, options = flipped(kernel), {"input_dilation": geometry.stride}
    padding: Any = step.padding
    if values is not None:
        padding = next(word for word, mode in MODES.items() if mode == values.mode)
    weight = to_jax(np.moveaxis(kernel, (0, 1), (-1, -2)))
    bias = None if layer.bias is None else to_jax(layer.bias)
    module: Any = nnx.Conv(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        padding=padding,
        kernel_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        use_bias=bias is not None,
        param_dtype=weight.dtype,
        precision="highest",
        kernel_init=lambda *_: weight,
        bias_init=lambda *_: bias,
        rngs=nnx.Rngs(0),
        **options,
    )
    if layer.name:
        module.name = layer.name
    return module


def _read(module: Any, input_size: PerAxis | None) -> Iterator[ConvLayer | Other | Pairs]:
    if type(module) is Pad:
        yield module.padding if module.mode == "zeros" else PadLayer(module.padding, module.mode, module.name)
    elif type(module) is ChannelPermutation:
        yield PermuteLayer(module.order, module.name)
    elif type(module) is ChannelwiseConv:
        kernel, bias = np.asarray(module.kernel[...]), None if module.bias is None else module.bias[...]
        kernel = np.moveaxis(kernel, (-1, -2), (0, 1)) if kernel.ndim > 1 else kernel
        yield read_channelwise(kernel, bias, module.step, module.name)
    elif type(module) in _LAYERS:
        bias = module.bias[...] if module.use_bias else None
        yield from read_convolution(module, module.kernel[...], bias, input_size, getattr(module, "name", ""))
    elif isinstance(module, tuple) and len(module) == 2 and type(module[0]) in _LINEN_LAYERS:
        yield from _read_linen(*module, input_size)
    else:
        raise UnsupportedExportError(
            "obj must be an nnx.Sequential of Conv, ConvTranspose and this exporter's own layers, one of these layers, "
            f"or a pair (linen.Conv, parameters), got {type(module).__name__}; load the convolutions of a larger model "
            "one by one"
        )


def _read_linen(module: Any, variables: Any, input_size: PerAxis | None) -> Iterator[ConvLayer | PadLayer]:
    params = variables.get("params", variables) if isinstance(variables, Mapping) else variables
    wanted = {"kernel", "bias"} if module.use_bias else {"kernel"}
    if not isinstance(params, Mapping) or set(params) != wanted:
        raise UnsupportedExportError(
            f"a Linen layer's parameters must be a dict of {' and '.join(sorted(wanted))}, got "
            f"{sorted(params) if isinstance(params, Mapping) else type(params).__name__}; give the pair (layer, params)"
        )
    yield from read_convolution(module, params["kernel"], params.get("bias"), input_size, module.name or "")
