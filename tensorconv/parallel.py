"""Independent tasks: one after the other here, in several processes, or on a cluster; the results are the same bits."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tensorconv.errors import MissingFrameworkError, ModelError
from tensorconv.integers import is_integer
from tensorconv.linalg.threads import one_blas_thread

Result = TypeVar("Result")
_SECONDS_TO_CONNECT = 20
_ADDRESS = re.compile(r"([a-z]+://)?[^\s/]+:\d+")


def in_parallel(
    function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], jobs: int | None
) -> Iterator[Result]:
    """Yield the results of tasks in their order; a task is made only when a process is nearly free for it.

    Every task runs with one BLAS thread, so that its result does not depend on where it runs.

    Parameters
    ----------
    function : callable
        What is called; importable, where there are several processes.
    tasks : iterable of tuple
        Its arguments.
    jobs : int or None
        Number of processes; None for what ``joblib.parallel_config`` says, and one where it says nothing. One is this
        process.

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
    if jobs is not None and (not is_integer(jobs) or jobs < 1):
        raise ModelError(f"jobs must be an integer of at least 1, or None, got {jobs!r}")
    calls = (_Call(function, task) for task in tasks)
    if jobs == 1 or (jobs is None and not _is_configured()):
        for call in calls:
            yield call.result()
        return
    joblib = _package("joblib", "jobs above 1 need joblib: pip install 'tensorconv[cli]'")
    delayed = (joblib.delayed(_Call.result)(call) for call in calls)
    results = joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="n_jobs")(delayed)
    try:
        for result in results:  # noqa: UP028 - "yield from" would close them by itself
            yield result
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says that an interrupted run leaves tasks unfinished
            results.close()


@contextmanager
def on_cluster(address: str | None) -> Iterator[None]:
    """Let tasks whose number of processes is None run on a Dask cluster.

    Parameters
    ----------
    address : str or None
        Address of its scheduler, such as "tcp://10.0.0.1:8786"; None changes nothing.

    Yields
    ------
    None
        Nothing; tasks go to the cluster inside the block.

    Raises
    ------
    ModelError
        If no scheduler answers there, or a task has lost several workers.
    MissingFrameworkError
        If dask.distributed or joblib are not installed.
    """
    if address is None:
        yield
        return
    missing = "a cluster needs dask.distributed and joblib: pip install 'tensorconv[dask]'"
    joblib, distributed = _package("joblib", missing), _package("distributed", missing)
    refusal = f"address must be that of a running Dask scheduler, such as tcp://10.0.0.1:8786, got {address!r}"
    if not _ADDRESS.fullmatch(address):
        raise ModelError(refusal)
    try:
        client = distributed.Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{refusal}: {error}") from error
    with client, joblib.parallel_config("dask", client=client):
        try:
            yield
        except distributed.KilledWorker as error:
            raise ModelError(
                f"several workers were lost at one task, is their memory enough for it? {error}"
            ) from error


@dataclass(frozen=True, eq=False)
class _Call:
    """A task as one object: arguments given singly are put on one worker, and lost with it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def result(self) -> Any:
        with one_blas_thread():
            return self.function(*self.arguments)


def _is_configured() -> bool:
    """Return whether ``joblib.parallel_config`` was told where to run, or on how many processes."""
    if "joblib" not in sys.modules:
        return False
    backend, n_jobs = importlib.import_module("joblib").parallel.get_active_backend()
    return n_jobs is not None or type(backend).__name__ != "LokyBackend"


def _package(name: str, missing: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingFrameworkError(missing) from error
