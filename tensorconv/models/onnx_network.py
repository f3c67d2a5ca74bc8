"""An ONNX network as compression sees it: run by ONNX Runtime, its convolutions replaced, the rest left as it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from onnx import ModelProto

from tensorconv.arrays import Array
from tensorconv.errors import ModelError
from tensorconv.layers import ConvSequence
from tensorconv.models.found import SkippedLayer
from tensorconv.models.network import Batch, Site, Size
from tensorconv.models.onnx_check import check_model, opset
from tensorconv.models.onnx_example import checked_size, example_batch
from tensorconv.models.onnx_external import Added, Folder, check_data, with_added
from tensorconv.models.onnx_file import file_size, is_split, read_model, save_model
from tensorconv.models.onnx_inputs import Input, check_batches, read_inputs
from tensorconv.models.onnx_rewrite import rewrite
from tensorconv.models.onnx_run import Runner
from tensorconv.models.onnx_shapes import infer_shapes
from tensorconv.models.onnx_sites import OnnxSite, channels_second, find_sites, wanted_shapes
from tensorconv.models.onnx_stored import StoredGraph
from tensorconv.models.plan import fingerprint


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """A network of an ONNX file.

    A convolution with stored weights in the main graph is a site; one inside a branch, loop or function, or with
    computed weights, is skipped. Nodes that do the same with the same stored weights are one site. A network that
    cannot be run still has sites wherever shape inference finds their sizes; ``cannot_run`` is the reason. Weights in
    other files stay there: they are read when their layer is asked for.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; not to be changed afterwards.
    folder : Path, Added or None
        Where its file is, and with it its external data.
    input_size : int, tuple of int or None
        Spatial size of the example's inputs where the network leaves it open.
    linear : bool
        Whether fully connected layers, Gemm and MatMul with stored weights, are sites too.
    n_threads : int or None
        Threads of one operator; all cores where None.
    """

    model: ModelProto = field(repr=False)
    folder: Folder = None
    input_size: int | Size | None = None
    linear: bool = False
    n_threads: int | None = None

    @classmethod
    def read(
        cls,
        source: str | os.PathLike[str] | bytes | ModelProto,
        *,
        input_size: int | Sequence[int] | None = None,
        linear: bool = False,
        n_threads: int | None = None,
    ) -> OnnxNetwork:
        """Read a network.

        Parameters
        ----------
        source : path, bytes or onnx.ModelProto
            A file, what one holds, or the message, which is copied.
        input_size : int or sequence of int, optional
            Spatial size of the example's inputs where the network leaves it open; without it the first of some usual
            sizes with which the network runs.
        linear : bool
            Whether fully connected layers are sites, too.
        n_threads : int, optional
            Threads of one operator; without it all cores.

        Returns
        -------
        OnnxNetwork
            The network. Nothing has been run yet.

        Raises
        ------
        FormatError
            If the source is no ONNX network or its graph is broken.
        ModelError
            If its operator set is older than 7, or ``input_size`` is no size.
        """
        model, folder = read_model(source)
        if model is source:
            model = ModelProto()
            model.CopyFrom(source)
        check_model(model)
        opset(model)
        return cls(model, folder, checked_size(input_size), linear, n_threads)

    @property
    def digest(self) -> str:
        """What tells the network from any other: a digest of the message, and of its convolutions' stored weights."""
        return hashlib.sha256(self.model.SerializeToString() + fingerprint(self.sites).encode()).hexdigest()

    @property
    def sites(self) -> tuple[Site, ...]:
        """The convolutions that can be replaced, in the order of their first use."""
        return tuple(site.site for site in self._found[0])

    @property
    def skipped(self) -> tuple[SkippedLayer, ...]:
        """Those that cannot, with reasons."""
        return self._found[1]

    @property
    def cannot_run(self) -> str:
        """Why the network cannot be run on the example batch as far as its sites' inputs; empty where it can."""
        return self._shapes[1]

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """What the network must be given."""
        return read_inputs(self.model)

    @cached_property
    def example(self) -> Batch:
        """A seeded batch of inputs by name: standard normal floats and ones for integers; an open batch is one."""
        return example_batch(self.inputs, self.input_size, self.run)

    @property
    def n_bytes(self) -> int:
        """Bytes that saving takes, the data in a second file included."""
        return file_size(self.model, self.folder)

    def batches(self, data: Any) -> list[Batch]:
        """Return data as batches of inputs by name, checked.

        Parameters
        ----------
        data : array_like, mapping of str to array_like, or list or tuple of either
            One batch, or several. An array is that of the only input. Where the network fixes the size of a batch, a
            multiple of it is split.

        Returns
        -------
        list of dict of str to ndarray
            The batches; ModelError is raised if an input is missing, unknown, or does not fit.
        """
        return list(check_batches(self.inputs, data))

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

        Raises
        ------
        ModelError, FormatError
            If ONNX Runtime cannot run it, an output is no tensor, or external data are not all in the folder.
        """
        return self._runner.values([value.name for value in self.model.graph.output], batch)

    def capture(self, names: Sequence[str], batch: Batch) -> dict[str, list[tuple[Array, Array]]]:
        """Return, for each of these sites and each of its uses, what goes in and what the convolution gives.

        Only what these values need is run.

        Parameters
        ----------
        names : sequence of str
            Names of sites.
        batch : mapping of str to ndarray
            The inputs of the network.

        Returns
        -------
        dict of str to list of (ndarray, ndarray)
            Inputs (B, C, L1..LN) as ``site.layer`` takes them, and responses as it gives them, batch norm included.

        Raises
        ------
        ModelError, FormatError
            If a name is no site's; else as :meth:`run`.
        """
        sites = [self._site(name) for name in names]
        wanted = {name for site in sites for use in site.uses for name in (use.data, use.output)}
        values = self._runner.values(sorted(wanted), batch)
        return {
            site.name: [
                (channels_second(values[use.data], site.linear), channels_second(values[use.output], site.linear))
                for use in site.uses
            ]
            for site in sites
        }

    def replaced(self, sequences: Mapping[str, ConvSequence], record: str = "") -> OnnxNetwork:
        """Return the network with sequences at some sites.

        Parameters
        ----------
        sequences : mapping of str to ConvSequence
            From names of sites. Names of outputs and of all other values stay; new nodes and tensors are named after
            the site, and tensors that nothing reads any more are left out.
        record : str
            JSON text for the metadata, under "tensorconv".

        Returns
        -------
        OnnxNetwork
            The new network; ModelError is raised if a name is no site's, or a sequence does not fit or cannot be said.
        """
        added = Added(self.folder) if is_split(self.model) else None  # one sequence after the other is in memory
        pairs = ((self._site(name), sequence) for name, sequence in sequences.items())
        new = rewrite(self.model, pairs, record, None if added is None else added.take)
        check_model(new)
        return replace(self, model=new, folder=added or self.folder)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network, whole or not at all.

        With external data, or too large for one file, it is written as two: the data first, under a name that tells
        their content, then the network. Data of an earlier network are left to it.

        Parameters
        ----------
        path : path-like
            Where to.
        """
        save_model(Path(path), self.model, self.folder)

    def proto(self) -> ModelProto:
        """Return the model.

        Returns
        -------
        onnx.ModelProto
            A copy; its external data stay where they are, those of new tensors are in it.
        """
        return with_added(self.model, self.folder)

    def to_bytes(self) -> bytes:
        """Return what a file of the network holds.

        Returns
        -------
        bytes
            The content; external data stay where they are. ModelError is raised if it is too large for one file.
        """
        try:
            return bytes(self.proto().SerializeToString())
        except ValueError as error:
            raise ModelError(f"the network is too large for one file; save it to a path instead: {error}") from error

    @cached_property
    def _runner(self) -> Runner:
        return Runner(self.model, self.folder, self.n_threads)

    @cached_property
    def _shapes(self) -> tuple[dict[str, Size], str]:
        """Shapes of the inputs of all candidates on the example batch, and why some may be missing."""
        shapes: dict[str, Size] = {}
        try:
            shapes = {name: array.shape for name, array in self.example.items()}
            wanted = wanted_shapes(self.model, linear=self.linear)
            if check_data(self.model, self.folder):  # then it is not loaded to find them, if that can be
                inferred = infer_shapes(self.model, shapes)
                if inferred.keys() >= set(wanted):
                    return inferred, ""
            return self._runner.shapes(wanted, self.example), ""
        except ModelError as error:
            return infer_shapes(self.model, shapes), str(error)

    @cached_property
    def _found(self) -> tuple[tuple[OnnxSite, ...], tuple[SkippedLayer, ...]]:
        shapes, unknown = self._shapes
        stored = StoredGraph(self.model.graph, self.folder)
        return find_sites(self.model, stored, shapes, linear=self.linear, unknown=unknown)

    def _site(self, name: str) -> OnnxSite:
        for site in self._found[0]:
            if site.name == name:
                return site
        raise ModelError(
            f"the network has no site {name!r}; it has {', '.join(site.name for site in self._found[0]) or 'none'}"
        )
