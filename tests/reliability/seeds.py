"""The whole files that are mutated: sequences, plain arrays, networks, statistics and plans, all of a few kilobytes."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path

import numpy as np
import onnx
from export.sequences import chain, channelwise, layer, padded
from models.onnx_graphs import model, node, small, whole
from safetensors.numpy import save as save_tensors

import tensorconv as tc
from tensorconv.layers import ConvSequence
from tensorconv.models.candidates import Candidate
from tensorconv.models.found import SkippedLayer
from tensorconv.models.plan import Plan, PlannedLayer
from tensorconv.models.settings import Settings

ARRAYS = {"conv": whole((3, 2, 3, 3), 1), "other": whole((2, 4, 3), 2, "float64"), "bias": whole((3,), 3)}


def sequences() -> tuple[ConvSequence, ...]:
    """Return sequences with steps of every kind."""
    return (
        chain(2, "float32"),
        layer("transposed", 1, "bfloat16", name="conv").sequence,
        padded(2, "reflect", "float16"),
        channelwise(1, "float32"),
        tc.ConvLayer((whole((2, 3, 2)) > 0).astype("float32"), tc.ConvGeometry.of(1), entries="fixed").sequence,
    )


def networks() -> list[onnx.ModelProto]:
    """Return networks of convolutions among other nodes, with weights stored in several ways."""
    nodes = [
        node("Constant", "", "w", value=onnx.numpy_helper.from_array(whole((4, 2, 3), 1))),
        node("ConvTranspose", "x w", "a", strides=[2], output_padding=[1], pads=[1, 0]),
        node("Pad", "a p", "q", mode="reflect"),
        node("Conv", "q v b", "c", auto_pad="SAME_UPPER", dilations=[2]),
        node("Flatten", "c", "f"),
        node("Gemm", "f g h", "y", transB=1),
    ]
    stored = {"p": np.array([0, 0, 1, 0, 0, 1]), "v": whole((3, 2, 3), 2), "b": whole((3,), 3)}
    stored |= {"g": whole((2, 3 * 18), 4), "h": whole((2,), 5)}
    chained = model(nodes, {"x": [1, 4, 8]}, "y", stored)
    typed = small(size=(6, 5))
    for tensor in typed.graph.initializer:  # numbers in a field of their own instead of bytes
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, tensor.data_type, values.shape, values.ravel().tolist()))
    return [small(), typed, chained]


def plan() -> bytes:
    """Return a plan as the bytes of its file."""
    before = Candidate("dense", (), (), 1000, 100, 10, 0.0, (1.0, 1.0, 1.0))
    choice = Candidate("svd", (("split", (0,)),), 3, 400, 50, 9, 0.3, (0.5, 0.4, 0.6))
    layers = (
        PlannedLayer("a", "8 -> 8", before, choice, "", (choice,), 0.5),
        PlannedLayer("b", "", before, None, "excluded"),
    )
    settings = Settings(error=0.5, methods=["svd", "cp"], of="latency")
    return json.dumps(Plan(settings, "0123", layers, (SkippedLayer("c", "computed"),)).to_dict()).encode()


def statistics(folder: Path) -> tuple[bytes, ...]:
    """Return files of statistics, with and without targets, through a folder."""
    contents = []
    for square_root in (False, True):
        one = layer("grouped", 1, "float32")
        found = tc.PatchStatistics(one, square_root=square_root)
        x = np.random.default_rng(0).standard_normal((2, one.in_channels, 9))
        found.update(x, tc.convolve(x, one) if square_root else None)
        found.save(folder / "statistics")
        contents.append((folder / "statistics").read_bytes())
    return tuple(contents)


def archived(*, packed: bool) -> bytes:
    """Return plain arrays as numpy saves them."""
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **ARRAYS)  # type: ignore[arg-type]
    return file.getvalue()


@functools.cache
def seeds(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """Return whole files by kind; a folder is needed to write some of them."""
    array = io.BytesIO()
    np.save(array, ARRAYS["conv"])
    messages = [tc.export.dump(one, "onnx") for one in sequences()[:3]]
    messages += [tc.export.dump(sequences()[0], "onnx", function="core"), *networks()]
    tensors = {name: tc.export.dump(one, "safetensors") for name, one in enumerate(sequences())}
    return {
        ".npz": (*(tc.export.dump(one, "npz") for one in sequences()), archived(packed=False), archived(packed=True)),
        ".safetensors": (*tensors.values(), save_tensors(ARRAYS, {"made": "by hand"})),
        ".onnx": tuple(message.SerializeToString() for message in messages),
        "statistics": statistics(folder),
        ".npy": (array.getvalue(),),
        "plan": (plan(),),
    }
