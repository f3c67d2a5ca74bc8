"""Which layers make a whole network faster, where layers that are faster alone do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from tensorconv.models.comparison import Comparison
from tensorconv.models.compressed_layer import CompressedLayer, sequences_of
from tensorconv.models.fitting import record
from tensorconv.models.network import Network
from tensorconv.models.paired_times import Ratio
from tensorconv.models.work import WorkFolder

SLOW_IN_PLACE = "would not get faster: the network as a whole does not"


def faster_in_place(
    network: Network,
    after: Network,
    layers: tuple[CompressedLayer, ...],
    compared: Callable[[Network], Comparison],
    kept: WorkFolder,
) -> tuple[Network, tuple[CompressedLayer, ...], Comparison]:
    """Return a compressed network that is not slower than the original.

    A layer is timed alone before it is chosen; in a network it may lose what the runtime fuses it with, or the order of
    data that it shares with its neighbours. Where the whole is not measured to be faster, every layer that was replaced
    is timed in its place, alone, and those that do not make the network faster are left as they were; all, if the
    others together do not either.

    Parameters
    ----------
    network, after : Network
        The network before and after.
    layers : tuple of CompressedLayer
        Its convolutions.
    compared : callable
        Measures a network beside the original.
    kept : WorkFolder
        Where the decision is kept, since times differ from run to run.

    Returns
    -------
    network : Network
        The compressed network.
    layers : tuple of CompressedLayer
        Its convolutions.
    comparison : Comparison
        The network before and after.
    """
    names = kept.get("faster in place")
    if names is not None:
        after, layers = _without(network, layers, names)
        return after, layers, compared(after)
    sequences, comparison = sequences_of(layers), compared(after)
    names = sorted(sequences)
    if not _is_faster(comparison.ratio):
        helpful = [name for name in names if _is_faster(compared(network.replaced({name: sequences[name]})).ratio)]
        for names in (helpful, []):
            after, layers = _without(network, layers, names)
            comparison = compared(after)
            if _is_faster(comparison.ratio) or not names:
                break
    kept.put("faster in place", names)
    return after, layers, comparison


def _is_faster(ratio: Ratio) -> bool:
    return ratio.high < 1


def _without(
    network: Network, layers: Sequence[CompressedLayer], names: Sequence[str]
) -> tuple[Network, tuple[CompressedLayer, ...]]:
    """Return the network with the named layers only."""
    new = tuple(
        one
        if not one.is_replaced or one.name in names
        else CompressedLayer(replace(one.planned, choice=None, note=SLOW_IN_PLACE), one.layer)
        for one in layers
    )
    return network.replaced(sequences_of(new), json.dumps(record(new))), new
