"""Rank rules, and the searches that turn an error or a budget into ranks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import RankError

Array = NDArray[Any]
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
    if not 0 < share <= 1:
        raise RankError(f"share must be above 0 and at most 1, got {share}; 0.95 keeps 95 % of the energy")

    def rule(spectra: Sequence[Array], maximum: Rank) -> Rank:
        return tuple(
            _first_rank(tail_energy(spectrum), (1 - share) * float(np.sum(np.square(spectrum))), most)
            for spectrum, most in zip(spectra, maximum, strict=True)
        )

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

    Examples
    --------
    >>> multiple(8, of=energy(0.9))([np.ones((1, 32))], (32,))
    (32,)
    """
    if operator.index(factor) < 1:
        raise RankError(f"factor must be at least 1, got {factor}")

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
    wanted = f"rank must be an integer or {len(maximum)} integers, got {rank!r}"
    if isinstance(rank, (str, bool)):
        raise RankError(wanted)
    try:
        if not isinstance(rank, Sequence) and not isinstance(rank, np.ndarray):
            number = operator.index(rank)
            return tuple(min(number, most) if number <= max(maximum) else number for most in maximum)
        ranks = tuple(operator.index(r) for r in rank)
    except TypeError as error:
        raise RankError(wanted) from error
    if len(ranks) != len(maximum):
        raise RankError(wanted)
    return ranks


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


def first_meeting(attempt: Callable[[int], float], error: float, predicted: Array, maximum: int) -> int:
    """Return the smallest rank that meets an error where the error of every rank is known but for rounding.

    Parameters
    ----------
    attempt : callable
        The true relative error at a rank.
    error : float
        The error asked for.
    predicted : ndarray
        Entry r is the relative error expected at rank r, falling.
    maximum : int
        The largest rank to try.

    Returns
    -------
    int
        The rank.

    Raises
    ------
    RankError
        If the largest rank does not meet the error.
    """
    start = int(np.argmax(predicted[1:] <= error * (1 - 1e-9))) + 1 if predicted[-1] <= error else maximum
    rank, step = min(start, maximum), 1
    while attempt(rank) > error:
        if rank == maximum:
            raise RankError(_unmet(error, attempt(maximum), maximum))
        rank, step = min(rank + step, maximum), 2 * step
    while rank > 1 and predicted[rank - 1] <= error * (1 + 1e-6) and attempt(rank - 1) <= error:
        rank -= 1
    return rank


def bisect_meeting(attempt: Callable[[int], float], error: float, low: int, maximum: int, *, bounded: bool) -> int:
    """Return a rank that meets an error where only trying tells, close to the smallest.

    Parameters
    ----------
    attempt : callable
        The true relative error at a rank.
    error : float
        The error asked for.
    low : int
        A rank below which no attempt can succeed.
    maximum : int
        The largest rank to try.
    bounded : bool
        Whether ``maximum`` is a limit that may well be missed, and is tried first.

    Returns
    -------
    int
        The rank; a neighbour about 3 % smaller was seen to fail.

    Raises
    ------
    RankError
        If the largest rank does not meet the error.
    """
    if low > maximum or (bounded and attempt(maximum) > error):
        raise RankError(_unmet(error, attempt(maximum), maximum))
    failed, rank = low - 1, maximum if bounded else low
    while attempt(rank) > error:
        if rank == maximum:
            raise RankError(_unmet(error, attempt(maximum), maximum))
        failed, rank = rank, min(rank + max(1, rank // 2), maximum)
    while rank - failed > 1 + rank // 32:
        middle = (failed + rank) // 2
        if attempt(middle) <= error:
            rank = middle
        else:
            failed = middle
    return rank


def largest_affordable(affordable: Callable[[int], bool], maximum: int) -> int:
    """Return the largest rank whose cost is affordable, by bisection of a cost that grows with rank.

    Parameters
    ----------
    affordable : callable
        Whether a rank is affordable.
    maximum : int
        The largest useful rank.

    Returns
    -------
    int
        The rank; 0 if not even 1 is affordable.
    """
    low, high = 0, maximum
    while low < high:
        middle = (low + high + 1) // 2
        if affordable(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _first_rank(tail: Array, allowed: float, most: int) -> int:
    return min(max(1, int(np.argmax(tail <= allowed * (1 + 1e-12) + 1e-300))), most)


def _unmet(error: float, best: float, rank: Any) -> str:
    return (
        f"error={error:g} cannot be met: the best attained is {best:.3g}, at rank {rank}; "
        "ask for a larger error, or try another method or a wider data type"
    )
