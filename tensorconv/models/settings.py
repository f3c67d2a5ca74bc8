"""Settings: what is asked of a compression of a whole network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

from tensorconv.errors import ModelError
from tensorconv.integers import is_integer
from tensorconv.models.network import Site

MEASURES = ("macs", "parameters", "bytes", "latency")
SHARES = (0.06, 0.09, 0.13, 0.18, 0.25, 0.35, 0.5)


@dataclass(frozen=True)
class Settings:
    """What is asked of a compression; plain values, so that a plan can keep them.

    Parameters
    ----------
    budget : float, optional
        Largest share of the cost of all convolutions together, those that are left alone included.
    error : float, optional
        Largest relative error of every layer that is replaced: of its responses with data, else of its kernel.
    of : {"macs", "parameters", "bytes", "latency"}
        The cost. Latency is measured by ONNX Runtime.
    methods : sequence of str, optional
        Names of the methods to choose from; all that apply if not given.
    include, exclude : sequence of str
        Patterns such as "block4.*" of the names of layers: those to look at, and those to leave alone.
    shares : sequence of float
        Shares of a layer's cost to choose from.
    multiple : int
        Channels between the new layers are rounded to multiples of this.
    faster : bool
        Whether a layer is left alone if what would replace it is not measured to be faster.
    efficiency : float
        With a budget of MACs: speed-up of the convolutions, measured layer by layer, times the budget, that a choice
        should have where one does; 0 for no such aim.
    by : {"kernel", "responses", "score"}, optional
        What tells how much a layer's error matters: nothing does, its effect on the network's outputs, or on the
        evaluation. By default the outputs where there are data, else nothing.
    ends : float
        How many times the error of the first and the last convolution counts where nothing tells how much it matters.
    batch : int
        Number of images that latency is measured for.
    input_size : int or tuple of int, optional
        Spatial size of the network's inputs where it leaves that open.
    linear : bool
        Whether fully connected layers are looked at.
    seed : int
        Seed for methods with random starts.

    Raises
    ------
    ModelError
        If not exactly one of budget and error is given, or a value is out of range.
    """

    budget: float | None = None
    error: float | None = None
    of: str = "macs"
    methods: Sequence[str] | None = None
    include: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()
    shares: Sequence[float] = SHARES
    multiple: int = 16
    faster: bool = True
    efficiency: float = 0.7
    by: str | None = None
    ends: float = 4.0
    batch: int = 1
    input_size: int | Sequence[int] | None = None
    linear: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("methods", "include", "exclude", "shares"):
            object.__setattr__(self, name, _listed(name, getattr(self, name)))
        if self.input_size is not None:
            object.__setattr__(self, "input_size", _size(self.input_size))
        if (self.budget is None) == (self.error is None):
            raise ModelError("exactly one of budget and error must be given, such as budget=0.5 for half of the cost")
        if self.budget is not None:
            object.__setattr__(self, "budget", _number("budget", self.budget, above=True))
        if self.error is not None:
            object.__setattr__(self, "error", _number("error", self.error))
        for name in ("ends", "efficiency"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        object.__setattr__(self, "shares", tuple(_number("shares", share, above=True) for share in self.shares))
        for name, of in (("of", MEASURES), ("by", (None, "kernel", "responses", "score"))):
            if getattr(self, name) not in of:
                choices = ", ".join(repr(one) for one in of if one)
                raise ModelError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        for name, least in (("multiple", 1), ("batch", 1), ("seed", 0)):
            if not is_integer(getattr(self, name)) or getattr(self, name) < least:
                raise ModelError(f"{name} must be an integer of at least {least}, got {getattr(self, name)!r}")
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("faster", "linear"):
            if not isinstance(getattr(self, name), bool):
                raise ModelError(f"{name} must be True or False, got {getattr(self, name)!r}")

    def wants(self, site: Site) -> bool:
        """Tell whether a layer is to be looked at.

        Parameters
        ----------
        site : Site
            A layer of a network.

        Returns
        -------
        bool
            Whether its name matches a pattern of ``include`` and none of ``exclude``.
        """
        return _matches(site.name, self.include) and not _matches(site.name, self.exclude)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON.

        Returns
        -------
        dict
            Field name to value.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Return the settings that were kept.

        Parameters
        ----------
        values : dict
            Field name to value.

        Returns
        -------
        Settings
            Checked.

        Raises
        ------
        ModelError
            If a name is unknown, or a value is out of range.
        """
        names = {field.name for field in fields(cls)}
        for name in values:
            if name not in names:
                raise ModelError(f"settings must be of {', '.join(sorted(names))}, got {name!r}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"settings cannot be read: {error}") from error


def _size(value: Any) -> int | tuple[int, ...]:
    """Return a checked spatial size, one integer or several."""
    entries = [value] if is_integer(value) else value
    if (
        not isinstance(entries, (list, tuple))
        or not len(entries)
        or not all(is_integer(one) and one >= 1 for one in entries)
    ):
        raise ModelError(f"input_size must be an integer from 1, or one per spatial axis, got {value!r}")
    return int(value) if is_integer(value) else tuple(int(one) for one in entries)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _listed(name: str, value: Any) -> tuple[Any, ...] | None:
    """Return the entries of a list, checked; None where all methods are meant."""
    if value is None and name == "methods":
        return None
    if isinstance(value, str):
        raise ModelError(f"{name} must be a list, got the text {value!r}; write [{value!r}]")
    if not isinstance(value, Iterable):
        raise ModelError(f"{name} must be a list, got {value!r}; write [{value!r}]")
    entries = tuple(value)
    if not entries and name in ("methods", "shares"):
        raise ModelError(f"{name} must hold at least one entry; leave it away for the default")
    for entry in entries:
        if name != "shares" and not isinstance(entry, str):
            raise ModelError(f"{name} must hold texts, got {entry!r}")
    return entries


def _number(name: str, value: Any, *, above: bool = False) -> float:
    """Return a checked number as one of Python, which files can keep."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not 0 <= float(value) < math.inf
        or (above and not value)
    ):
        raise ModelError(f"{name} must be a finite number {'above' if above else 'of at least'} 0, got {value!r}")
    return float(value)
