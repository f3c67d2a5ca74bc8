"""Reader of exporter "keras": a sequence from a Keras 3 model of convolutions, or from one layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tensorconv.arrays import as_float_array
from tensorconv.errors import UnsupportedExportError
from tensorconv.export.keras_channels import STEPS, read_step
from tensorconv.export.keras_graph import (
    CROPPING,
    FORWARD,
    POOLING,
    SEPARABLE,
    TRANSPOSED,
    ZERO_PADDING,
    Branches,
    chain_of,
)
from tensorconv.export.padding import Other, Pairs, merge_padding
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis, per_axis
from tensorconv.layers import ConvLayer, ConvSequence


@dataclass(frozen=True)
class _Crop:
    """Cropping, which ends what belongs to a transposed convolution before it."""

    pairs: Pairs


@dataclass(frozen=True)
class _Subsample:
    """Every s-th position."""

    strides: tuple[int, ...]


_Step = ConvLayer | Other | Pairs | _Crop | _Subsample


def load(obj: Any, *, input_size: PerAxis | None = None) -> ConvSequence:
    """Return the sequence of a Keras model or layer, the inverse of ``dump``.

    Regularizers and constraints, which act in training only, are not read.

    Parameters
    ----------
    obj : keras.Sequential, keras.Model or keras.layers.Layer
        What ``dump`` makes, trained or saved and loaded meanwhile; any Sequential or functional model of one chain of
        Conv, DepthwiseConv, SeparableConv, ConvTranspose, ZeroPadding and Cropping layers, in either data format, or of
        the classes in :mod:`tensorconv.export.keras_channels`; or one such convolution.
    input_size : int or sequence of int, optional
        Spatial size of the input; needed where ``padding="same"`` meets strides above 1, and the padding depends on it.

    Returns
    -------
    ConvSequence
        Kernels and bias bitwise the layers' weights; a layer's name is its Keras name unless that is a number. A
        SeparableConv gives two layers, of which the depthwise one has the name.

    Raises
    ------
    UnsupportedExportError
        If it holds anything else, such as an activation, or is not built.
    GeometryError
        If the input size is needed and not given, or does not fit.
    KernelError
        If a convolution before the last has a bias.
    """
    units, ndim = chain_of(obj)
    size = None if input_size is None else per_axis("input_size", input_size, ndim, at_least=1)
    return merge_padding(_joined(_steps(units, size)))


def _steps(units: Iterable[Any], size: tuple[int, ...] | None) -> Iterator[_Step]:
    """Yield the steps of all layers, following the spatial size if it is known."""
    for unit in units:
        for step in _read(unit, size):
            yield step
            size = None if size is None else _size_after(step, size)


def _read(unit: Any, size: tuple[int, ...] | None) -> Iterator[_Step]:
    """Yield the steps of a layer, or of branches."""
    kind = type(unit)
    if kind is Branches:
        yield _read_branches(unit)
    elif kind in STEPS:
        yield read_step(unit, _name(unit))
    elif kind in TRANSPOSED:
        yield _read_transposed(unit)
    elif kind in ZERO_PADDING:
        yield _pairs(unit.padding)
    elif kind in CROPPING:
        yield _Crop(_pairs(unit.cropping, sign=-1))
    elif kind in POOLING:
        if set(unit.pool_size) != {1}:
            raise UnsupportedExportError(
                f"layer {unit.name!r} must take single positions, got pool_size={unit.pool_size}; load the "
                "convolutions one by one"
            )
        yield _Subsample(tuple(unit.strides))
    else:
        yield from _read_forward(unit, size)


def _read_forward(layer: Any, size: tuple[int, ...] | None) -> Iterator[ConvLayer]:
    separable = type(layer) in SEPARABLE
    kernel = as_float_array("kernel", (layer.depthwise_kernel if separable else layer.kernel).value)
    is_full = type(layer) in FORWARD
    padding: Any = 0
    if layer.padding == "same":
        padding = ConvGeometry.same(
            layer.kernel_size, input_size=size, stride=layer.strides, dilation=layer.dilation_rate
        ).padding
    elif layer.padding == "causal":
        padding = [(d * (k - 1), 0) for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    yield ConvLayer.of(
        kernel,
        None if separable else _bias(layer),
        stride=layer.strides,
        padding=padding,
        dilation=layer.dilation_rate,
        groups=layer.groups if is_full else kernel.shape[-2],
        layout="*IO" if is_full else "*ID",
        name=_name(layer),
    )
    if separable:
        yield ConvLayer.of(layer.pointwise_kernel.value, _bias(layer), layout="*IO")


def _read_transposed(layer: Any) -> ConvLayer:
    extra = (None,) * layer.rank if layer.output_padding is None else layer.output_padding
    axes = zip(layer.kernel_size, layer.strides, layer.dilation_rate, extra, strict=True)
    return ConvLayer.of(
        layer.kernel.value,
        _bias(layer),
        stride=layer.strides,
        padding=[_transposed_padding(d * (k - 1) + 1, s, op, layer.padding) for k, s, d, op in axes],
        dilation=layer.dilation_rate,
        transposed=True,
        layout="*OI",
        name=_name(layer),
    )


def _transposed_padding(extent: int, stride: int, output_padding: int | None, padding: str) -> tuple[int, int]:
    """Return what Keras takes off both ends of s(x-1) + extent positions; without output_padding it picks the size."""
    if padding == "valid":
        return 0, -(max(stride - extent, 0) if output_padding is None else output_padding)
    kept = stride if output_padding is None else extent % 2 + output_padding  # positions beyond s(x-1)
    low = max(0, (extent - kept) // 2)
    return low, extent - kept - low


def _read_branches(branches: Branches) -> ConvLayer:
    parts = [_read_transposed(layer) for layer in branches.layers]
    first = parts[0]
    if any((p.geometry, p.bias is None) != (first.geometry, first.bias is None) for p in parts) or (
        len({p.kernel.shape for p in parts}) > 1
    ):
        raise UnsupportedExportError(
            f"layer {branches.join.name!r} must join convolutions that are alike but for their weights; load them one "
            "by one"
        )
    return ConvLayer(
        np.concatenate([part.kernel for part in parts]),
        replace(first.geometry, groups=len(parts)),
        None if first.bias is None else np.concatenate([part.bias for part in parts if part.bias is not None]),
        _name(branches.join),
    )


def _bias(layer: Any) -> Any:
    return None if layer.bias is None else layer.bias.value


def _name(layer: Any) -> str:
    return "" if layer.name.isdecimal() else str(layer.name)


def _pairs(given: Any, sign: int = 1) -> Pairs:
    """Return (low, high) per axis from what Keras has, which is one pair where there is one axis."""
    pairs = (given,) if isinstance(given[0], int) else given
    return tuple((sign * low, sign * high) for low, high in pairs)


def _size_after(step: _Step, size: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(step, _Subsample):
        return tuple(-(-n // s) for n, s in zip(size, step.strides, strict=True))
    if not isinstance(step, (_Crop, tuple)):
        return step.output_size(size)
    pairs = step.pairs if isinstance(step, _Crop) else step
    return tuple(n + low + high for n, (low, high) in zip(size, pairs, strict=True))


def _joined(steps: Iterable[_Step]) -> Iterator[ConvLayer | Other | Pairs]:
    """Yield convolutions with all that is theirs alone, and what pads a forward one by zeros."""
    last: ConvLayer | None = None
    pairs: Pairs | None = None  # since the last convolution
    for step in steps:
        if isinstance(step, _Subsample):
            last = _strided(last if pairs is None else None, step.strides)
        elif isinstance(step, ConvLayer):
            yield from _closed(last)
            last = step
            if pairs is not None and step.geometry.transposed:
                last = _extended(step, pairs)
            elif pairs is not None:
                yield pairs
            pairs = None
        elif isinstance(step, _Crop) and pairs is None and last is not None and last.geometry.transposed:
            yield from (last, step.pairs)
            last = None
        elif isinstance(step, (_Crop, tuple)):
            pairs = _sum(pairs, step.pairs if isinstance(step, _Crop) else step)
        else:
            yield from (*_ended(last, pairs), step)
            last = pairs = None
    yield from _ended(last, pairs)


def _ended(last: ConvLayer | None, pairs: Pairs | None) -> Iterable[ConvLayer | Pairs]:
    """Return a layer and the padding after it, where no convolution follows that could take it."""
    return _closed(last) if pairs is None else [one for one in (last, pairs) if one is not None]


def _closed(layer: ConvLayer | None) -> Iterator[ConvLayer | Pairs]:
    """Yield a layer, and a cropping of nothing after a transposed one, which a padding of the next follows."""
    if layer is not None:
        yield layer
        if layer.geometry.transposed:
            yield ((0, 0),) * layer.ndim


def _extended(layer: ConvLayer, pairs: Pairs) -> ConvLayer:
    """Return a transposed layer that takes its input without these zeros around it."""
    if any(side < 0 for pair in pairs for side in pair):
        raise UnsupportedExportError(
            f"cropping by {pairs} before a transposed convolution cannot be merged into it; crop its output"
        )
    axes = zip(layer.geometry.stride, layer.geometry.padding, pairs, strict=True)
    padding = tuple((low - s * a, high - s * b) for s, (low, high), (a, b) in axes)
    return replace(layer, geometry=replace(layer.geometry, padding=padding))


def _strided(layer: ConvLayer | None, strides: tuple[int, ...]) -> ConvLayer:
    if layer is None or layer.geometry.transposed:
        raise UnsupportedExportError(
            f"positions are left out by strides {strides} where no convolution precedes directly; load the "
            "convolutions one by one"
        )
    product = tuple(a * b for a, b in zip(layer.geometry.stride, strides, strict=True))
    return replace(layer, geometry=replace(layer.geometry, stride=product))


def _sum(first: Pairs | None, second: Pairs) -> Pairs:
    """Return one padding that does the same as two after one another."""
    if first is None:
        return second
    sides = [(a, b) for pair, other in zip(first, second, strict=True) for a, b in zip(pair, other, strict=True)]
    if any(a < 0 < b for a, b in sides):
        raise UnsupportedExportError(f"cropping by {first} is followed by zero padding {second}: not one padding")
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(first, second, strict=True))
