"""Rank rules: from the singular values of a kernel to ranks."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.integers import is_integer, is_number
from tensorconv.linalg import posterior_spectrum

Rank = tuple[int, ...]
# Singular values per rank, each of shape (slices, n), and the largest useful ranks, to ranks.
Rule = Callable[[Sequence[Array], Rank], Rank]


def energy(share: float) -> Rule:
    """Return the rule that keeps this share of the squared singular values in every rank.

    Parameters
    ----------
    share : float
        Above 0, at most 1. For an SVD the relative error is at most ``sqrt(1 - share)``.

    Returns
    -------
    callable
        A rule for the argument ``rank`` of a factorization.

    Raises
    ------
    RankError
        If the share is out of range.

    Examples
    --------
    >>> energy(0.9)([np.array([[3.0, 1.0, 0.1]])], (3,))
    (2,)
    """
    _check_share(share)

    def rule(spectra: Sequence[Array], maximum: Rank) -> Rank:
        tails = map(tail_energy, spectra)
        return tuple(_first_rank(t, (1 - share) * float(t[0]), m) for t, m in zip(tails, maximum, strict=True))

    return rule


def mean_energy(share: float) -> Rule:
    """Return the rule of network decoupling: the mean over all slices of the energy that each keeps is this share.

    Every slice, the matrix of one channel in a depthwise separable method, counts alike here, however small it is:
    ``mean_c sum_{r<=R} s_cr^2 / sum_r s_cr^2 >= share`` (Guo, Li, Lin, Chen, Li, 2018, arXiv 1808.05517, whose code
    takes 0.95). :func:`energy` keeps a share of the energy of all slices together. The two are the same for a single
    matrix; slices of zeros lose nothing.

    Parameters
    ----------
    share : float
        Above 0, at most 1.

    Returns
    -------
    callable
        A rule for the argument ``rank`` of a factorization.

    Raises
    ------
    RankError
        If the share is out of range.

    Examples
    --------
    >>> slices = np.array([[3.0, 0.0], [0.1, 0.1]])  # the energies kept at rank 1: all of one, half of the other
    >>> mean_energy(0.75)([slices], (2,)), mean_energy(0.8)([slices], (2,)), energy(0.8)([slices], (2,))
    ((1,), (2,), (1,))
    """
    _check_share(share)

    def rule(spectra: Sequence[Array], maximum: Rank) -> Rank:
        found = []
        for slices, most in zip(spectra, maximum, strict=True):
            peaks = np.max(slices, axis=1, keepdims=True)
            shape = slices / np.where(peaks > 0, peaks, 1)
            totals = np.sum(shape**2, axis=1, keepdims=True)
            tail = tail_energy(shape / np.sqrt(np.where(totals > 0, totals, 1))) / len(slices)
            found.append(_first_rank(tail, 1 - share, most))
        return tuple(found)

    return rule


def exact(tolerance: float = 1e-6) -> Rule:
    """Return the rule that keeps every singular value but those that are zero up to rounding.

    It is the numerical rank of every unfolding, the largest of its slices where there are several: the fewest terms
    that are exact, for a depthwise separable method as for an SVD.

    Parameters
    ----------
    tolerance : float
        From 0 to below 1; singular values of at most this share of the largest count as zero. The default is above what
        storing a kernel as float32 leaves.

    Returns
    -------
    callable
        A rule for the argument ``rank`` of a factorization.

    Raises
    ------
    RankError
        If the tolerance is out of range.

    Examples
    --------
    >>> exact()([np.array([[3.0, 1e-9, 0.0], [2.0, 1e-3, 1e-8]])], (3,))
    (2,)
    """
    if not is_number(tolerance) or not 0 <= tolerance < 1:
        raise RankError(f"tolerance must be from 0 to below 1, got {tolerance!r}; 1e-6 is above rounding to float32")

    def rule(spectra: Sequence[Array], maximum: Rank) -> Rank:
        counts = [int(np.sum(slices > tolerance * np.max(slices), axis=1).max()) for slices in spectra]
        return tuple(min(max(1, count), most) for count, most in zip(counts, maximum, strict=True))

    return rule


def evbmf() -> Rule:
    """Return the rule that keeps what stands out from Gaussian noise, by empirical variational Bayes.

    Every unfolding has the rank of :func:`tensorconv.linalg.evbmf`, the largest of them where there are several
    matrices: one per group, or per channel in a depthwise separable method. There is no threshold to choose (Nakajima,
    Sugiyama, Babacan, Tomioka, 2013; for convolutions Kim, Park, Yoo, Choi, Yang, Shin, 2016). Trained kernels are
    seldom low rank plus noise of one variance: expect errors to retrain from, and rank 0 where all singular values are
    alike. Where rank 1 is the only one, it is taken.

    Returns
    -------
    callable
        A rule for the argument ``rank`` of a factorization; it raises RankError where the finding is rank 0.

    Examples
    --------
    >>> import tensorconv as tc
    >>> rng = np.random.default_rng(0)
    >>> low_rank = np.tensordot(rng.standard_normal((32, 3)), rng.standard_normal((3, 16, 3, 3)), 1)
    >>> tc.svd(low_rank + 0.1 * rng.standard_normal(low_rank.shape), rank=tc.ranks.evbmf()).rank
    3
    """

    def rule(spectra: Sequence[Array], maximum: Rank) -> Rank:
        shapes = getattr(spectra, "shapes", None)
        if shapes is None:
            raise RankError(
                "the rule ranks.evbmf() needs spectra with an attribute shapes, the two sides of every unfolding, got "
                f"{type(spectra).__name__}; give the rule to a factorization, or call tc.linalg.evbmf on a matrix"
            )
        found = [
            1 if most == 1 else min(_evbmf_rank(slices, shape), most)
            for slices, shape, most in zip(spectra, shapes, maximum, strict=True)
        ]
        for index, (rank, shape) in enumerate(zip(found, shapes, strict=True)):
            if rank == 0:
                which = f" for rank {index + 1} of {len(found)}" if len(found) > 1 else ""
                raise RankError(
                    f"evbmf finds rank 0{which}, in the {shape[0]} x {shape[1]} unfolding: no singular value stands "
                    "out from noise; give an integer rank, error=, budget= or the rule ranks.energy(0.9)"
                )
        return tuple(found)

    return rule


def multiple(factor: int, *, of: int | Sequence[int] | Rule) -> Rule:
    """Return the rule that rounds ranks up to multiples that hardware likes, up to the largest useful rank.

    Parameters
    ----------
    factor : int
        8, 16, 32: what the hardware works on at a time.
    of : int, sequence of int, or rule
        The ranks to round.

    Returns
    -------
    callable
        A rule for the argument ``rank`` of a factorization.

    Raises
    ------
    RankError
        If the factor is below 1.
    """
    if not is_integer(factor) or factor < 1:
        raise RankError(f"factor must be at least 1, got {factor!r}")

    def rule(spectra: Sequence[Array], maximum: Rank) -> Rank:
        ranks = of(spectra, maximum) if callable(of) else spread(of, maximum)
        return tuple(min(-(-r // factor) * factor, most) for r, most in zip(ranks, maximum, strict=True))

    return rule


def spread(rank: Any, maximum: Rank) -> Rank:
    """Return one integer per rank, from one for all (each capped at its maximum) or one per rank.

    Parameters
    ----------
    rank : int or sequence of int
        What the caller asked for.
    maximum : tuple of int
        The largest useful ranks.

    Returns
    -------
    tuple of int
        The ranks, not yet checked against the maximum where one per rank was given.

    Raises
    ------
    RankError
        If it is not an integer or a sequence of integers of the right length.
    """
    wanted = f"rank must be an integer{f' or {len(maximum)} integers' * (len(maximum) > 1)}, got {rank!r}"
    several = is_listing(rank)
    entries = list(rank) if several else [rank]
    if not all(map(is_integer, entries)):
        raise RankError(wanted)
    ranks = tuple(map(operator.index, entries))
    if not several:
        return tuple(min(ranks[0], most) if ranks[0] <= max(maximum) else ranks[0] for most in maximum)
    if len(ranks) != len(maximum):
        raise RankError(wanted)
    return ranks


def is_listing(rank: Any) -> bool:
    """Tell whether a rank is given as several entries: a list, a tuple or an array of one axis.

    Parameters
    ----------
    rank : object
        What the caller asked for.

    Returns
    -------
    bool
        Whether it is.
    """
    return isinstance(rank, (list, tuple)) or (isinstance(rank, np.ndarray) and rank.ndim == 1)


def tail_energy(spectrum: Array) -> Array:
    """Return the squared error of every truncation, summed over the slices.

    Parameters
    ----------
    spectrum : ndarray, shape (slices, n)
        Falling singular values.

    Returns
    -------
    ndarray, shape (n + 1,)
        Entry r is the energy lost at rank r.
    """
    energies = np.sum(np.square(spectrum), axis=0)
    return np.concatenate([np.cumsum(energies[::-1])[::-1], [0.0]])


def _evbmf_rank(slices: Array, shape: tuple[int, int]) -> int:
    """Return the largest rank of matrices of one shape, whose singular values are those of Gram matrices."""
    blur = math.sqrt(max(shape) * float(np.finfo(np.float64).eps))
    return max(len(posterior_spectrum(values, shape, blur=blur)[0]) for values in slices)


def _check_share(share: Any) -> None:
    if not is_number(share) or not 0 < share <= 1:
        raise RankError(f"share must be above 0 and at most 1, got {share!r}; 0.95 keeps 95 % of the energy")


def _first_rank(tail: Array, allowed: float, most: int) -> int:
    return min(max(1, int(np.argmax(tail <= allowed * (1 + 1e-12) + 1e-300))), most)
