"""``tensorconv export``: a sequence from one file format into another."""

from __future__ import annotations

import typer

import tensorconv as tc
from tensorconv.cli.options import OutputFile, SequenceFile, check_sequence_file


def export(
    sequence: SequenceFile,
    out: OutputFile,
) -> None:
    """Write a sequence in another file format.

    The suffix of OUT chooses the format: .npz, .safetensors or .onnx.

    Parameters
    ----------
    sequence : Path
        File of the sequence.
    out : Path
        Where it goes.
    """
    check_sequence_file(out)
    steps = tc.load(sequence)
    tc.save(out, steps)
    typer.echo(f"{steps}\n\nsaved to {out}")
