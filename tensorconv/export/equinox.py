"""Exporter "equinox": a sequence as equinox.nn.Sequential of convolutions, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax

from tensorconv.arrays import Array, as_float_array
from tensorconv.errors import FormatError, UnsupportedExportError
from tensorconv.export.equinox_modules import ChannelPermutation, ChannelwiseConv, Pad
from tensorconv.export.jax_arrays import flipped, mirrored_padding, read_layer, resolved_padding, to_jax
from tensorconv.export.jax_channels import Channelwise, read_channelwise
from tensorconv.export.lax_steps import PaddedConvolution, lax_steps, read_modules
from tensorconv.export.padding import Other, Pairs
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer, as_sequence

_CONVOLUTIONS = (eqx.nn.Conv, eqx.nn.Conv1d, eqx.nn.Conv2d, eqx.nn.Conv3d)
_TRANSPOSED = (eqx.nn.ConvTranspose, eqx.nn.ConvTranspose1d, eqx.nn.ConvTranspose2d, eqx.nn.ConvTranspose3d)


def dump(sequence: Any) -> eqx.nn.Sequential:
    """Return a sequence as Equinox layers.

    Every convolution is one layer, over any number of spatial axes. Padding by values is the ``padding_mode`` of the
    convolution after it where that one pads no zeros, else a :class:`Pad`, and so is cropping, which JAX on a CPU
    computes wrongly as negative padding of a convolution. An order of the channels is a
    :class:`~tensorconv.export.equinox_modules.ChannelPermutation`, a channel-wise convolution a
    :class:`~tensorconv.export.equinox_modules.ChannelwiseConv`. Equinox has no names of layers: they are not kept. On
    accelerators JAX rounds float32 factors, but under ``jax.default_matmul_precision("highest")``.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.

    Returns
    -------
    equinox.nn.Sequential
        Layers of ``equinox.nn.Conv`` and ``ConvTranspose`` with weights of the kernels' data type, for one image
        (C, L1..LN); ``jax.vmap`` makes it take a batch.

    Raises
    ------
    UnsupportedExportError
        If the kernels are float64 and JAX's 64-bit mode is off.
    """
    return eqx.nn.Sequential([_module(step) for step in lax_steps(as_sequence(sequence), _joins)])


def load(obj: Any, *, input_size: PerAxis | None = None) -> ConvSequence:
    """Return the sequence of an Equinox module, the inverse of :func:`dump`.

    Parameters
    ----------
    obj : equinox.nn.Sequential, Conv or ConvTranspose
        A convolution, or a sequence of convolutions.
    input_size : int or sequence of int, optional
        Spatial size of the input, where a padding "SAME" depends on it.

    Returns
    -------
    ConvSequence
        Kernels and bias bitwise the module's; a ``padding_mode`` other than zeros becomes a padding before its layer.

    Raises
    ------
    UnsupportedExportError
        If it holds anything else, such as an activation.
    FormatError
        If the fields of a layer contradict its arrays.
    GeometryError
        If the input size is needed and not given.
    KernelError
        If a convolution before the last has a bias.
    """
    modules = obj.layers if type(obj) is eqx.nn.Sequential else (obj,)
    return read_modules(modules, _read, input_size)


def _joins(pad: PadLayer, layer: ConvLayer) -> bool:
    own = layer.geometry.transposed or any(side for pair in layer.geometry.padding for side in pair)
    return not own and any(side for pair in pad.padding for side in pair)


def _module(step: PaddedConvolution | Other | Pairs) -> Any:
    if isinstance(step, PaddedConvolution):
        return _convolution(step)
    if isinstance(step, PermuteLayer):
        return ChannelPermutation(step.order)
    if isinstance(step, ChannelwiseLayer):
        bias = None if step.bias is None else to_jax(step.bias)
        return ChannelwiseConv(to_jax(step.kernel[:, None]), bias, Channelwise(step.in_channels, step.geometry))
    return Pad(step.padding, step.mode) if isinstance(step, PadLayer) else Pad(step)


def _convolution(step: PaddedConvolution) -> Any:
    layer, values = step.layer, step.values
    geometry = layer.geometry
    padding = step.padding
    if geometry.transposed:
        padding = mirrored_padding(padding, layer.kernel_size, geometry.dilation)
    kind = eqx.nn.ConvTranspose if geometry.transposed else eqx.nn.Conv
    module = eqx.filter_eval_shape(  # no memory, no random numbers: the arrays come next
        kind,
        geometry.ndim,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=geometry.stride,
        padding=padding if values is None else values.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
        use_bias=layer.bias is not None,
        padding_mode="ZEROS" if values is None else values.mode.upper(),
        key=jax.random.PRNGKey(0),
    )
    weight = to_jax(flipped(layer.kernel) if geometry.transposed else layer.kernel)
    module = eqx.tree_at(lambda one: one.weight, module, weight)
    if layer.bias is None:
        return module
    return eqx.tree_at(lambda one: one.bias, module, to_jax(layer.bias.reshape(-1, *(1,) * geometry.ndim)))


def _read(module: Any, input_size: PerAxis | None) -> Iterator[ConvLayer | Other | Pairs]:
    if type(module) is Pad:
        yield module.padding if module.mode == "zeros" else PadLayer(module.padding, module.mode)
        return
    if type(module) is ChannelPermutation:
        yield PermuteLayer(module.order)
        return
    if type(module) is ChannelwiseConv:
        yield read_channelwise(module.weight, module.bias, module.step, "")
        return
    transposed = type(module) in _TRANSPOSED
    if not transposed and type(module) not in _CONVOLUTIONS:
        raise UnsupportedExportError(
            f"a module must be a Conv, a ConvTranspose or this exporter's own, got {type(module).__name__}; load "
            "the convolutions of a larger model one by one"
        )
    kernel, bias = _read_arrays(module)
    values, padding = _read_transposed_padding(module) if transposed else _read_padding(module, input_size)
    if any(side for pair in values for side in pair):
        yield PadLayer(values, module.padding_mode.lower())
    geometry = ConvGeometry(module.stride, padding, module.dilation, module.groups, transposed)
    yield read_layer(flipped(kernel) if transposed else kernel, bias, geometry, "")


def _read_arrays(module: Any) -> tuple[Array, Array | None]:
    """Return kernel (O, I, K1..KN) and bias (O,)."""
    kernel = as_float_array("weight", module.weight)
    bias = as_float_array("bias", module.bias) if module.use_bias else None
    shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    bias_shape = (shape[0], *(1,) * module.num_spatial_dims)
    if kernel.shape != shape or (bias is not None and bias.shape != bias_shape):
        raise FormatError(
            f"a layer whose fields ask for a weight of shape {shape} and a bias of {bias_shape} holds {kernel.shape} "
            f"and {None if bias is None else bias.shape}; make the layer anew for them"
        )
    return kernel, None if bias is None else bias.reshape(-1)


def _read_padding(module: Any, input_size: PerAxis | None) -> tuple[Any, Any]:
    """Return padding by values, and by zeros."""
    pairs = resolved_padding(module.padding, module.kernel_size, module.stride, module.dilation, input_size)
    none = ((0, 0),) * len(pairs)
    return (none, pairs) if module.padding_mode == "ZEROS" else (pairs, none)


def _read_transposed_padding(module: Any) -> tuple[Any, Any]:
    """Return padding of the input by values, and padding of the output."""
    by_values, by_zeros = [], []
    for axis, (k, s, d) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
        extra = module.output_padding[axis]
        if module.padding in ("SAME", "SAME_LOWER"):
            total = d * (k - 1) - s + extra + 1
            total, extra = max(total, 0), max(-total, 0)
            low = (total + (module.padding == "SAME_LOWER")) // 2
            high = total - low
        else:
            low, high = (0, 0) if module.padding == "VALID" else module.padding[axis]
        of_input = (d * (k - 1) - low, d * (k - 1) - high + extra)
        whole = (of_input[0] // s, of_input[1] // s) if module.padding_mode == "CIRCULAR" else (0, 0)
        by_values.append(whole)
        by_zeros.append((of_input[0] - s * whole[0], of_input[1] - s * whole[1]))
    return tuple(by_values), mirrored_padding(by_zeros, module.kernel_size, module.dilation)
