"""Sequences whose layers pass on what they compute in memory that stays: whole, or band by band where that is large.

A band begins at its rows of the last output and asks each layer, last to first, for the rows that it reads. What two
bands read is computed twice; no bit depends on where bands begin. What lies between goes to and fro between two buffers
of the thread that calls: memory given back and taken anew is cleared by the system, which takes longer than a layer.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution.dense import Dense
from tensorconv.convolution.expanded import Expanded, expanded
from tensorconv.convolution.finite import look_at_part
from tensorconv.convolution.kept import kept
from tensorconv.convolution.part import Interval, Part
from tensorconv.convolution.rows import Rows

BUFFER_BYTES = 15 * 2**17  # of each of the two buffers at most; workspaces of the layers come to them
BLOCK_ROWS = 14  # the kernels of depthwise layers take as many at a time
WEIGHT_BYTES = 2**18  # of a layer at most: bands read them again
RECOMPUTED = 1.2  # multiply-accumulates of all bands at most, over those of the layers


@dataclass(frozen=True, eq=False)
class Band:
    """Some rows of a sequence's output, planned.

    Parameters
    ----------
    plans : tuple of Dense, Rows or Expanded
        One per layer, or per layers that are one.
    shapes : tuple of (int, int)
        Channels and positions of each layer's part of the output, but the last's.
    looked_at : (int, int)
        Which elements of each channel of the input this band is to look at; none, if its outputs tell enough.
    """

    plans: tuple[Dense | Rows | Expanded, ...]
    shapes: tuple[tuple[int, int], ...]
    looked_at: Interval

    def run(self, x: Array, y: Array) -> bool:
        """Apply all layers to the band's part of some images.

        Parameters
        ----------
        x : ndarray, shape (B, C, L)
            The images.
        y : ndarray, shape (B, O, P)
            Receives the band's rows.

        Returns
        -------
        bool
            Whether the data are finite for sure.
        """
        counter = np.zeros(3, np.int64)
        if self.looked_at[0] < self.looked_at[1]:
            for image in x:
                look_at_part(image, *self.looked_at, counter)
        is_finite = bool(counter[2] == 0)
        for i, plan in enumerate(self.plans):
            to = kept(f"between {i % 2}", (len(x), *self.shapes[i]), x.dtype) if i < len(self.shapes) else y
            is_finite = plan(x, to, looks=False) and is_finite
            x = to
        return is_finite


@dataclass(frozen=True, eq=False)
class Fused:
    """A sequence planned for one input size.

    Parameters
    ----------
    bands : tuple of Band
        The bands, one if nothing large lies between.
    """

    bands: tuple[Band, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of weights and tables, which every band has of its own."""
        return sum(plan.n_bytes for band in self.bands for plan in band.plans)

    @property
    def n_between(self) -> int:
        """Numbers in what lies between two layers at most, per image; what is in planes of threads is not counted."""
        return max((math.prod(shape) for band in self.bands for shape in band.shapes), default=1)

    def __call__(self, x: Array, y: Array) -> bool:
        """Apply the sequence to x (B, C, L), into y (B, O, P); return whether x is finite for sure."""
        at_once = max(1, BUFFER_BYTES // (self.n_between * x.itemsize))
        images = [slice(image, image + at_once) for image in range(0, len(x), at_once)]
        found = [band.run(x[image], y[image]) for image in images for band in self.bands]
        return all(found)


def plan_fused(parts: list[Part]) -> Fused | None:
    """Lay out tables and weights of every band.

    Parameters
    ----------
    parts : list of Part
        The layers in order, at least two.

    Returns
    -------
    Fused or None
        None where what lies between is large and bands would not pay.
    """
    item = parts[0].kernel.itemsize
    rows_bytes = [part.out_channels * math.prod(part.output_size[1:]) * item for part in parts[:-1]]
    n_rows = parts[-1].output_size[0]
    band_rows = n_rows
    while True:  # as many rows as the buffers hold
        edges = [*range(0, n_rows, band_rows), n_rows]
        asked = [_rows_of_band(parts, (first, last)) for first, last in itertools.pairwise(edges)]
        most = max(n * (r[1] - r[0]) for band in asked for n, r in zip(rows_bytes, band[1:], strict=False))
        if most <= BUFFER_BYTES:
            break
        if band_rows == 1 or any(part.n_bytes > WEIGHT_BYTES for part in parts):
            return None
        band_rows = max(1, min(band_rows - 1, band_rows * BUFFER_BYTES // most))
        band_rows -= band_rows % BLOCK_ROWS if band_rows > BLOCK_ROWS else 0
    per_row = [part.n_weights * math.prod(part.output_size[1:]) for part in parts]
    whole = sum(macs * part.output_size[0] for macs, part in zip(per_row, parts, strict=True))
    work = sum(macs * (last - first) for band in asked for macs, (first, last) in zip(per_row, band[1:], strict=True))
    if work > RECOMPUTED * whole:
        return None
    starts = [0, *(parts[0].reads(band[1])[0] for band in asked[1:]), parts[0].input_size[0]]
    row = math.prod(parts[0].input_size[1:])
    looked_at = [(first * row, last * row) for first, last in itertools.pairwise(starts)]
    if all(part.way.touches_all for part in parts):
        looked_at = [(0, 0)] * len(asked)
    return Fused(tuple(_plan_band(parts, *both, item) for both in zip(asked, looked_at, strict=True)))


def _rows_of_band(parts: list[Part], rows: Interval) -> list[Interval]:
    """Return the rows of the input, which is all there, and of every layer's output."""
    found = [rows]
    for part in parts[:0:-1]:
        found.insert(0, part.reads(found[0]))
    return [(0, parts[0].input_size[0]), *found]


def _plan_band(parts: list[Part], rows: list[Interval], looked_at: Interval, item: int) -> Band:
    plans: list[Dense | Rows | Expanded] = []
    shapes: list[tuple[int, int]] = []
    for i, (part, given, wanted) in enumerate(zip(parts, rows, rows[1:], strict=False)):
        is_last = i == len(parts) - 1
        row = math.prod(part.output_size[1:])
        plans.append(part.planned(part.way_of(wanted, given, wanted[0] * row * item if is_last else 0)))
        shapes += [] if is_last else [(part.out_channels, (wanted[1] - wanted[0]) * row)]
    for i in range(len(plans) - 1, 0, -1):
        one = expanded(plans[i - 1], plans[i])
        if one is not None:
            plans[i - 1 : i + 1], shapes[i - 1 : i] = [one], []
    return Band(tuple(plans), tuple(shapes), looked_at)
