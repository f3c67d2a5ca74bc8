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

from typing import Any

from tensorconv.convolution.emitter import I64, Emitter, Value, kernel
from tensorconv.convolution.vectors import TILE_CHANNELS, VECTOR_BYTES


def tile_kernel(n_channels: int, n_vectors: int) -> Any:
    """Make the micro-kernel of a tile.

    Parameters
    ----------
    n_channels, n_vectors : int
        The tile.

    Returns
    -------
    intrinsic
        (like, (weights, panel, step of its rows, number of rows, y, step of its rows, bias, whether to continue,
        address to prefetch, step of it per row)).
    """
    cells = [(m, v) for m in range(n_channels) for v in range(n_vectors)]

    def emit(
        e: Emitter, weights: Value, panel: Value, panel_step: Value, n_rows: Value, y: Value, y_step: Value,
        bias: Value, continues: Value, ahead: Value, ahead_step: Value,
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

        def row(k: Value, sums: list[Value]) -> list[Value]:
            at, weight_at = b.add(panel, b.mul(k, panel_step)), b.add(weights, b.mul(k, I64(n_channels * e.size)))
            values = [e.load(at, v * VECTOR_BYTES) for v in range(n_vectors)]
            e.prefetch(b.add(ahead, b.mul(k, ahead_step)))
            broadcast = [e.splat(weight_at, m * e.size) for m in range(n_channels)]
            return [e.fma(broadcast[m], values[v], total) for (m, v), total in zip(cells, sums, strict=True)]

        for (m, v), total in zip(cells, e.loop(n_rows, first, row), strict=True):
            e.store(total, b.add(y, b.mul(y_step, I64(m))), v * VECTOR_BYTES)

    return kernel(10, emit)


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
        (like, (panel, step of its rows, x, offsets of the rows in x, offsets of the rows' masks, number of rows,
        offsets of the copies in x, offsets of the copies in a row, masks)). All offsets in bytes.
    """

    def emit(
        e: Emitter, panel: Value, panel_step: Value, x: Value, rows: Value, mask_rows: Value, n_rows: Value,
        sources: Value, targets: Value, masks: Value,
    ) -> None:  # fmt: skip
        b = e.builder
        source = [b.add(x, e.integer(sources, i)) for i in range(n_copies)]
        target = [b.add(panel, e.integer(targets, i)) for i in range(n_copies)]

        def row(k: Value, _: list[Value]) -> list[Value]:
            index = b.mul(k, I64(8))
            offset, to = e.integer(b.add(rows, index)), b.mul(k, panel_step)
            mask = b.add(masks, e.integer(b.add(mask_rows, index)))
            got = [e.masked(b.add(source[i], offset), e.integer(mask, i), step) for i in range(n_copies)]
            for i in range(n_copies):
                e.store(got[i], b.add(target[i], to))
            return []

        e.loop(n_rows, [], row)

    return kernel(9, emit)


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
        whether to continue)).
    """

    def emit(
        e: Emitter, weights: Value, block_step: Value, panel: Value, panel_step: Value, n_rows: Value, sums: Value,
        bias: Value, continues: Value,
    ) -> None:  # fmt: skip
        b, c = e.builder, Emitter(e.builder, e.like, TILE_CHANNELS)
        size = c.lanes * c.size
        start = b.select(b.icmp_signed("!=", continues, I64(0)), sums, bias)
        blocks = [b.add(weights, b.mul(block_step, I64(i))) for i in range(n_blocks)]

        def row(k: Value, totals: list[Value]) -> list[Value]:
            value, at = c.splat(b.add(panel, b.mul(k, panel_step))), b.mul(k, I64(size))
            return [c.fma(c.load(b.add(block, at)), value, total) for block, total in zip(blocks, totals, strict=True)]

        for i, total in enumerate(c.loop(n_rows, [c.load(start, i * size) for i in range(n_blocks)], row)):
            c.store(total, sums, i * size)

    return kernel(8, emit)


tile3, tile2, tile1 = (tile_kernel(TILE_CHANNELS, n) for n in (3, 2, 1))
copy1, copy2, copy3, copy4, copy5, copy8 = (panel_kernel(n, 1) for n in (1, 2, 3, 4, 5, 8))
skip4, skip8 = (panel_kernel(n, 2) for n in (4, 8))
column8, column1 = column_kernel(8), column_kernel(1)
