"""Low rank of every channel's slice where the channels are correlated: each makes up for what the others lose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from tensorconv.errors import KernelError, RankError
from tensorconv.linalg.cp_sweeps import solve
from tensorconv.linalg.scaling import square_safe_scale, unit_scale
from tensorconv.linalg.svd import balanced_svd
from tensorconv.linalg.threads import one_blas_thread

Array = NDArray[Any]
BLOCK = 32  # channels whose residual one large product gives; coupling within a block is small products
RIDGE = 1e-12  # of the refit, as a share of the mean of the diagonal
TILE = 512  # side of the tiles in which symmetry is checked: a tile and its mirror image stay in the cache
FLOOR = 1e-7  # relative error whose square is little but rounding
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class CompensatedSlices:
    """Slices ``M[:, i] = pointwise[:, i] @ depthwise[i]`` of low rank.

    Parameters
    ----------
    pointwise : ndarray, shape (O, I, R)
        Left factors; column r of channel i has the norm of row r of its right factor.
    depthwise : ndarray, shape (I, R, K)
        Right factors; the rows of a channel are orthogonal, their norms fall.
    errors : list of float
        Relative error in the metric at the start and after each sweep; the last is that of these very factors.
    """

    pointwise: Array
    depthwise: Array
    errors: list[float]


def compensated_slices(
    target: Array,
    metric: Array,
    rank: int,
    *,
    start: tuple[Array, Array] | None = None,
    n_sweeps_max: int = 20,
    tol: float = 1e-4,
) -> CompensatedSlices:
    """Minimise ``trace((T - M) C (T - M).T)`` over M whose slice ``M[:, i, :]`` has a rank of at most R for every i.

    With the covariance C of the patches of a convolution's input it is the mean squared error of the responses of a
    depthwise convolution of multiplier R with a pointwise one: for R = 1 the depth-wise decomposition with
    inter-channel compensation (He, Qian, Ren, Zhang, Wei, 2019). Each channel alone has a closed form, a truncated SVD
    in the metric of its own block of C. A sweep takes channel by channel and gives it the best slice for what all
    others leave, the same closed form; then all pointwise factors are refitted together by least squares, which is
    not in the paper and saves most of the sweeps. No step raises the error. One sweep costs about ``2 R / K`` products
    of T with C, and the refit a Cholesky factorization of size I R.

    Parameters
    ----------
    target : ndarray, shape (O, I, K)
        The kernel T: out-channels, in-channels, taps.
    metric : ndarray, shape (I K, I K)
        The symmetric positive semidefinite C, in the order (I, K). Where the block of a channel is singular, the
        channel's slice is zero on what the metric does not see; a channel of no variance gets the SVD of its slice.
    rank : int
        Rank R of each slice, from 1 to min(O, K).
    start : pair of ndarray, shapes (O, I, R) and (I, R, K), optional
        Pointwise and depthwise factors to start from, if not each channel alone in the metric. Where the truncated SVD
        of the slices themselves has the smaller error, or one of mere rounding, it is taken instead.
    n_sweeps_max : int
        Most sweeps; 0 returns the start.
    tol : float
        Stop when a sweep lowers the error by no more than this share.

    Returns
    -------
    CompensatedSlices
        The factors and the errors on the way.

    Raises
    ------
    KernelError
        If the arrays do not fit one another or are not finite, the metric is not symmetric, or the block of a
        channel is not semidefinite.
    RankError
        If the rank or the number of sweeps is out of range, or the start has another shape.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kernel, patches = rng.standard_normal((8, 4, 9)), rng.standard_normal((100, 6)) @ rng.standard_normal((6, 36))
    >>> found = compensated_slices(kernel, patches.T @ patches, 1)
    >>> found.pointwise.shape, found.depthwise.shape, found.errors[-1] < found.errors[0] / 2
    ((8, 4, 1), (4, 1, 9), True)
    """
    given, covariance = _checked(target, metric)
    most = min(given.shape[0], given.shape[2])
    if not 1 <= rank <= most:
        raise RankError(f"rank must be between 1 and {most} = min(O, K) for a target {given.shape}, got {rank}")
    if n_sweeps_max < 0:
        raise RankError(f"n_sweeps_max must be at least 0, got {n_sweeps_max}")
    with one_blas_thread():
        fit = _Fit(given, covariance, rank)
        factors = None if start is None else _checked_start(start, given.shape, rank)
        errors = [fit.begin(factors)]
        while len(errors) <= n_sweeps_max and errors[-1] > FLOOR:
            before = fit.pointwise.copy(), fit.depthwise.copy()
            fit.sweep()
            error = fit.refit()
            if error >= errors[-1]:  # nothing but rounding is left
                fit.pointwise, fit.depthwise = before
                break
            errors.append(error)
            if errors[-2] - error <= tol * errors[-2]:
                break
        pointwise, depthwise = fit.balanced()
        errors[-1] = fit.true_error(pointwise, depthwise)
    return CompensatedSlices(pointwise, depthwise, errors)


def _checked(target: Array, metric: Array) -> tuple[Array, Array]:
    """Return both arrays in float64."""
    given, covariance = np.asarray(target, np.float64), np.asarray(metric, np.float64)
    if given.ndim != 3 or given.size == 0:
        raise KernelError(f"target must have shape (O, I, K), none of them 0, got {given.shape}")
    n = given.shape[1] * given.shape[2]
    if covariance.shape != (n, n):
        raise KernelError(f"metric must have shape ({n}, {n}) = (I K, I K) to fit the target, got {covariance.shape}")
    peak = max(float(covariance.max()), -float(covariance.min()))
    if not (math.isfinite(peak) and np.isfinite(given).all()):
        raise KernelError("target and metric must be finite; drop the samples with NaN or inf from the covariance")
    for low in range(0, n, TILE):
        for left in range(0, low + 1, TILE):
            tile = covariance[low : low + TILE, left : left + TILE]
            mirrored = covariance[left : left + TILE, low : low + TILE].T
            if np.abs(tile - mirrored).max() > 1e-8 * peak:
                raise KernelError("metric must be symmetric; take (m + m.T) / 2 if it nearly is")
    return given, covariance


def _checked_start(start: tuple[Array, Array], shape: tuple[int, ...], rank: int) -> tuple[Array, Array]:
    pointwise, depthwise = (np.asarray(factor, np.float64) for factor in start)
    n_out, n_in, n_taps = shape
    if pointwise.shape != (n_out, n_in, rank) or depthwise.shape != (n_in, rank, n_taps):
        raise RankError(
            f"start must have shapes {(n_out, n_in, rank)} and {(n_in, rank, n_taps)} for rank={rank}, "
            f"got {pointwise.shape} and {depthwise.shape}"
        )
    if not (np.isfinite(pointwise).all() and np.isfinite(depthwise).all()):
        raise KernelError("start must be finite; leave it out to start from each channel alone")
    return pointwise, depthwise


class _Fit:
    """The factors on the way: pointwise (I, R, O), depthwise (I, R, K), and depthwise times metric (I R, I K).

    Target and metric are scaled by powers of two so that squares are safe; out-channels stand last, so that all that
    belongs to a channel is contiguous.
    """

    def __init__(self, target: Array, metric: Array, rank: int) -> None:
        self.n_out, self.n_in, self.n_taps = target.shape
        self.rank = rank
        self.root = math.ldexp(1.0, (math.frexp(unit_scale(target))[1] - 1) // 2)  # one for each factor
        self.target = np.ascontiguousarray(target.transpose(1, 2, 0)) / self.root / self.root  # (I, K, O)
        safe = square_safe_scale(metric)
        self.metric = metric if safe == 1 else metric / safe
        self.rows = self.metric.reshape(self.n_in, self.n_taps, -1)
        flat = self.target.reshape(-1, self.n_out)
        self.image = self.metric @ flat  # (I K, O)
        self.energy = float(np.vdot(flat, self.image))
        self.blocks = np.stack([row[:, self.taps(i)] for i, row in enumerate(self.rows)])
        values, vectors = np.linalg.eigh(self.blocks)
        noise = len(flat) * EPS  # by the whole size, so that rounding of the coupling stays small when whitened
        if values.min() < -10 * noise * float(np.abs(self.blocks).max()):
            raise KernelError(f"metric must be positive semidefinite, got a block with eigenvalue {values.min():.3g}")
        kept = values > noise * np.maximum(values[:, -1:], noise * values.max())  # of no variance but rounding: dead
        self.alive: Array = np.any(kept, axis=1)
        roots = np.sqrt(values, out=np.full_like(values, np.inf), where=kept)
        self.whitening = np.ascontiguousarray(np.swapaxes(vectors / roots[:, None], 1, 2))  # W: W C_ii W.T = identity
        left, right = balanced_svd(self.target, rank)
        self.pointwise = np.ascontiguousarray(right)
        self.depthwise = np.ascontiguousarray(np.swapaxes(left, 1, 2))
        self.features = np.empty((self.n_in * rank, len(flat)))

    def taps(self, first: int, last: int | None = None) -> slice:
        """Return where some channels stand in the order (I, K)."""
        return slice(first * self.n_taps, (first + 1 if last is None else last) * self.n_taps)

    def terms(self, first: int, last: int | None = None) -> slice:
        """Return where some channels stand in the order (I, R)."""
        return slice(first * self.rank, (first + 1 if last is None else last) * self.rank)

    def begin(self, start: tuple[Array, Array] | None) -> float:
        """Take the better of a start and the SVD of the slices, and return its error."""
        plain = self.pointwise.copy(), self.depthwise.copy()
        if start is None:
            for i in np.flatnonzero(self.alive).tolist():
                self.step(i, self.blocks[i] @ self.target[i])
        else:
            self.pointwise[self.alive] = start[0].transpose(1, 2, 0)[self.alive] / self.root
            self.depthwise[self.alive] = start[1][self.alive] / self.root
        found = self.pointwise, self.depthwise
        errors = self.take(*plain), self.take(*found)
        return self.take(*plain) if errors[0] <= max(errors[1], FLOOR) else errors[1]

    def take(self, pointwise: Array, depthwise: Array) -> float:
        """Go on from given factors, and return their error."""
        self.pointwise, self.depthwise = pointwise, depthwise
        np.matmul(depthwise, self.rows, out=self.features.reshape(self.n_in, self.rank, -1))
        return self.error(self.residual())

    def step(self, i: int, wanted: Array) -> None:
        """Give a channel the best slice, given C_ii times the one that would be best without a bound on its rank."""
        white = self.whitening[i] @ wanted
        gram = white @ white.copy().T  # of a matrix and itself numpy computes half and copies the rest: slower
        leading = lapack.dsyevd(gram)[1][:, : -self.rank - 1 : -1].T
        np.matmul(leading, white, out=self.pointwise[i])
        np.matmul(leading, self.whitening[i], out=self.depthwise[i])
        np.matmul(self.depthwise[i], self.rows[i], out=self.features[self.terms(i)])

    def sweep(self) -> None:
        """Renew channel by channel, each with the others as they are by then."""
        pointwise = self.pointwise.reshape(-1, self.n_out)
        for low in range(0, self.n_in, BLOCK):
            high = min(low + BLOCK, self.n_in)
            taps, inside = self.taps(low, high), self.terms(low, high)
            before, after = slice(0, inside.start), slice(inside.stop, None)
            left = self.image[taps] - self.features[before, taps].T @ pointwise[before]
            left -= self.features[after, taps].T @ pointwise[after]
            for i in range(low, high):
                if self.alive[i]:
                    pointwise[self.terms(i)] = 0
                    others = self.features[inside, self.taps(i)].T @ pointwise[inside]
                    self.step(i, left[self.taps(i - low)] - others)

    def residual(self) -> Array:
        """Return ``C (T - M).T``, from factors: the error is small in the metric, not where it is."""
        left: Array = self.image - self.features.T @ self.pointwise.reshape(-1, self.n_out)
        return left

    def error(self, residual: Array, gain: float = 0.0) -> float:
        """Return the relative error, its square less a gain."""
        lost = self.target - np.swapaxes(self.depthwise, 1, 2) @ self.pointwise
        squared = float(np.vdot(lost, residual)) - gain
        return math.sqrt(max(squared, 0.0) / self.energy) if self.energy > 0 else 0.0

    def refit(self) -> float:
        """Correct all pointwise factors by least squares and return the error.

        The correction is solved for, not the factors: rounding then is a share of the residual.
        """
        residual = self.residual()
        filters = np.swapaxes(self.depthwise, 1, 2)
        grams = np.swapaxes(self.features.reshape(-1, self.n_in, self.n_taps), 0, 1) @ filters  # (I, I R, R)
        gradient = (self.depthwise @ residual.reshape(self.target.shape)).reshape(-1, self.n_out)
        gram = np.ascontiguousarray(np.swapaxes(grams, 0, 1).reshape(len(gradient), -1))
        change = solve(gram, gradient.T, RIDGE).T
        error = self.error(residual, float(np.vdot(change, gradient)))
        self.pointwise += change.reshape(self.pointwise.shape)
        return error

    def balanced(self) -> tuple[Array, Array]:
        """Return the factors as the SVDs of their slices have them, in the target's scale."""
        left, right = balanced_svd(np.swapaxes(self.depthwise, 1, 2) @ self.pointwise, self.rank)
        pointwise, depthwise = (np.ascontiguousarray(a) for a in (right.transpose(2, 0, 1), left.swapaxes(1, 2)))
        return pointwise * self.root, depthwise * self.root

    def true_error(self, pointwise: Array, depthwise: Array) -> float:
        """Return the relative error of given factors, from the residual itself."""
        left, right = np.swapaxes(depthwise, 1, 2) / self.root, pointwise.transpose(1, 2, 0) / self.root
        lost = self.target - left @ right
        flat = lost.reshape(-1, self.n_out)
        squared = float(np.vdot(flat, self.metric @ flat))
        return math.sqrt(max(squared, 0.0) / self.energy) if self.energy > 0 else 0.0
