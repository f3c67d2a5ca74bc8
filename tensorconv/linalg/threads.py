"""One BLAS thread while many small products run: faster there, and bitwise repeatable on any machine setting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0
_before: list[tuple[Any, int]] = []


@cache
def _libraries() -> list[Any]:
    """Find the loaded BLAS libraries once; numpy's and scipy's are loaded by then."""
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _set(library: Any, n_threads: int) -> None:
    """Set a library's limit, also from another thread than the one that set it before.

    threadpoolctl's public call is ignored there while that thread lives; blocks here are counted, so it is safe.
    """
    getattr(library, "_real_set_num_threads", library.set_num_threads)(n_threads)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread for the duration of a block.

    numpy and scipy bring a BLAS each, and their threads spin against one another: alternating small calls are many
    times slower on two threads than on one (tests/benchmarks/blas_threads.py measures it). The limit is the process',
    so blocks that overlap in several threads share one: the first sets it, the last lifts it.

    Yields
    ------
    None
        Nothing; the limit holds inside the block.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _before[:] = [(library, library.get_num_threads()) for library in _libraries()]
            for library, _ in _before:
                _set(library, 1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for library, n_threads in _before:
                    _set(library, n_threads)
