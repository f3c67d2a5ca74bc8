"""``tensorconv verify``: is this sequence the layer, exactly or within an error? The exit code says so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

import tensorconv as tc
from tensorconv.cli.choice import choose, geometry_options
from tensorconv.cli.options import (
    Dilation,
    Groups,
    InputFile,
    Json,
    LayerInputSize,
    LayerName,
    Layout,
    Padding,
    SequenceFile,
    Stride,
    Transposed,
    size,
)
from tensorconv.cli.output import show_json, working
from tensorconv.text import plain

if TYPE_CHECKING:
    from tensorconv.verdict import Report


def verify(
    file: InputFile,
    sequence: SequenceFile,
    layer: LayerName = None,
    max_error: Annotated[
        float | None, typer.Option(min=0, help="Largest relative error of kernel and bias; without it, exact only.")
    ] = None,
    input_size: LayerInputSize = None,
    stride: Stride = None,
    padding: Padding = None,
    dilation: Dilation = None,
    groups: Groups = None,
    transposed: Transposed = False,
    layout: Layout = None,
    as_json: Json = False,
) -> None:
    """Check a sequence against a layer of a file.

    The exit code is 0 if the sequence in SEQUENCE is the layer of FILE, exactly or within --max-error, and 1 if not.

    Parameters
    ----------
    file : Path
        Where the layer is.
    sequence : Path
        Where the sequence is.
    layer : str or None
        Name of the layer.
    max_error : float or None
        Largest error that still passes.
    input_size : str or None
        Spatial size for the executed check and the MACs.
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
    found = choose(file, layer, layout, geometry_options(stride, padding, dilation, groups, transposed))
    steps = tc.load(sequence)
    with working("verifying", quiet=as_json):
        report = tc.verify(found.layer, steps, input_size=size(input_size) or found.input_size)
    passed = passes(report, max_error)
    if as_json:
        show_json({"file": str(file), "layer": found.layer.name, "passed": passed, "report": plain(report.to_dict())})
    else:
        typer.echo(f"{found.layer.name}: {found.layer}\n\n{steps}\n\n{report}\n\n{'passed' if passed else 'FAILED'}")
    if not passed:
        raise typer.Exit(1)


def passes(report: Report, max_error: float | None) -> bool:
    """Return whether a report says that the sequence is the layer, exactly or within an error.

    Parameters
    ----------
    report : Report
        The findings.
    max_error : float or None
        Largest relative error of kernel and of bias; None asks for an exact sequence.

    Returns
    -------
    bool
        False too where the sequence is not what it composes to, or gives outputs of another size.
    """
    if report.consistent is False or report.exact or max_error is None:
        return report.exact
    if report.kernel_error is None or not math.isfinite(report.operator_bound):
        return False
    return max(report.kernel_error, report.bias_error) <= max_error
