"""``tensorconv inspect``: the convolutions of a file, what they cost, and how far their kernels could shrink."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

from tensorconv.arrays import Array
from tensorconv.cli.description import describe_layer
from tensorconv.cli.options import InputFile, Json, Layout, size
from tensorconv.cli.output import can_draw, show_json, show_table, working
from tensorconv.models import FoundLayer, Reading, read_file
from tensorconv.models.spectrum import SIDES, channel_spectrum, rank_keeping

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", ".:-=+*%#"
_BAR_WIDTH = 8
_HEADER = (
    "layer",
    "kernel",
    "geometry",
    "parameters",
    "MACs",
    "in 90/99 %",
    "in spectrum",
    "out 90/99 %",
    "out spectrum",
)


def inspect(
    file: InputFile,
    input_size: Annotated[
        str | None, typer.Option(help="Spatial size, as 224x224: of an open network's input, or of every array's.")
    ] = None,
    layout: Layout = None,
    as_json: Json = False,
) -> None:
    """Show the convolutions of a file.

    FILE is an .npy, .npz, .safetensors or .onnx.

    "in 90/99 %" is the smallest number of combined in-channels that keeps 90 and 99 % of the kernel's energy, of how
    many there are (per group); "out" the same for out-channels. The spectrum shows the singular values behind it.

    Parameters
    ----------
    file : Path
        The file.
    input_size : str or None
        Spatial size to count MACs for.
    layout : str or None
        Order of the axes of arrays.
    as_json : bool
        Whether to write JSON.
    """
    with working("reading", quiet=as_json):
        reading = read_file(file, layout=layout, input_size=size(input_size))
        described = [describe(found) for found in reading.layers]
    if as_json:
        skipped = [{"layer": layer.name, "reason": layer.reason} for layer in reading.skipped]
        show_json({"file": str(file), "layers": described, "skipped": skipped})
        return
    if described:
        show_table(_HEADER, map(_row, reading.layers, described), right=("parameters", "MACs"))
    _show_rest(reading, described)


def describe(found: FoundLayer) -> dict[str, Any]:
    """Return what there is to say about one layer, as JSON values.

    Parameters
    ----------
    found : FoundLayer
        The layer.

    Returns
    -------
    dict
        Name, shape, geometry, cost and spectrum.
    """
    layer = found.layer
    spectrum = {}
    for side in SIDES:
        values = channel_spectrum(layer, side)
        ranks = {f"rank_{share}": rank_keeping(values, share / 100) for share in (90, 99)}
        spectrum[side] = {**ranks, "singular_values": values.tolist()}
    at = found.input_size
    return {
        **describe_layer(layer),
        "source": found.source,
        "input_size": None if at is None else list(at),
        "macs": None if at is None else layer.macs(at),
        "spectrum": spectrum,
    }


def _row(found: FoundLayer, described: dict[str, Any]) -> list[str]:
    """Return the cells of one layer's line."""
    cells = [
        described["layer"],
        "x".join(map(str, described["kernel"])),
        "not in the file" if found.source == "array" else str(found.layer.geometry),
        f"{described['parameters']:,}",
        "?" if described["macs"] is None else f"{described['macs']:,}",
    ]
    for side in SIDES:
        spectrum = described["spectrum"][side]
        values = np.array(spectrum["singular_values"])
        cells += [f"{spectrum['rank_90']}/{spectrum['rank_99']} of {len(values)}", _bar(values)]
    return cells


def _bar(values: Array) -> str:
    """Draw singular values as at most eight blocks, each as high as the largest of its share of them."""
    steps = _BLOCKS if can_draw() else _ASCII
    if not values.any():
        return steps[0]
    heights = [part[0] / values[0] for part in np.array_split(values, min(_BAR_WIDTH, len(values)))]
    return "".join(steps[min(int(height * len(steps)), len(steps) - 1)] for height in heights)


def _show_rest(reading: Reading, described: list[dict[str, Any]]) -> None:
    """Print the totals, and what was left out and why."""
    parameters = sum(layer["parameters"] for layer in described)
    macs = [layer["macs"] for layer in described]
    total = f", {sum(macs):,} MACs" if macs and None not in macs else ""
    typer.echo(f"{len(described)} layers, {parameters:,} parameters{total}")
    for layer in reading.skipped:
        typer.echo(f"left out: {layer.name}: {layer.reason}")
