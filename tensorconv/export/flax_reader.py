"""What a convolution of Flax NNX or Linen, with its own words for padding, is as a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen, nnx
from jax import lax

from tensorconv.arrays import as_float_array
from tensorconv.errors import FormatError, UnsupportedExportError
from tensorconv.export.jax_arrays import flipped, mirrored_padding, read_layer, resolved_padding
from tensorconv.export.padding import Pairs
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis, is_integer, per_axis
from tensorconv.layers import ConvLayer, PadLayer

MODES = {"CIRCULAR": "circular", "REFLECT": "reflect"}
_ORDINARY: dict[str, tuple[Any, ...]] = {
    "mask": (None,),
    "preferred_element_type": (None,),
    "promote_dtype": (nnx.nn.dtypes.promote_dtype, linen.dtypes.promote_dtype),
    "conv_general_dilated": (None, lax.conv_general_dilated),
    "conv_general_dilated_cls": (None,),
}


def wrapping(kernel_size: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """Return how far a Flax convolution pads by "CIRCULAR" and "REFLECT".

    Parameters
    ----------
    kernel_size, dilation : sequence of int
        Taps and dilation per spatial axis.

    Returns
    -------
    tuple of (int, int)
        Low and high padding per spatial axis.
    """
    reaches = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
    return tuple((reach // 2, reach - reach // 2) for reach in reaches)


def read_convolution(
    module: Any, kernel: Any, bias: Any, input_size: PerAxis | None, name: str
) -> Iterator[ConvLayer | PadLayer]:
    """Yield what a Flax layer does.

    Parameters
    ----------
    module : flax.nnx.Conv, flax.nnx.ConvTranspose, flax.linen.Conv or flax.linen.ConvTranspose
        The layer.
    kernel : array, shape (K1..KN, I, O) or (K1..KN, O, I)
        Its kernel.
    bias : array, shape (O,), optional
        Its bias.
    input_size : int or sequence of int, optional
        Spatial size of the input, where a padding "SAME" depends on it.
    name : str
        Name of the layer.

    Yields
    ------
    PadLayer or ConvLayer
        A padding by values if the layer does one, then the convolution.

    Raises
    ------
    UnsupportedExportError
        If the layer does more than a convolution.
    FormatError
        If its attributes contradict its arrays.
    """
    kernel, size = as_float_array("kernel", kernel), _tuple(module.kernel_size)
    transposed = isinstance(module, nnx.ConvTranspose | linen.ConvTranspose)
    _check(module, kernel, size)
    read = _read_transposed if transposed else _read_forward
    pad, geometry = read(module, size, input_size)
    if any(side for pair in pad.padding for side in pair):
        yield pad
    swapped = transposed and module.transpose_kernel
    kernel = np.moveaxis(kernel, (-2, -1) if swapped else (-1, -2), (0, 1))
    yield read_layer(flipped(kernel) if geometry.transposed and not swapped else kernel, bias, geometry, name)


def _check(module: Any, kernel: Any, size: tuple[int, ...]) -> None:
    """Refuse a layer that does something of its own, or does not fit its arrays."""
    for field, values in _ORDINARY.items():
        value = getattr(module, field, values[0])
        if not any(value is known for known in values):
            raise UnsupportedExportError(
                f"a Flax convolution with a {field} of its own is more than a convolution; apply it to the kernel, or "
                f"set {field} to its default"
            )
    if module.dtype is not None and np.dtype(module.dtype) != kernel.dtype:
        raise UnsupportedExportError(
            f"a Flax convolution with {kernel.dtype} parameters computes in dtype={np.dtype(module.dtype)}; set its "
            "dtype to None first"
        )
    out_features = module.features if isinstance(module, linen.Module) else module.out_features
    in_features = getattr(module, "in_features", None)  # a Linen layer takes what comes
    per_group = None if in_features is None else in_features // getattr(module, "feature_group_count", 1)
    channels = (per_group or kernel.shape[-2], out_features)
    if getattr(module, "transpose_kernel", False):
        channels = (out_features, per_group or kernel.shape[-1])
    if kernel.shape != (*size, *channels):
        raise FormatError(
            f"a layer whose attributes ask for a kernel of shape {(*size, *channels)} holds one of {kernel.shape}; "
            "make the layer anew for it"
        )


def _read_forward(module: Any, size: tuple[int, ...], input_size: PerAxis | None) -> tuple[PadLayer, ConvGeometry]:
    """Return padding by values and geometry; a convolution over a dilated input is a transposed one."""
    ndim = len(size)
    stride, dilation = _per_axis(module.strides, ndim), _per_axis(module.kernel_dilation, ndim)
    inner = _per_axis(module.input_dilation, ndim)
    named = module.input_dilation is not None and not is_integer(module.input_dilation)
    transposed = max(inner) > 1 or (named and max(stride) == 1)
    if transposed and max(stride) > 1:
        raise UnsupportedExportError(
            f"a convolution with strides {stride} and input_dilation {inner} is neither a convolution nor a transposed "
            "one; make it two layers, the first with the input_dilation"
        )
    if max(inner) > 1 and isinstance(module.padding, str):
        raise UnsupportedExportError(
            f"JAX runs no padding {module.padding!r} over a dilated input; give (low, high) pairs"
        )
    values: Pairs = ((0, 0),) * ndim
    padding, mode = module.padding, "circular"
    if isinstance(padding, str) and padding in MODES:
        values, mode, pairs = wrapping(size, dilation), MODES[padding], values
    elif padding == "CAUSAL" and ndim == 1:
        pairs = ((dilation[0] * (size[0] - 1), 0),)
    else:
        pairs = resolved_padding(padding, size, stride, dilation, input_size)
    groups = module.feature_group_count
    if transposed:
        geometry = ConvGeometry(inner, mirrored_padding(pairs, size, dilation), dilation, groups, transposed=True)
    else:
        geometry = ConvGeometry(stride, pairs, dilation, groups)
    return PadLayer(values, mode), geometry


def _read_transposed(module: Any, size: tuple[int, ...], _: PerAxis | None) -> tuple[PadLayer, ConvGeometry]:
    """Return circular padding and geometry of a layer that runs lax.conv_transpose."""
    ndim = len(size)
    stride, dilation = _per_axis(module.strides, ndim), _per_axis(module.kernel_dilation, ndim)
    values: list[tuple[int, int]] = [(0, 0)] * ndim
    padding = module.padding
    if padding == "CIRCULAR":
        axes = [
            _circular(s, d * (k - 1), upper=module.transpose_kernel)
            for k, s, d in zip(size, stride, dilation, strict=True)
        ]
        values, pairs = [axis[0] for axis in axes], tuple(axis[1] for axis in axes)
    elif padding in ("SAME", "VALID"):
        pairs = tuple(_worded(padding, s, d * (k - 1)) for k, s, d in zip(size, stride, dilation, strict=True))
    elif isinstance(padding, str):
        raise UnsupportedExportError(
            f'no transposed convolution is defined by padding {padding!r}; Flax runs "SAME", "VALID", "CIRCULAR" and '
            "(low, high) pairs"
        )
    else:
        pairs = resolved_padding(padding, size, stride, dilation, None)
        pairs = pairs if _numbers_crop_the_output() else mirrored_padding(pairs, size, dilation)
    return PadLayer(tuple(values), "circular"), ConvGeometry(stride, pairs, dilation, transposed=True)


def _worded(word: str, stride: int, reach: int) -> tuple[int, int]:
    """Return what "SAME" and "VALID" crop, where a kernel's last tap is ``reach`` positions from its first.

    The output has stride * input positions, and with "VALID" at least those that the kernel reaches.
    """
    if word == "VALID":
        return 0, min(reach + 1 - stride, 0)
    low = 0 if stride > reach else reach - (reach + stride) // 2
    return low, reach + 1 - stride - low


def _circular(stride: int, reach: int, *, upper: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how far to wrap the input, and what to crop of the output, for stride * input positions of a circle."""
    excess = max(reach + 1 - stride, 0)
    shift = (excess + upper) // 2
    before, after = (reach - shift) // stride, (stride - 1 + shift) // stride
    low = stride * before + shift
    return (before, after), (low, stride * (before + after - 1) + reach + 1 - low)


def _numbers_crop_the_output() -> bool:
    """Whether this JAX takes numbers for lax.conv_transpose as padding of the output, not of the dilated input."""
    x, kernel = np.zeros((1, 5, 1), np.float32), np.zeros((3, 1, 1), np.float32)
    y = jax.eval_shape(lambda x, kernel: lax.conv_transpose(x, kernel, (1,), [(0, 0)]), x, kernel)
    return bool(y.shape[1] > x.shape[1])


def _tuple(size: PerAxis) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def _per_axis(value: PerAxis | None, ndim: int) -> tuple[int, ...]:
    return per_axis("strides or dilation", 1 if value is None else value, ndim, at_least=1)
