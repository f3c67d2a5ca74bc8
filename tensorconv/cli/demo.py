"""``tensorconv demo``: a trained network compressed as a whole, offline, and measured before and after."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from tensorconv.cli.network_options import Jobs
from tensorconv.cli.options import Json
from tensorconv.cli.outcome import in_short
from tensorconv.cli.output import show_json
from tensorconv.cli.progress import watched
from tensorconv.text import plain


def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the network and the plan.")] = Path(
        "tensorconv-demo"
    ),
    budget: Annotated[float, typer.Option(help="Largest share of the multiply-accumulates.")] = 0.25,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Compress a small trained network.

    The convolutions of a network for Fashion-MNIST are factorized, fitted to its responses and checked; then accuracy,
    latency and size are compared. Needs no connection.

    Parameters
    ----------
    out : Path
        Folder for the results.
    budget : float
        Largest cost.
    jobs : int
        Number of processes.
    as_json : bool
        Whether to write JSON.
    """
    module = importlib.import_module("tensorconv.demo")
    with watched(quiet=as_json) as watch:
        done = module.run(out, budget=budget, jobs=jobs, watch=watch)
    saved = out / "network.onnx"
    if as_json:
        show_json({**plain(done.to_dict()), "saved": str(saved)})
        return
    typer.echo(f"{done}\n\nthe score is the percentage of 1,000 test images that are classified rightly")
    typer.echo(f"saved {saved}: {in_short(done)}")
