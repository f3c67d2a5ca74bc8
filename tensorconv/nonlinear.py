"""Nonlinear regression: maps of low rank fitted to responses after an activation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tensorconv.activations import Activation
from tensorconv.arrays import Array, as_float_array
from tensorconv.errors import KernelError, RankError
from tensorconv.linalg.scaling import balance

Map = tuple[Array, Array, Array]  # left (n, r), right (r, c), bias (n,)


@dataclass(frozen=True, eq=False)
class NonlinearRegression:
    """A map of low rank fitted to responses after an activation.

    Parameters
    ----------
    left, right : ndarray, shapes (n, r) and (r, c)
        Factors of the map ``M = left @ right``, of one norm per component.
    bias : ndarray, shape (n,)
        What is added to the responses.
    error : float
        ``||r(T) - r(M X + bias)|| / ||r(T)||``; 0.0 if both are zero, inf if only the targets are.
    linear_error : float
        The same of the best linear map, the one that minimises ``||T - M X - b||``.
    """

    left: Array
    right: Array
    bias: Array
    error: float
    linear_error: float


def nonlinear_regression(
    targets: Array,
    inputs: Array,
    rank: int,
    activation: Activation,
    *,
    bias: bool = True,
    schedule: Sequence[tuple[float, int]] = ((0.01, 25), (1.0, 25)),
    start: Map | None = None,
) -> NonlinearRegression:
    """Fit a map of low rank and a bias to responses after the activation: least ``||r(T) - r(M X + b)||``.

    The alternation of Zhang, Zou, He and Sun (2015, arXiv:1505.06798) for ``||r(T) - r(Z)||^2 + w ||Z - M X - b||^2``:
    reduced-rank regression of Z on the inputs, then the best Z entry by entry, with w as scheduled. The best map seen
    is returned, by the error asked about, so it is never worse than the linear one on these samples. It fits what
    survives the activation: where that is little, it needs more samples than a linear fit, or it overfits.

    Parameters
    ----------
    targets : ndarray, shape (n, N)
        The original responses T, before the activation, one sample per column.
    inputs : ndarray, shape (c, N)
        The inputs X, one sample per column: the responses themselves, or those of layers already approximated.
    rank : int
        Largest rank of the map, from 1 to min(n, c).
    activation : Activation
        The activation r that follows.
    bias : bool
        Whether to fit a bias; else it is zero.
    schedule : sequence of (float, int)
        Weights w, and for how many iterations.
    start : tuple of ndarray, optional
        Where the alternation begins, as (left, right, bias); else at the linear map.

    Returns
    -------
    NonlinearRegression
        Factors, bias and errors.

    Raises
    ------
    KernelError
        If the arrays do not fit one another.
    RankError
        If the rank is out of range.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((8, 500))
    >>> fit = nonlinear_regression(x, x, 1, Activation.relu())
    >>> round(fit.linear_error, 3), round(fit.error, 3)
    (0.883, 0.761)
    """
    goal, seen = (as_float_array(name, x).astype(np.float64) for name, x in (("targets", targets), ("inputs", inputs)))
    if goal.ndim != 2 or seen.ndim != 2 or goal.shape[1] != seen.shape[1]:
        raise KernelError(
            f"targets and inputs must be matrices of one column per sample, got {goal.shape}, {seen.shape}"
        )
    n, c = len(goal), len(seen)
    if not 1 <= rank <= min(n, c):
        raise RankError(f"rank must be between 1 and {min(n, c)} = min(n, c) for these samples, got {rank}")
    mean = seen.mean(axis=1) if bias else np.zeros(c)
    basis, whitening = _orthogonalised(seen - mean[:, None])

    def regressed(z: Array) -> Map:
        """Return the reduced-rank regression on the basis of the inputs; z is overwritten."""
        level = z.mean(axis=1) if bias else np.zeros(n)
        z -= level[:, None]  # the basis is centred but for rounding, which a large level would magnify
        u, s, vh = np.linalg.svd(z @ basis.T, full_matrices=False)
        return u[:, :rank] * s[:rank], vh[:rank], level

    def on_inputs(found: Map) -> Map:
        left, right, level = np.zeros((n, rank)), np.zeros((rank, c)), found[2]
        m = len(found[1])
        left[:, :m], right[:m] = found[0], found[1] @ whitening
        balance(left, 1, right, 0)
        return left, right, level - left @ (right @ mean)

    wanted = activation(goal)
    first = regressed(goal)
    maps = [on_inputs(first)]
    response = _response(first, basis)
    if start is not None:
        left, right, level = (as_float_array("start", part).astype(np.float64) for part in start)
        shapes = [part.shape for part in (left, right, level)]
        if shapes != [(n, rank), (rank, c), (n,)]:
            raise KernelError(f"start must be of shapes {(n, rank)}, {(rank, c)} and {(n,)}, got {shapes}")
        maps.append((left, right, level))
        response = _response(maps[-1], seen)
    least, best = math.inf, first
    for weight, count in schedule:
        for _ in range(count):
            found = regressed(activation.auxiliary(wanted, response, weight))
            response = _response(found, basis)
            lost = _distance(activation, wanted, response)
            if lost < least:
                least, best = lost, found
    maps.append(on_inputs(best))
    errors = [_distance(activation, wanted, _response(found, seen)) for found in maps]
    size, chosen = float(np.linalg.norm(wanted)), int(np.argmin(errors))
    relative = [lost / size if size else (math.inf if lost else 0.0) for lost in (errors[chosen], errors[0])]
    return NonlinearRegression(*maps[chosen], *relative)


def _orthogonalised(x: Array) -> tuple[Array, Array]:
    """Return an orthonormal basis of the rows of x, and what makes it of x: ``basis = whitening @ x``."""
    q, triangle = np.linalg.qr(x.T)
    u, s, vh = np.linalg.svd(triangle, full_matrices=False)
    k = int(np.sum(s > s[0] * max(x.shape) * np.finfo(np.float64).eps))
    return u[:, :k].T @ q.T, vh[:k] / s[:k, None]


def _response(found: Map, x: Array) -> Array:
    response: Array = found[0] @ (found[1] @ x)
    response += found[2][:, None]
    return response


def _distance(activation: Activation, wanted: Array, response: Array) -> float:
    """Return the distance after the activation, row by row so that no copy of all responses is made."""
    return math.sqrt(sum(float(np.sum((w - activation(z)) ** 2)) for w, z in zip(wanted, response, strict=True)))
