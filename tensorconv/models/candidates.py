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
            Of data whose responses are to be kept.

        Returns
        -------
        Factorization
            At this rank.

        Raises
        ------
        ModelError
            If method or rank do not fit the layer.
        """
        try:
            return solve(self.scheme(layer, seed), Request(rank=self.rank, statistics=statistics))
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
            return replace(found, options=tuple((name, _frozen(value)) for name, value in values["options"].items()))
        except (TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"a candidate of the plan cannot be read: {error}") from error


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
    costs = _costs(site, site.layer.chain, n_bias)
    return Candidate("dense", (), (), *costs, 0.0, (1.0, 1.0, 1.0))


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
    names = _applicable(site, settings, statistics is not None)
    whole = dense(site)
    found = []
    for method, options, one in trials(
        site.layer,
        request,
        methods=names,
        shares=settings.shares,
        multiple=settings.multiple,
        rng=settings.seed,
        quick=True,
    ):
        costs = _costs(site, one.scheme.chain(one.ranks), 0 if one.bias is None else site.layer.out_channels)
        found.append((Candidate(method, tuple(options.items()), one.rank, *costs, one.error), one))
    return list(
        _worth_choosing((pair for pair in found if pair[0].error < 1 and cost(pair[0], of) < cost(whole, of)), of)
    )


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
    """
    return {"macs": candidate.macs, "parameters": candidate.n_parameters, "bytes": candidate.n_bytes}[of]


def _worth_choosing(
    found: Iterable[tuple[Candidate, Factorization]], of: str
) -> Iterator[tuple[Candidate, Factorization]]:
    """Yield what no cheaper candidate of the same kind is better than.

    Candidates of several kinds are kept at one cost, since one may turn out not to be faster.
    """
    least: dict[tuple[Any, ...], float] = {}
    for one, factorization in sorted(found, key=lambda pair: (cost(pair[0], of), pair[0].error)):
        kind = (one.method, one.options)
        if one.error < least.get(kind, math.inf):
            least[kind] = one.error
            yield one, factorization


def _applicable(site: Site, settings: Settings, has_statistics: bool) -> list[str]:
    """Return the methods that can differ from one another on a layer."""
    able = [
        name
        for name, method in registered().items()
        if method.compared and (method.takes_statistics or not has_statistics)
    ]
    names = able if settings.methods is None else list(settings.methods)
    for name in names:
        if name not in registered() or (has_statistics and not registered()[name].takes_statistics):
            which = ", which take data" if has_statistics else ""
            raise ModelError(f"methods must be of {', '.join(able)}{which}, got {name!r}")
    if site.linear:
        return [name for name in names if name == "svd"]
    if math.prod(site.layer.kernel_size) == 1:  # a matrix: all others are the same or dearer
        return [name for name in names if name == "svd"] or names
    return names


def _costs(site: Site, chain: Chain, n_bias: int) -> tuple[int, int, int]:
    """Return MACs, parameters and bytes of a chain in place of a layer, at every use."""

    def one(of: str, size: tuple[int, ...]) -> Fraction:
        return chain_cost(chain, of, size, n_bias=n_bias, itemsize=site.layer.dtype.itemsize)

    macs, n_bytes = (int(sum(one(of, size) for size in site.input_sizes)) for of in ("macs", "bytes"))
    return macs, int(one("parameters", site.input_sizes[0])), n_bytes


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value
