"""CompressedLayer: one convolution of a network, as planned and as it has become; held, or read from files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from tensorconv.errors import ModelError
from tensorconv.layers import ConvLayer, ConvSequence
from tensorconv.models.network import Site, StoredSite
from tensorconv.models.plan import PlannedLayer
from tensorconv.models.work import WorkFolder
from tensorconv.verdict import Report


@dataclass(frozen=True)
class CompressedLayer:
    """One convolution of a network, as planned and as it has become.

    Parameters
    ----------
    planned : PlannedLayer
        The choice, or why it is left alone.
    layer : ConvLayer
        The convolution before.
    sequence : ConvSequence or None
        What has taken its place; None where it is left alone.
    relative_error : float
        Relative error of the kernel.
    response_error : float or None
        Relative error of the responses, on what the compressed layers before give; None without data.
    report : Report or None
        The check of the sequence against the layer.
    """

    planned: PlannedLayer
    layer: ConvLayer
    sequence: ConvSequence | None = None
    relative_error: float = 0.0
    response_error: float | None = None
    report: Report | None = None

    @property
    def name(self) -> str:
        """Its name in the network."""
        return self.planned.name

    @property
    def is_replaced(self) -> bool:
        """Whether a sequence has taken its place."""
        return self.sequence is not None


class StoredLayer(CompressedLayer):
    """A convolution whose arrays stay in files, the network's and those of the work folder, until they are asked for.

    Parameters
    ----------
    planned : PlannedLayer
        The choice, or why it is left alone.
    site : StoredSite
        The convolution before.
    kept : WorkFolder, optional
        Where the sequence is; None where it is left alone.
    relative_error, response_error, report : float, float or None, Report or None
        As of :class:`CompressedLayer`.
    """

    def __init__(
        self,
        planned: PlannedLayer,
        site: StoredSite,
        kept: WorkFolder | None = None,
        relative_error: float = 0.0,
        response_error: float | None = None,
        report: Report | None = None,
    ) -> None:
        fields = {"planned": planned, "relative_error": relative_error, "response_error": response_error}
        for name, value in {**fields, "report": report, "_site": site, "_kept": kept}.items():
            object.__setattr__(self, name, value)

    @property
    def is_replaced(self) -> bool:
        """Whether a sequence has taken its place."""
        return self.__dict__["_kept"] is not None

    @property
    def layer(self) -> ConvLayer:
        """The convolution before, as it is read now."""
        site: Site = self.__dict__["_site"]
        return site.layer

    @property
    def sequence(self) -> ConvSequence | None:
        """What has taken its place, as it is read now; ModelError is raised if the work folder is gone."""
        kept: WorkFolder | None = self.__dict__["_kept"]
        if kept is None:
            return None
        sequence = kept.get_sequence(f"layer {self.name}")
        if sequence is None:
            raise ModelError(f"layer {self.name!r} was kept in the work folder, which is gone; save before that")
        return sequence


class _Sequences(Mapping[str, ConvSequence]):
    """The sequences of layers by name, each looked up when it is asked for."""

    def __init__(self, layers: Sequence[CompressedLayer]) -> None:
        self._layers = {layer.name: layer for layer in layers if layer.is_replaced}

    def __getitem__(self, name: str) -> ConvSequence:
        return cast(ConvSequence, self._layers[name].sequence)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def sequences_of(layers: Sequence[CompressedLayer]) -> Mapping[str, ConvSequence]:
    """Return what has taken the place of convolutions.

    Parameters
    ----------
    layers : sequence of CompressedLayer
        Convolutions.

    Returns
    -------
    mapping of str to ConvSequence
        Of those that were replaced; those in files are read one at a time, as they are asked for.
    """
    return _Sequences(layers)
