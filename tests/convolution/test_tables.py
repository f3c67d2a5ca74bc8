"""Tests of the offset tables and of the loop that adds them up, against counting every tap of every position."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from convolution.random_layers import convolutions
from hypothesis import given, settings

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.convolution.loops import tile_offsets
from tensorconv.convolution.tables import OUTSIDE, OffsetTables, offset_tables

Case = tuple[tc.ConvLayer, Array]


def tables_of(
    layer: tc.ConvLayer, input_size: tuple[int, ...]
) -> tuple[OffsetTables, tuple[int, ...], tuple[int, ...]]:
    """Return the tables of a layer, its positions, and the size of what they touch."""
    output_size = layer.output_size(input_size)
    positions, touched = (input_size, output_size) if layer.geometry.transposed else (output_size, input_size)
    return offset_tables(layer.geometry, layer.kernel_size, positions, touched), positions, touched


def touched_element(layer: tc.ConvLayer, tap: tuple[int, ...], position: tuple[int, ...], size: tuple[int, ...]) -> int:
    """Return the element of the flattened array that a tap at a position touches, -1 outside."""
    g = layer.geometry
    at = [
        s * p + d * k - low for s, p, d, k, (low, _) in zip(g.stride, position, g.dilation, tap, g.padding, strict=True)
    ]
    inside = all(0 <= a < n for a, n in zip(at, size, strict=True))
    return int(np.ravel_multi_index(at, size)) if inside else -1


def every(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, size)))


@given(convolutions(max_ndim=2))
@settings(max_examples=100)
def test_every_axis_has_one_entry_per_tap_and_position(case: Case) -> None:
    layer, x = case
    found, positions, touched = tables_of(layer, x.shape[2:])
    assert found.taps.tolist() == list(layer.kernel_size)
    assert found.positions.tolist() == list(positions)
    assert found.entries.dtype == np.int64
    start = 0
    for axis, (n_taps, n_positions) in enumerate(zip(layer.kernel_size, positions, strict=True)):
        step = math.prod(touched[axis + 1 :])
        entries = found.entries[start : start + n_taps * n_positions].reshape(n_taps, n_positions)
        for (k, p), entry in np.ndenumerate(entries):
            at = layer.geometry.stride[axis] * p + layer.geometry.dilation[axis] * k - layer.geometry.padding[axis][0]
            assert entry == (at * step if 0 <= at < touched[axis] else OUTSIDE)
        start += entries.size
    assert start == found.entries.size


@given(convolutions())
@settings(max_examples=60)
def test_the_loop_adds_one_entry_per_axis_for_any_tile(case: Case) -> None:
    layer, x = case
    found, positions, touched = tables_of(layer, x.shape[2:])
    expected = np.array(
        [
            [touched_element(layer, tap, position, touched) for position in every(positions)]
            for tap in every(layer.kernel_size)
        ]
    )
    n_taps, n_positions = expected.shape
    for n_tile in {1, 3, n_positions}:
        for first in range(0, n_positions, n_tile):
            offsets = np.full((n_taps, min(n_tile, n_positions - first)), 7, np.int64)
            tile_offsets(found.entries, found.taps, found.positions, first, offsets)
            assert np.array_equal(np.maximum(offsets, -1), expected[:, first : first + n_tile])


@pytest.mark.parametrize("ndim", [1, 4, 8])
def test_one_axis_outside_is_enough_whatever_the_others_are(ndim: int) -> None:
    # the largest offset that an array of 2^47 bytes can have cannot bring an outside entry back to 0
    assert OUTSIDE + (2**47 - 1) < 0
    assert np.iinfo(np.int64).min < ndim * OUTSIDE
    layer = tc.ConvLayer.of(np.ones((1, 1, *(1,) * ndim)), padding=((1, 0),) + ((0, 0),) * (ndim - 1))
    found, positions, _ = tables_of(layer, (2,) * ndim)
    offsets = np.empty((1, math.prod(positions)), np.int64)
    tile_offsets(found.entries, found.taps, found.positions, 0, offsets)
    n_row = 2 ** (ndim - 1)
    assert (offsets[0, :n_row] < 0).all()
    assert offsets[0, n_row:].tolist() == list(range(2**ndim))
