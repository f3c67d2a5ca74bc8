"""Keras layers of the steps that Keras has none for: channels in order, channel-wise convolution, padding by values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tensorconv.arrays import as_float_array
from tensorconv.export.padding import Other, Pairs
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, PadLayer, PermuteLayer
from tensorconv.layers.pad import NUMPY_MODES


@keras.saving.register_keras_serializable(package="tensorconv")
class ChannelPermutation(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Another order of the channels, the last axis: ``y[..., c] = x[..., order[c]]``.

    Parameters
    ----------
    order : sequence of int
        Which channel of the input comes next, each once.
    **options : Any
        Those of every Keras layer.

    Raises
    ------
    KernelError
        If an entry is missing or stands twice.
    """

    def __init__(self, order: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.order = PermuteLayer(tuple(order)).order
        self.input_spec = keras.InputSpec(axes={-1: len(self.order)})

    def call(self, inputs: Any) -> Any:
        """Return the data in the new order."""
        return keras.ops.take(inputs, np.array(self.order, np.int32), axis=-1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape, which stays."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is saved as."""
        return {**super().get_config(), "order": self.order}


@keras.saving.register_keras_serializable(package="tensorconv")
class ChannelwiseConv(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A convolution over the spatial axes and the channels, as of one channel over N + 1 axes.

    The kernel has shape (K1..KN, D, 1, J); out-channels j C' to (j + 1) C' come from kernel j. Strides and dilations
    may both be above 1, which the backends "jax" and "torch" compute.

    Parameters
    ----------
    filters : int
        Number of kernels J.
    kernel_size, strides : sequence of int
        Of the spatial axes, then of the channels.
    padding : sequence of (int, int)
        Low and high zero padding (negative: cropping) of the same axes.
    dilation_rate : sequence of int
        Of the same axes.
    use_bias : bool
        Whether a number is added to each out-channel.
    kernel_initializer, bias_initializer : str or keras.initializers.Initializer
        What the weights are at first.
    **options : Any
        Those of every Keras layer.

    Raises
    ------
    GeometryError
        If strides, padding and dilations are no geometry, or leave no output.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int],
        strides: Sequence[int],
        padding: Pairs,
        dilation_rate: Sequence[int],
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.filters = filters
        self.kernel_size = tuple(kernel_size)
        self.rank = len(self.kernel_size) - 1
        self.geometry = ConvGeometry.of(self.rank + 1, stride=strides, padding=padding, dilation=dilation_rate)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Add the weights."""
        n_out = self.compute_output_shape(input_shape)[-1]
        self.input_spec = keras.InputSpec(ndim=self.rank + 2, axes={-1: input_shape[-1]})
        shape = (*self.kernel_size, 1, self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.kernel_initializer)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(n_out,), initializer=self.bias_initializer)

    def call(self, inputs: Any) -> Any:
        """Return the convolved data."""
        geometry = self.geometry
        added = [(max(low, 0), max(high, 0)) for low, high in geometry.padding]
        kept = [slice(max(-low, 0), min(high, 0) or None) for low, high in geometry.padding]
        view = keras.ops.pad(keras.ops.expand_dims(inputs, -1), [(0, 0), *added, (0, 0)])[slice(None), *kept]
        options = {"padding": "valid", "data_format": "channels_last", "dilation_rate": geometry.dilation}
        maps = keras.ops.swapaxes(keras.ops.conv(view, self.kernel, geometry.stride, **options), -1, -2)
        *outer, n_kernels, n_maps = keras.ops.shape(maps)
        y = keras.ops.reshape(maps, (*outer, n_kernels * n_maps))
        return y if self.bias is None else y + self.bias

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the output, None where the input's is."""
        g = self.geometry
        axes = zip(input_shape[1:], self.kernel_size, g.stride, g.padding, g.dilation, strict=True)
        *size, maps = (n and ConvGeometry((s,), (pair,), (d,)).output_size(n, k)[0] for n, k, s, pair, d in axes)
        return (input_shape[0], *size, maps and self.filters * maps)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is saved as."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.geometry.stride,
            "padding": self.geometry.padding,
            "dilation_rate": self.geometry.dilation,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable(package="tensorconv")
class ValuePadding(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Padding of the spatial axes by the data's own values.

    Parameters
    ----------
    padding : sequence of (int, int)
        Low and high padding per spatial axis, none negative.
    mode : {"reflect", "replicate", "circular"}
        What is put there, as :class:`tensorconv.PadLayer` does it; an axis that is too short is refused.
    **options : Any
        Those of every Keras layer.

    Raises
    ------
    GeometryError
        If the padding is negative or not in pairs, or the mode is another.
    """

    def __init__(self, padding: Pairs, mode: str, **options: Any) -> None:
        super().__init__(**options)
        self.step = PadLayer(tuple(padding), mode)
        self.rank = self.step.ndim
        self.input_spec = keras.InputSpec(ndim=self.rank + 2)

    def call(self, inputs: Any) -> Any:
        """Return the padded data."""
        size = tuple(inputs.shape[1:-1])
        self.step.output_size(size)  # refuses what is too short
        for axis, (n, pair) in enumerate(zip(size, self.step.padding, strict=True), start=1):
            positions = np.pad(np.arange(n, dtype=np.int32), pair, NUMPY_MODES[self.step.mode])
            inputs = keras.ops.take(inputs, positions, axis=axis)
        return inputs

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the output, None where the input's is."""
        axes = zip(input_shape[1:-1], self.step.padding, strict=True)
        size = (None if n is None else n + low + high for n, (low, high) in axes)
        return (input_shape[0], *size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is saved as."""
        return {**super().get_config(), "padding": self.step.padding, "mode": self.step.mode}


STEPS = (ChannelPermutation, ChannelwiseConv, ValuePadding)


def read_step(layer: Any, name: str) -> Other:
    """Return the step that a layer of one of these classes is.

    Parameters
    ----------
    layer : ChannelPermutation, ChannelwiseConv or ValuePadding
        The layer, with its weights.
    name : str
        What to call the step.

    Returns
    -------
    PermuteLayer, ChannelwiseLayer or PadLayer
        The step, its kernel and bias bitwise the weights.
    """
    if isinstance(layer, ChannelPermutation):
        return PermuteLayer(layer.order, name)
    if isinstance(layer, ValuePadding):
        return PadLayer(layer.step.padding, layer.step.mode, name)
    g = layer.geometry
    stride, padding, dilation = ((*of[-1:], *of[:-1]) for of in (g.stride, g.padding, g.dilation))
    geometry = ConvGeometry(stride, padding, dilation)
    kernel = as_float_array("kernel", layer.kernel.value)[..., 0, :]
    bias = None if layer.bias is None else as_float_array("bias", layer.bias.value)
    return ChannelwiseLayer(np.moveaxis(kernel, (-1, -2), (0, 1)), layer.input_spec.axes[-1], geometry, bias, name)
