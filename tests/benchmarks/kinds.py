"""The kinds of convolution: what each connects, as the library computes it, what it costs, what else says the same.

Run ``python tests/benchmarks/kinds.py [--channels 64] [--size 28] [--write docs/kinds.md] [--plot docs/kinds.svg]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from matplotlib.figure import Figure

import tensorconv as tc
from tensorconv.arrays import Array

HEAD = """# Kinds of convolution

A convolution connects channels and it connects positions. The picture shows both for every kind: on the left which
positions of an {size}x{size} input reach the middle of the output, on the right which of {channels} in-channels
(columns) reach which out-channels (rows). Nothing in it is drawn by hand: kernels of ones are executed on impulses,
and composed. `python tests/benchmarks/kinds.py --write docs/kinds.md --plot docs/kinds.svg` makes the page.

![what every kind of convolution connects](kinds.svg)
"""
COSTS = """## Geometry, cost, equivalent forms

{n} channels in and out, 3x3 taps, {size}x{size} positions; MACs count padded taps.
"""
NOTES = """
A transposed convolution is the adjoint of a convolution: its output is as large as that one's input, `output_padding`
chooses among the sizes that a stride makes possible, and it is kept here as a smaller high padding. Its MACs are
counted at the positions of its *input*.

The sums hold per axis: taps at `dilation * k`, outputs at `stride * p`, and a transposed convolution adds at
`stride * p + dilation * k`. Groups are blocks on the diagonal of the channels; as many groups as channels is depthwise.
A channel-wise convolution treats the channels as one more axis, so its matrix of channels is a band with equal entries
along the diagonals (Toeplitz), and has a handful of parameters for any number of channels.
"""
TAPS = 3


@dataclass(frozen=True)
class Kind:
    """A kind of convolution.

    Parameters
    ----------
    name : str
        Its name in the field.
    geometry : str
        What sets it apart.
    forms : str
        What computes the same.
    layers : tuple of ("conv" or "channels", dict)
        Options of its layers; "groups" 0 means one per channel, "taps" is the kernel size.
    """

    name: str
    geometry: str
    forms: str
    layers: tuple[dict[str, Any], ...]


KINDS = (
    Kind("dense", "stride 1, padding 1", "any of the [methods](methods.md) at full rank", ({"padding": 1},)),
    Kind("strided", "stride 2, padding 1", "the dense one, every second output kept", ({"stride": 2, "padding": 1},)),
    Kind(
        "dilated", "dilation 2, padding 2", "a 5x5 kernel with zeros between its taps", ({"dilation": 2, "padding": 2},)
    ),
    Kind(
        "transposed",
        "transposed, stride 2, padding 1, output padding 1",
        "the adjoint of the strided one; zeros between the inputs, then a flipped kernel",
        ({"transposed": True, "stride": 2, "padding": 1, "output_padding": 1},),
    ),
    Kind(
        "grouped",
        "4 groups, padding 1",
        "a dense kernel with zero blocks; 4 convolutions side by side",
        ({"groups": 4, "padding": 1},),
    ),
    Kind("depthwise", "one group per channel", "a diagonal of 2-D kernels", ({"groups": 0, "padding": 1},)),
    Kind("pointwise", "1x1 kernel", "a matrix at every position", ({"taps": 1},)),
    Kind(
        "depthwise separable",
        "depthwise, then pointwise",
        "a dense kernel whose slices per channel have rank 1; a sum of R for rank R (`depthwise_separable`)",
        ({"groups": 0, "padding": 1}, {"taps": 1}),
    ),
    Kind(
        "spatially separable",
        "3x1, then 1x3",
        "a dense kernel of rank R over its axes (`svd` with split axes)",
        ({"taps": (TAPS, 1), "padding": (1, 0)}, {"taps": (1, TAPS), "padding": (0, 1)}),
    ),
    Kind(
        "grouped pointwise, shuffled",
        "1x1 in 4 groups, shuffle, 1x1 in 4 groups",
        "a matrix of channels whose blocks between g groups of n channels have rank n / g^2",
        ({"taps": 1, "groups": 4}, {"shuffle": 4}, {"taps": 1, "groups": 4}),
    ),
    Kind(
        "channel-wise",
        "kernel of 3 along the channels, 1x1",
        "a banded Toeplitz matrix at every position",
        ({"channelwise": True},),
    ),
)


def sequence(kind: Kind, channels: int) -> tc.ConvSequence:
    """Return the layers of a kind with kernels of ones."""
    return tc.ConvSequence([step(dict(options), channels) for options in kind.layers])


def step(options: dict[str, Any], channels: int) -> Any:
    """Return one layer."""
    if "shuffle" in options:
        return tc.PermuteLayer.shuffle(channels, options["shuffle"])
    if "channelwise" in options:
        geometry = tc.ConvGeometry.of(3, padding=((1, 1), (0, 0), (0, 0)))
        return tc.ChannelwiseLayer(np.ones((1, TAPS, 1, 1)), channels, geometry)
    groups = options.pop("groups", 1) or channels
    taps = options.pop("taps", TAPS)
    size = (taps, taps) if isinstance(taps, int) else taps
    return tc.ConvLayer.of(np.ones((channels, channels // groups, *size)), groups=groups, **options)


def positions(layers: tc.ConvSequence, size: int) -> Array:
    """Return which positions of the input reach the middle of the output, all channels together."""
    impulses = np.eye(size * size).reshape(-1, 1, size, size).repeat(layers.in_channels, axis=1)
    y = tc.convolve(impulses, layers).sum(axis=1)
    middle = tuple(n // 2 for n in y.shape[1:])
    return np.asarray(y[(slice(None), *middle)]).reshape(size, size) > 0


def channels_reached(layers: tc.ConvSequence) -> Array:
    """Return which in-channels (columns) reach which out-channels (rows)."""
    size = (16, 16)
    impulses = np.zeros((layers.in_channels, layers.in_channels, *size))
    for c in range(layers.in_channels):
        impulses[c, c] = 1
    return np.asarray(tc.convolve(impulses, layers).sum(axis=(2, 3)).T) > 0


def draw(path: Path, channels: int, size: int) -> None:
    """Draw both matrices of every kind."""
    figure = Figure(figsize=(11, 1.75 * -(-len(KINDS) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(KINDS) // 3), 6)
    for axes in panels.ravel():
        axes.set_axis_off()
    for i, kind in enumerate(KINDS):
        row, column = divmod(i, 3)
        layers = sequence(kind, channels)
        for offset, matrix in enumerate((positions(layers, size), channels_reached(layers))):
            axes = panels[row, 2 * column + offset]
            axes.set_axis_on()
            axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1.4, extent=(0, matrix.shape[1], matrix.shape[0], 0))
            axes.set_xticks(range(matrix.shape[1] + 1), [])
            axes.set_yticks(range(matrix.shape[0] + 1), [])
            axes.tick_params(length=0)
            axes.grid(color="0.8", linewidth=0.4)
        panels[row, 2 * column].set_title(kind.name, fontsize=9, loc="left")
    figure.savefig(path, metadata={"Date": None})


def costs(n: int, size: int) -> str:
    """Return the table of costs."""
    dense = sequence(KINDS[0], n)
    rows = []
    for kind in KINDS:
        layers = sequence(kind, n)
        parameters, macs = layers.n_parameters, layers.macs((size, size))
        share = macs / dense.macs((size, size))
        output = "x".join(map(str, layers.output_size((size, size))))
        rows.append([kind.name, kind.geometry, output, f"{parameters:,}", f"{macs:,}", f"{share:.1%}", kind.forms])
    return common.table(["kind", "geometry", "output", "parameters", "MACs", "of dense", "the same as"], rows)


def main(arguments: Sequence[str] | None = None) -> str:
    """Make the page and the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args(arguments)
    drawn_channels, drawn_size = 8, 9
    if chosen.plot:
        draw(chosen.plot, drawn_channels, drawn_size)
    head = HEAD.format(size=drawn_size, channels=drawn_channels)
    table = COSTS.format(n=chosen.channels, size=chosen.size)
    text = f"{head}\n{table}\n{costs(chosen.channels, chosen.size)}\n{NOTES}"
    if chosen.write:
        common.write(chosen.write, text)
    return text


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
