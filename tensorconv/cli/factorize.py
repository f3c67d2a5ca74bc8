"""``tensorconv factorize``: one layer of a file as a cheaper sequence, checked and saved."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

import tensorconv as tc
from tensorconv.cli.choice import choose, geometry_options
from tensorconv.cli.description import describe_sequence
from tensorconv.cli.options import (
    Dilation,
    Groups,
    InputFile,
    Json,
    LayerInputSize,
    LayerName,
    Layout,
    OutputFile,
    Padding,
    Stride,
    Transposed,
    check_sequence_file,
    per_axis,
    size,
)
from tensorconv.cli.output import show_json, working
from tensorconv.text import plain


class Measure(StrEnum):
    """What a budget counts."""

    MACS = "macs"
    PARAMETERS = "parameters"
    BYTES = "bytes"


def factorize(
    file: InputFile,
    out: OutputFile,
    layer: LayerName = None,
    method: Annotated[
        str, typer.Option(help="best, or one of depthwise_separable, svd, tensor_train, tucker, cp.")
    ] = "best",
    rank: Annotated[str | None, typer.Option(help="As 8, or 8x16 where the method has several.")] = None,
    error: Annotated[float | None, typer.Option(help="Largest relative error of the kernel, as 0.1.")] = None,
    budget: Annotated[float | None, typer.Option(help="Largest share of the layer's cost, as 0.5.")] = None,
    of: Annotated[Measure, typer.Option(help="The cost.")] = Measure.MACS,
    input_size: LayerInputSize = None,
    stride: Stride = None,
    padding: Padding = None,
    dilation: Dilation = None,
    groups: Groups = None,
    transposed: Transposed = False,
    layout: Layout = None,
    as_json: Json = False,
) -> None:
    """Factorize one layer of a file.

    Prints the sequence of cheaper convolutions and its check, and saves the sequence to OUT. Give one of --rank,
    --error and --budget. The geometry options are for arrays, which have none in their file.

    Parameters
    ----------
    file : Path
        Where the layer is.
    out : Path
        Where the sequence goes.
    layer : str or None
        Name of the layer.
    method : str
        Name of the method.
    rank : str or None
        The ranks.
    error : float or None
        Largest error.
    budget : float or None
        Largest cost.
    of : Measure
        What the cost is.
    input_size : str or None
        Spatial size that the cost is for.
    stride, padding, dilation : str or None
        Geometry of an array.
    groups : int or None
        Groups of an array.
    transposed : bool
        Whether an array is a transposed convolution's.
    layout : str or None
        Order of an array's axes.
    as_json : bool
        Whether to write JSON.
    """
    check_sequence_file(out)
    found = choose(file, layer, layout, geometry_options(stride, padding, dilation, groups, transposed))
    at = size(input_size) or found.input_size
    wanted: dict[str, Any] = {
        "rank": None if rank is None else per_axis("--rank", rank),
        "error": error,
        "budget": budget,
    }
    with working(f"factorizing {found.layer.name or file.name}", quiet=as_json):
        f = tc.factorize(found.layer, method, **wanted, of=of.value, input_size=at)
        report = tc.verify(found.layer, f, input_size=at)
    tc.save(out, f)
    if as_json:
        show_json(
            {
                "file": str(file),
                "layer": found.layer.name,
                "method": f.method,
                "rank": plain(f.rank),
                "relative_error": f.relative_error,
                "tried": [plain(asdict(trial)) for trial in f.tried],
                "sequence": describe_sequence(f.sequence),
                "report": plain(report.to_dict()),
                "saved": str(out),
            }
        )
        return
    tried = f"tried\n{f.tried}\n\n" if f.tried else ""
    typer.echo(f"{found.layer.name}: {found.layer}\n\n{tried}{f}\n\n{report}\n\nsaved to {out}")
