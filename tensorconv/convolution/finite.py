"""Whether numbers are finite, found out by the threads that are about to use them: looking at them before takes time.

A number times zero is zero, unless it is NaN or inf, and NaN stays in a sum.
"""

from __future__ import annotations

import numpy as np

from tensorconv.convolution.emitter import I64, Emitter, Value, kernel
from tensorconv.convolution.loops import Floats, Ints, compiled
from tensorconv.convolution.vectors import VECTOR_BYTES, claim

BLOCK = 8192  # numbers that a thread claims at a time


def _scan(e: Emitter, sums: Value, x: Value, count: Value) -> None:
    b, size = e.builder, e.lanes * e.size

    def add(k: Value, totals: list[Value]) -> list[Value]:
        at = b.add(x, b.mul(k, I64(4 * size)))
        return [e.fma(e.load(at, i * size), e.zero, total) for i, total in enumerate(totals)]

    for i, total in enumerate(e.loop(count, [e.zero] * 4, add)):
        e.store(total, sums, i * size)


_scan_vectors = kernel(3, _scan)


@compiled
def are_finite(x: Floats, first: int, last: int) -> bool:
    """Return whether some of the numbers are all finite.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Numbers.
    first, last : int
        Which, end excluded.

    Returns
    -------
    bool
        Whether there is neither NaN nor inf.
    """
    lanes = 4 * VECTOR_BYTES // x.itemsize
    sums = np.zeros(lanes, x.dtype)
    n = (last - first) // lanes
    if n > 0:
        _scan_vectors(x, (sums.ctypes.data, x.ctypes.data + first * x.itemsize, n))
    total = x.dtype.type(0)
    for i in range(lanes):
        total += sums[i]
    for i in range(first + n * lanes, last):
        total += x[i] * x.dtype.type(0)
    return bool(total == 0)


@compiled
def scan(x: Floats, counter: Ints) -> None:
    """Look at what other threads have not claimed yet.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Numbers.
    counter : ndarray of int64, shape (3,)
        What is claimed comes second; the third is set to 1 where a number is not finite.
    """
    while True:
        first = claim(counter.ctypes.data + 8) * BLOCK
        if first >= len(x):
            break
        if not are_finite(x, first, min(len(x), first + BLOCK)):
            counter[2] = 1
