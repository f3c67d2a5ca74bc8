"""Exporters: write a sequence for a framework or file format, and read it back, each found by its entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from tensorconv.errors import MissingFrameworkError, UnsupportedExportError
from tensorconv.layers import ConvSequence, as_sequence

__all__ = ["dump", "load"]

_GROUP = "tensorconv.exporters"


def dump(sequence: Any, target: str, **options: Any) -> Any:
    """Write a sequence for a framework or file format.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.
    target : str
        Name of the exporter: "numpy", "tensorflow" or "tflite" (dict of arrays), "npz" or "safetensors" (bytes),
        "torch" (nn.Sequential), "onnx" (ModelProto), "keras" (Model), "flax" (nnx.Sequential), "equinox"
        (nn.Sequential), "jax" (parameters and a function), or one that another package registers in the entry point
        group ``tensorconv.exporters``.
    **options : Any
        Options of that exporter's own ``dump``, such as ``layout`` of "numpy" and ``opset`` of "onnx".

    Returns
    -------
    Any
        What the exporter makes.

    Raises
    ------
    UnsupportedExportError
        If no exporter has this name, or the target cannot say the sequence exactly.
    MissingFrameworkError
        If the exporter's package is not installed.
    KernelTypeError
        If ``sequence`` is not a sequence.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> sorted(tc.export.dump(tc.ConvLayer.of(np.ones((8, 4, 3, 3))), "numpy"))
    ['0.kernel', 'sequence']
    """
    return _exporter(target).dump(as_sequence(sequence), **options)


def load(obj: Any, target: str, **options: Any) -> ConvSequence:
    """Read a sequence from what a framework or file format holds, the inverse of :func:`tensorconv.export.dump`.

    Parameters
    ----------
    obj : Any
        What the exporter reads: what its ``dump`` makes, or one layer of the framework, such as a torch Conv2d, a Keras
        or Flax layer, an ONNX node.
    target : str
        Name of the exporter, as in :func:`dump`.
    **options : Any
        Options of that exporter's own ``load``, such as ``input_size`` where "same" padding depends on it.

    Returns
    -------
    ConvSequence
        The sequence, bitwise the one that was dumped.

    Raises
    ------
    UnsupportedExportError
        If no exporter has this name, or the object holds more than a chain of convolutions.
    MissingFrameworkError
        If the exporter's package is not installed.
    FormatError
        If the object is broken.
    """
    sequence: ConvSequence = _exporter(target).load(obj, **options)
    return sequence


def _exporter(target: str) -> ModuleType:
    """Import the exporter of this name; the first one found wins, as on Python's module path."""
    entries: dict[str, EntryPoint] = {}
    for entry in entry_points(group=_GROUP):
        entries.setdefault(entry.name, entry)
    if target not in entries:
        raise UnsupportedExportError(
            f"target must be one of {', '.join(sorted(entries))}, got {target!r}; another package adds its own by an "
            f"entry point of the group {_GROUP}"
        )
    entry = entries[target]
    try:
        module: ModuleType = entry.load()
    except MissingFrameworkError:
        raise
    except ImportError as error:
        missing = (error.name or target).partition(".")[0]
        if missing == "tensorconv":
            raise
        ours = entry.value.partition(".")[0] == "tensorconv"
        cure = f"pip install 'tensorconv[{target}]'" if ours else f"pip install {missing}"
        if ours and target == "keras" and missing != "keras":
            cure = f"pip install {missing}, or set the environment variable KERAS_BACKEND to jax, torch or tensorflow"
        raise MissingFrameworkError(f"target {target!r} needs the package {missing}: {cure} ({error})") from error
    for name in ("dump", "load"):
        if not callable(getattr(module, name, None)):
            raise UnsupportedExportError(
                f"target {target!r} is no exporter: {entry.value} has no function {name}; an exporter is a module with "
                "the functions dump(sequence) and load(obj)"
            )
    return module
