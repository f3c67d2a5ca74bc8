"""A network before and after, measured: drift against its formula, scores, latency, memory and files."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, ModelError
from tensorconv.models.comparison import Comparison, compare
from tensorconv.models.paired_times import Ratio

CHANNELS, SIZE = 32, 24
BATCH = np.random.default_rng(0).standard_normal((1, CHANNELS, SIZE, SIZE)).astype("float32")


class Stored:
    """An ONNX model, as the compared networks are."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def batches(self, data: Any) -> list[dict[str, Any]]:
        return [{"in/put": array} for array in data]

    def run(self, batch: Mapping[str, Any]) -> dict[str, Array]:
        names = [value.name for value in self.model.graph.output]
        return dict(zip(names, self.session.run(names, dict(batch)), strict=True))

    def save(self, path: Path) -> None:
        onnx.save(self.model, path)


def network(depth: int, scale: float = 1.0, out_channels: int = CHANNELS) -> Stored:
    """Return convolutions one after another; the output "sum" and the constant output "shape"."""
    rng = np.random.default_rng(1)
    kernels = [rng.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype("float32") / 17 for _ in range(depth)]
    kernels[-1] = kernels[-1][:out_channels] * np.float32(scale)
    nodes, value = [], "in/put"
    for i in range(depth):
        result = "sum" if i == depth - 1 else f"v{i}"
        nodes.append(helper.make_node("Conv", [value, f"k{i}"], [result], pads=[1, 1, 1, 1]))
        value = result
    nodes.append(helper.make_node("Shape", ["sum"], ["shape"]))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("in/put", TensorProto.FLOAT, [None, CHANNELS, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [4]),
        ],
        [numpy_helper.from_array(kernel, f"k{i}") for i, kernel in enumerate(kernels)],
    )
    return Stored(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


DEEP = network(4)


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return compare(DEEP, network(1), [BATCH, -2 * BATCH], evaluate=lambda run: len(run({"in/put": BATCH})), n_threads=1)


def test_less_work_is_faster_and_smaller(compared: Comparison) -> None:
    assert compared.ratio.high < 0.8
    assert compared.seconds[1] < compared.seconds[0]
    assert compared.n_bytes[0] - compared.n_bytes[1] >= 3 * CHANNELS * CHANNELS * 9 * 4
    assert (compared.n_pairs, compared.n_threads) == (21, 1)


def test_scores_are_what_evaluate_returns(compared: Comparison) -> None:
    assert compared.score == (2.0, 2.0)


def test_drift_is_the_relative_error_over_all_batches(compared: Comparison) -> None:
    batches = [{"in/put": BATCH}, {"in/put": -2 * BATCH}]
    whole = [np.concatenate([one.run(batch)["sum"] for batch in batches]).astype(float) for one in (DEEP, network(1))]
    expected = np.linalg.norm(whole[1] - whole[0]) / np.linalg.norm(whole[0])
    # two sums of n squares in another order: each within n u, the root halves it
    assert math.isclose(compared.drift["sum"], expected, rel_tol=2 * whole[0].size * 2.0**-53)
    assert compared.drift["shape"] == 0.0
    assert compared.largest_drift == compared.drift["sum"]


def test_a_scaled_output_drifts_by_the_scale() -> None:
    drift = compare(DEEP, network(4, scale=0.75), [BATCH], n_pairs=7).drift["sum"]
    assert abs(drift - 0.25) <= 2.0**-24 * 10  # every product with the scaled kernel is exact, sums round in float32


def test_memory_counts_weights_and_data() -> None:
    class Large(Stored):
        def __init__(self, n: int) -> None:
            weight = numpy_helper.from_array(np.ones((n, 1), "float32"), "w")
            graph = helper.make_graph(
                [helper.make_node("MatMul", ["w", "in/put"], ["y"])],
                "large",
                [helper.make_tensor_value_info("in/put", TensorProto.FLOAT, [1, 8])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, [n, 8])],
                [weight],
            )
            super().__init__(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))

    ballast = bytearray(300_000_000)  # the caller's own memory is not the network's
    ballast[::4096] = b"x" * len(ballast[::4096])
    result = compare(Large(2_000_000), Large(1000), [np.ones((1, 8), "float32")], n_pairs=7, n_threads=1)
    assert result.memory is not None
    assert result.drift == {"y": math.inf}
    data = 2_000_000 * 8 * 4
    assert data <= result.memory[0] <= 5 * data
    assert result.memory[1] < data / 2


def test_it_reads_as_a_table(compared: Comparison) -> None:
    lines = str(compared).splitlines()
    assert re.fullmatch(r"\s+before\s+after\s+change", lines[0])
    assert re.fullmatch(r"score\s+2\s+2\s+\+0", lines[1])
    assert re.fullmatch(r"latency, 1 threads\s+\S+ ms\s+\S+ ms\s+times 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", lines[2])
    assert re.fullmatch(r"peak memory\s+\S+ MB\s+\S+ MB\s+times \S+", lines[3])
    assert re.fullmatch(r"file\s+0\.15 MB\s+0\.04 MB\s+times 0\.2\d+", lines[4])
    assert re.fullmatch(r"output 'sum'\s+relative error \S+", lines[5])
    assert len(lines) == 7


def test_it_goes_into_json_and_back() -> None:
    result = Comparison({"y": math.inf}, None, (2.0, 1.0), Ratio(0.5, 0.25, 1.0), 7, 1, None, (4, 2))
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == {
        "drift": {"y": None},
        "score": None,
        "seconds": [2.0, 1.0],
        "ratio": {"median": 0.5, "low": 0.25, "high": 1.0},
        "n_pairs": 7,
        "n_threads": 1,
        "memory": None,
        "n_bytes": [4, 2],
        "largest_drift": None,
    }
    assert "score" not in str(result)
    assert "memory" not in str(result)


class Given:
    """A network of given outputs."""

    def __init__(self, *outputs: Any) -> None:
        self.outputs = {str(i): np.asarray(output) for i, output in enumerate(outputs)}

    def batches(self, data: Any) -> list[dict[str, Any]]:
        return [{} for _ in data]

    def run(self, batch: Mapping[str, Any]) -> dict[str, Array]:  # noqa: ARG002
        return self.outputs

    def save(self, path: Path) -> None:
        Path(path).write_bytes(network(1).model.SerializeToString())


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder; with 'signs' $HOME"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(folder)
    result = compare(DEEP, DEEP, [BATCH], n_pairs=7, n_threads=1)
    assert result.memory is not None
    assert result.largest_drift == 0
    assert [*folder.iterdir()] == []
    with pytest.raises(ModelError, match="the network cannot be timed: ONNX Runtime"):
        compare(Given(), Broken(), [1], n_pairs=7)
    assert [*folder.iterdir()] == []


class Broken(Given):
    """A network whose file is none."""

    def save(self, path: Path) -> None:
        Path(path).write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batches": []}, ModelError, "batches must hold at least one batch, got none; give what the network is"),
        ({"n_pairs": 6}, GeometryError, "n_pairs must be at least 7, got 6"),
        ({"n_threads": 0}, GeometryError, "n_threads must be at least 1, got 0"),
        ({"evaluate": lambda _: None}, ModelError, "evaluate must return a number, larger is better, got None"),
        ({"evaluate": lambda _: math.nan}, ModelError, "evaluate must return a number, larger is better, got nan"),
        ({"after": Given(1.0, 2.0)}, ModelError, "after must have the outputs of before, ['0'], got ['0', '1']"),
    ],
)
def test_refusals(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    fields = {"before": Given(1.0), "after": Given(1.0), "batches": [1]} | arguments
    with pytest.raises(error, match=re.escape(message)):
        compare(**fields)
