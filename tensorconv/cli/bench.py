"""``tensorconv bench``: a network before and after, measured in pairs of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tensorconv.cli.network_files import read_given
from tensorconv.cli.network_options import Data, EvaluateOption, NetworkInputSize
from tensorconv.cli.options import Json, size
from tensorconv.cli.output import show_json, working


def bench(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", exists=True, dir_okay=False, help="An .onnx file.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", exists=True, dir_okay=False, help="Another.")],
    data: Data = None,
    evaluate: EvaluateOption = None,
    pairs: Annotated[
        int | None, typer.Option(min=7, help="Pairs of runs that the latency is from; by default 21, or 10 seconds.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default the cores granted to the process.")
    ] = None,
    input_size: NetworkInputSize = None,
    as_json: Json = False,
) -> None:
    """Compare a network with a compressed one.

    Outputs, latency, memory, size, and the score where there is one. Without --data, outputs are compared on one seeded
    random input.

    Parameters
    ----------
    before, after : Path
        The networks.
    data : Path or None
        File of the data.
    evaluate : str or None
        Function that gives a score.
    pairs : int or None
        Pairs of runs that the latency is from.
    threads : int or None
        Threads of the runtime.
    input_size : str or None
        Spatial size of the input.
    as_json : bool
        Whether to write JSON.
    """
    from tensorconv.models.comparison import compare

    with working("measuring", quiet=as_json):
        given = read_given(before, data, evaluate, input_size=size(input_size))
        other = read_given(after, None, None, input_size=size(input_size))
        found = compare(
            given.network,
            other.network,
            given.batches or [given.network.example],
            evaluate=given.evaluate,
            n_pairs=pairs,
            n_threads=threads,
        )
    if as_json:
        show_json(found.to_dict())
    else:
        typer.echo(found)
