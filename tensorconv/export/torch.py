"""Exporter "torch": a sequence as torch.nn.Sequential of convolutions or as its state dict, and back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tensorconv.arrays import Array, as_float_array
from tensorconv.errors import FormatError, UnsupportedExportError
from tensorconv.export.padding import Convolution, Other, Pairs, merge_padding, split_padding
from tensorconv.export.torch_modules import ChannelPermutation, ChannelwiseConv
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import (
    ChannelwiseLayer,
    ConvLayer,
    ConvSequence,
    PadLayer,
    PermuteLayer,
    as_sequence,
    to_layout,
)

_MAX_NDIM = 3
_CONVOLUTIONS = {getattr(torch.nn, f"Conv{n}d"): n for n in (1, 2, 3)}
_TRANSPOSED = {getattr(torch.nn, f"ConvTranspose{n}d"): n for n in (1, 2, 3)}
_PADS = {getattr(torch.nn, f"{kind}Pad{n}d") for kind in ("Constant", "Zero") for n in (1, 2, 3)}
_PAD_KINDS = {"reflect": "Reflection", "replicate": "Replication", "circular": "Circular"}
_VALUE_PADS = {getattr(torch.nn, f"{kind}Pad{n}d"): mode for mode, kind in _PAD_KINDS.items() for n in (1, 2, 3)}
_CONTAINER_NAMES = frozenset(dir(torch.nn.Sequential()))


def dump(sequence: Any, *, state_dict: bool = False) -> torch.nn.Sequential | dict[str, torch.Tensor]:
    """Return a sequence as torch modules.

    Convolutions pad where torch can say it; where it cannot (another padding at the low end than at the high end,
    negative padding), an ``nn.ConstantPad`` before a convolution, or cropping after a transposed one, says it. Torch
    refuses to run such a step on an axis shorter than what it crops.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write, with 1 to 3 spatial axes.
    state_dict : bool
        Whether to return the parameters alone, under the names that they have in the module.

    Returns
    -------
    torch.nn.Sequential or dict of str to torch.Tensor
        Modules of the kernels' data type, on the CPU, with parameters of their own. A layer's name is its key where
        that is a valid and unique key (not a number, without dots), else its position is.

    Raises
    ------
    UnsupportedExportError
        If there are more than 3 spatial axes, or a transposed layer with a bias is extended further than torch can.
    """
    sequence = as_sequence(sequence)
    ndim = sequence.ndim
    if ndim > _MAX_NDIM:
        raise UnsupportedExportError(
            f'torch has convolutions over 1 to {_MAX_NDIM} spatial axes, got {ndim}; export to "onnx", which runs 4'
        )
    modules: OrderedDict[str, torch.nn.Module] = OrderedDict()
    names = [layer.name for layer in sequence]
    for step in split_padding(sequence, _says, framework="torch"):
        module: torch.nn.Module
        if isinstance(step, Convolution):
            module, name = _convolution(step), step.layer.name
        elif isinstance(step, PermuteLayer):
            module, name = ChannelPermutation(step.order), step.name
        elif isinstance(step, ChannelwiseLayer):
            module, name = _channelwise(step), step.name
        elif isinstance(step, PadLayer):
            module, name = _pad(_PAD_KINDS[step.mode], step.padding), step.name
        elif isinstance(step, tuple):
            module, name = _pad("Constant", step, 0.0), ""
        is_key = _is_key(name) and names.count(name) == 1
        modules[name if is_key else str(len(modules))] = module
    whole = torch.nn.Sequential(modules)
    return whole.state_dict() if state_dict else whole


def load(obj: torch.nn.Module | Mapping[str, torch.Tensor], *, like: Any = None) -> ConvSequence:
    """Return the sequence of a torch module, the inverse of :func:`dump`.

    Parameters
    ----------
    obj : torch.nn.Module or mapping of str to torch.Tensor
        A convolution, an ``nn.Sequential`` of convolutions and paddings, or the state dict of what :func:`dump` makes.
    like : ConvSequence, ConvLayer or object with ``.sequence``, optional
        What a state dict was dumped from: it has the geometry, which a state dict has not.

    Returns
    -------
    ConvSequence
        Kernels and bias bitwise the module's parameters; a key that is not a number is the layer's name. A convolution
        that pads by values is a :class:`tensorconv.PadLayer` and a convolution without padding.

    Raises
    ------
    UnsupportedExportError
        If it holds anything else, such as an activation, or a state dict comes without ``like``.
    FormatError
        If a state dict has other keys or shapes than that of ``like``.
    KernelError
        If a convolution before the last has a bias.
    """
    if isinstance(obj, Mapping):
        return _load_state(obj, like)
    _refuse_changes(obj, "")
    named = _children(obj) if type(obj) is torch.nn.Sequential else [("", obj)]
    return merge_padding(step for key, module in named for step in _steps(module, "" if key.isdigit() else key))


def _load_state(state: Mapping[str, torch.Tensor], like: Any) -> ConvSequence:
    if like is None:
        raise UnsupportedExportError(
            "a state dict holds no stride, padding, dilation or groups; give like=the sequence that was dumped, or "
            "load the module"
        )
    sequence = as_sequence(like)
    module = dump(sequence)
    try:
        module.load_state_dict(state, assign=True)  # type: ignore[union-attr]  # a module
    except RuntimeError as error:
        raise FormatError(f"obj is no state dict of like: {error}") from error
    loaded = load(module)
    return ConvSequence(tuple(replace(a, name=b.name) for a, b in zip(loaded, sequence, strict=True)))


def _says(axis: ConvGeometry) -> bool:
    """Whether torch has this geometry; a transposed one crops both ends alike, then takes output_padding."""
    ((low, high),) = axis.padding
    if not axis.transposed:
        return 0 <= low == high
    return low >= 0 and 0 <= low - high < max(axis.stride[0], axis.dilation[0])


def _is_key(name: str) -> bool:
    return name != "" and "." not in name and not name.isdigit() and name not in _CONTAINER_NAMES


def _pad(kind: str, pairs: Pairs, *value: float) -> torch.nn.Module:
    sides = tuple(side for pair in reversed(pairs) for side in pair)  # torch counts the last axis first
    module: torch.nn.Module = getattr(torch.nn, f"{kind}Pad{len(pairs)}d")(sides, *value)
    return module


def _convolution(step: Convolution) -> torch.nn.Module:
    layer, geometry, padding = step.layer, step.layer.geometry, step.padding
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


def _channelwise(layer: ChannelwiseLayer) -> torch.nn.Module:
    geometry = layer.geometry
    if geometry.ndim > _MAX_NDIM:
        raise UnsupportedExportError(
            f"torch has channel-wise convolutions over 1 or 2 spatial axes, for it convolves over {_MAX_NDIM} with the "
            f'channels, got {layer.ndim}; export to "onnx" or "jax"'
        )
    weight, bias = _parameter(layer.view.kernel), None if layer.bias is None else _parameter(layer.bias)
    return ChannelwiseConv(weight, bias, layer.in_channels, geometry.stride, geometry.padding, geometry.dilation)


def _parameter(array: Array) -> torch.nn.Parameter:
    copy = array if array.flags.writeable else np.array(array)  # what is read-only is the layer's own memory
    if array.dtype.name == "bfloat16":  # torch does not take numpy's bfloat16, but takes its bits
        return torch.nn.Parameter(torch.from_numpy(copy.view(np.int16)).view(torch.bfloat16))
    return torch.nn.Parameter(torch.from_numpy(copy))


def _children(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield keys and modules in order, a module that stands twice too, which named_children would leave out."""
    for key, child in module.named_modules(remove_duplicate=False):
        if key and "." not in key:
            yield key, child


def _steps(module: torch.nn.Module, name: str) -> Iterator[ConvLayer | Other | Pairs]:
    kind = type(module)
    _refuse_changes(module, name)
    if kind in _PADS:
        yield _read_pad(module)
        return
    if type(module) is ChannelPermutation:
        yield PermuteLayer(tuple(module.order.tolist()), name)
        return
    if type(module) is ChannelwiseConv:
        geometry = ConvGeometry(module.stride, module.padding, module.dilation)
        weight = as_float_array("weight", module.weight)[:, 0]
        bias = None if module.bias is None else as_float_array("bias", module.bias)
        yield ChannelwiseLayer(weight, module.in_channels, geometry, bias, name)
        return
    if kind in _VALUE_PADS:
        yield PadLayer(_pairs(module.padding), _VALUE_PADS[kind], name)
        return
    if kind not in _CONVOLUTIONS and kind not in _TRANSPOSED:
        raise UnsupportedExportError(
            f"module {name!r} must be a Conv, a ConvTranspose or a padding, got {kind.__name__}; load the convolutions "
            "of a larger model one by one"
        )
    yield from _read_convolution(module, name)


def _refuse_changes(module: torch.nn.Module, name: str) -> None:
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise UnsupportedExportError(
            f"module {name!r} has forward hooks, or a forward of its own, which may change what it computes (pruning "
            "and weight normalization do so); remove them first, as torch.nn.utils.prune.remove does"
        )


def _read_pad(module: Any) -> Pairs:
    if module.value != 0:
        raise UnsupportedExportError(f"only padding by zeros is part of a convolution, got the value {module.value}")
    return _pairs(module.padding)


def _pairs(sides: Any) -> Pairs:
    """Return (low, high) per axis from torch's sides, which begin with the last axis."""
    return tuple((int(sides[at]), int(sides[at + 1])) for at in reversed(range(0, len(sides), 2)))


def _read_convolution(module: Any, name: str) -> Iterator[ConvLayer | PadLayer]:
    if tuple(module.weight.shape[2:]) != tuple(module.kernel_size):
        raise UnsupportedExportError(
            f"module {name!r} has kernel_size {module.kernel_size}, but a weight of shape "
            f"{tuple(module.weight.shape)}; make a module of the weight's size"
        )
    padding = 0 if module.padding == "valid" else module.padding
    if padding == "same":
        padding = ConvGeometry.same(module.kernel_size, dilation=module.dilation).padding
    if module.padding_mode != "zeros":
        # what torch pads by, whatever became of module.padding
        yield PadLayer(_pairs(module._reversed_padding_repeated_twice), module.padding_mode)
        padding = 0
    transposed = type(module) in _TRANSPOSED
    yield ConvLayer.of(
        module.weight,
        module.bias,
        stride=module.stride,
        padding=padding,
        dilation=module.dilation,
        groups=module.groups,
        transposed=transposed,
        output_padding=module.output_padding if transposed else 0,
        layout="IO*" if transposed else "OI*",
        name=name,
    )
