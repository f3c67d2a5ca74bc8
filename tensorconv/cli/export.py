"""``tensorconv export``: a sequence from one file format into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tensorconv as tc
from tensorconv.cli.options import OutputFile


def export(
    sequence: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=".npz, .safetensors or .onnx.")],
    out: OutputFile,
) -> None:
    """Write the sequence of SEQUENCE to OUT in the format of OUT's suffix.

    Parameters
    ----------
    sequence : Path
        File of the sequence.
    out : Path
        Where it goes.
    """
    steps = tc.load(sequence)
    tc.save(out, steps)
    typer.echo(f"{steps}\n\nsaved to {out}")
