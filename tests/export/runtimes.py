"""ONNX Runtime's results, beside the slow reference."""

from __future__ import annotations

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
