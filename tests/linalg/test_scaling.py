"""Tests of the scaling of factors: equal norms, the same product, and units that are powers of two."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorconv.linalg import balance, unit_scale


@pytest.mark.parametrize(("left_axis", "right_axis"), [(1, 0), (1, 2), (-1, -2), (0, 1)])
def test_balanced_factors_have_equal_norms_and_the_same_product(left_axis: int, right_axis: int) -> None:
    rng = np.random.default_rng(0)
    left = np.moveaxis(rng.standard_normal((4, 3)) * [1e3, 1.0, 1e-5], 1, left_axis).copy()
    right = np.moveaxis(rng.standard_normal((5, 2, 3)) * [1e-2, 1e4, 7.0], 2, right_axis).copy()
    before = np.tensordot(left, right, axes=(left_axis, right_axis))
    balance(left, left_axis, right, right_axis)
    # two roundings an entry and one of their product, on either side
    assert np.allclose(np.tensordot(left, right, axes=(left_axis, right_axis)), before, rtol=1e-13, atol=1e-13)
    norms = [
        np.linalg.norm(np.moveaxis(factor, axis, 0).reshape(3, -1), axis=1)
        for factor, axis in ((left, left_axis), (right, right_axis))
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-13)


def test_each_component_is_scaled_on_its_own() -> None:
    left, right = np.array([[8.0, 1.0], [0.0, 0.0]]), np.array([[2.0], [4.0]])
    balance(left, 1, right, 0)
    assert left.tolist() == [[4.0, 2.0], [0.0, 0.0]]
    assert right.tolist() == [[4.0], [2.0]]


@pytest.mark.parametrize("zero", ["left", "right", "both"])
def test_a_component_that_is_zero_in_one_becomes_zero_in_both(zero: str) -> None:
    left, right = np.array([[3.0, 2.0]]), np.array([[12.0], [5.0]])
    if zero != "right":
        left[0, 1] = 0
    if zero != "left":
        right[1] = 0
    balance(left, 1, right, 0)
    assert left.tolist() == [[6.0, 0.0]]
    assert right.tolist() == [[6.0], [0.0]]


def test_balanced_factors_stay_as_they_are() -> None:
    left, right = np.eye(3), np.eye(3)
    balance(left, 1, right, 0)
    assert np.array_equal(left, np.eye(3))
    assert np.array_equal(right, np.eye(3))


@pytest.mark.parametrize("power", [-600, 600])
def test_factors_far_apart_are_balanced(power: int) -> None:
    left, right = np.array([[2.0**power]]), np.array([[2.0**-power]])
    balance(left, 1, right, 0)
    assert (left.tolist(), right.tolist()) == ([[1.0]], [[1.0]])


@pytest.mark.parametrize(
    ("peak", "scale"),
    [
        (0.0, 1.0), (1.0, 1.0), (1.999, 1.0), (2.0, 2.0), (3.0, 2.0), (0.75, 0.5), (5e-324, 5e-324),
        (3 * 2.0**-1070, 2.0**-1069), (np.finfo(float).max, 2.0**1023),
    ],
)  # fmt: skip
def test_the_scale_is_the_power_of_two_below_the_largest_magnitude(peak: float, scale: float) -> None:
    for array in (np.array([peak]), np.array([[0.0, -peak], [peak / 4, 0.0]])):
        assert unit_scale(array) == scale


@given(st.floats(allow_nan=False, allow_infinity=False).filter(bool))
def test_any_scale_brings_the_magnitude_into_one_to_two(value: float) -> None:
    scale = unit_scale(np.array([value]))
    assert math.frexp(scale)[0] == 0.5
    assert 1 <= abs(value / scale) < 2
    assert value / scale * scale == value


def test_float32_arrays_have_scales_too() -> None:
    assert unit_scale(np.array([3e-45], "float32")) == 2.0**-149 * 2
