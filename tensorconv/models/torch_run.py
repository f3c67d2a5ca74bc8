"""Runs a torch module in evaluation mode and watches its submodules, and leaves it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tensorconv.errors import ModelError
from tensorconv.models.network import Batch
from tensorconv.models.torch_inputs import Input, as_tensor

# what a module's own code raises, and torch itself
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a submodule.

    Parameters
    ----------
    data : torch.Tensor
        Its input; what it holds may change after the call.
    output : torch.Tensor
        What it returned.
    has_options : bool
        Whether it was given more than its input.
    """

    data: torch.Tensor
    output: torch.Tensor
    has_options: bool


@contextmanager
def watched(module: torch.nn.Module, keep: Callable[[Call], Any]) -> Iterator[None]:
    """Hand over every call of a submodule while this lasts.

    Parameters
    ----------
    module : torch.nn.Module
        The submodule.
    keep : callable
        What takes the calls.

    Yields
    ------
    None
        Nothing.
    """

    def hook(_: Any, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        options = [*given[1:], *(value for name, value in named.items() if name != "input")]
        keep(Call(given[0] if given else named["input"], output, any(value is not None for value in options)))

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def running(
    module: torch.nn.Module, inputs: Sequence[Input], batch: Batch, n_threads: int | None = None
) -> Iterator[Callable[[], Any]]:
    """Hold a module ready to be run on a batch: in evaluation mode, without gradients, with a fixed seed.

    Parameters
    ----------
    module : torch.nn.Module
        The module.
    inputs : sequence of Input
        What it is called with.
    batch : mapping of str to ndarray
        The values, which stay as they are.
    n_threads : int, optional
        Threads of torch meanwhile.

    Yields
    ------
    callable
        Runs it once and returns what ``forward`` does.

    Raises
    ------
    ModelError
        If an input is missing, or ``forward`` fails.
    """
    missing = [one.name for one in inputs if one.name not in batch]
    if missing:
        raise ModelError(f"the batch has no input {', '.join(missing)}; make it by network.batches(data)")
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    tensors = {
        one.name: as_tensor(one.name, batch[one.name]).detach().to(device=device, dtype=one.dtype, copy=True)
        for one in inputs
    }
    arguments = [tensors.pop(one.name) for one in inputs if one.positional]

    def forward() -> Any:
        try:
            return module(*arguments, **tensors)
        except _FAILURES as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (*arguments, *tensors.values()))
            raise ModelError(
                f"forward of {type(module).__name__} fails on inputs of shape {shapes}: {type(error).__name__}: "
                f"{error}; give an example that it takes"
            ) from error

    modes = [(one, one.training) for one in module.modules()]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.callback(_restore, modes)
        torch.default_generator.manual_seed(0)
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        module.eval()
        yield forward


def _restore(modes: list[tuple[torch.nn.Module, bool]]) -> None:
    """Put modules back into training or evaluation mode, each as it was."""
    modes[0][0].train(modes[0][1])
    for module, training in modes:
        module.training = training
