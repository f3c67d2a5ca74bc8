"""Exporter "torch": a sequence as torch.nn.Sequential of convolutions, and back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from tensorconv.arrays import Array
from tensorconv.errors import UnsupportedExportError
from tensorconv.export.padding import Pairs, Split, Step, merge_padding, split_padding
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, ConvSequence, as_sequence, to_layout

_MAX_NDIM = 3
_CONVOLUTIONS = {getattr(torch.nn, f"Conv{n}d"): n for n in (1, 2, 3)}
_TRANSPOSED = {getattr(torch.nn, f"ConvTranspose{n}d"): n for n in (1, 2, 3)}
_PADS = {getattr(torch.nn, f"{kind}Pad{n}d"): n for kind in ("Constant", "Zero") for n in (1, 2, 3)}
_CONTAINER_NAMES = frozenset(dir(torch.nn.Sequential()))


def dump(sequence: Any) -> torch.nn.Sequential:
    """Return a sequence as torch modules.

    Convolutions pad where torch can say it; where it cannot (another padding at the low end than at the high end,
    negative padding), an ``nn.ConstantPad`` before a convolution, or cropping after a transposed one, says it. Torch
    refuses to run such a step on an axis shorter than what it crops.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write, with 1 to 3 spatial axes.

    Returns
    -------
    torch.nn.Sequential
        Modules of the kernels' data type, on the CPU, with parameters of their own. A layer's name is its key where
        that is a valid and unique key (not a number, without dots), else its position is.

    Raises
    ------
    UnsupportedExportError
        If there are more than 3 spatial axes, or a transposed layer with a bias is extended further than torch can.
    """
    sequence = as_sequence(sequence)
    ndim = sequence.layers[0].geometry.ndim
    if ndim > _MAX_NDIM:
        raise UnsupportedExportError(
            f'torch has convolutions over 1 to {_MAX_NDIM} spatial axes, got {ndim}; export to "onnx", which runs 4'
        )
    modules: OrderedDict[str, torch.nn.Module] = OrderedDict()
    names = [layer.name for layer in sequence]
    for layer, split in split_padding(sequence, _says):
        if layer.bias is not None and split.extends:
            raise UnsupportedExportError(
                f"torch cannot extend a transposed convolution by padding {layer.geometry.padding} and give the new "
                'entries the bias; export to "onnx", or give the bias to a pointwise layer after this one'
            )
        for module in _modules(layer, split):
            own_key = isinstance(module, tuple(_PADS)) or not _is_key(layer.name) or names.count(layer.name) > 1
            modules[str(len(modules)) if own_key else layer.name] = module
    return torch.nn.Sequential(modules)


def load(obj: torch.nn.Module) -> ConvSequence:
    """Return the sequence of a torch module, the inverse of :func:`dump`.

    Parameters
    ----------
    obj : torch.nn.Module
        A convolution, or an ``nn.Sequential`` of convolutions and zero paddings.

    Returns
    -------
    ConvSequence
        Kernels and bias bitwise the module's parameters; a key that is not a number is the layer's name.

    Raises
    ------
    UnsupportedExportError
        If it holds anything else, such as an activation or another padding mode.
    KernelError
        If a convolution before the last has a bias.
    """
    named = _children(obj) if type(obj) is torch.nn.Sequential else [("", obj)]
    return merge_padding(_step(module, "" if key.isdigit() else key) for key, module in named)


def _says(axis: ConvGeometry) -> bool:
    """Whether torch has this geometry; a transposed one crops both ends alike, then takes output_padding."""
    ((low, high),) = axis.padding
    if not axis.transposed:
        return 0 <= low == high
    return low >= 0 and 0 <= low - high < max(axis.stride[0], axis.dilation[0])


def _is_key(name: str) -> bool:
    return name != "" and "." not in name and not name.isdigit() and name not in _CONTAINER_NAMES


def _modules(layer: ConvLayer, split: Split) -> Iterator[torch.nn.Module]:
    if split.before is not None:
        yield _pad(split.before)
    yield _convolution(layer, split.own)
    if split.after is not None:
        yield _pad(split.after)


def _pad(pairs: Pairs) -> torch.nn.Module:
    sides = tuple(side for pair in reversed(pairs) for side in pair)  # torch counts the last axis first
    module: torch.nn.Module = getattr(torch.nn, f"ConstantPad{len(pairs)}d")(sides, 0.0)
    return module


def _convolution(layer: ConvLayer, padding: Pairs) -> torch.nn.Module:
    geometry = layer.geometry
    kind = f"Conv{'Transpose' * geometry.transposed}{geometry.ndim}d"
    extra = {"output_padding": tuple(low - high for low, high in padding)} if geometry.transposed else {}
    module: torch.nn.Module = getattr(torch.nn, kind)(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=geometry.stride,
        padding=tuple(low for low, _ in padding),
        dilation=geometry.dilation,
        groups=geometry.groups,
        bias=layer.bias is not None,
        device="meta",  # no memory, no random numbers: the parameters come next
        **extra,
    )
    module.weight = _parameter(to_layout(layer.kernel, "IO*" if geometry.transposed else "OI*", layer.geometry))
    if layer.bias is not None:
        module.bias = _parameter(layer.bias)
    return module


def _parameter(array: Array) -> torch.nn.Parameter:
    copy = np.array(array)
    if array.dtype.name == "bfloat16":  # torch does not take numpy's bfloat16, but takes its bits
        return torch.nn.Parameter(torch.from_numpy(copy.view(np.int16)).view(torch.bfloat16))
    return torch.nn.Parameter(torch.from_numpy(copy))


def _children(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield keys and modules in order, a module that stands twice too, which named_children would leave out."""
    for key, child in module.named_modules(remove_duplicate=False):
        if key and "." not in key:
            yield key, child


def _step(module: torch.nn.Module, name: str) -> Step:
    kind = type(module)
    if kind in _PADS:
        return _read_pad(module, _PADS[kind])
    if kind not in _CONVOLUTIONS and kind not in _TRANSPOSED:
        raise UnsupportedExportError(
            f"module {name!r} must be a Conv, a ConvTranspose or a ConstantPad, got {kind.__name__}; load the "
            "convolutions of a larger model one by one"
        )
    return _read_convolution(module, name)


def _read_pad(module: Any, ndim: int) -> Pairs:
    if module.value != 0:
        raise UnsupportedExportError(f"only padding by zeros is part of a convolution, got the value {module.value}")
    sides = tuple(int(side) for side in module.padding)
    return tuple((sides[2 * axis], sides[2 * axis + 1]) for axis in reversed(range(ndim)))


def _read_convolution(module: Any, name: str) -> ConvLayer:
    if module.padding_mode != "zeros":
        raise UnsupportedExportError(
            f"module {name!r}: padding_mode must be 'zeros', got {module.padding_mode!r}; pad by a module before it"
        )
    padding = module.padding
    if padding == "same":
        padding = ConvGeometry.same(module.kernel_size, dilation=module.dilation).padding
    transposed = type(module) in _TRANSPOSED
    return ConvLayer.of(
        module.weight,
        module.bias,
        stride=module.stride,
        padding=0 if padding == "valid" else padding,
        dilation=module.dilation,
        groups=module.groups,
        transposed=transposed,
        output_padding=module.output_padding if transposed else 0,
        layout="IO*" if transposed else "OI*",
        name=name,
    )
