"""The registry of factorization methods: a method is a public function and the variants that "best" compares."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from tensorconv.errors import RankError
from tensorconv.layers import ConvLayer

Function = TypeVar("Function", bound=Callable[..., Any])
Variants = Callable[[ConvLayer], list[dict[str, Any]]]


@dataclass(frozen=True)
class Method:
    """A registered method.

    Parameters
    ----------
    function : callable
        The public function: ``function(layer, rank, error=..., budget=..., ...)``.
    variants : callable
        From a layer, the options that are worth comparing on it.
    scheme : callable
        From a layer and one variant's options, the scheme.
    searches : bool
        Whether it finds ranks by fitting them, so that "best" tries it last, when others have narrowed the range.
    seeded : bool
        Whether it takes ``rng``.
    compared : bool
        Whether "best" compares it: not where its costs are not those of dense convolutions.
    """

    function: Callable[..., Any]
    variants: Variants
    scheme: Callable[..., Any]
    searches: bool = False
    seeded: bool = False
    compared: bool = True

    @property
    def takes_statistics(self) -> bool:
        """Whether it can fit responses to data."""
        return "statistics" in inspect.signature(self.function).parameters


_registry: dict[str, Method] = {}


def register(
    variants: Variants,
    scheme: Callable[..., Any],
    *,
    searches: bool = False,
    seeded: bool = False,
    compared: bool = True,
) -> Callable[[Function], Function]:
    """Register the decorated function under its own name.

    Parameters
    ----------
    variants : callable
        From a layer, a list of options (dictionaries) that are worth comparing on it.
    scheme : callable
        From a layer and the options, the scheme that the function solves.
    searches : bool
        Whether ranks are found by fitting them.
    seeded : bool
        Whether the function and the scheme take ``rng``.
    compared : bool
        Whether "best" compares it.

    Returns
    -------
    callable
        A decorator that returns the function unchanged.

    Raises
    ------
    RankError
        If the name is taken.
    """

    def add(function: Function) -> Function:
        if function.__name__ in _registry:
            raise RankError(f"method {function.__name__!r} is registered already; choose another name")
        _registry[function.__name__] = Method(function, variants, scheme, searches, seeded, compared)
        return function

    return add


def methods() -> MappingProxyType[str, Callable[..., Any]]:
    """Return the registered methods.

    Returns
    -------
    mapping of str to callable
        Name to public function, those that search last.

    Examples
    --------
    >>> list(methods())
    ['depthwise_separable', 'svd', 'tensor_train', 'tucker', 'cp', 'decoupled']
    """
    return MappingProxyType({name: method.function for name, method in registered().items()})


def registered() -> MappingProxyType[str, Method]:
    """Return the registry itself.

    Returns
    -------
    mapping of str to Method
        Name to method, read-only, those that search last.
    """
    return MappingProxyType(dict(sorted(_registry.items(), key=lambda item: (item[1].searches, item[0]))))
