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
LEAST = 1e-6  # relative error that may always be reached if nothing is said
NOISE = 64 * 2.0**-53  # of a squared relative error, where the squares of the terms add up to that of the tensor
XTOL = 1e-9  # of the logarithm of a ridge
TINY = float(np.finfo(float).tiny)


def cp_epc(
    tensor: Array, decomposition: Any, *, error: float | None = None, n_iter_max: int = 50, tol: float = 1e-3
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
        Relative residual that may be reached, at least that of the start; if not given, 0.1 % above it or 1e-6,
        whichever is more.
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
        return finished(problem, [np.zeros_like(factor) for factor in found], order, scale, [], True)
    with one_blas_thread():
        start, total = problem.true_error(found), float(np.sum(np.prod([np.sum(f**2, 0) for f in found], 0)))
        allowed = max((1 + SLACK) * start, LEAST) if error is None else error
        if not start <= allowed:
            raise RankError(
                f"error must be at least that of the decomposition, {start:.6g}, got {error}; "
                "ask for a larger one, or fit longer first"
            )
        most, noise = allowed**2, NOISE * (1 + allowed * total / problem.squared_norm)
        aim, reached = most - min(noise, (most - start**2) / 2), start
        history, converged = list[float](), False
        for _ in range(n_iter_max):
            tried = [factor.copy() for factor in found]
            squares = _sweep(problem, tried, reached**2 * problem.squared_norm, aim * problem.squared_norm)
            residual = problem.true_error(tried)
            if residual > allowed:  # by more rounding than expected
                aim -= 2 * (residual**2 - most)
                if aim > 0:
                    continue
                break
            converged = squares >= (1 - tol) * total
            if squares <= total:
                found, reached, total = tried, residual, squares
                history.append(residual)
            if converged:
                break
        return finished(problem, found, order, scale, history, converged)


def _sweep(problem: Problem, factors: list[Array], residual: float, aim: float) -> float:
    """Correct every factor once, in place, given squared residuals; return the sum of squared norms of the terms."""
    rank, n = factors[0].shape[1], len(factors)
    products = np.empty(0)
    for mode in (1, 0, *range(2, n)):
        for other in range(n):
            if other != mode:
                norms = np.linalg.norm(factors[other], axis=0)
                factors[other] /= np.where(norms > 0, norms, 1)
                factors[mode] *= norms
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
        factors[mode], residual = _ridge(factors[mode], target, gram, residual, aim)
    return float(np.sum(factors[0 if n == 2 else -1] ** 2))


def _ridge(factor: Array, target: Array, gram: Array, residual: float, aim: float) -> tuple[Array, float]:
    """Return the smallest ``U`` whose squared residual is at most ``aim``, or the best if none is, and its residual.

    With ``gram = V diag(e) V'``, the least-squares solution ``L`` and ``l_j = ||L v_j||^2`` the residual at ``lam`` is
    that of ``L`` plus ``sum_j l_j e_j (lam / (e_j + lam))^2``, which grows with ``lam``. That of ``L`` is told from the
    one of the factor as it was: from the tensor's norm it would cancel where the terms do.
    """
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, max(1e-14 * values[-1], TINY))
    change = (target - factor @ gram) @ vectors
    best = factor @ vectors + change / values
    residual -= float(np.sum(change**2 / values))
    energies, spare = values * np.sum(best**2, axis=0), aim - residual

    def excess(log_ridge: float) -> float:
        ridge = values[-1] * np.exp(log_ridge)
        return float(np.sum(energies * (ridge / (values + ridge)) ** 2)) - spare

    low, high = -45.0, 15.0  # from below what float64 adds to the largest eigenvalue to a million times it
    if spare <= 0 or excess(low) >= 0:
        return best @ vectors.T, residual
    log_ridge = high if excess(high) <= 0 else brentq(excess, low, high, xtol=XTOL) - 2 * XTOL
    corrected: Array = (best * (values / (values + values[-1] * np.exp(log_ridge)))) @ vectors.T
    return corrected, aim + excess(log_ridge)
