"""Independent tasks, one after the other or in several processes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tensorconv.errors import MissingFrameworkError, ModelError
from tensorconv.integers import is_integer

Result = TypeVar("Result")


def in_parallel(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], jobs: int) -> Iterator[Result]:
    """Yield the results of tasks in their order; a task is made only when a process is nearly free for it.

    Parameters
    ----------
    function : callable
        What is called; importable, where there are several processes.
    tasks : iterable of tuple
        Its arguments.
    jobs : int
        Number of processes.

    Yields
    ------
    object
        What the function returned.

    Raises
    ------
    ModelError
        If the number of processes is not a positive integer.
    MissingFrameworkError
        If there are to be several processes, and joblib is not installed.
    """
    if not is_integer(jobs) or jobs < 1:
        raise ModelError(f"jobs must be an integer of at least 1, got {jobs!r}")
    if jobs == 1:
        for task in tasks:
            yield function(*task)
        return
    try:
        joblib = importlib.import_module("joblib")
    except ImportError as error:
        raise MissingFrameworkError("jobs above 1 need joblib: pip install 'tensorconv[cli]'") from error
    calls = (joblib.delayed(function)(*task) for task in tasks)
    results = joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="n_jobs")(calls)
    try:
        for result in results:  # noqa: UP028 - "yield from" would close them by itself
            yield result
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says that an interrupted run leaves tasks unfinished
            results.close()
