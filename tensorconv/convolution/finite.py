"""Whether numbers are finite, found out in passing: looking at all of an input before takes time.

A number times zero is zero, unless it is NaN or inf, and NaN stays in a sum. So an output is finite only if all of the
input that it is made of is, and outputs are looked at while they are in registers. An input of which some elements are
not used is looked at itself, and so is one whose output is not finite, which may have overflowed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensorconv.convolution.atomics import claim
from tensorconv.convolution.emitter import I64, Emitter, Value, kernel
from tensorconv.convolution.loops import Floats, Ints, compiled
from tensorconv.convolution.vectors import VECTOR_BYTES

BLOCK = 8192  # numbers that a thread claims at a time


def watch(e: Emitter, values: Sequence[Value], seen: Value) -> None:
    """Add zero times the sum of some vectors to one in memory.

    Parameters
    ----------
    e : Emitter
        What writes the instructions.
    values : sequence of value
        Vectors.
    seen : value
        Address of the vector, which holds zeros as long as all numbers were finite.
    """
    left = list(values)
    while len(left) > 1:  # in pairs, and pairs of pairs: one after another would wait
        left = [e.builder.fadd(*pair) for pair in zip(left[::2], left[1::2], strict=False)] + left[len(left) & ~1 :]
    e.store(e.fma(left[0], e.zero, e.load(seen)), seen)


def _look(e: Emitter, sums: Value, x: Value, count: Value) -> None:
    """Add zero times some numbers to four vectors of sums; count is at least 1."""
    b, size = e.builder, e.lanes * e.size
    groups = b.sdiv(b.add(count, I64(4 * e.lanes - 1)), I64(4 * e.lanes))

    def add(k: Value, totals: list[Value]) -> list[Value]:
        at, rest = b.add(x, b.mul(k, I64(4 * size))), b.sub(count, b.mul(k, I64(4 * e.lanes)))
        results = []
        for i, total in enumerate(totals):
            left = b.sub(rest, I64(i * e.lanes))
            left = b.select(b.icmp_signed("<", left, I64(0)), I64(0), left)
            left = b.select(b.icmp_signed("<", left, I64(e.lanes)), left, I64(e.lanes))
            there = b.sub(b.shl(I64(1), left), I64(1))
            results.append(e.fma(e.masked(b.add(at, I64(i * size)), there), e.zero, total))
        return results

    first = [e.load(sums, i * size) for i in range(4)]
    for i, total in enumerate(e.loop(groups, first, add)):
        e.store(total, sums, i * size)


look = kernel(3, _look)  # (like, (four vectors of sums, x, count))


@compiled
def scan(x: Floats, sums: Floats, counter: Ints) -> None:
    """Look at what other threads have not claimed yet.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Numbers.
    sums : ndarray, shape (4 vectors,)
        Zeros, that stay zeros if the numbers are finite.
    counter : ndarray of int64, shape (3,)
        What is claimed comes second.
    """
    while True:
        first = claim(counter.ctypes.data + 8) * BLOCK
        if first >= len(x):
            break
        look(x, (sums.ctypes.data, x.ctypes.data + first * x.itemsize, min(BLOCK, len(x) - first)))


@compiled
def judge(sums: Floats, counter: Ints) -> None:
    """Tell whether all numbers that were looked at were finite.

    Parameters
    ----------
    sums : ndarray, shape (4 vectors,)
        Zeros, if they were.
    counter : ndarray of int64, shape (3,)
        The third is set to 1 if they were not.
    """
    for i in range(len(sums)):
        if sums[i] != 0:
            counter[2] = 1


@compiled
def look_at_part(x: Floats, first: int, last: int, counter: Ints) -> None:
    """Look at a part of every channel, which also brings it into the cache.

    Parameters
    ----------
    x : ndarray, shape (C, L)
        Numbers.
    first, last : int
        The part, end excluded.
    counter : ndarray of int64, shape (3,)
        The third is set to 1 if a number is not finite.
    """
    sums = np.zeros(4 * VECTOR_BYTES // x.itemsize, x.dtype)
    for c in range(len(x)):
        look(x, (sums.ctypes.data, x.ctypes.data + (c * x.shape[1] + first) * x.itemsize, last - first))
    judge(sums, counter)
