"""``tensorconv demo``: a trained network compressed layer by layer, offline, and its accuracy before and after."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tensorconv.cli.description import describe_sequence, plain
from tensorconv.cli.options import Json
from tensorconv.cli.output import show_json, show_table, working

if TYPE_CHECKING:
    from tensorconv.demo import CompressedLayer, CompressedNetwork


def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the factors and the network.")] = Path(
        "tensorconv-demo"
    ),
    error: Annotated[float, typer.Option(min=0, help="Largest relative error of each kernel.")] = 0.2,
    as_json: Json = False,
) -> None:
    """Compress a small trained network (Fashion-MNIST), check every layer, and compare the accuracy.

    Parameters
    ----------
    out : Path
        Folder for the results.
    error : float
        Largest relative error of each kernel.
    as_json : bool
        Whether to write JSON.
    """
    run = importlib.import_module("tensorconv.demo").run
    layers: list[CompressedLayer] = []
    results = run(out, error=error)
    while True:
        with working("compressing and checking", quiet=as_json):
            result = next(results)
        if not hasattr(result, "factorization"):
            break
        layers.append(result)
        if not as_json:
            _show_layer(result)
    if as_json:
        show_json({"error": error, "layers": [_describe(layer) for layer in layers], **plain(vars(result))})
    else:
        _show_network(result)
