"""What a torch module is called with and what it returns, as arrays by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch

from tensorconv.arrays import Array
from tensorconv.errors import ModelError
from tensorconv.integers import integer, is_integer
from tensorconv.models.named_data import by_name, portions

Batch = dict[str, Array]
_CONVOLUTIONS = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
_CURE = "give example=, a tensor, a tuple of tensors in the order of forward's parameters, or a dict of them by name"


@dataclass(frozen=True)
class Input:
    """One input of a module.

    Parameters
    ----------
    name : str
        The parameter of ``forward``.
    dtype : torch.dtype
        Its type.
    ndim : int
        Its number of axes.
    positional : bool
        Whether it is handed over by position.
    """

    name: str
    dtype: torch.dtype
    ndim: int
    positional: bool

    def accept(self, value: Any) -> Array:
        """Return data as an array that the input takes.

        Parameters
        ----------
        value : array_like or torch.Tensor
            The data.

        Returns
        -------
        ndarray
            The array; floating-point numbers of any type are taken for any other.

        Raises
        ------
        ModelError
            If it has another number of axes, or its values are of another kind.
        """
        tensor = as_tensor(self.name, value)
        if tensor.dtype != self.dtype and not (tensor.is_floating_point() and self.dtype.is_floating_point):
            raise ModelError(
                f"data for input {self.name!r} must be of type {self.dtype}, got {tensor.dtype}; convert it"
            )
        if tensor.ndim != self.ndim:
            raise ModelError(
                f"data for input {self.name!r} must have {self.ndim} axes as the example has, got the shape "
                f"{tuple(tensor.shape)}"
            )
        return to_array(tensor)


def as_tensor(name: str, value: Any) -> torch.Tensor:
    """Return a value as a tensor.

    Parameters
    ----------
    name : str
        What it is, for messages.
    value : array_like or torch.Tensor
        The value.

    Returns
    -------
    torch.Tensor
        The value itself or a tensor of it.

    Raises
    ------
    ModelError
        If torch has no such tensor.
    """
    if isinstance(value, torch.Tensor):
        return value
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise ModelError(f"input {name!r} must be a tensor or an array, got {type(value).__name__}: {error}") from error


def to_array(tensor: torch.Tensor) -> Array:
    """Return a copy of a tensor as an array.

    Parameters
    ----------
    tensor : torch.Tensor
        Any tensor that has values.

    Returns
    -------
    ndarray
        The copy, in float32 where numpy does not have the type bfloat16.

    Raises
    ------
    ModelError
        If the tensor has no values, or of a type that numpy does not have.
    """
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    try:
        return np.array(tensor.cpu().numpy())
    except (TypeError, RuntimeError) as error:  # a sparse or quantized one, or one on the meta device
        raise ModelError(f"a tensor on {tensor.device} of type {tensor.dtype} has no array: {error}") from error


def read_example(module: torch.nn.Module, example: Any, input_size: Any) -> tuple[tuple[Input, ...], Batch]:
    """Return the inputs of a module and a batch of them.

    Parameters
    ----------
    module : torch.nn.Module
        The module.
    example : torch.Tensor, array_like, tuple, mapping of str, or None
        What to call it with; made from ``input_size`` if None.
    input_size : int, sequence of int or None
        Spatial size of an example of one image, normally distributed with a fixed seed, of the channels of the first
        convolution.

    Returns
    -------
    inputs : tuple of Input
        The inputs.
    batch : dict of str to ndarray
        The example.

    Raises
    ------
    ModelError
        If there is nothing to make an example of, or it does not fit the parameters of ``forward``.
    """
    if example is None:
        example = _make(module, input_size)
        input_size = None
    if isinstance(example, Mapping):
        named = {str(name): as_tensor(str(name), value) for name, value in example.items()}
    else:
        values = example if isinstance(example, (tuple, list)) else (example,)
        named = {name: as_tensor(name, value) for name, value in zip(_names(module, len(values)), values, strict=True)}
    if not named:
        raise ModelError(f"example must hold a tensor, got none; {_CURE}")
    _check_size(next(iter(named.values())), input_size)
    positional = not isinstance(example, Mapping)
    inputs = tuple(Input(name, tensor.dtype, tensor.ndim, positional) for name, tensor in named.items())
    return inputs, {name: to_array(tensor) for name, tensor in named.items()}


def _make(module: torch.nn.Module, input_size: Any) -> torch.Tensor:
    """Return one seeded image for the first convolution or fully connected layer."""
    first = next((one for one in module.modules() if isinstance(one, _CONVOLUTIONS)), None)
    if first is None:
        raise ModelError(f"the network has no convolution to make an example for; {_CURE}")
    shape: tuple[int, ...]
    if isinstance(first, torch.nn.Linear):
        shape = (1, first.in_features)
    elif input_size is None:
        raise ModelError(f"the size of the network's input is not known; give input_size=, or {_CURE[5:]}")
    else:
        ndim = len(first.kernel_size)
        sizes = (input_size,) * ndim if is_integer(input_size) else tuple(input_size)
        if len(sizes) != ndim:
            raise ModelError(
                f"input_size must have one entry per spatial axis, {ndim} for the first convolution, got {input_size}"
            )
        shape = (1, int(first.in_channels), *(integer("input_size", size, at_least=1) for size in sizes))
    values = np.random.default_rng(0).standard_normal(shape)
    return torch.from_numpy(values).to(next(first.parameters()).dtype)


def _check_size(first: torch.Tensor, input_size: Any) -> None:
    """Refuse a size that the example does not have."""
    if input_size is None:
        return
    sizes = (input_size,) * (first.ndim - 2) if is_integer(input_size) else tuple(input_size)
    if tuple(first.shape[max(0, first.ndim - len(sizes)) :]) != sizes:
        raise ModelError(
            f"input_size {input_size} contradicts the example, of the shape {tuple(first.shape)}; leave input_size out"
        )


def _names(module: torch.nn.Module, count: int) -> list[str]:
    """Return the names of the first parameters of forward; those of ``*args`` are numbered."""
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = inspect.Parameter
    names = [p.name for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
    if rest is not None:
        names += [f"{rest}.{i}" for i in range(count - len(names))]
    if len(names) < count:
        raise ModelError(f"example holds {count} tensors, forward takes {len(names)}: {', '.join(names)}; {_CURE}")
    return names[:count]


def check_batches(inputs: Sequence[Input], data: Any) -> list[Batch]:
    """Return data as batches.

    Parameters
    ----------
    inputs : sequence of Input
        The inputs.
    data : array_like, mapping of str to array_like, or list or tuple of either
        One batch, or several. An array is that of the only input; more than 64 images are split.

    Returns
    -------
    list of dict of str to ndarray
        The batches, each of all inputs.

    Raises
    ------
    ModelError
        If an input is missing, unknown, or does not fit.
    """
    return [
        {one.name: one.accept(part[one.name]) for one in inputs}
        for named in by_name([one.name for one in inputs], data)
        for part in portions(named)
    ]


def name_outputs(output: Any) -> dict[str, torch.Tensor]:
    """Return the tensors that a module returned, by name.

    Parameters
    ----------
    output : Any
        A tensor, or tuples, lists, dictionaries and dataclasses of tensors; what else is in them is left out.

    Returns
    -------
    dict of str to torch.Tensor
        "output", or "output." and the position, key or field, as deep as they are nested.

    Raises
    ------
    ModelError
        If there is no tensor.
    """
    found = dict(_tensors("output", output))
    if not found:
        raise ModelError(f"the network must return tensors, got {type(output).__name__}; wrap it in a module that does")
    return found


def _tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
        return
    entries: Any = ()
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        entries = zip(value._fields, value, strict=True)
    elif isinstance(value, (tuple, list)):
        entries = enumerate(value)
    elif is_dataclass(value) and not isinstance(value, type):
        entries = ((one.name, getattr(value, one.name)) for one in fields(value))
    for key, entry in entries:
        yield from _tensors(f"{name}.{key}", entry)
