"""Error curves: what a layer's responses lose at what cost, by every method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tensorconv.allocation import Option
from tensorconv.errors import RankError
from tensorconv.factorizations import Request, affordable, registered
from tensorconv.layers import ConvLayer
from tensorconv.statistics import PatchStatistics

SHARES = (0.04, 0.055, 0.075, 0.1, 0.14, 0.19, 0.25, 0.32, 0.4, 0.5, 0.6, 0.75)
Curve = tuple[Option, ...]


def error_curve(
    layer: ConvLayer,
    statistics: PatchStatistics,
    *,
    input_size: Sequence[int] | None = None,
    of: str = "macs",
    methods: Iterable[str] | None = None,
    shares: Sequence[float] = SHARES,
    rng: Any = 0,
) -> Curve:
    """Return what a layer's responses lose at what cost: every method at several shares of the dense cost.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    statistics : PatchStatistics
        Of its inputs.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    of : {"macs", "parameters", "bytes"}
        The cost.
    methods : iterable of str, optional
        Names of methods that take statistics; all of them if not given.
    shares : sequence of float
        Shares of the dense cost, below 1.
    rng : int or numpy.random.Generator
        Seed for methods with random starts.

    Returns
    -------
    tuple of Option
        The layer as it is (label None), then factorizations (their labels), with squared response errors.

    Raises
    ------
    RankError
        If a method does not exist or takes no statistics.
    """
    able = {name: method for name, method in registered().items() if method.takes_statistics}
    names = list(able) if methods is None else list(methods)
    for name in names:
        if name not in able:
            raise RankError(f"methods must be of {', '.join(able)}, which take statistics, got {name!r}")
    plain = Request(budget=1.0, of=of, input_size=input_size, statistics=statistics)
    options = [Option(plain.cost(layer, layer.chain), 0.0)]
    for name in names:
        for variant in able[name].variants(layer):
            scheme = able[name].scheme(layer, **variant, **({"rng": rng} if able[name].seeded else {}))
            every = affordable(scheme, plain, shares)
            options += [Option(plain.cost(layer, found.sequence.chain), found.error**2, found) for found in every]
    return tuple(options)
