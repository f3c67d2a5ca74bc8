"""Factorizations of one layer at several budgets, at once."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.scheme import Rank, Scheme
from tensorconv.factorizations.solve import Request, fitted
from tensorconv.linalg import one_blas_thread


def affordable(
    scheme: Scheme, request: Request, shares: Sequence[float], *, multiple: int = 1, quick: bool = False
) -> list[Factorization]:
    """Return the factorizations that meet several budgets; what one fit has found serves the next.

    Parameters
    ----------
    scheme : Scheme
        The method, bound to a layer.
    request : Request
        A request for a budget, which stands for all others.
    shares : sequence of float
        The budgets; those that not even rank 1 meets are left out.
    multiple : int
        Ranks are rounded so that channels between the layers are multiples of this; they then meet the budgets nearly.
    quick : bool
        Whether fits that iterate may stop early: enough to compare, not to keep.

    Returns
    -------
    list of Factorization
        One for every rank found, falling.
    """
    layer = scheme.layer
    dense = request.cost(layer, layer.chain)
    with one_blas_thread():
        moments = None if request.statistics is None else request.statistics.moments(layer)
        fitter = scheme.fitter() if moments is None else scheme.response_fitter(moments)
        if quick:
            fitter.hasten()
        cost = cache(lambda rank: request.cost(layer, scheme.chain(rank)))  # the searches pass by the same ranks
        met = [
            fitter.meet_budget(cost, Fraction(float(share)) * dense, scheme.maximum)
            for share in sorted(shares, reverse=True)
        ]
        ranks = dict.fromkeys(rounded(scheme, rank, multiple) for rank in met if rank is not None)
        return [fitted(scheme, fitter, rank, moments) for rank in ranks]


def rounded(scheme: Scheme, rank: Rank, multiple: int) -> Rank:
    """Return the ranks nearest to given ones with which all channels between the layers are multiples.

    Parameters
    ----------
    scheme : Scheme
        The method, bound to a layer.
    rank : tuple of int
        Ranks within their maxima.
    multiple : int
        8, 16, 32: how many channels the hardware works on at a time; 1 for no rounding.

    Returns
    -------
    tuple of int
        Every rank rounded, to at least one multiple and at most what its maximum holds; those of less than two
        multiples at most stay. The given ranks where they fit already, or where rounding makes no more layers fit.
    """

    def misfits(ranks: Rank) -> int:
        return sum(step[0][0] % multiple != 0 for step in scheme.chain(ranks)[:-1])

    before = misfits(rank)
    if not before:
        return rank
    near = tuple(
        r if most < 2 * multiple else min(max(round(r / multiple), 1), most // multiple) * multiple
        for r, most in zip(rank, scheme.maximum, strict=True)
    )
    return near if misfits(near) < before else rank
