"""Sequences band by band: a band of output rows is computed from its part of every layer between, which stays cached.

A band begins at its rows of the last output and asks each layer, last to first, for the rows that it reads. What two
bands read is computed twice, so that threads need not wait for one another; no bit depends on where bands begin.
"""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution.dense import Dense
from tensorconv.convolution.finite import look_at_part
from tensorconv.convolution.part import Interval, Part
from tensorconv.convolution.rows import Rows
from tensorconv.convolution.threads import run_tasks

WORTH_BYTES = 1_500_000  # of what lies between, from which on bands were faster than layers one after another
BAND_BYTES = 1_000_000  # of what lies between, for one band
WORKSPACE_BYTES = 2**22  # of a thread at most
BLOCK_ROWS = 14  # the kernels of depthwise layers take as many at a time
WEIGHT_BYTES = 2**18  # of a layer at most: bands read them again
RECOMPUTED = 1.2  # multiply-accumulates of all bands at most, over those of the layers


@dataclass(frozen=True, eq=False)
class Band:
    """Some rows of a sequence's output, planned.

    Parameters
    ----------
    plans : tuple of Dense or Rows
        One per layer.
    shapes : tuple of (int, int)
        Channels and positions of each layer's part of the output, but the last's.
    looked_at : (int, int)
        Which elements of each channel of the input this band is to look at; none, if its outputs tell enough.
    """

    plans: tuple[Dense | Rows, ...]
    shapes: tuple[tuple[int, int], ...]
    looked_at: Interval

    def run(self, x: Array, y: Array, counter: Array) -> None:
        """Apply all layers to the band's part of one image.

        Parameters
        ----------
        x : ndarray, shape (1, C, L)
            The image.
        y : ndarray, shape (1, O, P)
            Receives the band's rows.
        counter : ndarray of int64, shape (3,)
            The third is set to 1 if the data are not finite.
        """
        if self.looked_at[0] < self.looked_at[1]:
            look_at_part(x[0], *self.looked_at, counter)
        for i, plan in enumerate(self.plans):
            to = y
            if i < len(self.shapes):
                to = _kept(i % 2, math.prod(self.shapes[i]), x.dtype).reshape(1, *self.shapes[i])
            if not plan(x, to, looks=False, alone=True):
                counter[2] = 1
            x = to


@dataclass(frozen=True, eq=False)
class Fused:
    """A sequence planned for one input size, in bands.

    Parameters
    ----------
    bands : tuple of Band
        The bands.
    n_macs : int
        Multiply-accumulates per image.
    """

    bands: tuple[Band, ...]
    n_macs: int

    @property
    def n_bytes(self) -> int:
        """Bytes of weights and tables, which every band has of its own."""
        return sum(plan.n_bytes for band in self.bands for plan in band.plans)

    def __call__(self, x: Array, y: Array) -> bool:
        """Apply the sequence to x (B, C, L), into y (B, O, P); return whether x is finite for sure."""
        counter = np.zeros(3, np.int64)
        images = [slice(image, image + 1) for image in range(len(x))]
        run_tasks(
            [partial(band.run, x[image], y[image], counter) for image in images for band in self.bands],
            n_macs=self.n_macs * len(x),
        )
        return bool(counter[2] == 0)


_BUFFERS = threading.local()  # of every thread, two: memory given back and taken anew would be cleared every time


def _kept(which: int, size: int, dtype: np.dtype[Any]) -> Array:
    """Return one of the thread's two buffers, made larger where it has to be."""
    buffers: dict[str, Array] = _BUFFERS.__dict__
    name, n_bytes = str(which), size * dtype.itemsize
    if name not in buffers or buffers[name].nbytes < n_bytes:
        buffers[name] = np.empty(n_bytes, np.uint8)
    return buffers[name][:n_bytes].view(dtype)


def plan_fused(parts: list[Part]) -> Fused | None:
    """Lay out tables and weights of every band, where bands pay.

    Parameters
    ----------
    parts : list of Part
        The layers in order.

    Returns
    -------
    Fused or None
        None where layers one after another are expected to be as fast.
    """
    if len(parts) < 2 or any(part.n_bytes > WEIGHT_BYTES for part in parts):
        return None
    item = parts[0].kernel.itemsize
    between = sum(part.out_channels * math.prod(part.output_size) * item for part in parts[:-1])
    n_rows = parts[-1].output_size[0]
    band_rows = max(1, n_rows * BAND_BYTES // max(1, between))
    band_rows -= band_rows % BLOCK_ROWS if band_rows > BLOCK_ROWS else 0
    edges = [*range(0, n_rows, band_rows), n_rows]
    if between < WORTH_BYTES or len(edges) < 3:
        return None
    asked = [_rows_of_band(parts, (first, last)) for first, last in itertools.pairwise(edges)]
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
    bands = tuple(_plan_band(parts, *both, item) for both in zip(asked, looked_at, strict=True))
    workspace = max(sum(math.prod(shape) for shape in band.shapes) for band in bands) * item
    return Fused(bands, whole) if workspace <= WORKSPACE_BYTES else None


def _rows_of_band(parts: list[Part], rows: Interval) -> list[Interval]:
    """Return the rows of the input, which is all there, and of every layer's output."""
    found = [rows]
    for part in parts[:0:-1]:
        found.insert(0, part.reads(found[0]))
    return [(0, parts[0].input_size[0]), *found]


def _plan_band(parts: list[Part], rows: list[Interval], looked_at: Interval, item: int) -> Band:
    plans, shapes = [], []
    for i, (part, given, wanted) in enumerate(zip(parts, rows, rows[1:], strict=False)):
        is_last = i == len(parts) - 1
        row = math.prod(part.output_size[1:])
        plans.append(part.planned(part.way_of(wanted, given, wanted[0] * row * item if is_last else 0)))
        shapes += [] if is_last else [(part.out_channels, (wanted[1] - wanted[0]) * row)]
    return Band(tuple(plans), tuple(shapes), looked_at)
