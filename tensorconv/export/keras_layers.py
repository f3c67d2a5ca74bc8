"""Keras layers that are built with given weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import UnsupportedExportError
from tensorconv.export.keras_channels import ChannelPermutation, ChannelwiseConv, ValuePadding
from tensorconv.export.padding import Other, Pairs
from tensorconv.layers import ChannelwiseLayer, ConvSequence, PadLayer, PermuteLayer

INPUT_NAME = "input"
_MAX_NDIM = 3
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*")  # what the names of scopes and parameters allow on every backend


class LayerMaker:
    """Makes Keras layers, channels last, each with a name of its own or the next number.

    Parameters
    ----------
    sequence : ConvSequence
        Its number of spatial axes, data type and names.
    """

    def __init__(self, sequence: ConvSequence) -> None:
        self._ndim = sequence.ndim
        self._dtype = sequence.dtype.name
        self._names = [layer.name for layer in sequence.layers]
        self._n_made = 0

    def convolution(
        self, kind: str, name: str, in_channels: int, arrays: dict[str, Array | None], options: dict[str, Any]
    ) -> Any:
        """Return a convolution without padding, built with these weights.

        Parameters
        ----------
        kind : str
            Name of the Keras layer, "{}" for the number of spatial axes.
        name : str
            What to call it if it can be called so.
        in_channels : int
            Channels of its input.
        arrays : dict of str to ndarray
            Weights by the name of their initializer, the one with spatial axes first.
        options : dict of str to Any
            Further options of the Keras layer.

        Returns
        -------
        keras.layers.Layer
            The layer; the initializers that it is saved with are Keras's usual ones, with seeds of their own.
        """
        options = {"padding": "valid", "data_format": "channels_last", **options}
        return self._built(getattr(keras.layers, kind.format(self._ndim)), name, in_channels, arrays, options)

    def other(self, step: Other) -> Any:
        """Return a layer for a step that is no convolution to Keras.

        Parameters
        ----------
        step : PermuteLayer, ChannelwiseLayer or PadLayer
            The step.

        Returns
        -------
        ChannelPermutation, ChannelwiseConv or ValuePadding
            The layer.

        Raises
        ------
        UnsupportedExportError
            If a channel-wise convolution is over more spatial axes than Keras convolves over with the channels.
        """
        if isinstance(step, PermuteLayer):
            return ChannelPermutation(step.order, dtype=self._dtype, name=self._name(step.name))
        if isinstance(step, PadLayer):
            return ValuePadding(step.padding, step.mode, dtype=self._dtype, name=self._name(step.name))
        return self._channelwise(step)

    def _channelwise(self, layer: ChannelwiseLayer) -> Any:
        g = layer.geometry
        if g.ndim > _MAX_NDIM:
            raise UnsupportedExportError(
                f"Keras has channel-wise convolutions over 1 or 2 spatial axes, for it convolves over {_MAX_NDIM} with "
                f'the channels, got {layer.ndim}; export to "onnx" or "jax"'
            )
        arrays = {"kernel": np.moveaxis(layer.kernel, (0, 1), (-1, -2))[..., None, :], "bias": layer.bias}
        strides, padding, dilation = ((*of[1:], of[0]) for of in (g.stride, g.padding, g.dilation))
        options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation_rate": dilation}
        options |= {"filters": len(layer.kernel), "use_bias": layer.bias is not None}
        return self._built(ChannelwiseConv, layer.name, layer.in_channels, arrays, options)

    def _built(
        self, make: Any, name: str, in_channels: int, arrays: dict[str, Array | None], options: dict[str, Any]
    ) -> Any:
        given = {f"{role}_initializer": array for role, array in arrays.items() if array is not None}
        seeded = keras.initializers.GlorotUniform(seed=self._n_made)  # else Keras draws a seed from Python's random
        usual = {key: "zeros" if key == "bias_initializer" else seeded for key in given}
        layer = make(
            kernel_size=next(iter(given.values())).shape[:-2],
            dtype=self._dtype,
            name=self._name(name),
            **usual,
            **options,
        )
        usual = {key: getattr(layer, key) for key in given}
        for key, array in given.items():
            own = array if array.flags.writeable else np.array(array)  # else it shows what must not change
            setattr(layer, key, partial(_given, own))
        layer.build((*(None,) * (self._ndim + 1), in_channels))
        for key, initializer in usual.items():
            setattr(layer, key, initializer)
        return layer

    def paddings(self, pairs: Pairs, *, closed: bool = False) -> Iterator[Any]:
        """Yield the layers of a padding step: zero padding, then cropping, which is possible on every axis.

        Parameters
        ----------
        pairs : tuple of (int, int)
            Padding per spatial axis, negative for cropping.
        closed : bool
            Whether a cropping must be there, be it of nothing.

        Yields
        ------
        keras.layers.Layer
            ZeroPadding and Cropping layers.
        """
        added, cropped = (tuple(tuple(max(sign * side, 0) for side in pair) for pair in pairs) for sign in (1, -1))
        if any(map(any, added)):
            yield self.plain("ZeroPadding", padding=added[0] if self._ndim == 1 else added)
        if closed or any(map(any, cropped)):
            yield self.plain("Cropping", cropping=cropped[0] if self._ndim == 1 else cropped)

    def plain(self, kind: str, **options: Any) -> Any:
        """Return a layer without weights.

        Parameters
        ----------
        kind : str
            Name of the Keras layer, without the number of spatial axes.
        **options : Any
            Its options.

        Returns
        -------
        keras.layers.Layer
            The layer.
        """
        if (kind, self._ndim) != ("Cropping", 1):  # which has no such option
            options["data_format"] = "channels_last"
        return getattr(keras.layers, f"{kind}{self._ndim}D")(**options, dtype=self._dtype, name=self._name(""))

    def concatenation(self, name: str) -> Any:
        """Return a layer that joins channels.

        Parameters
        ----------
        name : str
            What to call it if it can be called so.

        Returns
        -------
        keras.layers.Concatenate
            The layer.
        """
        return keras.layers.Concatenate(axis=-1, dtype=self._dtype, name=self._name(name))

    def can_name(self, name: str) -> bool:
        """Return whether a Keras layer can have this name, and be the only one.

        Parameters
        ----------
        name : str
            Name of a layer of the sequence.

        Returns
        -------
        bool
            False for numbers too, which are the names of the nameless.
        """
        free = name != INPUT_NAME and not name.isdecimal() and self._names.count(name) == 1
        return free and _NAME.fullmatch(name) is not None

    def _name(self, name: str) -> str:
        self._n_made += 1
        return name if self.can_name(name) else str(self._n_made - 1)


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Refuse a data type that Keras would silently turn into another.

    Parameters
    ----------
    dtype : dtype
        Data type of the kernels.

    Raises
    ------
    UnsupportedExportError
        If the backend has no such tensors.
    """
    kept = keras.backend.standardize_dtype(keras.ops.convert_to_tensor(np.zeros(1, dtype)).dtype)
    if kept != dtype.name:
        raise UnsupportedExportError(
            f"Keras would turn {dtype} into {kept} on the backend {keras.config.backend()!r}; first call "
            'jax.config.update("jax_enable_x64", True), or convert the kernels'
        )


def _given(array: Array, *_: Any, **__: Any) -> Array:
    return array
