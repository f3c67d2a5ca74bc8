"""Tests of banded Toeplitz matrices: they are convolutions, and averages along diagonals are the nearest ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tensorconv.arrays import Array
from tensorconv.errors import KernelError
from tensorconv.linalg import ToeplitzBand

U64 = 2.0**-53
BANDS = {
    "same": ToeplitzBand(1, 7, 7, 3, low=1),
    "even": ToeplitzBand(1, 6, 6, 4, low=1),
    "strided": ToeplitzBand(3, 4, 12, 7, stride=3, low=2),
    "valid": ToeplitzBand(1, 5, 8, 4),
    "whole": ToeplitzBand(2, 4, 4, 9, low=4),
    "cropped": ToeplitzBand(2, 3, 6, 2, stride=2, low=-1),
}


def kernels(band: ToeplitzBand, *tail: int) -> Array:
    return np.random.default_rng(0).standard_normal((band.n_kernels, band.length, *tail))


def by_hand(band: ToeplitzBand, taps: Array) -> Array:
    matrix = np.zeros((band.n_kernels, band.n_maps, band.n_columns, *taps.shape[2:]))
    for j, p, t in itertools.product(range(band.n_kernels), range(band.n_maps), range(band.length)):
        column = band.stride * p + t - band.low
        if 0 <= column < band.n_columns:
            matrix[j, p, column] = taps[j, t]
    return matrix.reshape(-1, *matrix.shape[2:])


@pytest.mark.parametrize("name", BANDS)
def test_a_matrix_has_each_tap_along_its_diagonal(name: str) -> None:
    band = BANDS[name]
    for tail in ((), (2, 3)):
        taps = kernels(band, *tail)
        assert np.array_equal(band.matrix(taps), by_hand(band, taps))


def test_a_matrix_is_a_correlation() -> None:
    band, x = BANDS["same"], np.random.default_rng(1).standard_normal(7)
    taps = kernels(band)
    expected = np.correlate(x, taps[0], "same")
    # sums of 3 products in two orders
    assert np.all(
        np.abs(band.matrix(taps) @ x - expected) <= 2 * 4 * U64 * np.correlate(np.abs(x), np.abs(taps[0]), "same")
    )


@pytest.mark.parametrize("name", BANDS)
@pytest.mark.parametrize("tail", [(), (3,)])
def test_the_projection_is_orthogonal(name: str, tail: tuple[int, ...]) -> None:
    band = BANDS[name]
    matrix = np.random.default_rng(2).standard_normal((band.n_kernels * band.n_maps, band.n_columns, *tail))
    found = band.projection(matrix)
    left = matrix - band.matrix(found)
    for at in np.ndindex(found.shape):
        unit = np.zeros_like(found)
        unit[at] = 1
        direction = band.matrix(unit)
        if not direction.any():
            assert found[at] == 0  # no column meets the tap
        # a mean of at most 12 entries, two subtractions, and a sum of as many differences
        assert abs(np.sum(left * direction)) <= 40 * U64 * np.sum(np.abs(matrix) * direction)


@pytest.mark.parametrize("name", BANDS)
def test_the_projection_of_a_toeplitz_matrix_is_bitwise_its_kernels(name: str) -> None:
    band = BANDS[name]
    matrix = band.matrix(kernels(band))
    found = band.projection(matrix)
    assert np.array_equal(band.matrix(found), matrix)
    assert band.relative_error(matrix, found) == 0
    met = band.counts > 0
    assert np.array_equal(found[:, met], kernels(band)[:, met])


def test_relative_errors() -> None:
    band = BANDS["same"]
    zero, some = np.zeros((7, 7)), np.eye(7)
    assert band.relative_error(zero, np.zeros((1, 3))) == 0
    assert band.relative_error(zero, np.ones((1, 3))) == np.inf
    assert band.relative_error(some, np.zeros((1, 3))) == 1
    assert band.relative_error(some, np.array([[0.0, 2.0, 0.0]])) == 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(KernelError, match=r"matrix must have shape \(7, 7\) for this band, got \(7, 8\)"):
        BANDS["same"].projection(np.zeros((7, 8)))
    with pytest.raises(KernelError, match=r"must be at least 1, got \(1, 3, 3, 0, 1\)"):
        ToeplitzBand(1, 3, 3, 0)
