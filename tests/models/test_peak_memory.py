"""Peak memory in a process of its own: what is counted, and what is said when the process fails."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.peak_memory import peak_memory

LAYER = tc.ConvLayer.of(np.ones((1, 1, 1, 1), "float32"))


def test_the_data_of_a_run_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "net work.onnx"
    tc.save(path, LAYER)
    few, many = (peak_memory(path, {"input": np.ones((1, 1, n, n), "float32")}, 1) for n in (4, 3000))
    assert few is not None
    assert many is not None
    assert many - few >= 3000 * 3000 * 4  # the output, at least


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    tc.save(path, LAYER)
    with pytest.raises(ModelError, match=re.escape("model 'network.onnx' failed in a process of its own: ")):
        peak_memory(path, {"other": np.ones((1, 1, 2, 2), "float32")}, 1)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"InvalidProtobuf|INVALID_PROTOBUF"):
        peak_memory(path, {}, 1)
