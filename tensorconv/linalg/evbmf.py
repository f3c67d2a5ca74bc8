"""Empirical variational Bayesian matrix factorization: the rank, and the noise, of a low-rank matrix plus noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import KernelError
from tensorconv.linalg.finite import check_finite
from tensorconv.linalg.scaling import unit_scale
from tensorconv.linalg.svd import truncated_svd

Array = NDArray[Any]
EPS = float(np.finfo(np.float64).eps)
STEPS = 200  # of Newton's method at most; about five are taken


@dataclass(frozen=True, eq=False)
class EVBMF:
    """The posterior mean ``left @ diag(singular_values) @ right`` of a matrix, and the noise around it.

    Parameters
    ----------
    rank : int
        Number of components that stand out from the noise; 0 where none does.
    singular_values : ndarray, shape (rank,)
        Falling, and smaller than those of the matrix, which the noise has raised.
    left : ndarray, shape (m, rank)
        Orthonormal columns.
    right : ndarray, shape (rank, n)
        Orthonormal rows.
    noise_variance : float
        Variance of the noise in each entry, as found or as given; 0 or inf where float64 cannot hold it.
    """

    rank: int
    singular_values: Array
    left: Array
    right: Array
    noise_variance: float


def evbmf(matrix: Array, noise_variance: float | None = None) -> EVBMF:
    """Return the empirical variational Bayesian factorization of a matrix: its low rank and its noise.

    The model is ``matrix = left_factor @ right_factor + noise`` with Gaussian factors, whose variances are learnt for
    every component, and Gaussian noise of one variance. Its global solution is analytic (Nakajima, Sugiyama, Babacan,
    Tomioka, "Global analytic solution of fully-observed variational Bayesian matrix factorization", JMLR 14, 2013):
    the singular vectors of the matrix, with the singular values of :func:`posterior_spectrum`. Where the noise
    variance is not given, the rank is below ``min(m, n) / (1 + min(m, n) / max(m, n))``: a matrix of higher rank
    cannot be told from noise, and a single row or column has rank 0.

    Parameters
    ----------
    matrix : ndarray, shape (m, n)
        Real matrix; computed in float64.
    noise_variance : float, optional
        Variance of the noise in each entry, at least 0; found with the rank if not given.

    Returns
    -------
    EVBMF
        Rank (which may be 0), posterior singular values and vectors, and the noise variance.

    Raises
    ------
    KernelError
        If it is not a matrix of finite numbers, or the noise variance is negative or not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> matrix = 3 * rng.standard_normal((30, 2)) @ rng.standard_normal((2, 50)) + rng.standard_normal((30, 50))
    >>> found = evbmf(matrix)
    >>> found.rank, round(found.noise_variance, 2)
    (2, 1.02)
    """
    given = np.asarray(matrix, np.float64)
    if given.ndim != 2 or not given.size:
        raise KernelError(f"matrix must have two axes, neither of them empty, got shape {given.shape}")
    check_finite("matrix", given)
    u, s, vh = truncated_svd(given)
    values, variance = posterior_spectrum(s, given.shape, noise_variance)
    rank = len(values)
    return EVBMF(rank, values, u[:, :rank], vh[:rank], variance)


def posterior_spectrum(
    values: Array, shape: Sequence[int], noise_variance: float | None = None, *, blur: float = 0.0
) -> tuple[Array, float]:
    """Return the singular values that stand out from noise, reduced by what the noise added, and its variance.

    With L the shorter side, M the longer and ``alpha = L / M``, a singular value s is kept where
    ``s^2 > M variance (1 + tau) (1 + alpha / tau)`` at the positive root of
    ``log(1 + tau) + alpha log(1 + tau / alpha) = tau``; what is left of it is ``s tau / ((1 + tau) (1 + alpha / tau))``
    at the larger tau for which the inequality is an equality (Nakajima, Tomioka, Sugiyama, Babacan, "Condition for
    perfect dimensionality recovery by variational Bayesian PCA", JMLR 16, 2015). The variance is the
    global minimum of the free energy: between two variances at which a component is dropped, its slope over their
    logarithm is concave, so there is one minimum at most, to which Newton's method climbs, and the least is taken.

    Parameters
    ----------
    values : ndarray, shape (k,)
        Singular values of a matrix, falling; missing ones count as zeros, more than L as rounding.
    shape : sequence of int
        The two sides of the matrix, in either order.
    noise_variance : float, optional
        Variance of the noise in each entry, at least 0; found if not given.
    blur : float
        Share of the largest singular value below which the others are rounding and never kept; those of a Gram matrix
        are blurred at ``sqrt(eps)``. No less than ``M eps`` is taken.

    Returns
    -------
    posterior : ndarray, shape (rank,)
        The reduced singular values, falling.
    variance : float
        The noise variance, as found or as given.

    Raises
    ------
    KernelError
        If the noise variance is negative or not finite, or a singular value is not finite.

    Examples
    --------
    >>> posterior_spectrum(np.array([10.0, 1.0, 0.9, 0.8]), (4, 6))[0].round(2)
    array([9.82])
    """
    if noise_variance is not None and not 0 <= noise_variance < math.inf:
        raise KernelError(f"noise_variance must be a finite number at least 0, got {noise_variance}")
    n_short, n_long = sorted(map(int, shape))
    spectrum = np.zeros(n_short)
    kept = np.asarray(values, np.float64)[:n_short]
    spectrum[: len(kept)] = kept
    if not spectrum[0]:
        return np.zeros(0), 0.0 if noise_variance is None else float(noise_variance)
    scale = unit_scale(spectrum, "values")
    spectrum /= scale
    alpha = n_short / n_long
    limit = _detection_limit(alpha)
    powers = np.square(spectrum) / n_long
    least = (max(blur, n_long * EPS) * float(spectrum[0])) ** 2 / n_long / limit
    if noise_variance is None:
        variance = _noise_variance(powers, alpha, limit, least)
        reported = variance * scale * scale
    else:
        deviation = math.sqrt(noise_variance) / scale
        variance, reported = max(deviation * deviation, least), float(noise_variance)
    ratios = powers[powers > limit * variance] / variance
    return scale * spectrum[: len(ratios)] * (_excess(ratios, alpha) / ratios), reported


def _detection_limit(alpha: float) -> float:
    """Return the ratio ``s^2 / (M variance)`` above which a component lowers the free energy."""
    tau = 2.5129 * math.sqrt(alpha)  # right of the maximum of a concave function, so Newton's method finds its root
    for _ in range(STEPS):
        gain = math.log1p(tau) + alpha * math.log1p(tau / alpha) - tau
        step = gain / (1 - 1 / (1 + tau) - alpha / (alpha + tau))
        tau += step
        if abs(step) <= 4 * EPS * tau:
            break
    return (1 + tau) * (1 + alpha / tau)


def _excess(ratios: Array, alpha: float) -> Array:
    """Return the larger tau with ``(1 + tau) (1 + alpha / tau)`` equal to the ratios."""
    doubled = ratios - (1 + alpha)
    return (doubled + np.sqrt(np.square(doubled) - 4 * alpha)) / 2


def _noise_variance(powers: Array, alpha: float, limit: float, least: float) -> float:
    """Return the variance of least free energy, from ``least`` on; the powers are the squared values over M."""
    rest = np.cumsum(powers[::-1])[::-1]
    best = (math.inf, least)
    for rank in range(len(powers)):  # components above the noise
        room = len(powers) - rank * (1 + alpha)
        high = float(powers[rank - 1]) / limit if rank else math.inf
        if room <= 0 or high <= least:  # smaller variances only have more free energy, or are ruled out
            break
        low = max(float(powers[rank]) / limit, float(rest[rank]) / room, least)
        variance = _minimum(powers[:rank], float(rest[rank]), room, alpha, low, high) if low < high else None
        if variance is not None:
            best = min(best, (_free_energy(powers, rank, alpha, variance), variance))
    return best[1]


def _minimum(kept: Array, rest: float, room: float, alpha: float, low: float, high: float) -> float | None:
    """Return the minimum between two variances, or ``low`` if there is none right of it; None if it is beyond.

    Over the logarithm of the variance the slope ``room - rest / variance - sum(alpha / tau)`` is concave: from the
    left, Newton's method never passes its first root.
    """
    variance = low
    for _ in range(STEPS):
        ratios = kept / variance
        tau = _excess(ratios, alpha)
        slope = room - rest / variance - float(np.sum(alpha / tau))
        if slope >= 0:
            break
        bend = rest / variance - float(np.sum(alpha * ratios / (np.square(tau) - alpha)))
        if -slope >= bend * math.log(high / variance):  # the root of the tangent is beyond, or left where it falls
            return None
        if -slope <= 4 * EPS * bend:
            break
        variance *= math.exp(-slope / bend)
    return variance


def _free_energy(powers: Array, rank: int, alpha: float, variance: float) -> float:
    """Return twice the free energy over M, up to a constant."""
    tau = _excess(powers[:rank] / variance, alpha)
    above = 1 + alpha + alpha / tau + np.log1p(tau) + alpha * np.log1p(tau / alpha)
    return len(powers) * math.log(variance) + float(np.sum(powers[rank:])) / variance + float(np.sum(above))
