"""Scaling of factors: shares every component's size evenly, so that no factor over- or underflows a narrow type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def balance(left: Array, left_axis: int, right: Array, right_axis: int) -> tuple[Array, Array]:
    """Rescale two factors along a shared component axis to equal norms per component; their product is kept.

    Parameters
    ----------
    left, right : ndarray
        Factors that are contracted over the component axis.
    left_axis, right_axis : int
        Where the component axis stands in each.

    Returns
    -------
    (ndarray, ndarray)
        The rescaled factors; a component that is zero in one is zero in both.

    Examples
    --------
    >>> balance(np.array([[8.0]]), 1, np.array([[2.0]]), 0)
    (array([[4.]]), array([[4.]]))
    """
    a, b = _norms(left, left_axis), _norms(right, right_axis)
    alive = (a > 0) & (b > 0)
    to_left = np.sqrt(np.divide(b, a, out=np.zeros_like(a), where=alive))
    to_right = np.divide(1.0, to_left, out=np.zeros_like(a), where=alive)
    return left * _along(to_left, left.ndim, left_axis), right * _along(to_right, right.ndim, right_axis)


def unit_scale(array: Array) -> float:
    """Return the power of two that brings the largest magnitude of an array into [1, 2); 1.0 for zeros.

    Parameters
    ----------
    array : ndarray
        Finite numbers.

    Returns
    -------
    float
        Dividing by it is exact and keeps squares from over- and underflowing.
    """
    peak = float(np.abs(array).max())
    return math.ldexp(1.0, math.frexp(peak)[1] - 1) if peak else 1.0


def _norms(factor: Array, axis: int) -> Array:
    return np.sqrt(np.sum(np.moveaxis(factor, axis, 0).reshape(factor.shape[axis], -1) ** 2, axis=1))


def _along(values: Array, ndim: int, axis: int) -> Array:
    return values.reshape([-1 if a == axis % ndim else 1 for a in range(ndim)])
