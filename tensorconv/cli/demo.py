"""``tensorconv demo``: a trained network compressed layer by layer, offline, and its accuracy before and after."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tensorconv.cli.description import describe_sequence, plain
from tensorconv.cli.options import Json
from tensorconv.cli.output import show_json, working
from tensorconv.text import aligned_table

if TYPE_CHECKING:
    from tensorconv.demo import CompressedLayer, CompressedNetwork


def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the factors and the network.")] = Path(
        "tensorconv-demo"
    ),
    error: Annotated[float, typer.Option(min=0, help="Largest relative error of each kernel.")] = 0.15,
    as_json: Json = False,
) -> None:
    """Compress a small trained network.

    Each convolution of a network for Fashion-MNIST is factorized and checked; then the accuracy is compared. Needs no
    connection.

    Parameters
    ----------
    out : Path
        Folder for the results.
    error : float
        Largest relative error of each kernel.
    as_json : bool
        Whether to write JSON.
    """
    module = importlib.import_module("tensorconv.demo")
    layers = []
    network = None
    for result in _watched(module.run(out, error=error), module.N_RESULTS, quiet=as_json):
        if isinstance(result, module.CompressedLayer):
            layers.append(_describe_layer(result))
            text = _layer_text(result)
        else:
            network = _describe_network(result)
            text = _network_text(result)
        if not as_json:
            typer.echo(text)
    if as_json:
        show_json({"error": error, "layers": layers, "network": network})


def _watched(results: Iterator[Any], total: int, *, quiet: bool) -> Iterator[Any]:
    """Yield the results as they come, with a progress bar while each is made."""
    for done in range(total):
        with working("factorizing and checking", done=done, total=total, quiet=quiet):
            result = next(results)
        yield result


def _layer_text(result: CompressedLayer) -> str:
    layer, f = result.found.layer, result.factorization
    head = f"{layer.name}: {layer}, at input {'x'.join(map(str, result.found.input_size or ()))}"
    if result.path is None:
        return f"{head}\nstays dense: nothing that meets the error is cheaper\n"
    return f"{head}\n{f}\n\n{result.report}\n\nsaved to {result.path}\n"


def _network_text(result: CompressedNetwork) -> str:
    rows = [("network", "MACs", "parameters", "accuracy")]
    for i, when in enumerate(("before", "after")):
        rows.append((when, f"{result.macs[i]:,}", f"{result.n_parameters[i]:,}", f"{result.accuracy[i]:.1%}"))
    return (
        f"{aligned_table(rows)}\n"
        f"{result.macs[1] / result.macs[0]:.1%} of the MACs; MACs and parameters are those of the convolutions\n"
        f"accuracy on {result.n_images:,} test images, by ONNX Runtime\n"
        f"saved to {result.path}"
    )


def _describe_layer(result: CompressedLayer) -> dict[str, Any]:
    return {
        "layer": result.found.layer.name,
        "input_size": plain(result.found.input_size),
        "method": result.factorization.method,
        "rank": plain(result.factorization.rank),
        "sequence": describe_sequence(result.factorization.sequence),
        "report": plain(result.report.to_dict()),
        "saved": None if result.path is None else str(result.path),
    }


def _describe_network(result: CompressedNetwork) -> dict[str, Any]:
    return {
        "macs": list(result.macs),
        "parameters": list(result.n_parameters),
        "accuracy": list(result.accuracy),
        "n_images": result.n_images,
        "saved": str(result.path),
    }
