"""How good a network is: a function of the user's, loaded from a file that is named, or the share of right classes."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import ModelError, TensorconvError
from tensorconv.models.drift import Evaluate, Run
from tensorconv.models.network import Batch

_MODULE = "tensorconv_evaluation"


def load_function(text: str) -> Callable[..., Any]:
    """Load a function of the user's.

    Parameters
    ----------
    text : str
        As "FILE.py:function". The file is run; modules beside it can be imported by it.

    Returns
    -------
    callable
        The function.

    Raises
    ------
    ModelError
        If there is no such file or function, or the file cannot be run.
    """
    file, colon, name = text.rpartition(":")
    path = Path(file)
    if not colon or not name or path.suffix != ".py":
        raise ModelError(f"--evaluate must be as FILE.py:function, got {text!r}")
    if not path.is_file():
        raise ModelError(f"--evaluate must name a file that exists, got {file!r}")
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"--evaluate must name a Python file, got {file!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses look their module up
    sys.path.append(str(path.resolve().parent))
    with _CodeOfTheUser():
        spec.loader.exec_module(module)
    function: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(function):
        functions = ", ".join(_functions(module)) or "none"
        raise ModelError(f"--evaluate: {file} has no function {name!r}; it has {functions}")
    return function


def evaluation(function: Callable[..., Any], batches: Sequence[Batch] | None) -> Evaluate:
    """Return a function of the user's as one of a network's run alone.

    Parameters
    ----------
    function : callable
        Takes ``run``, and the batches too if it has two parameters without defaults.
    batches : sequence of dict or None
        The data.

    Returns
    -------
    callable
        Takes ``run``; what the user's code raises comes out as a ModelError that says where.

    Raises
    ------
    ModelError
        If the function takes data and there are none, or takes another number of arguments.
    """
    name = getattr(function, "__name__", type(function).__name__)
    n = _n_arguments(function)
    if n not in (1, 2):
        raise ModelError(f"--evaluate: {name} must take run, or run and batches, got {n} parameters without defaults")
    if n == 2 and batches is None:
        raise ModelError(f"--evaluate: {name} takes data, too; give them by --data, or make it take run alone")
    arguments = () if n == 1 else (batches,)

    def evaluate(run: Run) -> float:
        with _CodeOfTheUser():
            score: float = function(run, *arguments)
        return score

    return evaluate


def share_of_right_classes(batches: Sequence[Batch], labels: Array, outputs: Mapping[str, Array]) -> Evaluate:
    """Return the evaluation of a classifier: the share of images whose largest output is that of their class.

    Parameters
    ----------
    batches : sequence of dict
        The data.
    labels : ndarray of int
        The classes, in the order of the images.
    outputs : mapping of str to ndarray
        What the network gives for the first batch; the last axis of its first output is that of the classes.

    Returns
    -------
    callable
        Takes ``run``.

    Raises
    ------
    ModelError
        If the output has other axes than the labels, beside that of the classes.
    """
    name, output = next(iter(outputs.items()))
    if output.ndim != labels.ndim + 1 or output.shape[1:-1] != labels.shape[1:]:
        raise ModelError(
            f"labels must have the axes of the network's first output {name!r} but the last, got {labels.shape} for "
            f"{output.shape[0]} images with an output of {output.shape}; give a score by --evaluate instead"
        )

    def evaluate(run: Run) -> float:
        classes = np.concatenate([np.argmax(run(batch)[name], axis=-1) for batch in batches])
        return float(np.mean(classes == labels))

    return evaluate


def _n_arguments(function: Callable[..., Any]) -> int:
    """Return how many parameters must be given; 1 for one that takes any."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return 1
    positional = [one for one in parameters if one.kind in kinds]
    needed = sum(one.default is one.empty for one in positional)
    takes_any = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    return needed or int(bool(positional) or takes_any)


def _functions(module: ModuleType) -> list[str]:
    found = vars(module).items()
    return [name for name, value in found if inspect.isfunction(value) and value.__module__ == _MODULE]


class _CodeOfTheUser(AbstractContextManager[None]):
    """Turns whatever the user's code raises into a ModelError of one line that says where; our own errors pass.

    What it prints goes to stderr, since stdout is for results.
    """

    def __enter__(self) -> None:
        self._printed = redirect_stdout(sys.stderr)
        self._printed.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._printed.__exit__(kind, error, trace)
        if not isinstance(error, Exception | SystemExit) or isinstance(error, TensorconvError):
            return
        where = ""
        while trace is not None:  # the last line of the user's file that the error passed through
            if trace.tb_frame.f_globals.get("__name__") == _MODULE:
                where = f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}: "
            trace = trace.tb_next
        raise ModelError(f"--evaluate: {where}{type(error).__name__}: {error}") from error
