"""Scaling of factors: shares every component's size evenly, so that no factor over- or underflows a narrow type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import KernelError
from tensorconv.linalg.finite import check_finite

Array = NDArray[Any]
SAFE = (1e-100, 1e100)  # magnitudes whose squares, and sums of them, stay far inside float64


def balance(left: Array, left_axis: int, right: Array, right_axis: int) -> None:
    """Rescale two factors, in place, to equal norms per shared component; their product is kept.

    Parameters
    ----------
    left : ndarray
        A writable floating-point factor.
    left_axis : int
        Where its component axis stands.
    right : ndarray
        The factor it is contracted with over the components.
    right_axis : int
        Where its component axis stands. A component that is zero in one factor becomes zero in both.

    Examples
    --------
    >>> left, right = np.array([[8.0]]), np.array([[2.0]])
    >>> balance(left, 1, right, 0)
    >>> left, right
    (array([[4.]]), array([[4.]]))
    """
    a, b = _norms(left, left_axis), _norms(right, right_axis)
    alive = (a > 0) & (b > 0)
    to_left = np.divide(np.sqrt(b), np.sqrt(a), out=np.zeros_like(a), where=alive)
    to_right = np.divide(1.0, to_left, out=np.zeros_like(a), where=alive)
    left *= _along(to_left, left.ndim, left_axis)
    right *= _along(to_right, right.ndim, right_axis)


def unit_scale(array: Array, name: str = "array") -> float:
    """Return the power of two that brings the largest magnitude of an array into [1, 2); 1.0 for zeros.

    Parameters
    ----------
    array : ndarray
        Finite numbers.
    name : str
        What they are, for messages.

    Returns
    -------
    float
        Dividing by it is exact and keeps squares from over- and underflowing.

    Raises
    ------
    KernelError
        If there is no number, or one is not finite.
    """
    if not array.size:
        raise KernelError(f"{name} must not be empty, got shape {array.shape}")
    peak = max(float(array.max()), -float(array.min()))
    if not math.isfinite(peak):
        check_finite(name, array)
    return math.ldexp(1.0, math.frexp(peak)[1] - 1) if peak else 1.0


def square_safe_scale(array: Array, name: str = "array") -> float:
    """Return 1.0 where squares neither over- nor underflow, else the scale of :func:`unit_scale`.

    Parameters
    ----------
    array : ndarray
        Finite numbers.
    name : str
        What they are, for messages.

    Returns
    -------
    float
        A power of two to divide by before sums of squares are taken.

    Raises
    ------
    KernelError
        If there is no number, or one is not finite.
    """
    scale = unit_scale(array, name)
    return 1.0 if SAFE[0] < scale < SAFE[1] else scale


def _norms(factor: Array, axis: int) -> Array:
    axes = list(range(factor.ndim))
    scale = square_safe_scale(factor)
    scaled = factor if scale == 1 else factor / scale
    squares: Array = np.einsum(scaled, axes, scaled, axes, [axis % factor.ndim])  # type: ignore[arg-type]
    return scale * np.sqrt(squares)


def _along(values: Array, ndim: int, axis: int) -> Array:
    return values.reshape([-1 if a == axis % ndim else 1 for a in range(ndim)])
