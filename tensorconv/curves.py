"""Error curves: what a layer loses at what cost, by every method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tensorconv.allocation import Option
from tensorconv.errors import RankError
from tensorconv.factorizations import Factorization, Request, affordable, registered
from tensorconv.integers import is_integer
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.statistics import PatchStatistics

SHARES = (0.04, 0.055, 0.075, 0.1, 0.14, 0.19, 0.25, 0.32, 0.4, 0.5, 0.6, 0.75)
Curve = tuple[Option, ...]


def error_curve(
    layer: Any,
    statistics: PatchStatistics | None = None,
    *,
    input_size: Sequence[int] | None = None,
    of: str = "macs",
    methods: Iterable[str] | None = None,
    shares: Sequence[float] = SHARES,
    multiple: int = 1,
    rng: Any = 0,
) -> Curve:
    """Return what a layer loses at what cost: every method at several shares of the dense cost.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    statistics : PatchStatistics, optional
        Of its inputs, for the error of the responses; the kernel's error if not given.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    of : {"macs", "parameters", "bytes"}
        The cost.
    methods : iterable of str, optional
        Names of methods, with statistics only of those that take them; all that "best" compares if not given.
    shares : sequence of float
        Shares of the dense cost, above 0; of one that not even rank 1 meets there is nothing.
    multiple : int
        Ranks are rounded so that the channels between layers are multiples of this, where the layer is large enough:
        8, 16 or 32 is what hardware works on at a time.
    rng : int or numpy.random.Generator
        Seed for methods with random starts.

    Returns
    -------
    tuple of Option
        First the layer as it is, of error 0 and label None; then factorizations (their labels) by rising cost, with
        their squared errors.

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
    request = Request(budget=1.0, of=of, input_size=input_size, statistics=statistics)
    options = [
        Option(request.cost(one, found.scheme.chain(found.ranks)), found.error**2, found)
        for _, _, found in trials(one, request, methods=methods, shares=shares, multiple=multiple, rng=rng)
    ]
    options.sort(key=lambda option: (option.cost, option.error))
    return (Option(request.cost(one, one.chain), 0.0), *options)


def trials(
    layer: ConvLayer,
    request: Request,
    *,
    methods: Iterable[str] | None,
    shares: Sequence[float],
    multiple: int,
    rng: Any,
    quick: bool = False,
    wanted: Callable[[str, dict[str, Any]], bool] = lambda *_: True,
) -> Iterator[tuple[str, dict[str, Any], Factorization]]:
    """Yield what every variant of every method finds at several shares of the dense cost.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    request : Request
        A request for a budget: what the cost is, and the statistics.
    methods : iterable of str or None
        Names of methods, or None for all that "best" compares.
    shares : sequence of float
        Shares of the dense cost.
    multiple : int
        What the channels between layers shall be multiples of.
    rng : int or numpy.random.Generator
        Seed for methods with random starts.
    quick : bool
        Whether fits that iterate may stop early.
    wanted : callable
        Tells of a method and a variant's options whether it is to be tried.

    Yields
    ------
    str
        The method.
    dict
        The variant's options.
    Factorization
        What was found.

    Raises
    ------
    RankError
        As :func:`error_curve`.
    """
    statistics = request.statistics
    able = {name: method for name, method in registered().items() if statistics is None or method.takes_statistics}
    names = [name for name, method in able.items() if method.compared] if methods is None else list(methods)
    for name in names:
        if name not in able:
            which = "" if statistics is None else ", which take statistics"
            raise RankError(f"methods must be of {', '.join(able)}{which}, got {name!r}")
    if not is_integer(multiple) or multiple < 1:
        raise RankError(f"multiple must be an integer of at least 1, such as 16, got {multiple!r}")
    if not all(0 < share < math.inf for share in shares):
        raise RankError(f"shares must be numbers above 0, such as 0.1 for 10 % of the cost, got {shares}")
    for name in names:
        for variant in able[name].variants(layer):
            if not wanted(name, variant):
                continue
            scheme = able[name].scheme(layer, **variant, **({"rng": rng} if able[name].seeded else {}))
            for found in affordable(scheme, request, shares, multiple=multiple, quick=quick):
                yield name, variant, found
