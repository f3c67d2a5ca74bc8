"""Error curves: what a layer's responses lose at what cost, by every method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tensorconv.allocation import Option
from tensorconv.errors import RankError
from tensorconv.factorizations import Request, affordable, registered
from tensorconv.layers import as_layer
from tensorconv.statistics import PatchStatistics

SHARES = (0.04, 0.055, 0.075, 0.1, 0.14, 0.19, 0.25, 0.32, 0.4, 0.5, 0.6, 0.75)
Curve = tuple[Option, ...]


def error_curve(
    layer: Any,
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
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    statistics : PatchStatistics
        Of its inputs.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    of : {"macs", "parameters", "bytes"}
        The cost.
    methods : iterable of str, optional
        Names of methods that take statistics; all of them if not given.
    shares : sequence of float
        Shares of the dense cost, above 0; of one that not even rank 1 meets there is nothing.
    rng : int or numpy.random.Generator
        Seed for methods with random starts.

    Returns
    -------
    tuple of Option
        First the layer as it is, of error 0 and label None; then factorizations (their labels) by rising cost, with
        their squared response errors.

    Raises
    ------
    RankError
        If a method does not exist or takes no statistics, or a share is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> rng = np.random.default_rng(0)
    >>> layer = tc.ConvLayer.of(rng.standard_normal((8, 8, 3)), padding=1)
    >>> statistics = tc.PatchStatistics(layer)
    >>> statistics.update(np.cumsum(rng.standard_normal((4, 8, 50)), axis=2))
    >>> for option in tc.error_curve(layer, statistics, of="parameters", methods=["svd"], shares=[0.3, 0.5]):
    ...     print(option.cost, f"{option.error:.3f}", option.label and option.label.rank)
    192 0.000 None
    40 0.273 1
    40 0.273 1
    72 0.125 2
    72 0.126 2
    """
    one = as_layer(layer)
    able = {name: method for name, method in registered().items() if method.takes_statistics}
    names = list(able) if methods is None else list(methods)
    for name in names:
        if name not in able:
            raise RankError(f"methods must be of {', '.join(able)}, which take statistics, got {name!r}")
    if not all(0 < share < math.inf for share in shares):
        raise RankError(f"shares must be numbers above 0, such as 0.1 for 10 % of the cost, got {shares}")
    request = Request(budget=1.0, of=of, input_size=input_size, statistics=statistics)
    options = []
    for name in names:
        for variant in able[name].variants(one):
            scheme = able[name].scheme(one, **variant, **({"rng": rng} if able[name].seeded else {}))
            options += [
                Option(request.cost(one, scheme.chain(found.ranks)), found.error**2, found)
                for found in affordable(scheme, request, shares)
            ]
    options.sort(key=lambda option: (option.cost, option.error))
    return (Option(request.cost(one, one.chain), 0.0), *options)
