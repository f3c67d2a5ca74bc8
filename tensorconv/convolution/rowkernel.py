"""The micro-kernels of narrow convolutions, depthwise ones above all: sums taken from the input as it lies in memory.

The kernel of blocks, here 3x3 at stride 1 with 4 rows of output; every input vector is loaded once per tap along the
row and used by all sums that it is part of::

            tap 0  tap 1  tap 2        of the row
           +------+------+------+
    row -1 | x(-1)| x(0) | x(1) |      sum 0 += w0. x
    row  0 |      |      |      |      sum 0 += w1. x   sum 1 += w0. x
    row  1 |      |      |      |      sum 0 += w2. x   sum 1 += w1. x   sum 2 += w0. x
    row  2 |      |      |      |                       sum 1 += w2. x   sum 2 += w1. x   sum 3 += w0. x
    row  3 |      |      |      |                                        sum 2 += w2. x   sum 3 += w1. x
    row  4 |      |      |      |                                                         sum 3 += w2. x
           +------+------+------+
    18 loads for 36 products; 4 sums and 9 weights in registers, if the registers are that many

At stride 2, two vectors are split into even and odd columns, which two taps read.

The kernel of pieces takes any taps: 4 vectors of sums, and for every row of weights, one per in-channel and tap, 4
loads. What is outside the input is masked by two words: whether the row is inside, and which columns are.
"""

from __future__ import annotations

from typing import Any

from tensorconv.convolution.emitter import I64, Emitter, Value, kernel
from tensorconv.convolution.finite import watch


def block_kernel(taps: int, stride: int, n_rows: int) -> Any:
    """Make the kernel of a block of rows of a square kernel without dilation.

    Parameters
    ----------
    taps : int
        Taps along either axis.
    stride : int
        Stride along either axis, 1 or 2.
    n_rows : int
        Rows of output.

    Returns
    -------
    intrinsic
        (like, (y, step of its rows, bits to store, x at the first tap, step of its rows, first row of x, number of rows
        of x, zeros to read instead of rows that are not there, bits of the columns per tap along the row, weights,
        bias, vector that tells whether sums are finite)).
    """

    def emit(
        e: Emitter, y: Value, y_step: Value, stored: Value, x: Value, x_step: Value, first: Value, height: Value,
        zeros: Value, columns: Value, weights: Value, bias: Value, seen: Value,
    ) -> None:  # fmt: skip
        b = e.builder
        sums = [e.splat(bias)] * n_rows
        weight = [e.splat(weights, t * e.size) for t in range(taps * taps)]
        bits = [e.integer(columns, k) for k in range(taps)]
        if stride == 2:  # of every second column; with those between, which the next tap reads
            bits = [b.or_(*(bits[k], b.shl(bits[k + 1], I64(1)))) if k + 1 < taps else bits[k] for k in range(taps)]
        for i in range((n_rows - 1) * stride + taps):
            is_inside = b.icmp_unsigned("<", b.add(first, I64(i)), height)
            row = b.select(is_inside, b.add(x, b.mul(x_step, I64(i))), zeros)
            for k in range(taps):
                if stride == 1:
                    values = e.masked(b.add(row, I64(k * e.size)), bits[k])
                elif k % 2 == 0:
                    values, following = e.split(b.add(row, I64(k * e.size)), bits[k])
                else:
                    values = following
                for r in range(n_rows):
                    if 0 <= i - r * stride < taps:
                        sums[r] = e.fma(weight[(i - r * stride) * taps + k], values, sums[r])
        for r in range(n_rows):
            e.store_masked(sums[r], b.add(y, b.mul(y_step, I64(r))), stored)
        watch(e, sums, seen)

    return kernel(12, emit)


def piece_kernel(n_pieces: int, step: int) -> Any:
    """Make the kernel of some vectors of output, each anywhere, with any number of weights.

    Parameters
    ----------
    n_pieces : int
        Vectors.
    step : int
        Step between the elements that neighbouring positions touch, 1 or 2.

    Returns
    -------
    intrinsic
        (like, (sums, x, sources of the pieces, offsets of the rows of weights in x, number of rows, weights, bias,
        bits of the pieces' rows, bits of their columns, offsets of the rows of weights in either, vector that tells
        whether sums are finite)).
    """

    def emit(
        e: Emitter, sums: Value, x: Value, sources: Value, offsets: Value, n_rows: Value, weights: Value, bias: Value,
        row_bits: Value, column_bits: Value, row_at: Value, column_at: Value,
        seen: Value,
    ) -> None:  # fmt: skip
        b = e.builder
        source = [b.add(x, e.integer(sources, i)) for i in range(n_pieces)]
        of_row = [e.integer(row_bits, i) for i in range(n_pieces)]
        of_column = [e.integer(column_bits, i) for i in range(n_pieces)]

        def add(k: Value, totals: list[Value]) -> list[Value]:
            index = b.mul(k, I64(8))
            offset = e.integer(b.add(offsets, index))
            at_row, at_column = e.integer(b.add(row_at, index)), e.integer(b.add(column_at, index))
            weight = e.splat(b.add(weights, b.mul(k, I64(e.size))))
            results = []
            for i in range(n_pieces):
                bits = b.and_(e.integer(b.add(of_row[i], at_row)), e.integer(b.add(of_column[i], at_column)))
                results.append(e.fma(weight, e.masked(b.add(source[i], offset), bits, step), totals[i]))
            return results

        totals = e.loop(n_rows, [e.splat(bias)] * n_pieces, add)
        for i, total in enumerate(totals):
            e.store(total, sums, i * e.lanes * e.size)
        watch(e, totals, seen)

    return kernel(12, emit)


block3x3, block3x3few, block3x3s2 = block_kernel(3, 1, 14), block_kernel(3, 1, 7), block_kernel(3, 2, 7)
block5x5, block5x5s2 = block_kernel(5, 1, 7), block_kernel(5, 2, 7)
pieces4, pieces4s2 = piece_kernel(4, 1), piece_kernel(4, 2)
