"""Pointwise, depthwise and pointwise in one go: what the first gives stays with the thread that needs it.

The inverted residual of a mobile network has several times more channels between its layers than at its ends. A thread
takes a part of the last layer's tiles, computes the first layer's tiles that these read, unless it has them from the
part before, into a plane of its own, and goes on from there::

    tiles of the first layer    . . # # # # # + + . .      # there from the part before, + computed now
    part of the last layer            . # # # . .          the depthwise layer reads a row more at either end

So no thread reads what another has just written. What two threads need at the border between them is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution.atomics import claim, claim_part
from tensorconv.convolution.dense import Dense
from tensorconv.convolution.kept import kept
from tensorconv.convolution.loops import Floats, Ints, compiled
from tensorconv.convolution.panels import dense_tiles
from tensorconv.convolution.team import invite
from tensorconv.convolution.threads import granted, share
from tensorconv.convolution.tiles import Tables, n_tiles
from tensorconv.convolution.vectors import VECTOR_BYTES
from tensorconv.convolution.ways import POSITIONS

PARTS = 2  # for each thread
Layer = tuple[Floats, Floats, Ints, Ints, Ints, Ints, Tables, tuple[Floats, Floats, Ints]]


@dataclass(frozen=True, eq=False)
class Expanded:
    """A pointwise layer and, behind it, a depthwise with a pointwise one.

    Parameters
    ----------
    first : Dense
        The pointwise layer.
    last : Dense
        The others, as one.
    """

    first: Dense
    last: Dense

    @property
    def n_bytes(self) -> int:
        """Bytes of weights and tables."""
        return self.first.n_bytes + self.last.n_bytes

    @property
    def n_between(self) -> int:
        """Numbers in the plane of a thread."""
        return len(self.last.blend.weights) * self.first.way.n_positions

    def __call__(self, x: Array, y: Array, *, looks: bool | None = None) -> bool:
        """Convolve x (B, C, L) into y (B, O, P); return whether x is finite for sure."""
        threads = granted((self.first.n_macs + self.last.n_macs) * len(x))
        planes = kept("planes", (threads, self.n_between), x.dtype)
        tiles = self.last.n_tiles
        parts = min(tiles, PARTS * threads)
        task = np.array([self.first.n_out, self.last.n_out, self.first.way.n_positions, parts, tiles], np.int64)
        x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
        first, last = self.first.layer, self.last.layer
        is_finite = share(
            lambda counter, team: expanded_tiles(x, first, last, planes, task, y, counter, team),
            threads=threads,
            looks=False,
        )
        touches_all = self.first.way.touches_all and self.last.way.touches_all
        return is_finite and (looks is False or touches_all)


def expanded(first: object, last: object) -> Expanded | None:
    """Return two planned layers as one, where that can be.

    Parameters
    ----------
    first, last : Dense or Rows
        Layers that follow one another.

    Returns
    -------
    Expanded or None
        None where the first is not pointwise, at every position, or the last has no depthwise layer before it.
    """
    if not isinstance(first, Dense) or not isinstance(last, Dense) or not len(last.blend.weights):
        return None
    way, is_plain = first.way, len(first.weights) == 1 and not len(first.blend.weights)
    is_everywhere = way.n_taps == 1 and way.step == 1 and way.row == way.n_positions == last.way.n_elements
    return Expanded(first, last) if is_plain and is_everywhere and way.contiguous else None


@compiled
def expanded_tiles(
    x: Floats, first: Layer, last: Layer, planes: Floats, task: Ints, y: Floats, counter: Ints, team: int
) -> None:
    """Convolve what other threads have not claimed yet.

    Parameters
    ----------
    x : ndarray, shape (B, C L)
        Data.
    first, last : tuple
        What is known of the layers.
    planes : ndarray, shape (threads, M L)
        Receives what is between them, for each thread.
    task : ndarray of int64, shape (5,)
        Out-channels of both, positions of the first, parts that the tiles of the last are claimed in, and tiles.
    y : ndarray, shape (B, O P)
        Receives the output.
    counter : ndarray of int64, shape (6,)
        As for :func:`dense_tiles`, and how many threads have come.
    team : int
        Address of a team to invite, 0 for none; negative for a thread of the team.
    """
    invite(team)
    lanes, parts, tiles = VECTOR_BYTES // x.itemsize, task[3], task[4]
    offsets, n_blocks = last[7][2], last[0].shape[1]
    lowest, highest = offsets.min() // x.itemsize, offsets.max() // x.itemsize
    n_positions = 1
    for a in range(len(last[4])):
        n_positions *= last[4][a, POSITIONS]
    vectors, whole_tiles, _ = n_tiles(n_positions, lanes, n_blocks)
    of_first = n_tiles(task[2], lanes, first[0].shape[1])
    seat = claim(counter.ctypes.data + 40)
    if seat >= len(planes):  # a thread that has been here before
        return
    plane = planes[seat : seat + 1]
    image, begun, ended = -1, 0, 0  # tiles of the first layer that are in the plane
    mine, own = np.zeros(8, np.int64), np.zeros(5, np.int64)
    mine[1], mine[5], own[1] = 1, 1, 2**40
    while True:
        unit = claim_part(counter, len(x) * parts, team)
        if unit < 0:
            break
        t0, t1 = tiles * (unit % parts) // parts, tiles * (unit % parts + 1) // parts
        if unit // parts != image:
            image, begun, ended = unit // parts, 0, 0
        q0 = (vectors * t0 // whole_tiles if t0 < whole_tiles else vectors) * lanes
        q1 = vectors * t1 // whole_tiles * lanes if t1 < whole_tiles else n_positions
        needed = covering(of_first, max(0, q0 + lowest), min(task[2], q1 + highest), lanes)
        if needed[0] > ended or needed[1] < begun or begun == ended:
            begun, ended = needed[0], needed[0]
        for before in range(2):
            r0, r1 = (needed[0], begun) if before else (ended, needed[1])
            if r0 < r1:
                mine[0], mine[2], mine[6], mine[7] = task[0], r1 - r0, r0, r1
                own[0], own[3] = 0, 0
                dense_tiles(
                    x[image : image + 1], first[0], first[1], first[2], first[3], first[4], first[5], mine, first[6],
                    first[7], plane, own, 0,
                )  # fmt: skip
        begun, ended = min(begun, needed[0]), max(ended, needed[1])
        mine[0], mine[2], mine[6], mine[7] = task[1], t1 - t0, t0, t1
        own[0], own[3] = 0, 0
        dense_tiles(
            plane, last[0], last[1], last[2], last[3], last[4], last[5], mine, last[6], last[7], y[image : image + 1],
            own, 0,
        )  # fmt: skip
    if own[2] != 0:
        counter[2] = 1


@compiled
def covering(tiles: tuple[int, int, int], first: int, last: int, lanes: int) -> tuple[int, int]:
    """Return the tiles that some positions lie in.

    Parameters
    ----------
    tiles : (int, int, int)
        Vectors, tiles of them, and 1 if a few positions are left over, else 0.
    first, last : int
        The positions, end excluded.
    lanes : int
        Numbers in a vector.

    Returns
    -------
    (int, int)
        The tiles, end excluded.
    """
    vectors, whole_tiles, few = tiles
    begin = 0
    while begin + 1 < whole_tiles + few and vectors * (begin + 1) // whole_tiles * lanes <= first:
        begin += 1
    end = begin + 1
    while end < whole_tiles + few and vectors * end // whole_tiles * lanes < last:
        end += 1
    return begin, end
