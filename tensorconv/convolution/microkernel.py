"""The micro-kernel of dense convolutions: a tile of sums held in registers, and the panel of inputs it reads.

With AVX-512 and float32 a tile is 8 out-channels by 3 vectors of 16 positions::

                      positions, in the order of the output
                  |  vector 0  |  vector 1  |  vector 2  |
                  +------------+------------+------------+
    panel, row k  |  x x x ..  |  x x x ..  |  x x x ..  |   3 registers, loaded once per k
                  +------------+------------+------------+
    weight 0 k -> |  sum 0 0   |  sum 0 1   |  sum 0 2   |
    weight 1 k -> |  sum 1 0   |  sum 1 1   |  sum 1 2   |   24 registers for the whole loop over k;
       ..         |     ..     |     ..     |     ..     |   every weight is broadcast into the 28th
    weight 7 k -> |  sum 7 0   |  sum 7 1   |  sum 7 2   |
                  +------------+------------+------------+

Row k of the panel is one tap of one in-channel, seen by all positions: sum += weight * row, 24 times per k with 11
loads, rounded once each. Positions lie in the lanes, so a row of sums is stored as it lies in the output. The weights
of a tile lie one k after another. Sums start at the bias or, where k continues, at what was stored. Up to four
positions that are left over behind the last whole vector are done one by one, with out-channels in the lanes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tensorconv.convolution.emitter import I64, Emitter, Value, kernel
from tensorconv.convolution.finite import watch
from tensorconv.convolution.vectors import TILE_CHANNELS, VECTOR_BYTES


def tile_kernel(n_channels: int, n_vectors: int, *, packs: bool = False) -> Any:
    """Make the micro-kernel of a tile.

    Parameters
    ----------
    n_channels, n_vectors : int
        The tile.
    packs : bool
        Whether the panel is written on the way, which the products hide, and not read: one piece per vector.

    Returns
    -------
    intrinsic
        (like, (weights, panel, step of its rows, number of rows, y, step of its rows, bias, whether to continue,
        vector that tells whether sums are finite, and either address to prefetch and step of it per row, or what
        :func:`panel_kernel` takes after the panel)).
    """
    cells = [(m, v) for m in range(n_channels) for v in range(n_vectors)]

    def emit(
        e: Emitter, weights: Value, panel: Value, panel_step: Value, n_rows: Value, y: Value, y_step: Value,
        bias: Value, continues: Value, seen: Value, *rest: Value,
    ) -> None:  # fmt: skip
        b = e.builder
        starts, goes_on, go = (b.function.append_basic_block(name) for name in ("starts", "goes_on", "go"))
        b.cbranch(b.icmp_signed("!=", continues, I64(0)), goes_on, starts)
        b.position_at_end(starts)
        biases = [e.splat(bias, m * e.size) for m in range(n_channels)]
        b.branch(go)
        b.position_at_end(goes_on)
        stored = [e.load(b.add(y, b.mul(y_step, I64(m))), v * VECTOR_BYTES) for m, v in cells]
        b.branch(go)
        b.position_at_end(go)
        first = []
        for (m, _), value in zip(cells, stored, strict=True):
            phi = b.phi(e.vector)
            phi.add_incoming(biases[m], starts)
            phi.add_incoming(value, goes_on)
            first.append(phi)

        def multiply(k: Value, values: list[Value], sums: list[Value]) -> list[Value]:
            weight_at = b.add(weights, b.mul(k, I64(n_channels * e.size)))
            broadcast = [e.splat(weight_at, m * e.size) for m in range(n_channels)]
            return [e.fma(broadcast[m], values[v], total) for (m, v), total in zip(cells, sums, strict=True)]

        def row(k: Value, sums: list[Value]) -> list[Value]:
            at = b.add(panel, b.mul(k, panel_step))
            values = [e.load(at, v * VECTOR_BYTES) for v in range(n_vectors)]
            e.prefetch(b.add(rest[0], b.mul(k, rest[1])))
            return multiply(k, values, sums)

        def packed(k: Value, values: list[Value], sums: list[Value]) -> list[Value]:
            at = b.add(panel, b.mul(k, panel_step))
            for v, value in enumerate(values):
                e.store(value, at, v * VECTOR_BYTES)
            return multiply(k, values, sums)

        for m, v in cells:  # the sums of the next block of out-channels
            e.prefetch(b.add(y, b.mul(y_step, I64(n_channels + m))), v * VECTOR_BYTES, level=1)
        totals = _rows(e, n_vectors, 1, first, packed, *rest, looks_ahead=True) if packs else e.loop(n_rows, first, row)
        for (m, v), total in zip(cells, totals, strict=True):
            e.store(total, b.add(y, b.mul(y_step, I64(m))), v * VECTOR_BYTES)
        watch(e, totals, seen)

    return kernel(17 if packs else 11, emit)


def panel_kernel(n_copies: int, step: int) -> Any:
    """Make the copy of panel rows: one masked vector per piece of consecutive positions, zeros outside the input.

    Parameters
    ----------
    n_copies : int
        Vectors per row.
    step : int
        Step between the elements that neighbouring positions touch.

    Returns
    -------
    intrinsic
        (like, (panel, step of its rows, offsets of the copies in a row, runs of rows, how many, first row, x, step of
        its channels, offsets of the copies in x, masks, step of a tap's masks)). All offsets in bytes.
    """

    def emit(e: Emitter, panel: Value, panel_step: Value, targets: Value, *rest: Value) -> None:
        b = e.builder
        target = [b.add(panel, e.integer(targets, i)) for i in range(n_copies)]

        def row(k: Value, values: list[Value], _: list[Value]) -> list[Value]:
            to = b.mul(k, panel_step)
            for one, value in zip(target, values, strict=True):
                e.store(value, b.add(one, to))
            return []

        _rows(e, n_copies, step, [], row, *rest)

    return kernel(11, emit)


def blend_kernel(n_copies: int, n_channels: int) -> Any:
    """Make the depthwise convolution of some channels at a time into panel rows, at stride 1.

    Parameters
    ----------
    n_copies : int
        Vectors per row.
    n_channels : int
        Channels, which share the masks of a tap.

    Returns
    -------
    intrinsic
        (like, (panel, step of its rows, offsets of the copies in a row, offsets of the taps in x, how many, x at the
        first channel, step of its channels, offsets of the copies in x, masks, step of a tap's masks, weights, bias,
        how many times as many channels)). All offsets in bytes.
    """

    def emit(
        e: Emitter, panel: Value, panel_step: Value, targets: Value, taps: Value, n_taps: Value, x: Value,
        x_step: Value, sources: Value, masks: Value, masks_step: Value, weights: Value, bias: Value, count: Value,
    ) -> None:  # fmt: skip
        b = e.builder
        source = [b.add(x, e.integer(sources, i)) for i in range(n_copies)]
        target = [b.add(panel, e.integer(targets, i)) for i in range(n_copies)]

        def channels(k: Value, _: list[Value]) -> list[Value]:
            numbers = [b.add(b.mul(k, I64(n_channels)), I64(c)) for c in range(n_channels)]
            at = [b.mul(c, x_step) for c in numbers]
            weight = [b.add(weights, b.mul(b.mul(c, n_taps), I64(e.size))) for c in numbers]
            biases = [e.splat(b.add(bias, b.mul(c, I64(e.size)))) for c in numbers]

            def tap(t: Value, sums: list[Value]) -> list[Value]:
                offset = e.integer(b.add(taps, b.mul(t, I64(8))))
                words = [e.integer(b.add(masks, b.mul(t, masks_step)), i) for i in range(n_copies)]
                results = []
                for c in range(n_channels):
                    factor, moved = e.splat(b.add(weight[c], b.mul(t, I64(e.size)))), b.add(at[c], offset)
                    for i in range(n_copies):
                        values = e.masked(b.add(source[i], moved), words[i])
                        results.append(e.fma(factor, values, sums[c * n_copies + i]))
                return results

            last = e.integer(b.add(taps, b.mul(b.sub(n_taps, I64(1)), I64(8))))
            for c, i in itertools.product(range(n_channels), range(n_copies)):  # what the next tile reads first
                e.prefetch(b.add(b.add(source[i], at[c]), last), n_copies * VECTOR_BYTES)
            sums = e.loop(n_taps, [value for value in biases for _ in range(n_copies)], tap)
            for c in range(n_channels):
                to = b.mul(numbers[c], panel_step)
                for i in range(n_copies):
                    e.store(sums[c * n_copies + i], b.add(target[i], to))
            return []

        e.loop(count, [], channels)

    return kernel(13, emit)


def _rows(
    e: Emitter, n_copies: int, step: int, carried: list[Value],
    body: Callable[[Value, list[Value], list[Value]], list[Value]], runs: Value, n_runs: Value, first: Value, x: Value,
    x_step: Value, sources: Value, masks: Value, masks_step: Value, *, looks_ahead: bool = False,
) -> list[Value]:  # fmt: skip
    """Go through runs of rows: those of a run are of one tap, which has masks, and of one in-channel after another."""
    b = e.builder
    source = [b.add(x, e.integer(sources, i)) for i in range(n_copies)]

    def run(r: Value, values: list[Value]) -> list[Value]:
        row, count, offset, tap = (e.integer(b.add(runs, b.mul(r, I64(32))), i) for i in range(4))
        words = [e.integer(b.add(masks, b.mul(tap, masks_step)), i) for i in range(n_copies)]

        def one(c: Value, inner: list[Value]) -> list[Value]:
            at = b.add(offset, b.mul(c, x_step))
            got = [e.masked(b.add(start, at), word, step) for start, word in zip(source, words, strict=True)]
            for start in source if looks_ahead else []:
                e.prefetch(b.add(start, at), n_copies * VECTOR_BYTES)
            return body(b.add(b.sub(row, first), c), got, inner)

        return e.loop(count, values, one)

    return e.loop(n_runs, carried, run)


def column_kernel(n_blocks: int) -> Any:
    """Make the kernel of one position and some blocks of out-channels, which lie in the lanes here.

    Parameters
    ----------
    n_blocks : int
        Blocks, enough of them to hide how long one sum takes.

    Returns
    -------
    intrinsic
        (like, (weights, step of the blocks, panel at the position, step of its rows, number of rows, sums, bias,
        whether to continue, vector that tells whether sums are finite)).
    """

    def emit(
        e: Emitter, weights: Value, block_step: Value, panel: Value, panel_step: Value, n_rows: Value, sums: Value,
        bias: Value, continues: Value, seen: Value,
    ) -> None:  # fmt: skip
        b, c = e.builder, Emitter(e.builder, e.like, TILE_CHANNELS)
        size = c.lanes * c.size
        start = b.select(b.icmp_signed("!=", continues, I64(0)), sums, bias)
        blocks = [b.add(weights, b.mul(block_step, I64(i))) for i in range(n_blocks)]

        def row(k: Value, totals: list[Value]) -> list[Value]:
            value, at = c.splat(b.add(panel, b.mul(k, panel_step))), b.mul(k, I64(size))
            return [c.fma(c.load(b.add(block, at)), value, total) for block, total in zip(blocks, totals, strict=True)]

        totals = c.loop(n_rows, [c.load(start, i * size) for i in range(n_blocks)], row)
        for i, total in enumerate(totals):
            c.store(total, sums, i * size)
        watch(c, totals, seen)

    return kernel(9, emit)


tile3, tile2, tile1 = (tile_kernel(TILE_CHANNELS, n) for n in (3, 2, 1))
pack3, pack2 = (tile_kernel(TILE_CHANNELS, n, packs=True) for n in (3, 2))
copy1, copy3, copy4, copy5, copy8 = (panel_kernel(n, 1) for n in (1, 3, 4, 5, 8))
skip4, skip8 = (panel_kernel(n, 2) for n in (4, 8))
column8, column1 = column_kernel(8), column_kernel(1)
blend4, blend1 = blend_kernel(3, 4), blend_kernel(3, 1)
