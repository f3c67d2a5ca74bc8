"""What a reader hands back: the layers it found and those it had to leave out, each with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tensorconv.layers import ConvLayer


@dataclass(frozen=True)
class FoundLayer:
    """One convolution of a file.

    Parameters
    ----------
    layer : ConvLayer
        The convolution under its name in the file.
    input_size : tuple of int or None
        Spatial size of its input, where the file says it or it follows from the size of the network's input.
    source : {"array", "sequence", "network"}
        What it was read from. An "array" has no geometry in its file: the layer has stride 1 and no padding, groups
        or bias until the caller says better. The layers of a "sequence" and a "network" are complete.
    """

    layer: ConvLayer
    input_size: tuple[int, ...] | None
    source: str


@dataclass(frozen=True)
class SkippedLayer:
    """One convolution, or candidate for one, that could not be read.

    Parameters
    ----------
    name : str
        Its name in the file.
    reason : str
        Why, in a form to show to the user.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """Everything that one file holds.

    Parameters
    ----------
    layers : tuple of FoundLayer
        The layers, in the order of the file.
    skipped : tuple of SkippedLayer
        What was left out.
    """

    layers: tuple[FoundLayer, ...]
    skipped: tuple[SkippedLayer, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[FoundLayer | SkippedLayer]) -> Reading:
        """Sort the entries of a file into what was found and what was left out.

        Parameters
        ----------
        entries : iterable of FoundLayer or SkippedLayer
            The entries, in the order of the file.

        Returns
        -------
        Reading
            The two lists.
        """
        listed = list(entries)
        return cls(
            tuple(entry for entry in listed if isinstance(entry, FoundLayer)),
            tuple(entry for entry in listed if isinstance(entry, SkippedLayer)),
        )
