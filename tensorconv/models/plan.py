"""Plan: what every convolution of a network is to become, in plain values that a file can keep."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tensorconv.errors import FormatError, ModelError
from tensorconv.export.files import write_whole
from tensorconv.models.candidates import Candidate, cost
from tensorconv.models.found import SkippedLayer
from tensorconv.models.network import Site
from tensorconv.models.settings import Settings
from tensorconv.text import aligned_table

FORMAT = 1
COLUMNS = ("becomes", "rank", "error", "MACs", "parameters", "time")


@dataclass(frozen=True)
class PlannedLayer:
    """What one convolution is to become.

    Parameters
    ----------
    name : str
        Its name in the network.
    layer : str
        The convolution in words.
    before : Candidate
        The layer as it is.
    choice : Candidate or None
        What takes its place; None where it is left alone.
    note : str
        Why it is left alone.
    candidates : tuple of Candidate
        What was looked at, with the times that were measured; empty where nothing was, and in plans of before.
    weight : float
        How much its squared error counts.
    """

    name: str
    layer: str
    before: Candidate
    choice: Candidate | None
    note: str = ""
    candidates: tuple[Candidate, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What every convolution of a network is to become; prints as a table.

    Parameters
    ----------
    settings : Settings
        What was asked.
    network : str
        Fingerprint of the network's convolutions.
    layers : tuple of PlannedLayer
        The convolutions, in order.
    skipped : tuple of SkippedLayer
        Those that cannot be replaced, with reasons.
    """

    settings: Settings
    network: str
    layers: tuple[PlannedLayer, ...]
    skipped: tuple[SkippedLayer, ...] = ()

    def share(self, of: str = "macs") -> float:
        """Return the cost after over the cost before.

        Parameters
        ----------
        of : {"macs", "parameters", "bytes"}
            The cost.

        Returns
        -------
        float
            The share, all convolutions together.

        Raises
        ------
        ModelError
            If there is no such cost.
        """
        before = sum(cost(layer.before, of) for layer in self.layers)
        after = sum(cost(layer.choice or layer.before, of) for layer in self.layers)
        return after / before if before else 1.0

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("layer", "convolution", "becomes", "rank", "error", "MACs", "parameters", "time", "note")
        ]
        rows += [(layer.name, layer.layer, *_in_words(layer), layer.note) for layer in self.layers]
        lines = [aligned_table(rows)]
        lines += [f"{one.name}: left alone, {one.reason}" for one in self.skipped]
        lines.append(f"in all {self.share('macs'):.1%} of the MACs, {self.share('parameters'):.1%} of the parameters")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Returns
        -------
        dict
            The plan.
        """
        layers = [
            {
                "name": layer.name,
                "layer": layer.layer,
                "before": layer.before.to_dict(),
                "choice": layer.choice and layer.choice.to_dict(),
                "note": layer.note,
                "candidates": [one.to_dict() for one in layer.candidates],
                "weight": layer.weight,
            }
            for layer in self.layers
        ]
        return {
            "format": FORMAT,
            "settings": self.settings.to_dict(),
            "network": self.network,
            "layers": layers,
            "skipped": [asdict(one) for one in self.skipped],
        }

    @classmethod
    def from_dict(cls, values: Any) -> Plan:
        """Return the plan that was kept.

        Parameters
        ----------
        values : dict
            What :meth:`to_dict` returned.

        Returns
        -------
        Plan
            The same.

        Raises
        ------
        FormatError
            If it is something else.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise FormatError(f"a plan must be an object of format {FORMAT}; make it again by tensorconv plan")
        try:
            layers = [
                PlannedLayer(
                    str(one["name"]),
                    str(one["layer"]),
                    Candidate.from_dict(one["before"]),
                    None if one["choice"] is None else Candidate.from_dict(one["choice"]),
                    str(one["note"]),
                    tuple(Candidate.from_dict(looked_at) for looked_at in one.get("candidates", ())),
                    _weight(one.get("weight", 1.0)),
                )
                for one in values["layers"]
            ]
            skipped = tuple(SkippedLayer(str(one["name"]), str(one["reason"])) for one in values["skipped"])
            return cls(Settings.from_dict(values["settings"]), str(values["network"]), tuple(layers), skipped)
        except (KeyError, TypeError, ModelError) as error:
            raise FormatError(f"the plan cannot be read: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a JSON file, whole or not at all.

        Parameters
        ----------
        path : path-like
            Where to.
        """
        write_whole(path, (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan from a JSON file.

        Parameters
        ----------
        path : path-like
            What :meth:`save` wrote.

        Returns
        -------
        Plan
            The plan.

        Raises
        ------
        FormatError
            If the file is something else.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_bytes()))
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{os.fspath(path)} cannot be read as a plan: {error}") from error


def fingerprint(sites: Sequence[Site]) -> str:
    """Return what tells the convolutions of one network from those of another.

    Parameters
    ----------
    sites : sequence of Site
        The convolutions.

    Returns
    -------
    str
        A digest of names, geometries, kernels and biases.
    """
    digest = hashlib.sha256()
    for site in sites:
        layer = site.layer
        digest.update(
            f"{site.name}\0{layer.geometry}\0{layer.kernel.shape}\0{layer.dtype}\0{site.input_sizes}\0".encode()
        )
        digest.update(layer.kernel.tobytes())
        digest.update(b"" if layer.bias is None else layer.bias.tobytes())
    return digest.hexdigest()


def _in_words(layer: PlannedLayer) -> tuple[str, ...]:
    """Return what a convolution becomes, rank, error, and shares of MACs, parameters and time."""
    one, was = layer.choice, layer.before
    if one is None:
        return "as it is", "", "", "", "", ""
    time = "" if one.ratio is None else f"{one.ratio[0]:.0%}"
    return (
        method_in_words(one),
        rank_in_words(one),
        f"{one.error:.3g}",
        _share(one.macs, was.macs),
        _share(one.n_parameters, was.n_parameters),
        time,
    )


def method_in_words(one: Candidate) -> str:
    """Return the method of a candidate with its options.

    Parameters
    ----------
    one : Candidate
        The candidate.

    Returns
    -------
    str
        Such as "svd split=(0,)".
    """
    return " ".join([one.method, *(f"{name}={value}" for name, value in one.options if value is not False)])


def rank_in_words(one: Candidate) -> str:
    """Return the rank of a candidate.

    Parameters
    ----------
    one : Candidate
        The candidate.

    Returns
    -------
    str
        Such as "8" or "8x16".
    """
    return "x".join(map(str, one.rank)) if isinstance(one.rank, tuple) else str(one.rank)


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ModelError(f"weight must be a finite number of at least 0, got {value!r}")
    return float(value)


def _share(after: int, before: int) -> str:
    return f"{after / before:.0%}" if before else ""
