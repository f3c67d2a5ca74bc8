"""What compression needs of a whole network, be it an ONNX graph or a torch module: its convolutions, in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tensorconv.arrays import Array
from tensorconv.layers import ConvLayer, ConvSequence
from tensorconv.models.found import SkippedLayer

Size = tuple[int, ...]
Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """One convolution of a network, wherever and however often it is used.

    Parameters
    ----------
    name : str
        Its name, unique in the network.
    layer : ConvLayer
        The convolution, in ONNX with a batch norm that follows it folded in. Of a fully connected layer, the
        pointwise convolution along one axis that it is.
    input_sizes : tuple of tuple of int
        Spatial size of its input at every use, on the example batch.
    linear : bool
        Whether it is a fully connected layer; what replaces it must be pointwise throughout.
    """

    name: str
    layer: ConvLayer
    input_sizes: tuple[Size, ...]
    linear: bool = False


class StoredSite(Site):
    """A convolution whose weights stay in their file: they are read whenever the layer is asked for.

    To another process it goes as a plain :class:`Site`, with its weights.

    Parameters
    ----------
    name : str
        Its name.
    read : callable
        Returns the layer.
    input_sizes : tuple of tuple of int
        Spatial sizes.
    linear : bool
        Whether it is a fully connected layer.
    """

    def __init__(self, name: str, read: Callable[[], ConvLayer], input_sizes: tuple[Size, ...], linear: bool) -> None:
        for field, value in (("name", name), ("_read", read), ("input_sizes", input_sizes), ("linear", linear)):
            object.__setattr__(self, field, value)

    @property
    def layer(self) -> ConvLayer:
        """The convolution, as it is read now."""
        layer: ConvLayer = self.__dict__["_read"]()
        return layer

    def __reduce__(self) -> tuple[Any, ...]:
        return Site, (self.name, self.layer, self.input_sizes, self.linear)


class Network(Protocol):
    """A network that can be run, looked into, and have convolutions replaced; replacing returns a new one."""

    @property
    def model(self) -> Any:
        """The network itself: an onnx.ModelProto, a torch module."""

    @property
    def digest(self) -> str:
        """What tells the network from any other: a digest of all that it is made of."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The convolutions that can be replaced, in the order of their first use."""

    @property
    def skipped(self) -> tuple[SkippedLayer, ...]:
        """Those that cannot, with reasons."""

    @property
    def example(self) -> Batch:
        """A seeded batch of inputs by name, of the sizes that costs are for."""

    def batches(self, data: Any) -> list[Batch]:
        """Return data as batches of inputs by name, checked.

        Parameters
        ----------
        data : array_like, mapping of str to array_like, or list or tuple of either
            One batch, or several; more than 64 images are split, unless the network fixes the size of a batch.

        Returns
        -------
        list of dict of str to ndarray
            The batches.
        """

    def run(self, batch: Batch) -> dict[str, Array]:
        """Return the outputs by name.

        Parameters
        ----------
        batch : mapping of str to ndarray
            The inputs.

        Returns
        -------
        dict of str to ndarray
            The outputs.
        """

    def capture(self, names: Sequence[str], batch: Batch) -> dict[str, list[tuple[Array, Array]]]:
        """Return, for each of these sites and each of its uses, what goes in and what the convolution gives.

        Parameters
        ----------
        names : sequence of str
            Names of sites.
        batch : mapping of str to ndarray
            The inputs of the network.

        Returns
        -------
        dict of str to list of (ndarray, ndarray)
            Inputs (B, C, L1..LN) as ``site.layer`` takes them, and responses as it gives them.
        """

    def replaced(self, sequences: Mapping[str, ConvSequence], record: str = "") -> Network:
        """Return the network with sequences at some sites.

        Parameters
        ----------
        sequences : mapping of str to ConvSequence
            From names of sites.
        record : str
            JSON text for the metadata.

        Returns
        -------
        Network
            A new one.
        """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file, whole or not at all.

        Parameters
        ----------
        path : path-like
            Where to.
        """
