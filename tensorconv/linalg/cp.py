"""CP decomposition by alternating least squares with momentum, two matrix products a sweep for any order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import RankError
from tensorconv.linalg.cp_problem import Problem
from tensorconv.linalg.cp_sweeps import sweeps
from tensorconv.linalg.randomness import as_generator
from tensorconv.linalg.scaling import unit_scale
from tensorconv.linalg.svd import peak_signs
from tensorconv.linalg.threads import one_blas_thread

Array = NDArray[Any]
RIDGES = {"float32": 1e-7, "float64": 1e-14}
TRUSTED = 2e-3  # how far an error from float32 inner products may be from the true one: the root of their rounding
FLOOR = 1e-12  # of targets: float64 cannot tell lower errors from zero
ATTEMPTS = 3  # at a target that was met by the sweeps' own error, but not by the true one
ROUND = 30  # sweeps between comparisons of several starts
COMPRESSED, LONG = 2**15, 40  # channels, and sweeps, from which compressing first pays
CORE_TOL = 1e-2  # sweeps of the compressed tensor stop sooner: its optimum is not that of the tensor


@dataclass(frozen=True, eq=False)
class CPDecomposition:
    """A sum of rank-one tensors; unpacks as ``weights, factors`` in TensorLy's convention.

    Parameters
    ----------
    weights : ndarray, shape (rank,)
        Norms of the rank-one terms, falling.
    factors : list of ndarray
        One matrix (size, rank) of unit columns per mode.
    relative_error : float
        True relative Frobenius residual, from the tensor itself.
    n_iter : int
        Sweeps done.
    converged : bool
        Whether the improvement over the last sweeps fell below the tolerance.
    history : list of float
        Relative error after each sweep.
    """

    weights: Array
    factors: list[Array]
    relative_error: float
    n_iter: int
    converged: bool
    history: list[float] = field(repr=False)

    def __iter__(self) -> Iterator[Any]:
        yield self.weights
        yield self.factors


def cp_als(
    tensor: Array,
    rank: int,
    *,
    rng: Any = 0,
    n_starts: int = 1,
    n_iter_max: int = 200,
    tol: float = 1e-5,
    target: float = 0.0,
    ridge: float | None = None,
    start: Sequence[Array] | None = None,
) -> CPDecomposition:
    """Approximate a tensor by a sum of rank-one terms, by alternating least squares.

    The two largest modes cost one matrix product each per sweep; what is left for all other modes is small and shared.
    Between sweeps the factors are extrapolated along their last change; since the first product is linear in the
    factor, judging the extrapolation costs no product. A sweep that ends worse for it is taken back.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of order 2 or more. float32 runs the large products in float32, all else in float64; where the
        terms all but cancel, so that float32 products mislead, it starts over in float64.
    rank : int
        Number of terms, at least 1; it may exceed every mode's size.
    rng : int or numpy.random.Generator
        Seed of the Gaussian starts.
    n_starts : int
        Number of Gaussian starts. All of them get 30 sweeps, the better half 30 more, and so on until one is left;
        fewer than 30 where that would be more than half of ``n_iter_max``.
    n_iter_max : int
        Most sweeps that lead to the result.
    tol : float
        Stop when the error falls by less than this share over 10 sweeps.
    target : float
        Stop once the relative error is no more than this.
    ridge : float, optional
        Share of their mean that is added to the diagonal of the normal equations, so that surplus terms stay small
        instead of cancelling one another; 1e-7 for float32 tensors and 1e-14 for float64 ones if not given.
    start : sequence of ndarray, optional
        Factors (size, rank) to start from, one per mode.

    Returns
    -------
    CPDecomposition
        Weights, unit factors and the true residual.

    Raises
    ------
    RankError
        If the rank, ``n_starts`` or ``n_iter_max`` is below 1 or the tensor's order below 2.
    KernelError
        If the tensor holds numbers that are not finite.

    Examples
    --------
    >>> a, b, c = np.arange(1.0, 4), np.arange(2.0, 6), np.arange(3.0, 8)
    >>> cp_als(np.einsum("i,j,k->ijk", a, b, c), 1).relative_error < 1e-12
    True
    """
    tensor = np.asarray(tensor)
    if rank < 1 or tensor.ndim < 2:
        raise RankError(
            f"rank must be at least 1 and the tensor of order 2 or more, got rank={rank}, shape {tensor.shape}"
        )
    if n_starts < 1 or n_iter_max < 1:
        raise RankError(f"n_starts and n_iter_max must be at least 1, got n_starts={n_starts}, n_iter_max={n_iter_max}")
    dtype = np.dtype(np.float32 if tensor.dtype.kind == "f" and tensor.dtype.itemsize <= 4 else np.float64)
    problem, order, scale = arranged(tensor, dtype, RIDGES[dtype.name] if ridge is None else ridge)
    if problem.squared_norm == 0:
        return finished(problem, [np.zeros((size, rank)) for size in problem.sizes], order, scale, [], True)
    seed = int(as_generator(rng).integers(2**63))
    with one_blas_thread():
        if start is None:
            run = _from_gaussian(problem, rank, seed, n_starts, n_iter_max, tol, target)
        else:
            given = [np.array(start[mode], np.float64) for mode in order]
            if [factor.shape for factor in given] != [(size, rank) for size in problem.sizes]:
                raise RankError(f"start must have one matrix (size, {rank}) per mode of {tensor.shape}")
            given[0] /= scale
            run = _Run(*sweeps(problem, given, n_iter_max, tol, max(target, FLOOR)))
        found = finished(problem, run.factors, order, scale, run.history, run.converged)
        misled = dtype != np.float64 and found.relative_error > run.history[-1] + TRUSTED
        for _ in range(ATTEMPTS):  # the error that sweeps go by is off by the rounding of their products
            if misled or not run.history[-1] <= target < found.relative_error or run.n_iter >= n_iter_max:
                break
            aim = max(run.history[-1] - 2 * (found.relative_error - target), FLOOR)
            run.extend(sweeps(problem, run.factors, n_iter_max - run.n_iter, tol, aim))
            found = finished(problem, run.factors, order, scale, run.history, run.converged)
    if misled:
        # Terms that all but cancel blow up the rounding of float32 products: only float64 can go on from there.
        again: dict[str, Any] = {"n_iter_max": n_iter_max, "tol": tol, "target": target, "ridge": problem.ridge}
        return cp_als(tensor.astype(np.float64), rank, rng=seed, n_starts=n_starts, start=start, **again)
    return found


@dataclass
class _Run:
    """Where sweeps have led so far."""

    factors: list[Array]
    history: list[float]
    converged: bool

    @property
    def n_iter(self) -> int:
        return len(self.history)

    def extend(self, later: tuple[list[Array], list[float], bool]) -> None:
        self.factors, self.converged = later[0], later[2]
        self.history += later[1]


def _from_gaussian(
    problem: Problem, rank: int, seed: int, n_starts: int, n_iter_max: int, tol: float, target: float
) -> _Run:
    """Screen Gaussian starts, on the compressed tensor where that is much smaller, and finish on the tensor itself."""
    n_a, n_b = problem.sizes[:2]
    core, bases, lost = problem, list[Array](), 0.0
    if n_a * n_b >= COMPRESSED and 8 * rank**2 <= n_a * n_b and n_iter_max >= LONG:
        core, bases, lost = problem.compressed(rank)
    aim = math.sqrt(max(target**2 * problem.squared_norm - lost, 0.0) / core.squared_norm)

    def extended(run: _Run, most: int, stop: float) -> _Run:
        run.extend(sweeps(core, run.factors, most, stop, max(aim, FLOOR)))
        return run

    runs = []
    for index in range(n_starts):
        generator = np.random.default_rng([seed, index])
        runs.append(_Run([generator.standard_normal((size, rank)) for size in core.sizes], [], False))
    n_rounds = max(int(math.log2(n_starts)), 1)
    each = max(min(ROUND, n_iter_max // (2 * n_rounds)), 1)
    while len(runs) > 1:
        runs = sorted((extended(run, each, tol) for run in runs), key=lambda run: run.history[-1])
        is_over = runs[0].history[-1] <= aim or runs[0].n_iter + each > n_iter_max
        runs = runs[: 1 if is_over else len(runs) // 2]
    run = runs[0]
    if bases:
        if not run.history or run.history[-1] > aim:
            extended(run, max(n_iter_max // 2 - run.n_iter, 1), max(tol, CORE_TOL))
        run.factors[:2] = [basis @ factor for basis, factor in zip(bases, run.factors[:2], strict=True)]
        run.history[:] = [problem.relative(lost + core.squared_norm * error**2) for error in run.history]
        if run.history[-1] <= target:
            return run
    if bases or (run.n_iter < n_iter_max and not run.converged):
        run.extend(sweeps(problem, run.factors, max(n_iter_max - run.n_iter, 1), tol, max(target, FLOOR)))
    return run


def arranged(tensor: Array, dtype: Any, ridge: float) -> tuple[Problem, list[int], float]:
    """Prepare a tensor for sweeps.

    Parameters
    ----------
    tensor : ndarray
        The tensor.
    dtype : data-type
        The type of the large products, float32 or float64.
    ridge : float
        Of the normal equations.

    Returns
    -------
    problem : Problem
        The tensor, scaled, its modes by falling size.
    order : list of int
        The mode that stands at each place.
    scale : float
        What it was divided by.
    """
    order = sorted(range(tensor.ndim), key=lambda mode: -tensor.shape[mode])
    scale = unit_scale(tensor, "tensor")
    return Problem(np.transpose(tensor, order).astype(dtype, copy=False), scale, ridge), order, scale


def finished(
    problem: Problem, factors: list[Array], order: list[int], scale: float, history: list[float], converged: bool
) -> CPDecomposition:
    """Return factors in the tensor's own order and unit, their terms by falling weight.

    Parameters
    ----------
    problem : Problem
        The tensor as it was prepared.
    factors : list of ndarray
        One per mode of the problem.
    order : list of int
        The mode that stands at each place.
    scale : float
        What the tensor was divided by.
    history : list of float
        Relative errors.
    converged : bool
        Whether the iteration ended by itself.

    Returns
    -------
    CPDecomposition
        Unit columns, whose largest entries are positive in all factors but the first.
    """
    norms = [np.linalg.norm(factor, axis=0) for factor in factors]
    weights = np.prod(norms, axis=0)
    units = [factor / np.where(norm > 0, norm, 1) for factor, norm in zip(factors, norms, strict=True)]
    for j in range(1, len(units)):
        sign = peak_signs(units[j])
        units[j], units[0] = units[j] * sign, units[0] * sign
    falling = np.argsort(-weights, kind="stable")
    weights, units = weights[falling], [unit[:, falling] for unit in units]
    error = problem.true_error([units[0] * weights, *units[1:]])
    placed = [units[order.index(mode)] for mode in range(len(order))]
    return CPDecomposition(weights * scale, placed, error, len(history), converged, history)
