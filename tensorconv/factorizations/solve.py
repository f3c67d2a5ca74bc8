"""From a scheme and a request (rank, error or budget) to a Factorization."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tensorconv import ranks, searches
from tensorconv.cost import chain_cost
from tensorconv.errors import KernelError, KernelTypeError, RankError
from tensorconv.factorizations.factorization import Factorization, relative_error
from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.scheme import Factors, Rank, Scheme
from tensorconv.integers import is_number
from tensorconv.layers import ConvLayer
from tensorconv.linalg import one_blas_thread
from tensorconv.moments import Moments


@dataclass(frozen=True)
class Request:
    """What is asked of a factorization: exactly one of rank, error and budget.

    Parameters
    ----------
    rank : int, tuple of int, or rule, optional
        The ranks, or a rule of :mod:`tensorconv.ranks`.
    error : float, optional
        Largest relative Frobenius error.
    budget : float, optional
        Largest share of the dense layer's cost.
    of : {"macs", "parameters", "bytes"}
        The cost.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    ceiling : Fraction, optional
        Ranks that cost this or more are not worth trying.
    statistics : PatchStatistics, optional
        Of the data whose responses are to be kept; the error is theirs then, and the bias is corrected.

    Raises
    ------
    RankError
        If not exactly one of the three is given, or one is out of range.
    """

    rank: Any = None
    error: float | None = None
    budget: float | None = None
    of: str = "macs"
    input_size: Sequence[int] | None = None
    ceiling: Fraction | None = None
    statistics: Any = None

    def __post_init__(self) -> None:
        given = [name for name in ("rank", "error", "budget") if getattr(self, name) is not None]
        if len(given) != 1:
            raise RankError(f"exactly one of rank, error and budget must be given, got {', '.join(given) or 'none'}")
        for name, rule in (("error", "at least 0"), ("budget", "above 0")):
            value = getattr(self, name)
            if value is None:
                continue
            if not is_number(value) or not math.isfinite(value) or value < 0 or (name == "budget" and value == 0):
                raise RankError(f"{name} must be a finite number {rule}, as a share (0.1 is 10 %), got {value!r}")
        if self.statistics is not None and not callable(getattr(self.statistics, "moments", None)):
            raise KernelTypeError(
                f"statistics must be a tensorconv.PatchStatistics, got {type(self.statistics).__name__}; make one of "
                "the layer, and update it with data"
            )

    def cost(self, layer: ConvLayer, chain: Any) -> Fraction:
        """Return what a chain in place of a layer costs, with the bias that it will have.

        Parameters
        ----------
        layer : ConvLayer
            The layer, whose bias and data type count.
        chain : sequence of (tuple of int, ConvGeometry)
            Kernel shapes and geometries.

        Returns
        -------
        Fraction
            The cost in the request's measure.
        """
        is_corrected = self.statistics is not None and chain != layer.chain
        n_bias = layer.out_channels if layer.bias is not None or is_corrected else 0
        return chain_cost(chain, self.of, self.input_size, n_bias=n_bias, itemsize=layer.dtype.itemsize)


def solve(scheme: Scheme, request: Request) -> Factorization:
    """Return the factorization that a request asks for.

    Parameters
    ----------
    scheme : Scheme
        The method, bound to a layer.
    request : Request
        Rank, error or budget.

    Returns
    -------
    Factorization
        The result.

    Raises
    ------
    RankError
        If the request is out of range or cannot be met.
    """
    layer = scheme.layer
    dense = request.cost(layer, layer.chain)
    with one_blas_thread():
        moments = None if request.statistics is None else request.statistics.moments(layer)
        fitter = scheme.fitter() if moments is None else scheme.response_fitter(moments)
        errors: dict[Rank, float] = {}
        kept: list[Factorization] = []  # one result at most: the latest that meets the request

        def cost(rank: Rank) -> Fraction:
            return request.cost(layer, scheme.chain(rank))

        def attempt(rank: Rank) -> float:
            if rank not in errors:
                found = fitted(scheme, fitter, rank, moments)
                errors[rank] = found.error
                if request.error is None or found.error <= request.error:
                    kept[:] = [found]
            return errors[rank]

        rank = _choose_rank(scheme, fitter, request, attempt, cost, dense)
        attempt(rank)
        return kept[0] if kept[0].ranks == rank else fitted(scheme, fitter, rank, moments)


def refitted(found: Factorization, statistics: Any) -> Factorization:
    """Return a factorization fitted to other data, from where it is.

    Parameters
    ----------
    found : Factorization
        By a method that takes statistics.
    statistics : PatchStatistics
        Of the layer's inputs, maybe with targets.

    Returns
    -------
    Factorization
        Of the same method, options and rank.
    """
    with one_blas_thread():
        moments = statistics.moments(found.layer)
        fitter = found.scheme.response_fitter(moments)
        fitter.start = dict(found.factors)
        return fitted(found.scheme, fitter, found.ranks, moments)


def _choose_rank(
    scheme: Scheme,
    fitter: Fitter[Any],
    request: Request,
    attempt: Callable[[Rank], float],
    cost: Callable[[Rank], Fraction],
    dense: Fraction,
) -> Rank:
    maximum = scheme.maximum
    if request.rank is not None:
        return _asked_rank(scheme, fitter, request.rank)
    if request.budget is not None:
        limit = Fraction(float(request.budget)) * dense
        rank = fitter.meet_budget(cost, limit, maximum)
        if rank is None:
            least = float(cost((1,) * len(maximum)) / dense) if dense else math.inf
            raise RankError(
                f"budget={request.budget:g} of {request.of} cannot be met by {scheme.name}: rank 1 already costs "
                f"{least:.3g} of the dense layer; ask for at least that, or try another method"
            )
        return rank
    ceiling = request.ceiling
    if ceiling is not None and len(maximum) == 1:
        maximum = (searches.largest_affordable(lambda r: cost((r,)) < ceiling, maximum[0]),)
        if maximum == (0,):
            raise RankError(f"{scheme.name} costs too much at any rank")
    return fitter.meet_error(attempt, float(request.error or 0.0), maximum, cost)


def _asked_rank(scheme: Scheme, fitter: Fitter[Any], rank: Any) -> Rank:
    asked = fitter.by_rule(rank) if callable(rank) else rank
    if callable(rank) and not isinstance(asked, (list, tuple)):
        raise RankError(f"a rank rule must give one integer per rank, as a tuple, got {asked!r}")
    return given_rank(scheme, asked)


def given_rank(scheme: Scheme, rank: Any) -> Rank:
    """Return one checked integer per rank of a method, from integers.

    Parameters
    ----------
    scheme : Scheme
        The method, bound to a layer.
    rank : int or sequence of int
        One for all, each capped at its maximum, or one per rank.

    Returns
    -------
    tuple of int
        The ranks.

    Raises
    ------
    RankError
        If there are too many or too few, or one is no integer or out of range.
    """
    chosen = ranks.spread(rank, scheme.maximum)
    for entry, most, rule in zip(chosen, scheme.maximum, scheme.maximum_rules, strict=True):
        if not 1 <= entry <= most:
            shown = operator.index(rank) if np.ndim(rank) == 0 else chosen
            raise RankError(f"rank must be between 1 and {most} = {rule} for this kernel, got {shown}")
    return chosen


def fitted(scheme: Scheme, fitter: Fitter[Any], rank: Rank, moments: Moments | None) -> Factorization:
    """Return the factorization at a rank, in the layer's type and with its true error.

    Parameters
    ----------
    scheme : Scheme
        The method, bound to a layer.
    fitter : Fitter
        What finds the factors.
    rank : tuple of int
        The ranks.
    moments : Moments or None
        Of the data whose responses are to be kept, for the bias and the error.

    Returns
    -------
    Factorization
        The result.

    Raises
    ------
    KernelError
        If a factor or the bias overflows the layer's type.
    """
    factors = fitter.factors(rank)
    carriers = fitter.carriers(factors)
    # An even part of the power of two that the kernel was scaled by; the whole exponent's root would lose digits.
    whole, left_over = divmod(math.frexp(fitter.scale)[1] - 1, len(carriers))
    share = math.ldexp(2.0 ** (left_over / len(carriers)), whole)
    stored: Factors = {}
    for name in list(factors):
        factor = factors.pop(name)
        if name in carriers:
            factor *= share
        with np.errstate(over="ignore"):
            stored[name] = np.array(factor, scheme.layer.dtype, order="C")
        del factor
        if not np.isfinite(stored[name]).all():
            raise KernelError(
                f"factor {name!r} overflows {scheme.layer.dtype}; convert the kernel to a wider type first"
            )
    found = Factorization(
        scheme.name,
        scheme.layer,
        rank[0] if len(rank) == 1 else rank,
        stored,
        relative_error(scheme, stored),
        scheme,
    )
    return found if moments is None else _with_responses(found, moments)


def _with_responses(found: Factorization, moments: Moments) -> Factorization:
    """Correct the bias, and measure the responses with what is stored."""
    kernel = found.kernel.reshape(*found.scheme.block_shape[:2], -1).astype(np.float64)
    with np.errstate(over="ignore"):
        bias = moments.best_bias(kernel).astype(found.layer.dtype)
    if not np.isfinite(bias).all():
        raise KernelError(f"the corrected bias overflows {bias.dtype}; convert the kernel to a wider type first")
    error = moments.response_error(kernel, bias.astype(np.float64))
    return replace(found, bias=bias.reshape(-1), response_error=error)
