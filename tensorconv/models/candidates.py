"""Candidates: what could stand in place of one convolution of a network, at what cost and error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tensorconv.cost import Chain, chain_cost
from tensorconv.curves import trials
from tensorconv.errors import ModelError, RankError
from tensorconv.factorizations import Factorization, Request, registered, solve
from tensorconv.factorizations.scheme import Scheme
from tensorconv.layers import ConvLayer, ConvSequence
from tensorconv.models.applicable import applicable, is_worth_trying, shares_to_try
from tensorconv.models.network import Site
from tensorconv.models.settings import Settings
from tensorconv.statistics import PatchStatistics


@dataclass(frozen=True)
class Candidate:
    """A factorization at a rank, in plain values.

    Parameters
    ----------
    method : str
        Name of the method.
    options : tuple of (str, object)
        The variant's options.
    rank : int or tuple of int
        The rank.
    macs : int
        Multiply-accumulates per image, of all uses together.
    n_parameters : int
        Stored entries.
    n_bytes : int
        Bytes moved per image.
    error : float
        Relative error of the responses, or of the kernel where there were no data.
    ratio : tuple of float, optional
        Measured time over that of the layer as it is: median and 95 % interval.
    """

    method: str
    options: tuple[tuple[str, Any], ...]
    rank: int | tuple[int, ...]
    macs: int
    n_parameters: int
    n_bytes: int
    error: float
    ratio: tuple[float, float, float] | None = None

    def scheme(self, layer: ConvLayer, seed: int) -> Scheme:
        """Return how it writes a layer.

        Parameters
        ----------
        layer : ConvLayer
            The layer.
        seed : int
            Seed of a method with random starts.

        Returns
        -------
        Scheme
            The method, bound to the layer.

        Raises
        ------
        ModelError
            If there is no such method, or it does not have these options.
        """
        method = registered().get(self.method)
        if method is None:
            raise ModelError(f"method must be one of {', '.join(registered())}, got {self.method!r}")
        try:
            scheme: Scheme = method.scheme(layer, **dict(self.options), **({"rng": seed} if method.seeded else {}))
        except TypeError as error:
            raise ModelError(f"method {self.method} does not take {dict(self.options)}: {error}") from error
        return scheme

    def fitted(self, layer: ConvLayer, seed: int, statistics: PatchStatistics | None = None) -> Factorization:
        """Return the factorization.

        Parameters
        ----------
        layer : ConvLayer
            What is factorized.
        seed : int
            Seed of a method with random starts.
        statistics : PatchStatistics, optional
            Of data whose responses are to be kept, by methods that can.

        Returns
        -------
        Factorization
            At this rank.

        Raises
        ------
        ModelError
            If method or rank do not fit the layer.
        """
        scheme = self.scheme(layer, seed)
        if not registered()[self.method].takes_statistics:  # planned without data, carried out with them
            statistics = None
        try:
            return solve(scheme, Request(rank=self.rank, statistics=statistics))
        except RankError as error:
            raise ModelError(f"{layer} cannot be written by {self.method} as planned: {error}") from error

    def sequence(self, layer: ConvLayer, seed: int) -> ConvSequence:
        """Return convolutions of the shapes that it has, with normal kernels: what is timed.

        Parameters
        ----------
        layer : ConvLayer
            What is replaced.
        seed : int
            Seed of the kernels.

        Returns
        -------
        ConvSequence
            The convolutions, the last with a bias.
        """
        scheme, rng = self.scheme(layer, seed), np.random.default_rng(seed)
        rank = self.rank if isinstance(self.rank, tuple) else (self.rank,)
        steps = [ConvLayer(rng.standard_normal(step[0]).astype(layer.dtype), step[1]) for step in scheme.chain(rank)]
        steps[-1] = replace(steps[-1], bias=np.zeros(layer.out_channels, layer.dtype))
        return ConvSequence(tuple(steps))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Returns
        -------
        dict
            Field name to value.
        """
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Candidate:
        """Return the candidate that was kept.

        Parameters
        ----------
        values : dict
            Field name to value, lists for tuples.

        Returns
        -------
        Candidate
            The same.

        Raises
        ------
        ModelError
            If the values are not those of a candidate.
        """
        try:
            found = cls(**{name: _frozen(value) for name, value in values.items() if name != "options"}, options=())
            found = replace(found, options=tuple((name, _frozen(value)) for name, value in values["options"].items()))
            rank = found.rank if isinstance(found.rank, tuple) else (found.rank,)
            ratio = (0, 0, 0) if found.ratio is None else found.ratio
            numbers = (*rank, found.macs, found.n_parameters, found.n_bytes, found.error, *ratio)
        except (TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"a candidate of the plan cannot be read: {error}") from error
        good = len(numbers) == len(rank) + 7 and all(isinstance(n, (int, float)) and 0 <= n < math.inf for n in numbers)
        if not good or not isinstance(found.method, str):
            raise ModelError(f"a candidate of the plan cannot be read: its values are not those of one: {values}")
        return found


def dense(site: Site) -> Candidate:
    """Return a layer as it is.

    Parameters
    ----------
    site : Site
        The layer.

    Returns
    -------
    Candidate
        Of method "dense", rank () and error 0.
    """
    n_bias = 0 if site.layer.bias is None else site.layer.out_channels
    return Candidate("dense", (), (), *_costs(site, site.layer.chain, n_bias), 0.0, (1.0, 1.0, 1.0))


def candidates(
    site: Site, settings: Settings, statistics: PatchStatistics | None = None
) -> list[tuple[Candidate, Factorization]]:
    """Return what is worth choosing for a layer.

    Parameters
    ----------
    site : Site
        The layer.
    settings : Settings
        Methods, shares, what the channels are multiples of, and the cost.
    statistics : PatchStatistics, optional
        Of the layer's inputs.

    Returns
    -------
    list of (Candidate, Factorization)
        By rising cost, each with the least error of its kind so far, and none as dear as the layer; the layer as it
        is is not among them.
    """
    of = "macs" if settings.of == "latency" else settings.of
    request = Request(budget=1.0, of=of, input_size=site.input_sizes[0], statistics=statistics)
    whole = dense(site)
    found = []
    with_data = statistics is not None
    for method, options, one in trials(
        site.layer,
        request,
        methods=applicable(site, settings, has_statistics=with_data),
        shares=shares_to_try(site, settings, has_statistics=with_data),
        multiple=settings.multiple,
        rng=settings.seed,
        quick=True,
        wanted=lambda name, options: is_worth_trying(site, settings, name, options, has_statistics=with_data),
    ):
        costs = _costs(site, one.scheme.chain(one.ranks), 0 if one.bias is None else site.layer.out_channels)
        found.append((Candidate(method, tuple(options.items()), one.rank, *costs, one.error), one))
    worth = [pair for pair in found if pair[0].error < 1 and cost(pair[0], of) < cost(whole, of)]
    return list(_worth_choosing(worth, of))


def cost(candidate: Candidate, of: str) -> int:
    """Return one of the costs of a candidate.

    Parameters
    ----------
    candidate : Candidate
        The candidate.
    of : {"macs", "parameters", "bytes"}
        Which.

    Returns
    -------
    int
        The cost.

    Raises
    ------
    ModelError
        If there is no such cost.
    """
    costs = {"macs": candidate.macs, "parameters": candidate.n_parameters, "bytes": candidate.n_bytes}
    if of not in costs:
        raise ModelError(f"of must be one of {', '.join(map(repr, costs))}, got {of!r}")
    return costs[of]


def _worth_choosing(
    found: Iterable[tuple[Candidate, Factorization]], of: str
) -> Iterator[tuple[Candidate, Factorization]]:
    """Yield what no cheaper one of its kind is better than; several kinds, since one may turn out not to be faster."""
    least: dict[tuple[Any, ...], float] = {}
    for one, factorization in sorted(found, key=lambda pair: (cost(pair[0], of), pair[0].error)):
        kind = (one.method, one.options)
        if one.error < least.get(kind, math.inf):
            least[kind] = one.error
            yield one, factorization


def _costs(site: Site, chain: Chain, n_bias: int) -> tuple[int, int, int]:
    """Return MACs, parameters and bytes of a chain in place of a layer, at every use."""

    def one(of: str, size: tuple[int, ...]) -> Fraction:
        return chain_cost(chain, of, size, n_bias=n_bias, itemsize=site.layer.dtype.itemsize)

    macs, n_bytes = (int(sum(one(of, size) for size in site.input_sizes)) for of in ("macs", "bytes"))
    return macs, int(one("parameters", site.input_sizes[0])), n_bytes


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value
