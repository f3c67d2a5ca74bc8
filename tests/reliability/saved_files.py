"""The kinds of files whose saves are interrupted: two contents of each, how they are saved, and what is read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from export.sequences import chain
from models.onnx_graphs import model, node, whole
from reliability.seeds import plan

import tensorconv as tc
from tensorconv.models.onnx_network import OnnxNetwork
from tensorconv.models.plan import Plan


@dataclass(frozen=True)
class Kind:
    """One kind of file: how two different contents are saved, and what is read back.

    Parameters
    ----------
    name : str
        The file's name.
    saves : tuple of two callables
        Save one content, or the other, to a path.
    read : callable
        From a path, what the file says, as bytes.
    """

    name: str
    saves: tuple[Callable[[Path], None], Callable[[Path], None]]
    read: Callable[[Path], bytes]


def sequence_kind(suffix: str) -> Kind:
    """Return the kind of files that tc.save writes under a suffix."""
    contents = (chain(1, "float32"), chain(2, "float64"))
    saves = tuple(lambda path, one=one: tc.save(path, one) for one in contents)
    return Kind(f"sequence{suffix}", saves, lambda path: tc.export.dump(tc.load(path), "npz"))  # type: ignore[arg-type]


def statistics_kind() -> Kind:
    """Return the kind of files that PatchStatistics.save writes."""
    found = []
    for size in (3, 5):
        layer = tc.ConvLayer.of(whole((2, 3, size), size, "float64"))
        found.append(tc.PatchStatistics(layer))
        found[-1].update(np.random.default_rng(size).standard_normal((2, 3, 20)))
    return Kind("statistics.npz", (found[0].save, found[1].save), _statistics)


def _statistics(path: Path) -> bytes:
    found = tc.PatchStatistics.load(path)
    return repr(found).encode() + found.covariance.tobytes() + found.mean.tobytes()


def plan_kind() -> Kind:
    """Return the kind of files that Plan.save writes."""
    values = json.loads(plan())
    plans = Plan.from_dict(values), Plan.from_dict(values | {"layers": values["layers"] * 9})
    return Kind(
        "plan.json", (plans[0].save, plans[1].save), lambda path: json.dumps(Plan.load(path).to_dict()).encode()
    )


def careless_kind() -> Kind:
    """Return files that are written in their place, by which the tests know that faults are seen."""
    contents = bytes(1000), bytes([1]) * 3000
    saves = tuple(lambda path, one=one: _write_in_place(path, one) for one in contents)
    return Kind("careless", saves, Path.read_bytes)  # type: ignore[arg-type]


def _write_in_place(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)


def network_kind(folder: Path, *, split: bool) -> Kind:
    """Return the kind of files that a compressed network is saved as: one, or two with the tensors in the second."""
    networks = []
    for taps in (3, 5):
        nodes = [node("Conv", "x w", "a", pads=[taps // 2] * 2), node("Conv", "a v", "y", pads=[taps // 2] * 2)]
        stored = {"w": whole((16, 16, taps), taps), "v": whole((16, 16, taps), 1)}
        made = model(nodes, {"x": [1, 16, 9]}, "y", stored)
        path = folder / f"source{taps}.onnx"
        onnx.save_model(made, str(path), save_as_external_data=split, location=f"{taps}.bin", size_threshold=64)
        networks.append(OnnxNetwork.read(path))
    return Kind("split.onnx" if split else "network.onnx", (networks[0].save, networks[1].save), _network)


def _network(path: Path) -> bytes:
    made = onnx.load(str(path))
    onnx.checker.check_model(made)
    return b"".join(onnx.numpy_helper.to_array(tensor).tobytes() for tensor in made.graph.initializer)


def kind_of(name: str, folder: Path) -> Kind:
    """Return a kind by its name."""
    if name.startswith("."):
        return sequence_kind(name)
    if name in ("network", "split network"):
        return network_kind(folder, split=name == "split network")
    return {"statistics": statistics_kind, "plan": plan_kind, "careless": careless_kind}[name]()
