"""Threads: work of compiled loops, which hold no interpreter lock, on a pool of the size that is granted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.convolution.team import TEAM
from tensorconv.errors import GeometryError

SMALL_WORK = 2**18  # multiply-accumulates for which another thread is worth its waking
_POOLS: dict[int, ThreadPoolExecutor] = {}  # one, by its number of threads


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


def granted(n_macs: int) -> int:
    """Return how many threads are worth their waking.

    Parameters
    ----------
    n_macs : int
        Multiply-accumulates of the work.

    Returns
    -------
    int
        At least 1.
    """
    return min(n_threads(), 1 + n_macs // max(1, SMALL_WORK))


def run_tasks(tasks: Iterable[Callable[[], None]], *, n_macs: int) -> None:
    """Run all tasks, on several threads where the work is worth it.

    Parameters
    ----------
    tasks : iterable of callable
        What to run, in any order.
    n_macs : int
        Multiply-accumulates of all tasks together.
    """
    threads = n_threads() if granted(n_macs) > 1 else 1
    if threads == 1:
        for task in tasks:
            task()
        return
    for done in [_pool(threads).submit(task) for task in tasks]:
        done.result()


def share(work: Callable[[NDArray[Any], int], None], *, threads: int, looks: bool = True) -> bool:
    """Run one function on several threads, which claim its parts from a common counter; this thread is one of them.

    Parameters
    ----------
    work : callable
        Takes counters, an array of six integers, and a team to invite; raises the counters of claims for every part
        that it claims, and returns when none is left; sets the third to 1 where its input was not finite.
    threads : int
        How many threads.
    looks : bool
        Whether to look at the input at all; if not, the second counter is raised beyond any input.

    Returns
    -------
    bool
        Whether all input was finite.
    """
    begin = [0, 0 if looks else 2**40, 0, 0, 0, 0]
    counter, all_done = np.array(begin, np.int64), False
    if threads > 1 and TEAM.lock.acquire(blocking=False):  # else another call has the team
        try:
            TEAM.gather(threads - 1)
            try:
                work(counter, TEAM.address)
            finally:
                all_done = TEAM.part()
        finally:
            TEAM.lock.release()
        if not all_done:  # a thread had no memory for its workspace, and left what it had claimed
            counter = np.array(begin, np.int64)
    if not all_done:
        work(counter, 0)
    return bool(counter[2] == 0)


def _pool(threads: int) -> ThreadPoolExecutor:
    pool = _POOLS.get(threads)
    if pool is None:
        for former in _POOLS.values():
            former.shutdown(wait=False)
        _POOLS.clear()
        pool = _POOLS[threads] = ThreadPoolExecutor(threads, "tensorconv")
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOLS.clear)  # a child has none of its parent's threads
