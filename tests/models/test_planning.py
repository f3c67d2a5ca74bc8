"""Planning: errors that matter more for outputs or score cost less, all layers count, and stages can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.onnx_graphs import model, node

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.candidates import dense
from tensorconv.models.onnx_network import OnnxNetwork
from tensorconv.models.paired_times import Ratio
from tensorconv.models.plan import Plan
from tensorconv.models.planning import make_plan, observed
from tensorconv.models.progress import Progress
from tensorconv.models.settings import Settings
from tensorconv.models.work import WorkFolder

SVD = {"methods": ["svd"], "shares": (0.2, 0.4, 0.6), "multiple": 1, "faster": False}


def branches(factors: Sequence[float], channels: int = 8) -> OnnxNetwork:
    """Return branches of one convolution each on the same input, each multiplied by a factor, and summed."""
    stored, nodes = {}, []
    kernel = np.random.default_rng(0).standard_normal((channels, channels, 3, 3)).astype("float32")
    for i, factor in enumerate(factors):
        stored |= {f"w{i}": kernel + np.float32(1e-3 * i), f"f{i}": np.array(factor, "float32")}
        nodes.append(node("Conv", f"x w{i}", f"c{i}", pads=[1, 1, 1, 1]))
        nodes.append(node("Mul", f"c{i} f{i}", f"m{i}"))
    nodes.append(node("Sum", " ".join(f"m{i}" for i in range(len(factors))), "y"))
    return OnnxNetwork.read(model(nodes, {"x": ["n", channels, 8, 8]}, "y", stored))


def images(n: int = 16, channels: int = 8) -> list[dict[str, np.ndarray]]:
    return [{"x": np.random.default_rng(1).standard_normal((n, channels, 8, 8)).astype("float32")}]


def errors(plan: Plan) -> list[float]:
    """Return what every layer loses."""
    return [0.0 if layer.choice is None else layer.choice.error for layer in plan.layers]


@pytest.mark.parametrize("loud", [0, 1, 2, 3])
def test_the_layer_that_matters_for_the_outputs_gets_more(loud: int) -> None:
    network = branches([1000.0 if i == loud else 1.0 for i in range(4)])
    found = errors(make_plan(network, Settings(budget=0.5, **SVD), batches=images()))
    assert found[loud] == min(found) < 0.5 * np.median(found)
    by_kernel = Settings(budget=0.5, by="kernel", ends=1, **SVD)
    plain = branches([1.0] * 4)
    assert (
        make_plan(network, by_kernel, batches=images()).layers == make_plan(plain, by_kernel, batches=images()).layers
    )


@pytest.mark.parametrize("loud", [1, 2])
@pytest.mark.parametrize("with_data", [False, True])
def test_the_layer_that_matters_for_the_score_gets_more(loud: int, with_data: bool) -> None:
    network = branches([1.0] * 4)
    asked: list[int] = []

    def scored(_: Callable[[Any], Any]) -> float:
        asked.append(len(asked))
        return -float(len(asked) == 2 + loud)  # first the network itself, then every layer in order

    settings = Settings(budget=0.5, by="score", **SVD)
    found = errors(make_plan(network, settings, batches=images() if with_data else None, evaluate=scored))
    assert len(asked) == 1 + len(network.sites)
    assert found[loud] == min(found) < 0.5 * np.median(found)


@pytest.mark.parametrize("budget", [0.25, 0.7])
def test_a_weight_is_the_effect_of_a_unit_error_whatever_was_tried(budget: float, tmp_path: Path) -> None:
    network = branches(factors := [1.0, 10.0, 2.0])
    (batch,) = data = images(64)
    work = WorkFolder(tmp_path / "work", {})
    make_plan(network, Settings(budget=budget, **SVD), batches=data, work=work)
    whole = np.square(network.run(batch)["y"].astype(float)).sum()
    for site, factor in zip(network.sites, factors, strict=True):
        ((_, response),) = network.capture([site.name], batch)[site.name]
        share = np.square(factor * response.astype(float)).sum() / whole  # the outputs are linear in each branch
        # errors are those that fits see, whose covariance is shrunk by about 72 of 4096
        assert work.get(f"weight {site.name}") == pytest.approx(share, rel=0.05)


def test_the_ends_count_where_nothing_tells() -> None:
    network = branches([1.0] * 5)
    even, ends = (errors(make_plan(network, Settings(budget=0.5, ends=n, **SVD))) for n in (1, 100))
    assert max(ends[0], ends[-1]) < min(ends[1:-1])
    assert max(even) - min(even) < max(ends) - min(ends)


@pytest.mark.parametrize("budget", [0.4, 0.7])
@pytest.mark.parametrize("of", ["macs", "parameters"])
def test_layers_that_are_left_out_count(of: str, budget: float) -> None:
    network = branches([1.0] * 4)
    plan = make_plan(network, Settings(budget=budget, of=of, exclude=["*c1"], **SVD))
    assert [layer.name for layer in plan.layers] == [site.name for site in network.sites]
    left = plan.layers[1]
    assert (left.choice, left.note, left.before) == (None, "excluded", dense(network.sites[1]))
    assert budget / 2 < plan.share(of) <= budget
    with pytest.raises(ModelError, match=r"budget=0.4 of .* cannot be met: 0\.[5-9][0-9]* is the least"):
        make_plan(network, Settings(budget=0.4, of=of, include=["*c0", "*c2"], **SVD))


@pytest.mark.parametrize("request_", [{"budget": 0.5}, {"error": 0.5}, {"budget": 0.5, "of": "latency"}])
def test_patterns_that_leave_nothing_are_refused(request_: dict[str, Any]) -> None:
    network = branches([1.0] * 2)
    text = (
        r"include=\['conv\*'\] and exclude=\[\] leave no layer to look at; the network's 2 convolutions have names such"
    )
    with pytest.raises(ModelError, match=text):
        make_plan(network, Settings(include=["conv*"], **request_, **SVD), clock=Seconds())


class Seconds:
    """A clock on which everything takes as long as its products, and a factorization as much again."""

    def ratio(self, layer: tc.ConvLayer, sequence: tc.ConvSequence, input_size: Sequence[int]) -> Ratio:
        ratio = 2 * sequence.macs(tuple(input_size)) / layer.macs(tuple(input_size))
        return Ratio(ratio, ratio, ratio)

    def seconds(self, layer: tc.ConvLayer, input_size: Sequence[int]) -> float:
        return 1e-6 * layer.macs(tuple(input_size))


def test_a_budget_of_latency_is_planned_by_the_clock() -> None:
    network = branches([1.0] * 3)
    settings = Settings(budget=0.7, of="latency", **SVD | {"faster": True})
    plan = make_plan(network, settings, clock=Seconds())
    ratios = [1.0 if layer.choice is None else layer.choice.ratio[0] for layer in plan.layers]
    assert all(layer.choice is None or layer.choice.ratio[2] < 1 for layer in plan.layers)
    assert 0.4 < np.mean(ratios) <= 0.7
    with pytest.raises(ModelError, match="of='latency' needs a clock; give one, or another cost"):
        make_plan(network, settings)


def test_what_tells_how_much_a_layer_matters_must_be_given() -> None:
    network = branches([1.0])
    with pytest.raises(ModelError, match="by='responses' needs data; give it, or by='kernel'"):
        make_plan(network, Settings(budget=0.9, by="responses", **SVD))
    with pytest.raises(ModelError, match="by='score' needs an evaluation; give it, or by='kernel'"):
        make_plan(network, Settings(budget=0.9, by="score", **SVD), batches=images())


@pytest.mark.parametrize("score", [None, "good", float("nan"), [1, 2]])
def test_a_score_that_is_no_number_is_refused(score: Any) -> None:
    network = branches([1.0])
    with pytest.raises(ModelError, match="evaluate must return a number, larger is better, got "):
        make_plan(network, Settings(budget=0.9, by="score", **SVD), evaluate=lambda _: score)


def test_errors_with_data_are_those_of_responses() -> None:
    network = branches([1.0, 1.0])
    with_data, without = (make_plan(network, Settings(error=0.7, **SVD), batches=b) for b in (images(), None))
    for layer, site in zip(with_data.layers, network.sites, strict=True):
        f = layer.choice.fitted(site.layer, 0, observed(site, network, images()))
        assert layer.choice.error == f.response_error
    for layer, site in zip(without.layers, network.sites, strict=True):
        assert layer.choice.error == layer.choice.fitted(site.layer, 0).relative_error


def test_statistics_are_of_every_use_and_batch() -> None:
    kernel = np.random.default_rng(0).standard_normal((4, 4, 3)).astype("float32")
    nodes = [node("Conv", f"{one} w", two) for one, two in ("xa", "ab", "by")]
    network = OnnxNetwork.read(model(nodes, {"x": ["n", 4, 10]}, "y", {"w": kernel}))
    data = [{"x": np.ones((n, 4, 10), "float32")} for n in (2, 3)]
    sites = network.sites
    assert sum(len(site.input_sizes) for site in sites) == 3
    n_positions = [observed(site, network, data).n_samples for site in sites]
    assert n_positions == [5 * sum(size[0] - 2 for size in site.input_sizes) for site in sites]


@pytest.mark.parametrize("jobs", [1, 2])
def test_any_number_of_processes_and_any_interruption_give_the_same_plan(jobs: int, tmp_path: Path) -> None:
    network = branches([1.0, 10.0, 1.0])
    settings = Settings(budget=0.5, **SVD)
    whole = make_plan(network, settings, batches=images())
    work = WorkFolder(tmp_path / "work", {})
    assert make_plan(network, settings, batches=images(), work=work, jobs=jobs) == whole
    parts = sorted(path for path in (tmp_path / "work").iterdir() if path.name != "run.json")
    assert len(parts) == 1 + 3 * 3  # the plan; of every layer candidates, probe and weight
    rng = np.random.default_rng(0)
    work.put("plan", None)
    for part in parts[:: 3 if jobs == 2 else 1]:  # each alone
        kept = {path: path.read_bytes() for path in parts if path.exists()}
        part.unlink(missing_ok=True)
        assert make_plan(network, settings, batches=images(), work=work, jobs=jobs) == whole
        for path, content in kept.items():
            path.write_bytes(content)
    for _ in range(2):  # and several
        for path in rng.permutation(parts)[:6]:
            path.unlink(missing_ok=True)
        assert make_plan(network, settings, batches=images(), work=work, jobs=jobs) == whole
        work.put("plan", None)


def test_a_plan_that_is_kept_is_taken() -> None:
    network = branches([1.0])

    class Kept(WorkFolder):
        def get(self, name: str) -> Any:
            return other.to_dict() if name == "plan" else None

    other = make_plan(network, Settings(budget=0.9, **SVD))
    assert make_plan(network, Settings(budget=0.5, **SVD), work=Kept(None, {})) == other


def test_progress_names_every_layer_in_order() -> None:
    network = branches([1.0] * 3)
    told: list[Progress] = []
    make_plan(network, Settings(budget=0.5, exclude=["*c1"], **SVD), watch=told.append)
    assert [(one.name, one.done, one.total) for one in told if one.stage == "looking at layers"] == [
        (network.sites[0].name, 0, 2),
        (network.sites[2].name, 1, 2),
    ]
