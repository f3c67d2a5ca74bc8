"""Threads: tasks of compiled loops, which hold no interpreter lock, on a pool of the size that is granted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from tensorconv.errors import GeometryError

SMALL_WORK = 2**20  # below this many multiply-accumulates a thread costs more than it saves


def n_threads() -> int:
    """Return how many threads to use: TENSORCONV_NUM_THREADS, else the cores granted to this process.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    GeometryError
        If the variable is set to anything but a positive integer.
    """
    wanted = os.environ.get("TENSORCONV_NUM_THREADS", "")
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdecimal() or int(wanted) < 1:
        raise GeometryError(
            f"TENSORCONV_NUM_THREADS must be a positive integer, got {wanted!r}; unset it or set it to 1"
        )
    return int(wanted)


def run_tasks(tasks: Iterable[Callable[[], None]], *, n_macs: int) -> None:
    """Run all tasks, on several threads where the work is worth it.

    Parameters
    ----------
    tasks : iterable of callable
        What to run, in any order.
    n_macs : int
        Multiply-accumulates of all tasks together.
    """
    threads = n_threads()
    if threads == 1 or n_macs <= SMALL_WORK:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()
