"""factorize: any method by name, or the best of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tensorconv.cost import Chain
from tensorconv.errors import RankError
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.registry import methods, registered
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape
from tensorconv.factorizations.solve import Request, solve
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.text import aligned_table

EXACT = 1e-14  # an error this small is rounding


@dataclass(frozen=True)
class Trial:
    """One line of the table of what "best" tried.

    Parameters
    ----------
    method : str
        Name of the method.
    options : str
        The variant.
    rank : int, tuple of int or None
        The rank found; None where there was none.
    relative_error : float or None
        The true error there.
    cost : float or None
        Share of the dense layer's cost.
    note : str
        Why it was not taken further, or "chosen".
    response_error : float or None
        Relative error of the responses, where statistics were given.
    """

    method: str
    options: str
    rank: int | Rank | None
    relative_error: float | None
    cost: float | None
    note: str = ""
    response_error: float | None = None


class Trials(tuple[Trial, ...]):
    """A tuple of trials that prints as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        has_responses = any(t.response_error is not None for t in self)
        rows = [("method", "options", "rank", "error", *["response error"] * has_responses, "cost", "note")]
        for t in self:
            errors = [
                "" if e is None else f"{e:.3g}" for e in (t.relative_error, t.response_error)[: 1 + has_responses]
            ]
            cost = "" if t.cost is None else f"{t.cost:.1%}"
            rows.append((t.method, t.options, "" if t.rank is None else str(t.rank), *errors, cost, t.note))
        return aligned_table(rows)


@dataclass(frozen=True)
class Dense(Scheme):
    """The layer as it is: one factor "kernel" (G, O/G, I, K..).

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    """

    name: ClassVar[str] = "dense"

    @property
    def maximum(self) -> Rank:
        """It has no rank."""
        return ()

    @property
    def maximum_rules(self) -> tuple[str, ...]:
        """It has no rank."""
        return ()

    def chain(self, rank: Rank) -> Chain:
        """The layer."""
        del rank
        return self.layer.chain

    @property
    def layer_factors(self) -> list[str]:
        """The kernel."""
        return ["kernel"]

    def factor_shapes(self, rank: Rank) -> dict[str, Shape]:
        """The blocks."""
        del rank
        return {"kernel": self.block_shape}

    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """The kernel."""
        return factors["kernel"][:, rows]

    def fitter(self) -> Fitter[Any]:
        """Nothing is to be fitted."""
        raise RankError('method "dense" has no rank to choose; take the layer itself')


def factorize(
    layer: Any,
    method: str = "best",
    *,
    rank: Any = None,
    error: float | None = None,
    budget: float | None = None,
    of: str = "macs",
    input_size: Sequence[int] | None = None,
    rng: Any = 0,
    statistics: Any = None,
    **options: Any,
) -> Factorization:
    """Factorize a layer by a named method, or by the best of all.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    method : str
        A name in :func:`tensorconv.methods`, or "best": the cheapest that meets ``error`` (the layer itself, method
        "dense", where nothing cheaper does), or the most exact that meets ``budget``.
    rank : int, tuple of int or rule, optional
        Rank for a named method; methods count ranks differently, so "best" takes none.
    error : float, optional
        Largest relative Frobenius error.
    budget : float, optional
        Largest share of the dense cost.
    of : {"macs", "parameters", "bytes"}
        The cost.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    rng : int or numpy.random.Generator
        Seed for methods with random starts.
    statistics : PatchStatistics, optional
        Of data whose responses are to be kept, not the kernel: ``error`` is theirs then, and the bias is corrected.
    **options
        Options of the named method, such as ``split`` or ``spatial``.

    Returns
    -------
    Factorization
        The result; ``f.tried`` is the table of what was compared.

    Raises
    ------
    RankError
        If the method is unknown, or the request is out of range or cannot be met.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> kernel = np.random.default_rng(0).standard_normal((16, 1, 3, 3)) * np.ones((1, 12, 1, 1))
    >>> tc.factorize(kernel, error=0.01).method
    'svd'
    """
    target = as_layer(layer)
    if method != "best":
        known = methods()
        if not isinstance(method, str) or method not in known:
            raise RankError(f'method must be "best" or one of {", ".join(known)}, got {method!r}')
        if registered()[method].seeded:
            options["rng"] = rng
        if statistics is not None:
            _check_takes_statistics(method)
            options["statistics"] = statistics
        return known[method](  # type: ignore[no-any-return]
            target, rank, error=error, budget=budget, of=of, input_size=input_size, **options
        )
    if rank is not None or options:
        given = "rank" if rank is not None else ", ".join(options)
        raise RankError(f'"best" compares methods, which differ in {given}; name a method, or give error= or budget=')
    return _best(target, Request(None, error, budget, of, input_size, statistics=statistics), rng)


def _check_takes_statistics(method: str) -> None:
    able = [name for name, known in registered().items() if known.takes_statistics]
    if method not in able:
        raise RankError(f"method {method!r} takes no statistics; take one of {', '.join(able)}")


def _best(layer: ConvLayer, request: Request, rng: Any) -> Factorization:
    dense = request.cost(layer, layer.chain)
    if not dense:
        raise RankError(f"the layer costs no {request.of} as it is ({layer}); there is nothing to save")
    ceiling = dense  # what costs as much as the layer itself is of no use
    best: tuple[tuple[Any, ...], Factorization] | None = None
    trials: list[Trial] = []
    chosen = -1
    methods_compared = {name: method for name, method in registered().items() if method.compared}
    for name, method in methods_compared.items():
        for options in method.variants(layer) if request.statistics is None or method.takes_statistics else []:
            seeded = {"rng": rng} if method.seeded else {}
            shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
            narrowed = replace(request, ceiling=ceiling) if request.error is not None else request
            try:
                found = solve(method.scheme(layer, **options, **seeded), narrowed)
            except RankError as missed:
                note = str(missed).split(";")[0]
                trials.append(
                    Trial(name, shown, None, None, None, f"at no lower cost: {note}" if request.error else note)
                )
                continue
            cost = request.cost(layer, found.sequence.chain)
            share, responses = float(cost / dense), found.response_error
            trials.append(Trial(name, shown, found.rank, found.relative_error, share, response_error=responses))
            key: tuple[Any, ...] = (cost, found.error)
            if request.budget is not None:
                key = (found.error, cost)
            useful = cost < dense or request.budget is not None
            if useful and (best is None or key < best[0]):
                best, chosen = (key, found), len(trials) - 1
                ceiling = min(ceiling, cost)
    if request.budget is not None and request.budget >= 1:
        found = _dense(layer, request)
        trials.append(Trial("dense", "", None, 0.0, 1.0, response_error=found.response_error))
        if best is None or found.error <= max(best[1].error, EXACT):
            best, chosen = ((found.error, dense), found), len(trials) - 1
    if best is None and request.error is None:
        raise RankError(f"budget={request.budget:g} of {request.of} cannot be met by any method:\n{Trials(trials)}")
    if best is None:
        result = _dense(layer, request)
        note = "chosen: nothing cheaper meets the error"
        trials.append(Trial("dense", "", None, 0.0, 1.0, note, result.response_error))
    else:
        result = best[1]
        trials[chosen] = replace(trials[chosen], note="chosen")
    return replace(result, tried=Trials(trials))


def _dense(layer: ConvLayer, request: Request) -> Factorization:
    scheme, responses = Dense(layer), None
    factors = {"kernel": layer.kernel.reshape(scheme.block_shape)}
    if request.statistics is not None:
        moments = request.statistics.moments(layer)
        bias = np.zeros(layer.out_channels) if layer.bias is None else layer.bias.astype(np.float64)
        responses = moments.response_error(moments.kernel, bias.reshape(len(moments.kernel), -1))
    return Factorization("dense", layer, (), factors, 0.0, scheme, responses)
