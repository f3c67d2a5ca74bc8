"""Exporter "keras": a sequence as a Keras 3 model of convolutions, channels last, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from tensorconv.errors import UnsupportedExportError
from tensorconv.export.keras_layers import (
    INPUT_NAME,
    LayerMaker,
    check_dtype,
)
from tensorconv.export.keras_reader import load
from tensorconv.export.padding import Convolution, split_padding
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import (
    ChannelwiseLayer,
    ConvLayer,
    ConvSequence,
    PadLayer,
    PermuteLayer,
    as_sequence,
    merge_groups,
    spread_taps,
    to_layout,
)

__all__ = ["dump", "load"]

_MAX_NDIM = 3
_POLICIES = ("branches", "dense", "equal-strides", "subsample")
_ELSEWHERE = 'export to "torch", "onnx" or "jax"'


def dump(sequence: Any, *, policy: str | Iterable[str] = (), separable: bool = False) -> keras.Model:
    """Return a sequence as a Keras model of input (B, L1..LN, C), whatever the batch and the spatial sizes are.

    Convolutions have ``padding="valid"``; ``ZeroPadding`` and ``Cropping`` layers before a convolution, and after a
    transposed one, say the rest. A convolution of one group per in-channel is a ``DepthwiseConv`` where Keras has one,
    but with unequal strides a grouped ``Conv``, which every backend runs. Keras refuses to run a cropping that leaves
    nothing of an axis. Orders of channels, channel-wise convolutions (over 1 or 2 spatial axes) and padding by values
    are layers of our own; a saved model that has them opens where :mod:`tensorconv.export.keras` is imported.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write, with 1 to 3 spatial axes.
    policy : str or iterable of str
        How to say what Keras has no layer for; each computes the same up to rounding.

        - "subsample": a convolution with strides and dilation has stride 1, and a ``MaxPooling`` of pool size 1 takes
          every s-th position of its output.
        - "branches": a transposed convolution in groups is one transposed convolution per group on a split of the
          channels, concatenated. The model is then a functional one.
        - "dense": a kernel is written out with its zeros: those between the taps of a transposed convolution with
          strides and dilation (and of a forward one, without "subsample"), and those between the groups of a transposed
          one (without "branches"). It is read back with these zeros.
        - "equal-strides": a depthwise convolution with unequal strides is a ``DepthwiseConv`` of stride 1, and the
          pointwise convolution that follows takes the strides. A pointwise convolution acts on every position alone, so
          that it may leave positions out before or after itself. It is read back as written.
    separable : bool
        Whether a depthwise convolution with equal strides and the pointwise one that follows it directly become one
        ``SeparableConv``, which has the first name of the two that can be used.

    Returns
    -------
    keras.Sequential or keras.Model
        The model, built, of the kernels' data type, with weights of its own. A layer's name is the Keras layer's name
        where it is unique, of letters, digits, "_" and "-", and no number; other layers are numbered.

    Raises
    ------
    UnsupportedExportError
        If Keras has no layer for it and no policy is given, a policy is unknown, or the backend would turn the data
        type into another.
    """
    sequence = as_sequence(sequence)
    policies = frozenset((policy,) if isinstance(policy, str) else policy)
    if not policies <= set(_POLICIES):
        raise UnsupportedExportError(f"policy must be of {', '.join(_POLICIES)}, got {policy!r}; correct or drop it")
    if sequence.ndim > _MAX_NDIM:
        raise UnsupportedExportError(
            f'Keras has convolutions over 1 to {_MAX_NDIM} spatial axes, got {sequence.ndim}; export to "onnx", which '
            "runs 4"
        )
    check_dtype(sequence.dtype)
    shape = (*(None,) * sequence.ndim, sequence.in_channels)
    start = keras.Input(shape, dtype=sequence.dtype.name, name=INPUT_NAME)
    units = list(_Writer(sequence, policies, separable).units())
    if not any(isinstance(unit, _Branches) for unit in units):
        return keras.Sequential([start, *units], name="conv_sequence")
    x = start
    for unit in units:
        x = unit(x)
    return keras.Model(start, x, name="conv_sequence")


@dataclass(frozen=True)
class _Branches:
    """One layer per group of channels, and the layer that joins what they give."""

    layers: list[Any]
    join: Any

    def __call__(self, x: Any) -> Any:
        parts = keras.ops.split(x, len(self.layers), axis=-1)
        return self.join([layer(part) for layer, part in zip(self.layers, parts, strict=True)])


class _Writer:
    """Makes the Keras layers of a sequence in order, each with a name of its own or the next number."""

    def __init__(self, sequence: ConvSequence, policies: frozenset[str], separable: bool) -> None:
        self.ndim = sequence.ndim
        self.make = LayerMaker(sequence)
        self.policies = policies
        self.separable = separable
        steps = split_padding(sequence, _says, framework="Keras")
        nothing = ((0, 0),) * self.ndim
        self.steps = [step for step in steps if not isinstance(step, tuple) or step != nothing]

    def units(self) -> Iterator[Any]:
        """Yield Keras layers, and branches of them."""
        joined = False
        for i, (step, strides) in enumerate(zip(self.steps, self._strides(), strict=True)):
            following = self.steps[i + 1] if i + 1 < len(self.steps) else None
            if joined:
                joined = False
            elif isinstance(step, tuple):
                yield from self.make.paddings(step)
            elif isinstance(step, Convolution) and _transposes(step):
                yield from self._transposed(step, following)
            elif isinstance(step, Convolution):
                if isinstance(following, Convolution) and self._separates(step.layer, following, strides):
                    joined = True
                    yield self._separable(step.layer, following.layer)
                else:
                    yield from self._forward(step.layer, strides)
            elif isinstance(step, (PermuteLayer, ChannelwiseLayer, PadLayer)):
                yield self.make.other(step)

    def _strides(self) -> list[tuple[int, ...]]:
        """Return the strides that every step's layer is to have, () where it is no convolution."""
        strides = [step.layer.geometry.stride if isinstance(step, Convolution) else () for step in self.steps]
        for i, step in enumerate(self.steps):
            moves = "equal-strides" in self.policies and len(set(strides[i])) > 1
            if not moves or not isinstance(step, Convolution) or not _is_depthwise(step.layer):
                continue
            if i + 1 == len(self.steps) or not _is_pointwise(self.steps[i + 1]):
                raise UnsupportedExportError(
                    f"policy 'equal-strides' cannot move strides {strides[i]} of a depthwise convolution: no pointwise "
                    "one follows it directly; drop the policy, and a grouped convolution takes them"
                )
            strides[i], strides[i + 1] = (1,) * self.ndim, strides[i]
        return strides

    def _separates(self, layer: ConvLayer, following: Convolution, strides: tuple[int, ...]) -> bool:
        """Whether this and the following layer are one SeparableConv, with the strides where they are now."""
        kept = strides == layer.geometry.stride and len(set(strides)) == 1 and not _conflict(strides, layer)
        mixes = _is_pointwise(following) and following.layer.geometry == ConvGeometry.of(self.ndim)
        return self.separable and kept and mixes and _is_depthwise(layer)

    def _forward(self, layer: ConvLayer, strides: tuple[int, ...]) -> Iterator[Any]:
        kernel, dilation, pooled = layer.kernel, layer.geometry.dilation, None
        if _conflict(strides, layer):
            if "subsample" in self.policies:
                strides, pooled = (1,) * self.ndim, strides
            elif "dense" in self.policies:
                kernel, dilation = spread_taps(kernel, dilation), (1,) * self.ndim
            else:
                raise UnsupportedExportError(
                    f"Keras refuses strides {strides} with dilation {dilation}; give policy='subsample' (stride 1, "
                    f"then every s-th position) or policy='dense' (zeros in the kernel), or {_ELSEWHERE}"
                )
        options = {"strides": strides, "dilation_rate": dilation, "use_bias": layer.bias is not None}
        if _is_depthwise(layer) and len(set(strides)) == 1:
            arrays = {"depthwise": to_layout(kernel, "*ID", layer.geometry), "bias": layer.bias}
            options["depth_multiplier"] = layer.out_channels // layer.in_channels
            yield self.make.convolution("DepthwiseConv{}D", layer.name, layer.in_channels, arrays, options)
        else:
            arrays = {"kernel": to_layout(kernel, "*IO", layer.geometry), "bias": layer.bias}
            options |= {"filters": layer.out_channels, "groups": layer.geometry.groups}
            yield self.make.convolution("Conv{}D", layer.name, layer.in_channels, arrays, options)
        if pooled:
            yield self.make.plain("MaxPooling", pool_size=1, strides=pooled, padding="valid")

    def _separable(self, layer: ConvLayer, pointwise: ConvLayer) -> Any:
        arrays = {
            "depthwise": to_layout(layer.kernel, "*ID", layer.geometry),
            "pointwise": to_layout(pointwise.kernel, "*IO", pointwise.geometry),
            "bias": pointwise.bias,
        }
        options = {
            "filters": pointwise.out_channels,
            "depth_multiplier": layer.out_channels // layer.in_channels,
            "strides": layer.geometry.stride,
            "dilation_rate": layer.geometry.dilation,
            "use_bias": pointwise.bias is not None,
        }
        name = layer.name if self.make.can_name(layer.name) else pointwise.name
        return self.make.convolution("SeparableConv{}D", name, layer.in_channels, arrays, options)

    def _transposed(self, step: Convolution, following: Any) -> Iterator[Any]:
        layer, geometry = step.layer, step.layer.geometry
        axes = zip(geometry.stride, geometry.padding, strict=True)
        before, extra, after = zip(*(_extension(s, *pair) for s, pair in axes), strict=True)
        yield from self.make.paddings(before)
        yield self._uncropped(layer, extra)
        # a cropping directly after this layer is read as its own, so that one of nothing may have to stand between
        crops_next = isinstance(following, tuple) and all(side <= 0 for pair in following for side in pair)
        yield from self.make.paddings(after, closed=crops_next)

    def _uncropped(self, layer: ConvLayer, extra: tuple[int, ...]) -> Any:
        """Return a transposed layer with these additional positions at the high ends."""
        geometry = layer.geometry
        kernel, dilation, groups = layer.kernel, geometry.dilation, geometry.groups
        if _conflict(geometry.stride, layer):
            if "dense" not in self.policies:
                raise UnsupportedExportError(
                    f"Keras refuses a transposed convolution of strides {geometry.stride} with dilation {dilation}; "
                    f"give policy='dense' (zeros in the kernel), or {_ELSEWHERE}"
                )
            kernel, dilation = spread_taps(kernel, dilation), (1,) * self.ndim
        if groups > 1 and not self.policies & {"branches", "dense"}:
            raise UnsupportedExportError(
                f"Keras has no transposed convolution in groups, got groups={groups}; give policy='branches' (one "
                f"convolution per group) or policy='dense' (zeros in the kernel), or {_ELSEWHERE}"
            )
        branches = groups if "branches" in self.policies else 1
        if groups > branches:
            kernel = merge_groups(kernel, groups)
        n_out = layer.out_channels // branches
        options = {
            "filters": n_out,
            "strides": geometry.stride,
            "output_padding": extra,  # None would mean another size
            "dilation_rate": dilation,
            "use_bias": layer.bias is not None,
        }
        layers = []
        for rows in (slice(i * n_out, (i + 1) * n_out) for i in range(branches)):
            array = to_layout(kernel[rows], "*OI", ConvGeometry.of(self.ndim, transposed=True))
            arrays = {"kernel": array, "bias": None if layer.bias is None else layer.bias[rows]}
            name = layer.name if branches == 1 else ""
            made = self.make.convolution("Conv{}DTranspose", name, layer.in_channels // branches, arrays, options)
            layers.append(made)
        return layers[0] if branches == 1 else _Branches(layers, self.make.concatenation(layer.name))


def _says(axis: ConvGeometry) -> bool:
    return axis.transposed or axis.padding == ((0, 0),)


def _extension(stride: int, low: int, high: int) -> tuple[tuple[int, int], int, tuple[int, int]]:
    """Return zeros to pad the input of a transposed axis with, output_padding, and what to crop, as negative padding.

    Every zero adds ``stride`` positions to the output, which get the bias like the others.
    """
    n_low, (n_high, extra) = -(min(low, 0) // stride), divmod(max(-high, 0), stride)
    return (n_low, n_high), extra, (-(low + n_low * stride), -max(high, 0))


def _transposes(step: Any) -> bool:
    return isinstance(step, Convolution) and step.layer.geometry.transposed


def _is_depthwise(layer: ConvLayer) -> bool:
    """Whether Keras has a depthwise layer for it."""
    return 1 < layer.geometry.groups == layer.in_channels and layer.ndim < _MAX_NDIM


def _is_pointwise(step: Any) -> bool:
    """Whether it is a convolution that acts on every position alone."""
    if not isinstance(step, Convolution) or _transposes(step):
        return False
    return step.layer.geometry.is_pointwise and step.layer.kernel[0, 0].size == 1


def _conflict(strides: tuple[int, ...], layer: ConvLayer) -> bool:
    """Whether Keras refuses the dilation with these strides, on the same or different axes."""
    return max(strides) > 1 and max(layer.geometry.dilation) > 1
