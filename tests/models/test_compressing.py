"""compress: what it reports is what its network does, it is plan and apply in one, and the same bits every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from models.onnx_graphs import model, node
from onnx import numpy_helper
from torch import nn

import tensorconv as tc
from tensorconv.demo import NETWORK
from tensorconv.errors import ModelError
from tensorconv.models.compressed_layer import CompressedLayer
from tensorconv.models.compressing import apply_plan, compress, plan_network
from tensorconv.models.compression import Compression
from tensorconv.models.fitting import fit
from tensorconv.models.network import Network
from tensorconv.models.opening import open_network
from tensorconv.models.plan import Plan
from tensorconv.models.progress import Progress
from tensorconv.models.settings import Settings

FAST: dict[str, Any] = {"methods": ["svd"], "shares": (0.2, 0.4, 0.6), "multiple": 4, "faster": False}


def graph(outputs: str = "y z") -> onnx.ModelProto:
    """Return two convolutions, a grouped and a transposed one, and two outputs."""
    rng = np.random.default_rng(0)

    def kernel(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype("float32")

    stored = {
        "w1": kernel(16, 3, 3, 3),
        "b1": kernel(16, 1).ravel(),
        "w2": kernel(16, 8, 3, 3),
        "w3": kernel(16, 12, 4, 4),
        "w4": kernel(12, 12, 3, 3),
    }
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2", "c2", pads=[1, 1, 1, 1], group=2),
        node("Relu", "c2", "z"),
        node("ConvTranspose", "z w3", "c3", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", "c3", "r3"),
        node("Conv", "r3 w4", "y", pads=[1, 1, 1, 1]),
    ]
    return model(nodes, {"x": ["n", 3, 8, 8]}, outputs, stored)


def images(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def runtime_outputs(given: bytes, x: np.ndarray) -> list[np.ndarray]:
    """Return what ONNX Runtime itself gives."""
    found: list[np.ndarray] = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )
    return found


def bits(c: Compression) -> bytes:
    found: bytes = c.model.SerializeToString(deterministic=True)
    return found


def fitted(given: Any, data: Any = None, **request: Any) -> tuple[Plan, Network, tuple[CompressedLayer, ...]]:
    """Return what compress makes before it measures the whole, which takes most of the time here."""
    settings = Settings(**request)
    network = open_network(given, data=data, linear=settings.linear)
    batches = None if data is None else network.batches(data)
    plan = plan_network(network, settings, batches)
    return plan, *fit(network, plan, batches=batches)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return images(24, 3, 8, 8)


@pytest.fixture(scope="module")
def done(x: np.ndarray) -> Compression:
    return compress(graph(), budget=0.6, data=x, **FAST)


def test_the_reported_drift_is_that_of_the_saved_file(done: Compression, x: np.ndarray, tmp_path: Path) -> None:
    done.save(tmp_path / "after.onnx")
    before = runtime_outputs(graph().SerializeToString(), x)
    after = runtime_outputs((tmp_path / "after.onnx").read_bytes(), x)
    assert list(done.comparison.drift) == ["y", "z"]
    for one, other, drift in zip(before, after, done.comparison.drift.values(), strict=True):
        error = np.linalg.norm(other.astype(float) - one) / np.linalg.norm(one.astype(float))
        # the same runtime, perhaps on other numbers of threads: float32 sums of some hundred terms
        assert drift == pytest.approx(error, rel=1e-4)
    assert 0 < done.comparison.drift["y"] < 1


def test_the_file_is_valid_and_says_what_was_done(done: Compression, tmp_path: Path) -> None:
    done.save(tmp_path / "after.onnx")
    saved = onnx.load(tmp_path / "after.onnx")
    onnx.checker.check_model(saved, full_check=True)
    (record,) = [json.loads(one.value) for one in saved.metadata_props if one.key != "author"]
    assert list(record) == [one.name for one in done.plan.layers if one.choice is not None]
    for one in done.layers:
        if one.planned.choice is not None:
            assert record[one.name]["method"] == "svd"
            assert record[one.name]["rank"] == one.planned.choice.rank
            assert record[one.name]["response_error"] == one.response_error
            assert one.report is not None
            assert one.report.consistent
    assert {one.key: one.value for one in saved.metadata_props}["author"] == "somebody"


@pytest.mark.parametrize("of", ["macs", "parameters"])
def test_the_budget_holds_for_what_was_built(of: str) -> None:
    plan, network, layers = fitted(graph(), budget=0.55, of=of, **FAST)
    sites = {site.name: site for site in open_network(graph()).sites}
    after = before = 0
    for one in layers:
        sequence = one.sequence or tc.ConvSequence((one.layer,))
        for size in sites[one.name].input_sizes:
            before += one.layer.macs(size) if of == "macs" else one.layer.n_parameters
            after += sequence.macs(size) if of == "macs" else sequence.n_parameters
    assert after / before == plan.share(of)
    assert 0.35 < plan.share(of) <= 0.55
    if of == "parameters":
        n_stored = [
            sum(numpy_helper.to_array(t).size for t in one.graph.initializer if numpy_helper.to_array(t).ndim)
            for one in (graph(), network.model)
        ]
        assert n_stored == [before, after]


def test_layers_left_out_stay_to_the_bit() -> None:
    plan, network, layers = fitted(graph(), budget=0.9, exclude=["*c2", "*y"], **FAST)
    stored = {t.name: t for t in graph().graph.initializer}
    kept = {t.name: t for t in network.model.graph.initializer}
    assert kept["w2"] == stored["w2"]
    assert kept["w4"] == stored["w4"]
    excluded = [one.name for one in plan.layers if one.note == "excluded"]
    assert excluded == [one.name for one in layers if one.name.endswith(("c2", "y"))]
    assert len(excluded) == 2


@pytest.mark.parametrize("with_data", [False, True])
def test_it_is_plan_and_apply_in_one(with_data: bool, done: Compression, x: np.ndarray, tmp_path: Path) -> None:
    data = x if with_data else None
    whole = done if with_data else compress(graph(), budget=0.6, **FAST)
    network = open_network(graph(), data=data)
    batches = None if data is None else network.batches(data)
    settings = Settings(budget=0.6, batch=whole.plan.settings.batch, **FAST)
    plan = plan_network(network, settings, batches)
    assert plan == whole.plan
    plan.save(tmp_path / "plan.json")
    assert bits(apply_plan(network, Plan.load(tmp_path / "plan.json"), batches)) == bits(whole)


def test_the_same_twice_on_any_number_of_processes_and_resumed_gives_the_same_bits(
    done: Compression, x: np.ndarray, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if len(told) in stops:
            raise KeyboardInterrupt

    stops = {3, 8, 12}
    runs = 0
    while True:
        runs += 1
        try:
            c = compress(graph(), budget=0.6, data=x, work=work, resume=True, jobs=1 + runs % 2, watch=stop, **FAST)
        except KeyboardInterrupt:
            continue
        break
    assert runs == 4
    assert bits(c) == bits(done)
    assert c.plan == done.plan
    with pytest.raises(ModelError, match="is that of another model, request, data or version"):
        compress(graph(), budget=0.5, data=x, work=work, resume=True, **FAST)


def test_an_error_is_met_by_every_layer(x: np.ndarray) -> None:
    for data in (None, x):
        _, _, layers = fitted(graph(), data, error=0.5, **FAST)
        replaced = [one for one in layers if one.planned.choice is not None]
        assert replaced
        assert all(one.planned.choice.error <= 0.5 for one in replaced if one.planned.choice)
        if data is None:
            assert all(one.relative_error <= 0.5 for one in replaced)


@pytest.mark.parametrize("faster", [False, True])
def test_nothing_is_timed_unless_it_matters(faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    c = compress(graph("y"), error=0.9, include=["*c1"], **FAST | {"faster": faster})
    assert any(tmp_path.rglob("*.json")) == faster  # where measured times are remembered
    for one in c.plan.layers:
        assert one.choice is None or (one.choice.ratio is not None) == faster
        assert one.choice is None or one.choice.ratio is None or one.choice.ratio[2] < 1
    assert c.plan.layers[0].choice is not None or c.plan.layers[0].note.startswith("would not get faster")


def test_it_prints_and_becomes_json(done: Compression) -> None:
    values = json.loads(json.dumps(done.to_dict(), allow_nan=False))
    assert Plan.from_dict(values["plan"]) == done.plan
    assert list(values["layers"]) == [one.name for one in done.layers if one.sequence is not None]
    assert values["comparison"]["drift"] == done.comparison.drift
    assert str(done).endswith(f"\n\n{done.comparison}")
    for one in done.layers:  # what was reached stands there, which need not be what was planned
        (line,) = [line for line in str(done).splitlines() if line.startswith(f"{one.name} ")]
        assert one.response_error is None or f" {one.response_error:.3g} " in line


def test_the_demo_gets_smaller_and_stays_a_network(tmp_path: Path) -> None:
    data = images(4, 1, 28, 28)
    plan, network, layers = fitted(NETWORK, data, budget=0.6, linear=True, **FAST | {"multiple": 16})
    assert plan.share("macs") <= 0.6
    assert any(one.layer.kernel_size == (1,) for one in layers)
    for one in layers:
        for step in (one.sequence or ()) if one.layer.in_channels > 16 else ():
            assert step.out_channels % 16 == 0 or step.out_channels == one.layer.out_channels
    network.save(tmp_path / "after.onnx")
    assert (tmp_path / "after.onnx").stat().st_size < NETWORK.stat().st_size


class Twice(nn.Module):
    """One convolution used twice, at two sizes, and a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.shared = nn.Conv2d(12, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(12, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image = torch.relu(self.shared(torch.relu(self.stem(image))))
        return self.head(torch.relu(self.shared(image)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "shared and linear": (Twice, (3, 12, 12)),
    "one axis": (lambda: nn.Sequential(nn.Conv1d(4, 12, 5, padding=2), nn.ReLU(), nn.Conv1d(12, 8, 5)), (4, 30)),
    "three axes": (lambda: nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, 3)), (4, 5, 5, 5)),
    "transposed": (
        lambda: nn.Sequential(nn.Conv2d(4, 12, 3), nn.ReLU(), nn.ConvTranspose2d(12, 8, 4, stride=2, padding=1)),
        (4, 8, 8),
    ),
    "grouped": (
        lambda: nn.Sequential(nn.Conv2d(8, 16, 3, groups=2), nn.ReLU(), nn.Conv2d(16, 8, 3, dilation=2)),
        (8, 10, 10),
    ),
}


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_modules_keep_their_kinds_keys_and_meaning(name: str, with_data: bool, tmp_path: Path) -> None:
    make, size = MODULES[name]
    torch.manual_seed(0)
    module = make()
    x = images(12, *size)
    keys = list(module.state_dict())
    c = compress(
        module,
        budget=0.7,
        data=x if with_data else None,
        input_size=None if with_data else size[1:],
        linear=True,
        **FAST | {"multiple": 1},
    )
    assert (c.plan.settings.linear, c.plan.settings.input_size) == (True, None if with_data else size[1:])
    assert list(module.state_dict()) == keys
    assert type(c.model) is type(module)
    assert c.plan.share("macs") <= 0.7
    replaced = [one for one in c.layers if one.sequence is not None]
    assert replaced
    for one in replaced:
        steps = c.model.get_submodule(one.name)
        kinds = {type(m) for m in steps.modules()} - {nn.Sequential}
        assert kinds == {type(module.get_submodule(one.name))}
    assert set(c.key_map) == set(keys)
    assert sorted(key for row in c.key_map.values() for key in row) == sorted(c.model.state_dict())
    c.save(tmp_path / "after.pt")
    loaded = torch.load(tmp_path / "after.pt", weights_only=False)
    with torch.no_grad():
        expected, got, original = (one.eval()(torch.from_numpy(x)) for one in (c.model, loaded, module))
    assert torch.equal(expected, got)
    error = float((got - original).double().norm() / original.double().norm())
    assert 0 < error < 1
    if with_data:
        (drift,) = c.comparison.drift.values()
        assert drift == pytest.approx(error, rel=1e-4)  # float32 sums of some hundred terms
        assert all(one.response_error is not None for one in replaced)


def test_uses_of_a_shared_layer_are_added_up() -> None:
    torch.manual_seed(0)
    c = compress(Twice(), budget=0.7, input_size=12, **FAST | {"multiple": 1})
    (shared,) = [one for one in c.plan.layers if one.name == "shared"]
    assert shared.before.macs == 12 * 12 * 9 * (6 * 6 + 3 * 3)
    assert shared.before.n_parameters == 12 * 12 * 9 + 12


def test_a_score_is_compared_before_and_after(x: np.ndarray) -> None:
    def evaluate(run: Callable[[Any], Any]) -> float:
        return -float(np.square(run({"x": x})["y"]).mean())

    c = compress(graph("y"), budget=0.6, evaluate=evaluate, by="score", **FAST)
    before, after = (runtime_outputs(given, x)[0] for given in (graph("y").SerializeToString(), bits(c)))
    assert c.comparison.score == pytest.approx([-np.square(before).mean(), -np.square(after).mean()], rel=1e-4)


def test_a_request_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="exactly one of budget and error"):
        compress(graph())
    with pytest.raises(ModelError, match="jobs must be an integer of at least 1, or None, got 0"):
        compress(graph(), budget=0.6, jobs=0, **FAST)
    with pytest.raises(ModelError, match=r"budget=0.001 of macs cannot be met: 0\.[0-9]+ is the least"):
        compress(graph(), budget=0.001, **FAST)
    with pytest.raises(ModelError, match=r"methods must be of .*, which take data, got 'tensor_train'"):
        compress(graph(), budget=0.6, data=images(2, 3, 8, 8), methods=["tensor_train"], faster=False)
