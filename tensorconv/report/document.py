"""What a report page shows, in plain values: this room knows no network, whoever has one fills this in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Row = tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A number of the headline.

    Parameters
    ----------
    title : str
        What it is of.
    value : str
        The number, with what it means.
    detail : str
        Where it comes from.
    """

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Point:
    """A factorization that was looked at for a layer.

    Parameters
    ----------
    method : str
        Name of the method.
    text : str
        Options and rank.
    macs : int
        Multiply-accumulates per image.
    error : float
        Relative error.
    time : float or None
        Time over that of the layer as it is; None where nobody measured it.
    chosen : bool
        Whether the plan took it.
    """

    method: str
    text: str
    macs: int
    error: float
    time: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class LayerEntry:
    """One convolution.

    Parameters
    ----------
    name : str
        Its name in the network.
    layer : str
        The convolution in words.
    becomes : str
        What takes its place; empty where it is left alone.
    rank : str
        The rank.
    note : str
        Why it is left alone.
    error : float or None
        Relative error; None where it is left alone.
    macs, n_parameters : (int, int)
        Before and after.
    time : (float, float, float) or None
        Time after over before, with its 95 % interval.
    facts : tuple of (str, str)
        More to say, each with its name.
    points : tuple of Point
        What was looked at.
    spectra : mapping of str to tuple of (int, float)
        Name of an unfolding to numbers and sizes of its singular values, the largest 1.
    proof : tuple of (str, str, str)
        Check, result and meaning.
    chain : tuple of tuple of str
        The convolutions in its place: number, channels, kernel, geometry, parameters.
    """

    name: str
    layer: str
    becomes: str
    rank: str
    note: str
    error: float | None
    macs: tuple[int, int]
    n_parameters: tuple[int, int]
    time: tuple[float, float, float] | None = None
    facts: tuple[tuple[str, str], ...] = ()
    points: tuple[Point, ...] = ()
    spectra: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    proof: tuple[tuple[str, str, str], ...] = ()
    chain: tuple[Row, ...] = ()


@dataclass(frozen=True)
class TradeOff:
    """The least error that budgets allow.

    Parameters
    ----------
    cost : str
        What the budget counts, in words.
    error : str
        What the error is, in words.
    points : tuple of (float, float)
        Share of the cost, and error.
    chosen : (float, float)
        The plan.
    note : str
        More to say.
    """

    cost: str
    error: str
    points: tuple[tuple[float, float], ...]
    chosen: tuple[float, float]
    note: str = ""


@dataclass(frozen=True)
class Document:
    """All that a report page shows.

    Parameters
    ----------
    title : str
        The headline.
    summary : str
        What was done, in a sentence or two.
    figures : tuple of Figure
        The numbers of the headline.
    missed : tuple of str
        Limits that are not met.
    changes : tuple of (str, str, str, str)
        Quantity, before, after, change.
    layers : tuple of LayerEntry
        The convolutions.
    trade_off : TradeOff or None
        None where the plan does not say what was looked at.
    skipped : tuple of (str, str)
        Convolutions that cannot be replaced, with reasons.
    settings : tuple of (str, str)
        What was asked.
    version : str
        Of the package.
    """

    title: str
    summary: str
    figures: tuple[Figure, ...]
    missed: tuple[str, ...]
    changes: tuple[Row, ...]
    layers: tuple[LayerEntry, ...]
    trade_off: TradeOff | None
    skipped: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    version: str
