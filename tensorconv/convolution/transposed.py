"""Transposed convolutions by phases: outputs one stride apart see the same taps, so each phase is a convolution.

Along an axis, output q sums the taps k for which q + low - d k is a multiple s p of the stride. For q = s u + f these
are every (s / gcd(s, d))-th tap, and the p that they read is u plus a constant, d / gcd(s, d) less for each next tap: a
convolution at stride 1 with the taps reversed, whose outputs lie s apart.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution.dense import Dense
from tensorconv.convolution.loops import Ints
from tensorconv.convolution.rows import Rows
from tensorconv.convolution.walks import plan_walk
from tensorconv.convolution.ways import Walk
from tensorconv.geometry import ConvGeometry


@dataclass(frozen=True)
class Phase:
    """The outputs of one remainder along one axis.

    Parameters
    ----------
    first : int
        The first output.
    n : int
        Outputs, one stride apart.
    taps : ndarray of int64
        Taps that they see, in the order of the elements these read.
    dilation : int
        Elements between what neighbouring taps read.
    low : int
        Elements that the first tap of the first output reads before the input.
    """

    first: int
    n: int
    taps: Ints
    dilation: int
    low: int


@dataclass(frozen=True, eq=False)
class Transposed:
    """A transposed convolution planned for one input size.

    Parameters
    ----------
    phases : tuple of Dense or Rows
        A convolution for each phase that sees any tap.
    bias : ndarray, shape (O,)
        What the other phases are.
    covers : bool
        Whether there are no others.
    touches_all : bool
        Whether every element of the input is seen by some output.
    """

    phases: tuple[Dense | Rows, ...]
    bias: Array
    covers: bool
    touches_all: bool

    @property
    def n_bytes(self) -> int:
        """Bytes of weights and tables."""
        return sum(phase.n_bytes for phase in self.phases)

    def __call__(self, x: Array, y: Array) -> bool:
        """Convolve x (B, C, L) into y (B, O, P); return whether x is finite for sure."""
        if not self.covers:
            y[:] = self.bias[:, None]
        if not self.phases:
            return bool(np.isfinite(x).all())
        looks = [not self.touches_all, *[False] * (len(self.phases) - 1)]
        found = [phase(x, y, looks=look) for phase, look in zip(self.phases, looks, strict=True)]
        return all(found)


def axis_phases(n_taps: int, stride: int, dilation: int, low: int, n_out: int) -> list[Phase]:
    """Return the phases of one axis.

    Parameters
    ----------
    n_taps, stride, dilation, low : int
        The geometry.
    n_out : int
        Outputs.

    Returns
    -------
    list of Phase
        One for each remainder that there is, also those without taps.
    """
    phases = []
    for first in range(min(stride, n_out)):
        seen = [k for k in range(n_taps) if (first + low - dilation * k) % stride == 0][::-1]
        reads = [(first + low - dilation * k) // stride for k in seen]
        step = reads[1] - reads[0] if len(reads) > 1 else 1
        n = -(-(n_out - first) // stride)
        phases.append(Phase(first, n, np.array(seen, np.int64), step, -reads[0] if reads else 0))
    return phases


def plan_transposed(
    geometry: ConvGeometry, kernel: Array, bias: Array, input_size: tuple[int, ...], output_size: tuple[int, ...]
) -> Transposed:
    """Lay out tables and weights of every phase.

    Parameters
    ----------
    geometry : ConvGeometry
        The geometry.
    kernel : ndarray, shape (O, I/G, K1..KN)
        The kernel, in the layout of the map.
    bias : ndarray, shape (O,)
        The bias.
    input_size, output_size : tuple of int
        Spatial sizes.

    Returns
    -------
    Transposed
        The planned convolution.
    """
    item, n_axes = kernel.itemsize, len(input_size)
    x_steps, y_steps = ([math.prod(size[a + 1 :]) * item for a in range(n_axes)] for size in (input_size, output_size))
    per_axis = [
        axis_phases(kernel.shape[2 + a], geometry.stride[a], geometry.dilation[a], geometry.padding[a][0], n)
        for a, n in enumerate(output_size)
    ]
    plans = []
    every = list(itertools.product(*per_axis))
    for phases in every:
        if not all(len(phase.taps) for phase in phases):
            continue
        axes = np.array(
            [
                [p.n, 1, p.dilation, p.low, input_size[a], len(p.taps), x_steps[a], y_steps[a] * geometry.stride[a]]
                for a, p in enumerate(phases)
            ],
            np.int64,
        )
        row = phases[-1].n
        for a in range(n_axes - 2, -1, -1):
            if phases[a + 1].n != input_size[a + 1]:
                break
            row *= phases[a].n
        first = sum(p.first * step for p, step in zip(phases, y_steps, strict=True))
        contiguous = all(s == 1 for s in geometry.stride)
        way = Walk(axes, row, 1, first, contiguous)
        part = kernel
        for a, phase in enumerate(phases):
            part = np.take(part, phase.taps, axis=2 + a)
        plans.append(plan_walk(way, part.reshape(*kernel.shape[:2], -1), bias, geometry.groups))
    touched = [
        {u + k * p.dilation - p.low for p in phases for u in range(p.n) for k in range(len(p.taps))}
        for phases in per_axis
    ]
    touches_all = all(seen.issuperset(range(n)) for seen, n in zip(touched, input_size, strict=True))
    return Transposed(tuple(plans), bias, len(plans) == len(every), touches_all)
