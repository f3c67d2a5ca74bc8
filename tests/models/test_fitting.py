"""Fitting: layers become what was planned, errors are those on what the compressed layers before give, bits repeat."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from models.onnx_graphs import model, node

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.candidates import Candidate, dense
from tensorconv.models.compressed_layer import CompressedLayer
from tensorconv.models.drift import drift_by_output
from tensorconv.models.fitting import fit, fit_layer
from tensorconv.models.onnx_network import OnnxNetwork
from tensorconv.models.plan import Plan, PlannedLayer, fingerprint
from tensorconv.models.planning import observed
from tensorconv.models.settings import Settings
from tensorconv.models.work import WorkFolder

CHANNELS = (3, 8, 8, 6)


def network() -> OnnxNetwork:
    """Return three convolutions with activations between, of kernels whose singular values fall."""
    rng = np.random.default_rng(0)
    stored, nodes = {}, []
    for i, (n_in, n_out) in enumerate(pairwise(CHANNELS)):
        kernel = rng.standard_normal((n_out, n_in, 3, 3)) / np.sqrt(9 * n_in)
        stored |= {f"w{i}": kernel.astype("float32"), f"b{i}": rng.standard_normal(n_out).astype("float32")}
        nodes.append(node("Conv", f"x{i} w{i} b{i}", f"c{i}", pads=[1, 1, 1, 1]))
        nodes.append(node("Relu", f"c{i}", f"x{i + 1}" if i < 2 else "y"))
    return OnnxNetwork.read(model(nodes, {"x0": ["n", 3, 8, 8]}, "y", stored))


@pytest.fixture(scope="module")
def original() -> OnnxNetwork:
    return network()


@pytest.fixture(scope="module")
def batches() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x0": rng.standard_normal((40, 3, 8, 8)).astype("float32")} for _ in range(2)]


def planned(one: OnnxNetwork, ranks: tuple[int | None, ...] = (2, 3, 2), method: str = "svd") -> Plan:
    """Return a plan with these ranks; None leaves a layer alone."""
    layers = []
    for site, rank in zip(one.sites, ranks, strict=True):
        options = (("split", (0,)),) if method == "svd" else ()
        choice = None if rank is None else Candidate(method, options, rank, 1, 1, 1, 0.5)
        layers.append(PlannedLayer(site.name, str(site.layer), dense(site), choice))
    return Plan(Settings(budget=0.5), fingerprint(one.sites), tuple(layers))


def bits(sequence: tc.ConvSequence | None) -> list[object]:
    return [(step.geometry, step.kernel.tobytes(), step.bias is None or step.bias.tobytes()) for step in sequence or ()]


def seen(
    original: OnnxNetwork, layers: tuple[CompressedLayer, ...], name: str, batch: dict[str, np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what goes into a layer when those before it are compressed."""
    before = {}
    for one in layers:
        if one.name == name:
            break
        before[one.name] = one.sequence
    return original.replaced(before).capture([name], batch)[name]


def double(sequence: tc.ConvSequence) -> tc.ConvSequence:
    """Return the same convolutions in float64."""
    return tc.ConvSequence(
        tuple(
            replace(step, kernel=step.kernel.astype(float), bias=None if step.bias is None else step.bias.astype(float))
            for step in sequence
        )
    )


@pytest.mark.parametrize("with_data", [False, True])
def test_layers_become_what_was_planned(original, batches, with_data) -> None:
    plan = planned(original, (2, None, 3))
    after, layers = fit(original, plan, batches=batches if with_data else None)
    assert [one.name for one in layers] == [site.name for site in original.sites]
    assert [one.planned for one in layers] == list(plan.layers)
    assert (layers[1].sequence, layers[1].report, layers[1].response_error) == (None, None, None)
    assert bits(tc.ConvSequence((layers[1].layer,))) == bits(tc.ConvSequence((original.sites[1].layer,)))
    for one, rank in ((layers[0], 2), (layers[2], 3)):
        assert [step.out_channels for step in one.sequence] == [rank, one.layer.out_channels]
        assert one.report.consistent
        assert (one.response_error is None) == (not with_data)
        kernel = tc.compose(one.sequence).kernel.astype(float)
        error = np.linalg.norm(kernel - one.layer.kernel) / np.linalg.norm(one.layer.kernel)
        # float32 factors composed in float32: some u of 6e-8 per entry
        assert one.relative_error == pytest.approx(error, rel=1e-5)
    # what is in the graph is what the layers say, with the layers around untouched
    expected = original.replaced({one.name: one.sequence for one in layers if one.sequence})
    assert drift_by_output(expected.run, after.run, batches) == {"y": 0.0}


def test_without_data_a_layer_is_that_of_the_method_alone(original) -> None:
    _, layers = fit(original, planned(original))
    for one, site, rank in zip(layers, original.sites, (2, 3, 2), strict=True):
        alone = tc.svd(site.layer, rank, split=(0,))
        assert bits(one.sequence) == bits(alone.sequence)
        assert one.relative_error == alone.relative_error


def test_errors_are_of_the_original_responses_on_compressed_inputs(original, batches) -> None:
    _, layers = fit(original, planned(original), batches=batches)
    for one in layers:
        difference = whole = 0.0
        for batch in batches:
            ((x, _),) = seen(original, layers, one.name, batch)
            ((_, wanted),) = original.capture([one.name], batch)[one.name]
            got = tc.convolve(x.astype(float), double(one.sequence))
            difference += np.square(got - wanted).sum()
            whole += np.square(wanted.astype(float)).sum()
        # fits see a covariance shrunk by about (patch length) / (positions), here 72 / 5120
        assert one.response_error == pytest.approx(np.sqrt(difference / whole), rel=0.03)


def test_later_layers_repair_what_earlier_ones_lost(original, batches) -> None:
    plan = planned(original, (1, 4, 4))  # the first loses most
    after, _ = fit(original, plan, batches=batches)
    alone = {
        one.name: fit_layer(one, site, 0, observed(site, original, batches)).sequence
        for one, site in zip(plan.layers, original.sites, strict=True)
    }
    unseen = [{"x0": np.random.default_rng(2).standard_normal((40, 3, 8, 8)).astype("float32")}]
    plain, _ = fit(original, plan)
    drifts = [drift_by_output(original.run, one.run, unseen)["y"] for one in (after, original.replaced(alone), plain)]
    assert drifts[0] < 0.95 * drifts[1] < 0.95 * drifts[2]


def test_a_bias_that_was_lost_is_put_back_by_the_next_layer() -> None:
    # the first layer can only keep its first channel, and the second reads the others' constants
    first = np.zeros((4, 2, 1, 1), "float32")
    first[0, 0], first[1, 1] = 10, 0.1
    second = np.random.default_rng(3).standard_normal((4, 4, 1, 1)).astype("float32")
    stored = {"w0": first, "b0": np.array([0, 5, -7, 9], "float32"), "w1": second}
    nodes = [node("Conv", "x w0 b0", "c0"), node("Conv", "c0 w1", "y")]
    one = OnnxNetwork.read(model(nodes, {"x": ["n", 2, 6, 6]}, "y", stored))
    data = [{"x": np.random.default_rng(4).standard_normal((30, 2, 6, 6)).astype("float32") + 3}]
    _, layers = fit(one, planned(one, (1, 4)), batches=data)
    assert layers[0].response_error < 0.1  # the mean of what is lost is in the bias
    assert layers[1].response_error < 0.1
    plain, _ = fit(one, planned(one, (1, 4)))
    after, _ = fit(one, planned(one, (1, 4)), batches=data)
    drifts = [drift_by_output(one.run, found.run, data)["y"] for found in (after, plain)]
    assert drifts[0] < drifts[1]


@pytest.mark.parametrize("with_data", [False, True])
def test_the_same_twice_gives_the_same_bits(original, batches, with_data) -> None:
    plan = planned(original, (2, 3, 2), "cp")
    given = batches if with_data else None
    one, other = (fit(original, plan, batches=given)[0].model.SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


def test_any_number_of_processes_gives_the_same_bits(original) -> None:
    plan = planned(original, (2, 3, 2), "cp")
    one, other = (fit(original, plan, jobs=jobs)[0].model.SerializeToString(deterministic=True) for jobs in (1, 2))
    assert one == other


@pytest.mark.parametrize("with_data", [False, True])
def test_what_is_missing_of_a_work_folder_is_made_again_to_the_bit(original, batches, with_data, tmp_path) -> None:
    given, plan = batches if with_data else None, planned(original)
    work = WorkFolder(tmp_path / "work", {})
    whole, layers = fit(original, plan, batches=given, work=work)
    parts = sorted(path for path in (tmp_path / "work").iterdir() if path.name != "run.json")
    assert len(parts) == 6
    for gone in (parts[:1], parts[1:3], parts[3:], parts):
        for path in gone:
            path.unlink()
        kept = WorkFolder(tmp_path / "work", {}, resume=True)
        again, resumed = fit(original, plan, batches=given, work=kept)
        assert again.model.SerializeToString(deterministic=True) == whole.model.SerializeToString(deterministic=True)
        for one, other in zip(layers, resumed, strict=True):
            assert (one.relative_error, one.response_error) == (other.relative_error, other.response_error)
            assert one.report.to_dict() == other.report.to_dict()


def test_finished_layers_are_not_made_again(original, tmp_path) -> None:
    work = WorkFolder(tmp_path / "work", {})
    fit(original, planned(original), work=work)
    other = tc.svd(original.sites[1].layer, 1, split=(0,)).sequence
    work.put_sequence(f"layer {original.sites[1].name}", other)
    _, layers = fit(original, planned(original), work=work)
    assert bits(layers[1].sequence) == bits(other)


def test_the_record_in_the_file_says_what_was_done(original, tmp_path) -> None:
    after, layers = fit(original, planned(original, (2, None, 3)))
    after.save(tmp_path / "after.onnx")
    saved = onnx.load(tmp_path / "after.onnx")
    onnx.checker.check_model(saved, full_check=True)
    records = [json.loads(one.value) for one in saved.metadata_props if one.key.startswith("tensorconv")]
    assert len(records) == 1
    assert list(records[0]) == [layers[0].name, layers[2].name]
    assert records[0][layers[0].name] == {
        "method": "svd",
        "options": {"split": [0]},
        "rank": 2,
        "relative_error": layers[0].relative_error,
        "response_error": None,
    }


def test_plans_of_something_else_are_refused(original) -> None:
    plan = planned(original)
    with pytest.raises(ModelError, match="the plan is for another network, or for other input sizes; make it again"):
        fit(original, replace(plan, network="0" * 64))
    other = replace(plan.layers[0], name="nowhere")
    for layers in (plan.layers[:2], (*plan.layers, other), (other, *plan.layers[1:]), plan.layers[::-1], ()):
        with pytest.raises(ModelError, match="the plan must name every convolution once, in order: "):
            fit(original, replace(plan, layers=layers))
    for change, text in (
        ({"method": "magic"}, "method must be one of .*, got 'magic'"),
        ({"options": (("colour", 1),)}, "method svd does not take"),
        ({"rank": 10**9}, "cannot be written by svd as planned"),
        ({"rank": (1, 1)}, "cannot be written by svd as planned"),
    ):
        layers = (replace(plan.layers[0], choice=replace(plan.layers[0].choice, **change)), *plan.layers[1:])
        with pytest.raises(ModelError, match=re.compile(text)):
            fit(original, replace(plan, layers=layers))
