"""What the frameworks themselves compute from what the exporters made, beside the slow reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto
from oracles import reference_bound, reference_sequence

from tensorconv.arrays import Array
from tensorconv.layers import ConvSequence

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53


def run_onnx(model: ModelProto, x: Array) -> Array:
    """Execute a model by ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {model.graph.input[0].name: x})[0]
    return result


def assert_onnx_computes(model: ModelProto, sequence: ConvSequence, x: Array) -> None:
    """Assert that ONNX Runtime, in float32, agrees with the reference to rounding."""
    y, expected = run_onnx(model, x), reference_sequence(x, sequence)
    assert y.shape == expected.shape
    # ONNX Runtime rounds in float32, the reference in float64
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, [FLOAT32, FLOAT64]))


def run_torch(module: Any, x: Array) -> Array:
    """Execute a torch module."""
    import torch

    with torch.no_grad():
        result: Array = module(torch.from_numpy(x)).numpy()
    return result


def run_keras(model: Any, x: Array) -> Array:
    """Execute a Keras model on the backend that was chosen."""
    import keras

    return _channels_first(keras.ops.convert_to_numpy(model(_channels_last(x))))


def run_flax(model: Any, x: Array) -> Array:
    """Execute an NNX module."""
    return _channels_first(np.asarray(model(_channels_last(x))))


def run_equinox(model: Any, x: Array) -> Array:
    """Execute an Equinox module, which takes one image, on a batch."""
    import jax

    return np.asarray(jax.vmap(model)(x))


def run_jax(dumped: Any, x: Array) -> Array:
    """Execute a function on its parameters."""
    params, apply = dumped
    return np.asarray(apply(params, x))


def run_tensorflow(arrays: dict[str, Array], x: Array) -> Array:
    """Apply arrays as their description says, each by the operator that takes its layout."""
    import keras

    x = _channels_last(x)
    for i, fields in enumerate(json.loads(str(arrays["sequence"]))["layers"]):
        if "order" in fields:
            x = np.take(x, fields["order"], axis=-1)
            continue
        if "mode" in fields:
            x = np.asarray(keras.ops.pad(x, ((0, 0), *fields["padding"], (0, 0)), fields["mode"]))
            continue
        kernel, stride = arrays[f"{i}.kernel"], tuple(fields["stride"])
        if "in_channels" in fields:  # the channels are the first of N + 1 axes, the maps the last
            x = np.moveaxis(x, -1, 1)[..., None]
        options = {"dilation_rate": fields["dilation"], "data_format": "channels_last"}
        if fields["layout"] == "*OI":  # output_padding 0: the whole output, nothing cropped
            x = np.asarray(keras.ops.conv_transpose(x, kernel, stride, output_padding=0, **options))
            x = _shifted(x, [(-low, -high) for low, high in fields["padding"]])
        else:
            operator = keras.ops.depthwise_conv if fields["layout"] == "*ID" else keras.ops.conv
            x = np.asarray(operator(_shifted(x, fields["padding"]), kernel, stride, "valid", **options))
        if "in_channels" in fields:
            x = np.moveaxis(x, (-1, 1), (-2, -1))
            x = x.reshape(*x.shape[:-2], -1)
        x = x + arrays[f"{i}.bias"] if fields["bias"] else x
    return _channels_first(x)


def _shifted(x: Array, pairs: list[Any]) -> Array:
    """Return x (B, *L, C) padded by zeros, or cropped where the padding is negative."""
    x = np.pad(x, [(0, 0), *((max(low, 0), max(high, 0)) for low, high in pairs), (0, 0)])
    crops = [slice(max(-low, 0), n - max(-high, 0)) for n, (low, high) in zip(x.shape[1:-1], pairs, strict=True)]
    return x[(slice(None), *crops)]


def _channels_last(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def _channels_first(y: Array) -> Array:
    return np.moveaxis(y, -1, 1)


def precision(target: str, capability: str) -> AbstractContextManager[Any]:
    """Return the setting without which JAX has no float64."""
    if capability != "float64" or target not in ("jax", "flax", "equinox", "keras"):
        return nullcontext()
    import jax

    return jax.enable_x64(True)  # type: ignore[no-any-return]


# None: there is no runtime, the arrays are checked entry by entry
RUNS: dict[str, Callable[[Any, Array], Array] | None] = {
    "numpy": None,
    "npz": None,
    "safetensors": None,
    "torch": run_torch,
    "onnx": run_onnx,
    "keras": run_keras,
    "flax": run_flax,
    "equinox": run_equinox,
    "jax": run_jax,
    "tensorflow": run_tensorflow,
    "tflite": None,
}
