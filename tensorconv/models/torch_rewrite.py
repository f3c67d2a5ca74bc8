"""Puts sequences in the places of convolutions of a torch module, in a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from tensorconv.errors import ModelError
from tensorconv.export.torch import dump
from tensorconv.layers import ConvLayer, ConvSequence
from tensorconv.models.torch_sites import Place

KeyMap = dict[str, tuple[str, ...]]
_BIASES = ("bias", "parametrizations.bias.")


def rewrite(module: torch.nn.Module, replacements: Mapping[Place, ConvSequence]) -> tuple[torch.nn.Module, KeyMap]:
    """Return a copy of a module with sequences at some places.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    replacements : mapping of Place to ConvSequence
        What comes where. Modules that share their parameters share those of the sequence.

    Returns
    -------
    module : torch.nn.Module
        The copy. New parameters are on the device of the old weight and are trained where it is; training mode is kept.
    key_map : dict of str to tuple of str
        For every key of the old state dict, the keys that hold it now: of a weight that was replaced, those of all
        kernels; of a bias, that of the bias.

    Raises
    ------
    ModelError
        If the module cannot be copied, or a sequence does not fit.
    """
    try:
        new = copy.deepcopy(module)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ModelError(
            f"the module cannot be copied: {error}; what torch.nn.utils.weight_norm has changed can be after "
            "torch.nn.utils.remove_weight_norm"
        ) from error
    key_map: KeyMap = {key: (key,) for key in module.state_dict()}
    for place, sequence in replacements.items():
        _check(place, sequence)
        written = _written(place, sequence)
        for path in place.paths:
            new = _put(new, path, written)
            key_map |= _moved(key_map, path, list(written.state_dict()))
    return new, key_map


def _check(place: Place, sequence: ConvSequence) -> None:
    """Refuse a sequence that is no replacement of a layer."""
    one = place.layer
    got, wanted = (sequence.in_channels, sequence.out_channels, sequence.ndim), (one.in_channels, one.out_channels)
    if got != (*wanted, one.geometry.ndim):
        raise ModelError(
            f"the sequence for {place.name!r} must map {wanted[0]} to {wanted[1]} channels over {one.geometry.ndim} "
            f"axes, got {got[0]} to {got[1]} over {got[2]}"
        )
    if place.linear and not all(_is_matrix(step) for step in sequence):
        raise ModelError(
            f"the sequence for the fully connected {place.name!r} must be of convolutions with one tap, stride 1, no "
            f"padding and one group, got {'; '.join(map(str, sequence))}"
        )


def _is_matrix(step: Any) -> bool:
    if not isinstance(step, ConvLayer):
        return False
    g = step.geometry
    return step.kernel_size == g.stride == (1,) and g.padding == ((0, 0),) and g.groups == 1 and not g.transposed


def _written(place: Place, sequence: ConvSequence) -> torch.nn.Module:
    """Return the modules of a sequence in the state of the one they replace."""
    old: Any = place.modules[0]
    if place.linear:
        written = _linears(sequence)
    else:
        steps = sequence if place.pad is None else ConvSequence((place.pad, *sequence))
        written = dump(steps)  # type: ignore[assignment]  # modules, since no state dict is asked for
    # not old.weight and old.bias: reading them may change a module that computes them
    one = next(tensor for tensor in (*old.parameters(), *old.buffers()) if tensor.is_floating_point())
    written.to(device=one.device, dtype=one.dtype)
    flags = [(name.startswith(_BIASES), parameter.requires_grad) for name, parameter in old.named_parameters()]
    of_kernels = any(trained for is_bias, trained in flags if not is_bias)
    of_bias = any(trained for is_bias, trained in flags if is_bias) if place.layer.bias is not None else of_kernels
    for name, parameter in written.named_parameters():
        parameter.requires_grad_(of_bias if name.endswith("bias") else of_kernels)
    written.train(old.training)
    return written


def _linears(sequence: ConvSequence) -> torch.nn.Sequential:
    """Return pointwise convolutions as fully connected layers."""
    modules = []
    for one in dump(sequence):
        convolution: Any = one
        n_out, n_in, _ = convolution.weight.shape
        linear = torch.nn.Linear(n_in, n_out, device="meta")  # no memory, no random numbers
        linear.weight = torch.nn.Parameter(convolution.weight.detach()[:, :, 0])
        linear.bias = convolution.bias
        modules.append(linear)
    return torch.nn.Sequential(*modules)


def _put(module: torch.nn.Module, path: str, written: torch.nn.Module) -> torch.nn.Module:
    """Put modules under a name, which is the whole network if it is empty."""
    if not path:
        return written
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, written)
    return module


def _moved(old_keys: Iterable[str], path: str, new_keys: Sequence[str]) -> KeyMap:
    """Return where the parameters below a name are now."""
    prefix = f"{path}." if path else ""
    of_path = [key for key in old_keys if key.startswith(prefix)]
    biases = [key for key in of_path if key.removeprefix(prefix).startswith(_BIASES)]
    new_biases = tuple(prefix + key for key in new_keys if biases and key.endswith("bias"))
    kernels = tuple(prefix + key for key in new_keys if prefix + key not in new_biases)
    return {key: new_biases if key in biases else kernels for key in of_path}
