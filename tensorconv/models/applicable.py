"""Which methods are worth trying on a convolution."""

from __future__ import annotations

import math
from typing import Any

from tensorconv.errors import ModelError
from tensorconv.factorizations import registered
from tensorconv.layers import ConvLayer
from tensorconv.models.network import Site
from tensorconv.models.settings import Settings

LARGE = {False: 500_000, True: 250_000}  # entries of a kernel above which fits, without data and with, are dear
SEARCHED = 1_000_000  # entries of a kernel above which a search for ranks by fits is too dear
FEW_SHARES = 3
DIRECT = ("svd", "tucker")  # methods that decompose a whitened kernel once, and need few steps from there


def is_large(layer: ConvLayer, *, has_statistics: bool) -> bool:
    """Tell whether fits of a layer take so long that few are tried.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    has_statistics : bool
        Whether fits are to data.

    Returns
    -------
    bool
        Whether its kernel has more than half a million entries, with data a quarter of a million.
    """
    return layer.kernel.size > LARGE[has_statistics]


def shares_to_try(site: Site, settings: Settings, *, has_statistics: bool) -> tuple[float, ...]:
    """Return the shares of its cost at which a layer is looked at.

    Parameters
    ----------
    site : Site
        The layer.
    settings : Settings
        All shares.
    has_statistics : bool
        Whether fits are to data.

    Returns
    -------
    tuple of float
        All of them; of a large layer three, those in the middle of three equal parts.
    """
    shares = tuple(sorted(settings.shares))
    if len(shares) <= FEW_SHARES or not is_large(site.layer, has_statistics=has_statistics):
        return shares
    return tuple(shares[len(shares) * (2 * i + 1) // (2 * FEW_SHARES)] for i in range(FEW_SHARES))


def applicable(site: Site, settings: Settings, *, has_statistics: bool) -> list[str]:
    """Return the methods that can differ from one another on a layer.

    Parameters
    ----------
    site : Site
        The layer.
    settings : Settings
        The methods to choose from.
    has_statistics : bool
        Whether fits are to data.

    Returns
    -------
    list of str
        Names of methods.

    Raises
    ------
    ModelError
        If a method does not exist, or does not take data.
    """
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
    if math.prod(site.layer.kernel_size) > 1:
        return names
    return [name for name in names if name == "svd"] or ([] if site.linear else names)  # a matrix: no other is cheaper


def is_worth_trying(
    site: Site, settings: Settings, method: str, options: dict[str, Any], *, has_statistics: bool
) -> bool:
    """Tell whether one variant of a method is worth its time on a layer.

    Parameters
    ----------
    site : Site
        The layer.
    settings : Settings
        The methods that were named, all of which are.
    method : str
        Name of the method.
    options : dict
        The variant's options.
    has_statistics : bool
        Whether fits are to data.

    Returns
    -------
    bool
        True where methods are named. Else not: factors of up to three taps, which save next to nothing; searches on
        very large kernels; and on kernels that are large for fits to data, all but one variant of what decomposes
        the kernel directly.
    """
    layer = site.layer
    if settings.methods is not None:
        return True
    if options.get("spatial") and max(layer.kernel_size) <= 3:
        return False
    if not has_statistics:
        return layer.kernel.size <= SEARCHED or not registered()[method].searches
    is_one_of_few = method in DIRECT and options.get("split") in (None, "out", "in", (0,))
    return is_one_of_few or not is_large(layer, has_statistics=True)
