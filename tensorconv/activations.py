"""Activation: the piecewise linear function that follows a layer, and the auxiliary variable of fits through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import KernelError

Array = NDArray[Any]
CHUNK = 2**15  # entries worked on together: what fits in a core's cache


@dataclass(frozen=True)
class Activation:
    """A piecewise linear activation: ``r(z) = slope z`` below 0, ``min(z, cap)`` above.

    Parameters
    ----------
    slope : float
        Slope below 0: 0 for ReLU, 1 for none at all if there is no cap.
    cap : float
        Largest value, above 0; inf for no cap.

    Raises
    ------
    KernelError
        If the slope is not finite or the cap is not above 0.

    Examples
    --------
    >>> Activation.leaky_relu(0.1)(np.array([-2.0, 3.0]))
    array([-0.2,  3. ])
    """

    slope: float = 0.0
    cap: float = math.inf

    def __post_init__(self) -> None:
        if not math.isfinite(self.slope) or not self.cap > 0:
            raise KernelError(
                f"slope must be finite and cap above 0 (inf for none), got slope={self.slope} and cap={self.cap}"
            )

    @classmethod
    def relu(cls) -> Activation:
        """Return ``max(z, 0)``.

        Returns
        -------
        Activation
            The rectified linear unit.
        """
        return cls()

    @classmethod
    def leaky_relu(cls, slope: float = 0.01) -> Activation:
        """Return ``z`` above 0 and ``slope z`` below.

        Parameters
        ----------
        slope : float
            Slope below 0.

        Returns
        -------
        Activation
            The leaky rectified linear unit.
        """
        return cls(slope=slope)

    @classmethod
    def clipped_relu(cls, cap: float = 6.0) -> Activation:
        """Return ``min(max(z, 0), cap)``.

        Parameters
        ----------
        cap : float
            Largest value; 6 makes it ReLU6.

        Returns
        -------
        Activation
            The clipped rectified linear unit.
        """
        return cls(cap=cap)

    def __call__(self, z: Array) -> Array:
        """Apply the activation entry by entry.

        Parameters
        ----------
        z : ndarray
            Responses of a floating-point type.

        Returns
        -------
        ndarray
            Of the same shape and type.
        """
        z = np.asarray(z)
        kind = z.dtype.type
        found: Array = np.maximum(z, kind(0))
        if self.cap < math.inf:
            found = np.minimum(found, kind(self.cap))
        return np.where(z < 0, z * kind(self.slope), found) if self.slope else found

    def auxiliary(self, wanted: Array, response: Array, weight: float) -> Array:
        """Return, entry by entry, the z that minimises ``(wanted - r(z))^2 + weight (z - response)^2``.

        On each linear piece ``r(z) = s z + o`` it is ``(s (wanted - o) + weight response) / (s^2 + weight)``, clipped
        to the piece; the cheapest piece's is the answer (Zhang, Zou, He and Sun, 2015, arXiv:1505.06798, for ReLU).

        Parameters
        ----------
        wanted, response : ndarray, same shape
            What is wanted after the activation, and what z should be close to before it.
        weight : float
            Weight of the distance from the response, above 0.

        Returns
        -------
        ndarray, float64
            The minimiser, of the same shape.

        Raises
        ------
        KernelError
            If the shapes differ or the weight is not above 0.

        Examples
        --------
        >>> Activation.relu().auxiliary(np.array([1.0, 0.0, 1.0]), np.array([0.0, -3.0, -3.0]), weight=1.0)
        array([ 0.5, -3. , -3. ])
        """
        if not 0 < weight < math.inf:
            raise KernelError(f"weight must be a finite number above 0, got {weight}")
        goals, near = np.asarray(wanted, np.float64), np.asarray(response, np.float64)
        if goals.shape != near.shape:
            raise KernelError(f"wanted and response must be of one shape, got {goals.shape} and {near.shape}")
        pieces = [(-math.inf, 0.0, self.slope, 0.0), (0.0, self.cap, 1.0, 0.0), (self.cap, math.inf, 0.0, self.cap)]
        shape, goals, near, found = goals.shape, goals.ravel(), near.ravel(), np.empty(goals.size)
        for first in range(0, goals.size, CHUNK):
            part = slice(first, first + CHUNK)
            target, close, best = goals[part], near[part], found[part]
            least = np.full(best.shape, math.inf)
            for low, high, slope, offset in pieces[: 2 if self.cap == math.inf else 3]:
                point = (slope * (target - offset) + weight * close) / (slope**2 + weight)
                np.clip(point, low, high, out=point)
                cost = (target - offset - slope * point) ** 2 + weight * (point - close) ** 2
                np.copyto(best, point, where=cost < least)
                np.minimum(least, cost, out=least)
        return found.reshape(shape)
