"""Error-preserving correction of a CP decomposition: the smallest terms at a stated residual."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from tensorconv.errors import RankError
from tensorconv.linalg.cp import CPDecomposition, arranged, finished
from tensorconv.linalg.cp_problem import Problem, khatri_rao
from tensorconv.linalg.threads import one_blas_thread

Array = NDArray[Any]
SLACK = 1e-3  # by what share the error may grow if nothing is said
LEAST = 1e-6  # relative error that sums of squares still tell from zero
NOISE = 64 * 2.0**-53  # of a squared relative error


def cp_epc(
    tensor: Array, decomposition: Any, *, error: float | None = None, n_iter_max: int = 50, tol: float = 1e-2
) -> CPDecomposition:
    """Shrink the terms of a CP decomposition as far as a stated residual allows.

    Terms that grow and all but cancel one another (degeneracy) fit well in exact arithmetic only: rounding or
    perturbing the factors costs the more, the larger the terms. Minimizes ``sum_r ||term_r||^2`` subject to
    ``||tensor - sum_r term_r|| <= error ||tensor||`` (Phan, Tichavsky, Sobolev, Sozykin, Ermilov, Cichocki, 2020,
    arXiv 2008.05441), one factor at a time: with unit columns in all others, ``U = M (G + lam I)^-1`` for the one
    ``lam >= 0`` that meets the residual, M being the tensor times the other factors and G their Gram matrix. Least
    squares afterwards would undo it: it is the last step before factors are rounded.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of order 2 or more; computed in float64.
    decomposition : CPDecomposition or pair of (weights, factors)
        Where to start.
    error : float, optional
        Relative residual that may be reached, at least that of the start; 0.1 % above it if not given. No less than
        1e-6 is aimed at, which squares in float64 still tell from zero.
    n_iter_max : int
        Most sweeps over the factors.
    tol : float
        Stop when the sum of squares falls by less than this share in a sweep.

    Returns
    -------
    CPDecomposition
        Weights, whose squares add up to the sum that was minimized, and unit factors; its history has the relative
        error after each sweep.

    Raises
    ------
    RankError
        If the error is below that of the decomposition.

    Examples
    --------
    >>> a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    >>> tensor = np.einsum("i,j,k->ijk", a + 1e-2 * b, a + 1e-2 * b, a + 1e-2 * b)
    >>> tensor = (tensor - np.einsum("i,j,k->ijk", a, a, a)) / 1e-2  # two terms of size 100 that all but cancel
    >>> found = cp_epc(tensor, (np.array([100.0, -100.0]), [np.stack([a + 1e-2 * b, a], axis=1)] * 3), error=0.05)
    >>> bool(found.weights.max() < 15), bool(found.relative_error <= 0.05)
    (True, True)
    """
    weights, factors = decomposition
    problem, order, scale = arranged(tensor, np.float64, 0.0)
    found = [np.array(factors[mode], np.float64) for mode in order]
    found[0] *= np.asarray(weights, np.float64) / scale
    if problem.squared_norm == 0:
        return finished(problem, found, order, scale, [0.0], True)
    with one_blas_thread():
        start = problem.true_error(found)
        allowed = max((1 + SLACK) * start if error is None else error, LEAST)
        if allowed < start:
            raise RankError(
                f"error must be at least that of the decomposition, {start:.6g}, got {error}; "
                "ask for a larger one, or fit longer first"
            )
        residual = (allowed**2 - NOISE) * problem.squared_norm
        history, sums = list[float](), [np.inf]
        converged = False
        while not converged and len(history) < n_iter_max:
            sums.append(_sweep(problem, found, residual))
            history.append(problem.true_error(found))
            converged = sums[-1] >= (1 - tol) * sums[-2]
        return finished(problem, found, order, scale, history, converged)


def _sweep(problem: Problem, factors: list[Array], residual: float) -> float:
    """Correct every factor once, in place, and return the sum of squared norms of the terms."""
    rank, n = factors[0].shape[1], len(factors)
    products = np.empty(0)
    for mode in (1, 0, *range(2, n)):
        for other in range(n):
            if other != mode:
                norms = np.linalg.norm(factors[other], axis=0)
                factors[other] /= np.where(norms > 0, norms, 1)
        taps = khatri_rao(factors[2:], rank)
        if mode == 1:
            target = np.einsum("kbr,kr->br", problem.onto_b(factors[0]), taps)
        elif mode == 0:
            products = problem.onto_a(factors[1])
            target = np.einsum("akr,kr->ar", products, taps)
        else:
            inner = np.einsum("akr,ar->kr", products, factors[0]).reshape(*problem.small, rank)
            others = [f for i, f in enumerate(factors[2:], 2) if i != mode]
            rows = np.moveaxis(inner, mode - 2, 0).reshape(problem.sizes[mode], -1, rank)
            target = np.einsum("skr,kr->sr", rows, khatri_rao(others, rank))
        gram = np.ones((rank, rank))
        for other in range(n):
            if other != mode:
                gram *= factors[other].T @ factors[other]
        factors[mode] = _ridge(target, gram, problem.squared_norm, residual)
    return float(np.sum(factors[-1] ** 2))


def _ridge(target: Array, gram: Array, squared_norm: float, residual: float) -> Array:
    """Return the smallest ``U`` whose squared residual is at most the one allowed, or the best if none is.

    With ``gram = V diag(e) V'`` and ``g_j = ||target v_j||^2`` the residual at ``lam`` is that of least squares plus
    ``sum_j g_j lam^2 / (e_j (e_j + lam)^2)``, which grows with ``lam`` and does not cancel.
    """
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 1e-14 * values[-1])
    rotated = target @ vectors
    energies = np.sum(rotated**2, axis=0)
    spare = residual - (squared_norm - float(np.sum(energies / values)))

    def excess(log_ridge: float) -> float:
        ridge = values[-1] * np.exp(log_ridge)
        return float(np.sum(energies * ridge**2 / (values * (values + ridge) ** 2))) - spare

    low, high = -45.0, 15.0  # from below what float64 adds to the largest eigenvalue to a million times it
    if spare <= 0 or excess(low) >= 0:
        ridge = 0.0
    else:
        ridge = values[-1] * np.exp(high if excess(high) <= 0 else brentq(excess, low, high, xtol=1e-9))
    corrected: Array = (rotated / (values + ridge)) @ vectors.T
    return corrected
