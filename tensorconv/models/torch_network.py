"""A torch module as a network: its convolutions run, looked into, and replaced in a copy."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property, partial
from typing import Any

import torch

from tensorconv.arrays import Array
from tensorconv.errors import ModelError
from tensorconv.export.files import write_whole
from tensorconv.layers import ConvSequence
from tensorconv.models.found import SkippedLayer
from tensorconv.models.network import Batch, Site
from tensorconv.models.torch_inputs import check_batches, name_outputs, read_example, to_array
from tensorconv.models.torch_rewrite import KeyMap, rewrite
from tensorconv.models.torch_run import Call, running, watched
from tensorconv.models.torch_sites import Place, find_places

Use = tuple[Array, Array]


class TorchNetwork:
    """A network that is a torch module; the module itself is never changed.

    Sites are the convolutions among its submodules whose meaning is certain, named as the submodules are: torch's own
    classes, subclasses that compute as they do, and those under weight or spectral norm, as they are in evaluation
    mode. One that is reached by several names, or shares all parameters and the geometry with another, is one site
    with several uses. It always runs in evaluation mode, without gradients and with a fixed seed. A batch norm stays
    where it is; ``site.layer`` is the convolution alone. Padding by values (reflect, replicate, circular) stays before
    what replaces the convolution: ``site.layer`` takes what is padded already.

    Parameters
    ----------
    module : torch.nn.Module
        The module.
    example : torch.Tensor, array_like, tuple or mapping of str, optional
        What to call it with: the first parameter of ``forward``, the first ones in order, or some by name.
    input_size : int or sequence of int, optional
        Without an example: spatial size of one image for the first convolution.
    linear : bool
        Whether fully connected layers are sites, too.

    Raises
    ------
    ModelError
        If it is no module, has parameters without values yet, or there is nothing to make an example of.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        example: Any = None,
        *,
        input_size: int | Sequence[int] | None = None,
        linear: bool = False,
    ) -> None:
        if not isinstance(module, torch.nn.Module):
            raise ModelError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if torch.nn.parameter.is_lazy(tensor):
                raise ModelError(f"parameter {name!r} of the module has no shape yet; call the module once on data")
        self._module = module
        self._linear = linear
        self._inputs, self._example = read_example(module, example, input_size)
        self._key_map: KeyMap = {key: (key,) for key in module.state_dict()}

    @property
    def model(self) -> torch.nn.Module:
        """The module."""
        return self._module

    @property
    def key_map(self) -> dict[str, tuple[str, ...]]:
        """For every key of the state dict before replacing, the keys that hold what it held."""
        return dict(self._key_map)

    @property
    def digest(self) -> str:
        """What tells the network from any other: a digest of the module in words and of its state."""
        digest = hashlib.sha256(f"{type(self._module)}\0{self._module}".encode())
        for name, tensor in self._module.state_dict().items():
            if isinstance(tensor, torch.Tensor):
                digest.update(f"{name}\0{tensor.dtype}\0".encode() + to_array(tensor).tobytes())
        return digest.hexdigest()

    @property
    def sites(self) -> tuple[Site, ...]:
        """The convolutions that can be replaced, in the order of their first use."""
        return tuple(self._found[0].values())

    @property
    def skipped(self) -> tuple[SkippedLayer, ...]:
        """Those that cannot, with reasons."""
        return self._found[1]

    @property
    def example(self) -> Batch:
        """A batch of inputs by name: the caller's, or one seeded normal image."""
        return dict(self._example)

    @property
    def n_bytes(self) -> int:
        """Bytes of the file of the state dict."""
        file = io.BytesIO()
        torch.save(self._module.state_dict(), file)
        return file.tell()

    def batches(self, data: Any) -> list[Batch]:
        """Return data as batches of inputs by name, checked.

        Parameters
        ----------
        data : array_like, torch.Tensor, mapping of str to these, or list or tuple of either
            One batch, or several. An array is that of the only input.

        Returns
        -------
        list of dict of str to ndarray
            The batches; ModelError is raised if an input is missing, unknown, or does not fit.
        """
        return list(check_batches(self._inputs, data))

    def run(self, batch: Batch) -> dict[str, Array]:
        """Return the outputs by name.

        Parameters
        ----------
        batch : mapping of str to ndarray
            The inputs.

        Returns
        -------
        dict of str to ndarray
            "output"; of several outputs "output.0" and so on, or "output.logits" of a dictionary.

        Raises
        ------
        ModelError
            If ``forward`` fails or returns no tensor.
        """
        with self.running(batch) as forward:
            output = forward()
        return {name: to_array(tensor) for name, tensor in name_outputs(output).items()}

    def capture(self, names: Sequence[str], batch: Batch) -> dict[str, list[Use]]:
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

        Raises
        ------
        ModelError
            If a name is no site's, or ``forward`` fails.
        """
        places = [self._place(name) for name in names]
        found: dict[str, list[Use]] = {name: [] for name in names}

        def keep(place: Place, call: Call) -> None:
            found[place.name].append((to_array(place.given(call.data)), to_array(place.returned(call.output))))

        self._watched(places, batch, keep)
        return found

    def replaced(self, sequences: Mapping[str, ConvSequence], record: str = "") -> TorchNetwork:
        """Return a network around a copy of the module, with sequences at some sites.

        Parameters
        ----------
        sequences : mapping of str to ConvSequence
            From names of sites.
        record : str
            JSON text for the attribute ``tensorconv_record`` of the module, which is pickled with it and no part of
            the state dict.

        Returns
        -------
        TorchNetwork
            The new network, with a ``key_map`` from the state dict of this one.

        Raises
        ------
        ModelError
            If a name is no site's, a sequence does not fit, or the module cannot be copied.
        """
        places = {self._place(name): sequence for name, sequence in sequences.items()}
        module, key_map = rewrite(self._module, places)
        if record:
            module.tensorconv_record = record  # type: ignore[assignment]  # text, which modules keep as it is
        new = TorchNetwork(module, linear=self._linear, example=self._example)
        new._inputs, new._key_map = self._inputs, key_map
        return new

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the module as ``torch.save`` does, whole or not at all.

        Parameters
        ----------
        path : path-like
            Where to.
        """
        file = io.BytesIO()
        torch.save(self._module, file)
        write_whole(path, file.getvalue())

    def running(self, batch: Batch, n_threads: int | None = None) -> AbstractContextManager[Callable[[], Any]]:
        """Hold the module ready to be run on a batch; afterwards everything is as it was.

        Parameters
        ----------
        batch : mapping of str to ndarray
            The inputs.
        n_threads : int, optional
            Threads of torch meanwhile.

        Returns
        -------
        context manager of callable
            What it yields runs the module once and returns what ``forward`` does; ModelError is raised if that fails.
        """
        return running(self._module, self._inputs, batch, n_threads)

    def _watched(self, places: Sequence[Place], batch: Batch, keep: Callable[[Place, Call], None]) -> None:
        """Run the module and hand over every call of the places' submodules."""
        with self.running(batch) as forward, ExitStack() as stack:
            for place in places:
                for module in place.modules:
                    stack.enter_context(watched(module, partial(keep, place)))
            forward()

    def _unfit(self, places: Sequence[Place]) -> list[Place]:
        """Return the places that the network needs as they are, found by replacing each by its own layer."""
        if not places:
            return []
        module, _ = rewrite(self._module, {place: ConvSequence((place.layer,)) for place in places})
        calls: dict[str, list[Call]] = {path: [] for place in places for path in place.paths}
        try:
            with running(module, self._inputs, self._example) as forward:
                forward()  # first without hooks, since some modules take another way then
                with ExitStack() as stack:
                    for path, made in calls.items():
                        stack.enter_context(watched(module.get_submodule(path), made.append))
                    forward()
        except ModelError:
            half = len(places) // 2
            return [*self._unfit(places[:half]), *self._unfit(places[half:])] if half else [*places]
        return [place for place in places if not all(calls[path] for path in place.paths)]

    @cached_property
    def _places(self) -> tuple[dict[str, Place], list[SkippedLayer]]:
        places, skipped = find_places(self._module, linear=self._linear)
        return {place.name: place for place in places}, skipped

    @cached_property
    def _found(self) -> tuple[dict[str, Site], tuple[SkippedLayer, ...]]:
        """The sites by name, in the order of their first use on the example, and what is none."""
        sizes: dict[str, list[tuple[int, ...]]] = {}
        resized: set[str] = set()

        def keep(place: Place, call: Call) -> None:
            sizes.setdefault(place.name, []).append(tuple(place.given(call.data).shape[2:]))
            if call.has_options:
                resized.add(place.name)

        places, skipped = self._places
        self._watched([*places.values()], self._example, keep)
        reasons = {name: "is not called when the network runs on the example" for name in places if name not in sizes}
        reasons |= dict.fromkeys(sorted(resized), "is called with more than its input, such as output_size")
        unfit = self._unfit([places[name] for name in sizes if name not in resized])
        reasons |= {place.name: "is used by the network otherwise than by a call under its name" for place in unfit}
        sites = {
            name: Site(name, places[name].layer, tuple(size), places[name].linear)
            for name, size in sizes.items()
            if name not in reasons
        }
        return sites, (*skipped, *(SkippedLayer(name, reason) for name, reason in reasons.items()))

    def _place(self, name: str) -> Place:
        if name not in self._found[0]:
            raise ModelError(f"the network has no site {name!r}; it has {', '.join(self._found[0]) or 'none'}")
        return self._places[0][name]
