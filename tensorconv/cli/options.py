"""The arguments that several commands share, and how their text is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tensorconv.errors import FormatError
from tensorconv.export.files import SUFFIXES

InputFile = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help=".npy, .npz, .safetensors or .onnx.")
]
SequenceFile = Annotated[
    Path, typer.Argument(metavar="SEQUENCE", exists=True, dir_okay=False, help=".npz, .safetensors or .onnx.")
]
OutputFile = Annotated[Path, typer.Argument(metavar="OUT", dir_okay=False, help=".npz, .safetensors or .onnx.")]
LayerName = Annotated[str | None, typer.Option("--layer", help="Name of the layer, where FILE holds several.")]
LayerInputSize = Annotated[
    str | None, typer.Option("--input-size", help="Spatial size of the layer's input, as 56x56.")
]
Stride = Annotated[str | None, typer.Option(help="As 2 or 2x1.")]
Padding = Annotated[str | None, typer.Option(help="As 1, 1x2 or, low and high apart, 0:1x0:1.")]
Dilation = Annotated[str | None, typer.Option(help="As 2 or 2x1.")]
Groups = Annotated[int | None, typer.Option(help="Number of channel groups.")]
Transposed = Annotated[bool, typer.Option("--transposed", help="The array is a transposed convolution's kernel.")]
Layout = Annotated[
    str | None, typer.Option(help="Axes of an array: OI* (the default), *IO Keras, IO* PyTorch transposed, *OI.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout and nothing else.")]


def per_axis(option: str, text: str) -> int | tuple[int, ...]:
    """Return one integer, or one per axis, from text as "2" or "2x1".

    Parameters
    ----------
    option : str
        The option's name, for the message.
    text : str
        What the user gave.

    Returns
    -------
    int or tuple of int
        One integer where there is no "x", else a tuple.

    Raises
    ------
    typer.BadParameter
        If a part is not an integer.
    """
    try:
        numbers = tuple(int(part) for part in text.split("x"))
    except ValueError as error:
        raise typer.BadParameter(f"{option} must be integers joined by x, as 2 or 2x1, got {text!r}") from error
    return numbers if len(numbers) > 1 else numbers[0]


def size(text: str | None) -> tuple[int, ...] | None:
    """Return a spatial size from text as "56x56", None from None.

    Parameters
    ----------
    text : str or None
        What the user gave.

    Returns
    -------
    tuple of int or None
        The size; "56" is that of one spatial axis.

    Raises
    ------
    typer.BadParameter
        If a part is not a positive integer.
    """
    if text is None:
        return None
    numbers = per_axis("--input-size", text)
    sizes = numbers if isinstance(numbers, tuple) else (numbers,)
    if min(sizes) < 1:
        raise typer.BadParameter(f"--input-size must be positive, got {text!r}")
    return sizes


def sides(text: str) -> int | list[int | tuple[int, int]]:
    """Return padding from text as "1", "1x2" or "0:1x0:1".

    Parameters
    ----------
    text : str
        What the user gave.

    Returns
    -------
    int or list of int or (int, int)
        One value for all sides, or per axis one for both sides or a pair (low, high).

    Raises
    ------
    typer.BadParameter
        If a part is neither an integer nor two joined by ":".
    """
    entries: list[int | tuple[int, int]] = []
    for part in text.split("x"):
        low, colon, high = part.partition(":")
        try:
            entries.append((int(low), int(high)) if colon else int(low))
        except ValueError as error:
            raise typer.BadParameter(f"--padding must be as 1, 1x2 or 0:1x0:1, got {text!r}") from error
    return entries[0] if len(entries) == 1 and isinstance(entries[0], int) else entries


def check_sequence_file(path: Path) -> None:
    """Refuse a file that a sequence cannot be saved to, before any work is done for it.

    Parameters
    ----------
    path : Path
        Where the sequence is to go.

    Raises
    ------
    FormatError
        If the suffix is not one of a sequence's formats, or the folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise FormatError(f"OUT must end in one of {', '.join(SUFFIXES)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise FormatError(f"the folder of OUT must exist, got {str(path)!r}; make {str(path.parent)!r} first")
