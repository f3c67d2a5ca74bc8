"""Compression: a compressed network with its proof, printed, saved, and shown on a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tensorconv.export.files import write_whole
from tensorconv.models.comparison import Comparison
from tensorconv.models.compressed_layer import CompressedLayer
from tensorconv.models.document import document
from tensorconv.models.network import Network
from tensorconv.models.plan import Plan
from tensorconv.report import page

NOT_RUN = "the networks were not run: drift, score and latency of the whole are not known"


@dataclass(frozen=True, eq=False)
class Compression:
    """A compressed network with its proof; prints as tables.

    Parameters
    ----------
    network : Network
        The compressed network.
    plan : Plan
        What was chosen for every convolution.
    layers : tuple of CompressedLayer
        The convolutions; those that were replaced have a Report each.
    comparison : Comparison or None
        The whole network before and after; None where they were not run.
    key_map : dict of str to tuple of str
        Of a torch module, every key of the old state dict with the new keys that stand for it.
    """

    network: Network
    plan: Plan
    layers: tuple[CompressedLayer, ...]
    comparison: Comparison | None
    key_map: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        """The compressed network as an onnx.ModelProto, or as a torch module."""
        whole = getattr(self.network, "proto", None)  # with new tensors that the network keeps in a file
        return self.network.model if whole is None else whole()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network, whole or not at all.

        Parameters
        ----------
        path : path-like
            Where to.
        """
        self.network.save(path)

    def report(
        self, path: str | os.PathLike[str], *, title: str = "Compressed network", missed: Sequence[str] = ()
    ) -> None:
        """Write a page that shows the result: figures, layers with their curves and proofs; whole or not at all.

        The page is one HTML file that needs no connection and no other file.

        Parameters
        ----------
        path : path-like
            Where to.
        title : str
            The page's headline, such as the name of the network.
        missed : sequence of str
            Limits that the result does not meet, in words; they come first on the page.
        """
        write_whole(path, page(document(self, title=title, missed=missed)).encode())

    def to_dict(self) -> dict[str, Any]:
        """Return plan, proofs and comparison as plain values for JSON.

        Returns
        -------
        dict
            The plan, one entry per replaced layer, and the comparison.
        """
        layers = {
            one.name: {
                "relative_error": one.relative_error,
                "response_error": one.response_error,
                "report": one.report.to_dict(),
            }
            for one in self.layers
            if one.report is not None
        }
        comparison = None if self.comparison is None else self.comparison.to_dict()
        return {"plan": self.plan.to_dict(), "layers": layers, "comparison": comparison}

    def __str__(self) -> str:
        layers = []
        for one in self.layers:  # planned errors are those of quick fits
            error = one.relative_error if one.response_error is None else one.response_error
            layers.append(replace(one.planned, choice=one.planned.choice and replace(one.planned.choice, error=error)))
        return f"{replace(self.plan, layers=tuple(layers))}\n\n{self.comparison or NOT_RUN}"
