"""The convolutions of a torch module: which of its submodules they are, and what each computes for certain."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.utils import parametrize

from tensorconv.arrays import as_float_array
from tensorconv.errors import ModelError, TensorconvError
from tensorconv.export.torch import load
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, PadLayer
from tensorconv.models.found import SkippedLayer

_KINDS = tuple(getattr(torch.nn, f"Conv{kind}{n}d") for kind in ("", "Transpose") for n in (1, 2, 3))
_OWN_NAME = "module"  # of a network that is one convolution
_CERTAIN = "torch.nn.utils.parametrizations"  # weight_norm, spectral_norm and orthogonal compute the same every time


@dataclass(frozen=True, eq=False)
class Place:
    """A convolution, and all submodules that are it.

    Parameters
    ----------
    name : str
        Its first name.
    paths : tuple of str
        All names under which the network reaches it; "" is the network itself.
    modules : tuple of torch.nn.Module
        The submodules: several where they share all parameters and the geometry.
    layer : ConvLayer
        What it computes behind the padding.
    pad : PadLayer or None
        Padding by values that comes first.
    linear : bool
        Whether it is a fully connected layer.
    """

    name: str
    paths: tuple[str, ...]
    modules: tuple[torch.nn.Module, ...]
    layer: ConvLayer
    pad: PadLayer | None = None
    linear: bool = False

    def given(self, data: torch.Tensor) -> torch.Tensor:
        """Return what a submodule is called with as the layer takes it.

        Parameters
        ----------
        data : torch.Tensor
            The argument of the call.

        Returns
        -------
        torch.Tensor, shape (B, C, L1..LN)
            With a batch axis, padded, the channels second; all other axes of a fully connected layer are one.
        """
        data = self.returned(data)
        if self.pad is None:
            return data
        sides = [side for pair in reversed(self.pad.padding) for side in pair]  # torch counts the last axis first
        return torch.nn.functional.pad(data, sides, mode=self.pad.mode)

    def returned(self, output: torch.Tensor) -> torch.Tensor:
        """Return what a submodule returns as the layer does.

        Parameters
        ----------
        output : torch.Tensor
            The result of the call.

        Returns
        -------
        torch.Tensor, shape (B, C, L1..LN)
            With a batch axis, the channels second.
        """
        if not self.linear:
            return output if output.ndim == self.layer.kernel.ndim else output[None]
        output = output if output.ndim > 1 else output[None]
        return output.reshape(len(output), -1, output.shape[-1]).movedim(-1, 1)


def find_places(module: torch.nn.Module, *, linear: bool) -> tuple[list[Place], list[SkippedLayer]]:
    """Find the convolutions of a module, in the order of its submodules.

    Parameters
    ----------
    module : torch.nn.Module
        The network; nothing of it is changed.
    linear : bool
        Whether fully connected layers are looked for, too.

    Returns
    -------
    places : list of Place
        The convolutions that can be read.
    skipped : list of SkippedLayer
        Those that cannot, with reasons.
    """
    wanted = (*_KINDS, torch.nn.Linear) if linear else _KINDS
    paths: dict[Hashable, list[str]] = {}
    modules: dict[Hashable, dict[int, torch.nn.Module]] = {}
    for path, one in module.named_modules(remove_duplicate=False):
        if isinstance(one, wanted):
            key = _identity(one)
            paths.setdefault(key, []).append(path)
            modules.setdefault(key, {})[id(one)] = one
    places, skipped = [], []
    for key, names in paths.items():
        name, members = names[0] or _OWN_NAME, tuple(modules[key].values())
        try:
            pad, layer = _read(members[0])
        except TensorconvError as error:
            skipped.append(SkippedLayer(name, str(error)))
            continue
        is_linear = isinstance(members[0], torch.nn.Linear)
        places.append(Place(name, tuple(names), members, replace(layer, name=name), pad, is_linear))
    return places, skipped


def _identity(module: Any) -> Hashable:
    """Return what two modules have in common only if they are one convolution with the same parameters."""
    own = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    if own or type(module) not in (*_KINDS, torch.nn.Linear) or not isinstance(module.weight, torch.nn.Parameter):
        return id(module)
    names = ("stride", "padding", "dilation", "groups", "padding_mode", "output_padding")
    geometry = tuple(str(getattr(module, name, None)) for name in names)
    return type(module), id(module.weight), id(module.bias), geometry


def _read(module: Any) -> tuple[PadLayer | None, ConvLayer]:
    """Return the padding by values and the convolution that a module is, or raise why that is not certain."""
    module = _plain(module)
    if isinstance(module, torch.nn.Linear):
        _refuse_hooks(module)
        weight = as_float_array("weight", module.weight)
        bias = None if module.bias is None else as_float_array("bias", module.bias)
        return None, ConvLayer(weight[:, :, None], ConvGeometry.of(1), bias)
    *before, layer = load(module)
    if not isinstance(layer, ConvLayer) or len(before) > 1:
        raise ModelError(f"{type(module).__name__} is more than a padding and a convolution")
    pad = before[0] if before else None
    return (pad if isinstance(pad, PadLayer) else None), layer


def _plain(module: Any) -> Any:
    """Return a module of torch's own class that computes the same, sharing what can be shared."""
    if parametrize.is_parametrized(module):
        module = _without_parametrizations(module)
    kind = type(module)
    if kind in (*_KINDS, torch.nn.Linear):
        return module
    base: Any = next(one for one in kind.__mro__ if one in (*_KINDS, torch.nn.Linear))
    own = [name for name in dir(base) if name in _computing(base) and getattr(kind, name) is not getattr(base, name)]
    if own or any(name in vars(one) for one in kind.__mro__ for name in ("weight", "bias")):
        what = ", ".join(own) or "weight or bias"
        raise ModelError(
            f"{kind.__name__} has its own {what}, which may compute anything; use {base.__name__} where it is one"
        )
    plain = base.__new__(base)
    plain.__dict__ = vars(module)
    return plain


def _computing(base: Any) -> Iterator[str]:
    """Yield the methods that a subclass changes the computation by."""
    yield from ("__call__", "__getattr__", "__getattribute__", "forward", "_call_impl", "_wrapped_call_impl")
    if base is not torch.nn.Linear:
        yield from ("_conv_forward", "_output_padding") if "Transpose" in base.__name__ else ("_conv_forward",)


def _without_parametrizations(module: Any) -> Any:
    """Return a copy whose parameters are what the parametrizations compute in evaluation mode."""
    for steps in module.parametrizations.values():
        for step in steps:
            if type(step).__module__ != _CERTAIN:
                raise ModelError(
                    f"it is parametrized by {type(step).__name__}, which may compute something else every time; call "
                    "torch.nn.utils.parametrize.remove_parametrizations first"
                )
    try:
        computed = copy.deepcopy(module).eval()  # in training mode reading a parameter may change the module
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"it cannot be copied: {error}") from error
    base: Any = type(module).__mro__[1]  # the class that parametrizations were added to; removing them would change it
    plain = base.__new__(base)
    plain.__dict__ = {**vars(computed), "_modules": {}, "_parameters": dict(computed._parameters)}
    with torch.no_grad():
        for name in module.parametrizations:
            plain._parameters[name] = torch.nn.Parameter(getattr(computed, name))
    return plain


def _refuse_hooks(module: Any) -> None:
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise ModelError(
            "it has forward hooks, or a forward of its own, which may change what it computes; remove them first"
        )
