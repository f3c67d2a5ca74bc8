"""The document of a compression, against the compression."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models.test_compressing import FAST, graph, images

import tensorconv as tc
from tensorconv.models.compressing import apply_plan, compress
from tensorconv.models.compression import Compression
from tensorconv.models.document import document, spectra
from tensorconv.models.opening import open_network
from tensorconv.models.plan import Plan
from tensorconv.models.trade_off import planned_error, trade_off


@pytest.fixture(scope="module")
def done() -> Compression:
    found: Compression = compress(graph("y"), budget=0.6, data=images(24, 3, 8, 8), **FAST)
    return found


def test_layers_are_as_they_have_become(done: Compression) -> None:
    found = document(done, title="a network", missed=["too far"])
    assert (found.title, found.missed, found.version) == ("a network", ("too far",), tc.__version__)
    assert [one.name for one in found.layers] == [one.name for one in done.layers]
    replaced = [one for one in done.layers if one.planned.choice]
    assert len(replaced) > 0
    assert found.summary.startswith(f"{len(replaced)} of {len(done.layers)} convolutions replaced. Each was run")
    for entry, one in zip(found.layers, done.layers, strict=True):
        choice = one.planned.choice
        assert entry.macs == (one.planned.before.macs, (choice or one.planned.before).macs)
        assert entry.note == one.planned.note
        assert len(entry.points) == len(one.planned.candidates) > 0
        assert sum(point.chosen for point in entry.points) == (choice is not None)
        assert {(point.macs, point.error) for point in entry.points} == {
            (candidate.macs, candidate.error) for candidate in one.planned.candidates
        }
        if choice is None:
            assert (entry.becomes, entry.error, entry.proof, entry.chain) == ("", None, (), ())
            continue
        assert one.report is not None
        assert one.sequence is not None
        assert (entry.error, entry.proof) == (one.response_error, one.report.rows)
        assert [row[1:] for row in entry.chain] == [row[1:] for row in one.sequence.rows]
        (point,) = (point for point in entry.points if point.chosen)
        assert (point.macs, point.error) == (choice.macs, choice.error)
        assert f"rank {entry.rank}" in point.text


def test_a_sequence_that_is_not_what_it_composes_to_is_not_said_to_be(done: Compression) -> None:
    first, *rest = (one for one in done.layers if one.report)
    assert first.report is not None
    broken = replace(first, report=replace(first.report, consistent=False))
    said = document(replace(done, layers=(broken, *rest)), title="").summary
    assert "1 of them, as run, are NOT the convolutions that they compose to." in said
    assert "Each was run" not in said
    without = replace(first, report=replace(first.report, consistent=None))  # no single convolution
    said = document(replace(done, layers=(without, *rest)), title="").summary
    assert f"Of these, {len(rest)} were run and are" in said
    assert "Each was run" not in said


def test_the_trade_off_is_that_of_the_plan(done: Compression) -> None:
    found = document(done, title="").trade_off
    assert found is not None
    assert done.plan.settings.by == "responses"  # what was meant by default is written down
    assert (found.cost, found.error) == ("MACs", "predicted relative error of the outputs")
    assert found.points == tuple((share, error**0.5) for share, error in trade_off(done.plan))
    assert found.chosen == (done.plan.share(), planned_error(done.plan) ** 0.5)
    # the plan is of least error within the budget, so no point of the line is both cheaper and better
    assert not [1 for share, error in found.points if share <= found.chosen[0] and error < found.chosen[1] * (1 - 1e-9)]
    assert f"{done.comparison.largest_drift:.3g} was measured." in found.note
    scored = replace(done, plan=replace(done.plan, settings=replace(done.plan.settings, by="score")))
    other = document(scored, title="").trade_off
    assert other is not None
    assert (other.error, other.chosen[1]) == ("predicted loss of score", planned_error(done.plan))


def test_a_plan_from_a_file_gives_the_same_curves(done: Compression) -> None:
    plan = Plan.from_dict(done.plan.to_dict())
    batches: Any = images(24, 3, 8, 8)
    network = open_network(graph("y"))
    again = apply_plan(network, plan, network.batches(batches))
    first, second = document(done, title=""), document(again, title="")
    assert [one.points for one in first.layers] == [one.points for one in second.layers]
    assert first.trade_off is not None
    assert second.trade_off is not None
    assert first.trade_off.points == second.trade_off.points
    old = replace(plan, layers=tuple(replace(one, candidates=()) for one in plan.layers))
    assert document(replace(done, plan=old), title="").trade_off is None


def test_spectra_are_singular_values_over_the_largest() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((200, 3, 3, 3)).astype("float32")
    found = spectra(tc.ConvLayer.of(kernel))
    values = np.linalg.svd(kernel.astype(float).reshape(200, -1), compute_uv=False)
    assert [i for i, _ in found["out-channels"]] == list(range(1, 28))
    np.testing.assert_allclose([v for _, v in found["out-channels"]], values / values[0], rtol=1e-10)
    values = np.linalg.svd(kernel.astype(float).swapaxes(0, 1).reshape(3, -1), compute_uv=False)
    np.testing.assert_allclose([v for _, v in found["in-channels"]], values / values[0], rtol=1e-10)


def test_spectra_are_thinned_out_and_keep_their_ends() -> None:
    kernel = np.random.default_rng(0).standard_normal((100, 300, 1))
    (name, values), *others = spectra(tc.ConvLayer.of(kernel)).items()
    assert (name, others) == ("channels", [])  # of a pointwise layer both unfoldings are the kernel
    assert len(values) == 64
    assert (values[0], values[-1][0]) == ((1, 1.0), 100)
    assert [i for i, _ in values] == sorted({i for i, _ in values})


def test_some_kernels_have_no_spectra() -> None:
    assert spectra(tc.ConvLayer.of(np.ones((8, 1, 3, 3)), groups=8)) == {}  # depthwise
    assert spectra(tc.ConvLayer.of(np.zeros((8, 4, 3, 3)))) == {}
    assert set(spectra(tc.ConvLayer.of(np.ones((8, 1, 3, 3))))) == {"out-channels"}
    large = tc.ConvLayer.of(np.broadcast_to(np.float32(1), (3000, 3000, 1)))
    assert spectra(large) == {}  # it would take minutes
