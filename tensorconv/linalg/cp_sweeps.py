"""Sweeps of alternating least squares for CP: two large matrix products each, and an extrapolation that costs none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from tensorconv.linalg.cp_problem import Problem, khatri_rao

Array = NDArray[Any]
WINDOW = 10  # sweeps over which the improvement is judged
STEP, FASTER, SLOWER, STEPS = 1.0, 1.05, 0.7, (1.0, 10.0)  # the extrapolation: its start, its changes, its range
JUDGED = 2  # every how many sweeps the extrapolation is judged before its sweep: after it, all are
RISE = 3.0  # by how many times the last gain it may raise the squared error, which the next sweep lowers again
INVERTED = 1e-10  # with at least this ridge an explicit inverse is safe, and faster than two triangular solves
TINY = 1e-200  # the least mean that a ridge is a share of: a zero matrix is inverted without overflow


@dataclass
class Point:
    """Factors on the way, with what the next update needs of them.

    Parameters
    ----------
    stacked : ndarray, shape (sum of sizes, R)
        The factors, row by row.
    grams : list of ndarray
        Their Gram matrices.
    taps : ndarray, shape (K, R)
        Columnwise Kronecker product of the small factors.
    products : ndarray, shape (K, b, R)
        The tensor contracted with the first factor.
    """

    stacked: Array
    grams: list[Array]
    taps: Array
    products: Array


def sweeps(
    problem: Problem, factors: Sequence[Array], n_iter_max: int, tol: float, target: float
) -> tuple[list[Array], list[float], bool]:
    """Improve factors by alternating least squares with momentum.

    Between sweeps all factors are extrapolated along their last change. The first product is linear in the factor,
    so judging the extrapolation costs no product: every other one is judged, and kept only where the error does not
    grow much. Should the sweep from there end worse than the one before, it is taken back: the error never grows.

    Parameters
    ----------
    problem : Problem
        The tensor.
    factors : sequence of ndarray
        Where to start, (size, R) each.
    n_iter_max : int
        Most sweeps, at least 1.
    tol : float
        Stop when the error falls by less than this share over 10 sweeps.
    target : float
        Stop at this relative error, as inner products have it.

    Returns
    -------
    factors : list of ndarray
        The factors, of even norms.
    history : list of float
        Relative error after each sweep.
    converged : bool
        Whether one of the two rules stopped it.
    """
    history, converged = list[float](), False
    before, step, least, gain = None, STEP, math.inf, 0.0
    stacked = _even(problem, np.concatenate(factors))
    a, _, *rest = found = problem.parts(stacked)
    point = Point(stacked, [_gram(f) for f in found], khatri_rao(rest, stacked.shape[1]), problem.onto_b(a))
    while len(history) < n_iter_max and not converged:
        swept, grams, inner = _sweep(problem, point)
        a, _, *rest = problem.parts(swept)
        taps = khatri_rao(rest, swept.shape[1])
        squared = problem.squared_norm - 2 * float(np.vdot(inner, taps)) + float(_product(grams).sum())
        if before is not None and point is not before and not squared <= least:
            history.append(history[-1])  # extrapolated too far: on from the sweep before, which cannot end worse
            point, step = before, max(SLOWER * step, STEPS[0])
            continue
        stacked, gain, least = swept, least - squared, squared
        history.append(problem.relative(squared))
        stalled = len(history) > WINDOW and history[-1 - WINDOW] - history[-1] <= tol * history[-1]
        converged = stalled or history[-1] <= target
        if not converged and len(history) < n_iter_max:
            point = now = Point(stacked, grams, taps, problem.onto_b(a))
            if before is not None:
                trial = _extrapolated(problem, before, now, step)
                if len(history) % JUDGED or _squared_error(problem, trial) <= squared + RISE * gain:
                    point, step = trial, min(FASTER * step, STEPS[1])
                else:
                    step = max(SLOWER * step, STEPS[0])
            before = now
    return problem.parts(_even(problem, stacked)), history, converged


def _sweep(problem: Problem, point: Point) -> tuple[Array, list[Array], Array]:
    """Update every factor once: stacked factors, their Gram matrices, and <slice, term> over all taps (K, R)."""
    stacked, grams = point.stacked.copy(), list(point.grams)
    a, b, *rest = problem.parts(stacked)
    taps, taps_gram = point.taps.astype(problem.dtype), _product(grams[2:], len(grams[0]))
    b[:] = solve(grams[0] * taps_gram, np.einsum("kbr,kr->br", point.products, taps), problem.ridge)
    grams[1] = _gram(b)
    products = problem.onto_a(b)
    a[:] = solve(grams[1] * taps_gram, np.einsum("akr,kr->ar", products, taps), problem.ridge)
    grams[0] = _gram(a)
    inner = np.einsum("akr,ar->kr", products, a.astype(problem.dtype)).astype(np.float64)
    update_small(rest, grams, inner, problem)
    return stacked, grams, inner


def update_small(rest: list[Array], grams: list[Array], inner: Array, problem: Problem) -> None:
    """Solve for each small factor in turn, in place.

    Parameters
    ----------
    rest : list of ndarray
        The small factors.
    grams : list of ndarray
        Gram matrices of all factors; those of the small ones are renewed.
    inner : ndarray, shape (K, R)
        Inner products of the slices with the terms of the two large factors.
    problem : Problem
        The tensor.
    """
    pair, grid, n = grams[0] * grams[1], inner.reshape(*problem.small, -1), len(rest)
    for j, factor in enumerate(rest):
        gram, target = pair.copy(), grid
        for i in range(n):
            if i != j:
                gram *= grams[2 + i]
                target = target * rest[i].reshape(*problem.along[i], -1)
        if n > 1:
            target = np.add.reduce(target, axis=problem.others[j])
        factor[:] = solve(gram, target, problem.ridge)
        grams[2 + j] = _gram(factor)


def solve(gram: Array, target: Array, share: float) -> Array:
    """Return ``target @ gram^-1`` with a ridge, which is raised where the Gram matrix is not definite even so.

    Parameters
    ----------
    gram : ndarray, shape (R, R)
        A Gram matrix, whose diagonal is changed.
    target : ndarray, shape (n, R)
        Right-hand sides as rows.
    share : float
        The ridge as a share of the mean of the diagonal.

    Returns
    -------
    ndarray, shape (n, R)
        The solutions, float64.
    """
    n = len(gram)
    ridge = share * max(float(gram.diagonal().sum()) / n, TINY)
    diagonal = np.einsum("ii->i", gram)  # a view, whatever the memory order
    diagonal += ridge
    factor, info = lapack.dpotrf(gram.T, lower=True, clean=False)
    while info != 0:
        diagonal += 99 * ridge
        ridge *= 100
        factor, info = lapack.dpotrf(gram.T, lower=True, clean=False)
    columns = target.T.astype(np.float64, copy=False)
    if share < INVERTED or len(target) < n // 4:
        solution: Array = lapack.dpotrs(factor, columns, lower=True)[0]
    else:
        solution = blas.dsymm(1.0, lapack.dpotri(factor, lower=True, overwrite_c=True)[0], columns, lower=True)
    return solution.T


def _extrapolated(problem: Problem, before: Point, now: Point, step: float) -> Point:
    """Go on from ``now`` by a multiple of the last change; the products follow without a product."""
    stacked = now.stacked - before.stacked
    stacked *= step
    stacked += now.stacked
    products = now.products - before.products
    products *= products.dtype.type(step)
    products += now.products
    found = problem.parts(stacked)
    return Point(stacked, [_gram(f) for f in found], khatri_rao(found[2:], stacked.shape[1]), products)


def _squared_error(problem: Problem, point: Point) -> float:
    b = point.stacked[problem.rows[1]].astype(problem.dtype)
    cross = np.vdot(np.einsum("kbr,br->kr", point.products, b), point.taps)
    return float(problem.squared_norm - 2 * cross + _product(point.grams).sum())


def _gram(factor: Array) -> Array:
    return factor.T @ factor.copy()  # of a matrix and itself numpy computes half and copies the rest, which is slower


def _product(grams: Sequence[Array], rank: int = 1) -> Array:
    return reduce(np.multiply, grams) if grams else np.ones((rank, rank))


def _even(problem: Problem, stacked: Array) -> Array:
    """Give the columns of all factors of a term one norm; a term with a zero column becomes zero."""
    norms = np.sqrt([np.einsum("nr,nr->r", factor, factor) for factor in problem.parts(stacked)])
    even = np.multiply.reduce(norms) ** (1 / len(norms))
    gains = np.divide(even, norms, out=np.zeros_like(norms), where=even > 0)
    return np.asarray(stacked * np.repeat(gains, problem.sizes, axis=0))
