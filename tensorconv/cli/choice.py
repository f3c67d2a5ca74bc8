"""Which layer of a file a command works on, and with which geometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tensorconv.cli.options import per_axis, sides
from tensorconv.errors import ModelError
from tensorconv.layers import ConvLayer, to_layout
from tensorconv.models import FoundLayer, Reading, read_file

_LISTED = 20


def geometry_options(
    stride: str | None, padding: str | None, dilation: str | None, groups: int | None, transposed: bool
) -> dict[str, Any]:
    """Return the geometry options that were given, as :meth:`tensorconv.ConvLayer.of` takes them.

    Parameters
    ----------
    stride, padding, dilation : str or None
        The text of the options.
    groups : int or None
        Number of groups.
    transposed : bool
        Whether the flag was given.

    Returns
    -------
    dict
        Empty where no option was given.
    """
    options: dict[str, Any] = {}
    if stride is not None:
        options["stride"] = per_axis("--stride", stride)
    if padding is not None:
        options["padding"] = sides(padding)
    if dilation is not None:
        options["dilation"] = per_axis("--dilation", dilation)
    if groups is not None:
        options["groups"] = groups
    if transposed:
        options["transposed"] = True
    return options


def choose(path: Path, name: str | None, layout: str | None, options: Mapping[str, Any]) -> FoundLayer:
    """Read a file and return the one layer that is meant.

    Parameters
    ----------
    path : Path
        The file.
    name : str or None
        Name of the layer; None where the file holds one only.
    layout : str or None
        Order of an array's axes.
    options : mapping
        Geometry for an array, which has none in its file.

    Returns
    -------
    FoundLayer
        The layer with its geometry.

    Raises
    ------
    ModelError
        If no layer, or not exactly one, is meant, or the file says the geometry itself.
    """
    found = _named(read_file(path, layout=layout), path, name)
    if not options:
        return found
    if found.source != "array":
        given = ", ".join(f"--{option}" for option in options)
        raise ModelError(
            f"{path} says the geometry of layer {found.layer.name!r} itself ({found.layer}); leave out {given}"
        )
    order = layout or "OI*"
    array = to_layout(found.layer.kernel, order, found.layer.geometry)
    return replace(found, layer=ConvLayer.of(array, layout=order, name=found.layer.name, **options))


def _named(reading: Reading, path: Path, name: str | None) -> FoundLayer:
    """Return the layer of this name, or the only one."""
    chosen = [found for found in reading.layers if name is None or found.layer.name == name]
    if reading.skipped and name is None and any(found.source == "sequence" for found in reading.layers):
        steps = "; ".join(f"{s.name}: {s.reason}" for s in reading.skipped)
        raise ModelError(f"{path} holds a sequence with steps beside its convolutions ({steps}); choose one by --layer")
    if len(chosen) == 1:
        return chosen[0]
    names = [found.layer.name for found in reading.layers]
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    reasons = "; ".join(f"{s.name}: {s.reason}" for s in reading.skipped if name in (None, s.name))
    left_out = f"; left out: {reasons}" if reasons else ""
    if not names:
        raise ModelError(f"{path} holds no convolution that can be read{left_out}")
    if name is None:
        raise ModelError(f"{path} holds {len(names)} layers, choose one by --layer: {listed}")
    if chosen:
        raise ModelError(f"{path} holds {len(chosen)} layers named {name!r}; --layer needs a name of its own for each")
    raise ModelError(f"{path} holds no layer {name!r}{left_out}; it holds {listed}")
