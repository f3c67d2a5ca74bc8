"""Tests of factorize: methods by name, the best of all, and the table of what was tried."""

from __future__ import annotations

from typing import Any

import cases
import contracts
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import RankError
from tensorconv.factorizations import Trial

KERNEL = np.random.default_rng(0).standard_normal((8, 6, 3, 3))
SEPARABLE = np.random.default_rng(1).standard_normal((8, 1, 3, 3)) * np.ones((1, 6, 1, 1))


@pytest.mark.parametrize(("method", "options"), cases.compared(cases.layer("unequal 2d")), ids=str)
def test_a_method_by_name_is_the_method(method: str, options: dict[str, Any]) -> None:
    layer = cases.layer("unequal 2d")
    rank = cases.middle(layer, method, options)
    contracts.check_same(
        tc.factorize(layer, method, rank=rank, **options), tc.methods()[method](layer, rank, **options)
    )
    named = tc.factorize(layer, method, budget=0.9, of="parameters", input_size=(9, 8), **options)
    contracts.check_same(named, tc.methods()[method](layer, budget=0.9, of="parameters", input_size=(9, 8), **options))
    assert named.tried == ()


def test_the_seed_reaches_the_method() -> None:
    contracts.check_same(tc.factorize(KERNEL, "cp", rank=4, rng=3), tc.cp(KERNEL, 4, rng=3))


@pytest.mark.parametrize("case", ["unequal 2d", "grouped 2d", "uneven 1d", "transposed 2d", "unequal 4d"])
@pytest.mark.parametrize("error", [0.9, 0.6])
def test_the_best_meets_the_error_at_the_least_cost_tried(case: str, error: float) -> None:
    layer = cases.layer(case)
    f = tc.factorize(layer, error=error)
    assert f.relative_error <= error
    dense = contracts.cost(tc.ConvSequence((layer,)), "macs", None)
    cost = contracts.cost(f.sequence, "macs", None)
    assert cost < dense or f.method == "dense"
    for method, options in cases.compared(layer):
        if options != {"split": (0, 2)}:  # not among what is compared
            alone = tc.methods()[method](layer, error=error, **options)
            assert cost <= contracts.cost(alone.sequence, "macs", None) or method in ("cp", "tucker")


@pytest.mark.parametrize("case", ["unequal 2d", "grouped 2d", "uneven 1d", "transposed 2d"])
def test_the_best_of_a_budget_is_the_most_exact_tried(case: str) -> None:
    layer = cases.layer(case)
    f = tc.factorize(layer, budget=0.6, of="parameters")
    assert f.sequence.n_parameters <= 0.6 * layer.n_parameters
    for method, options in cases.compared(layer):
        try:
            alone = tc.methods()[method](layer, budget=0.6, of="parameters", **options)
        except RankError:
            continue
        assert f.relative_error <= alone.relative_error or options == {"split": (0, 2)}


def test_the_table_names_every_variant_and_the_chosen_one() -> None:
    layer = tc.ConvLayer.of(SEPARABLE, padding=1)
    f = tc.factorize(layer, error=0.01)
    assert (f.method, f.rank) == ("svd", 1)
    expected = [
        (method, ", ".join(f"{key}={value!r}" for key, value in options.items()))
        for method, options in cases.compared(layer)
    ]
    assert [(trial.method, trial.options) for trial in f.tried] == expected
    assert all(isinstance(trial, Trial) for trial in f.tried)
    (chosen,) = [trial for trial in f.tried if trial.note == "chosen"]
    assert (chosen.method, chosen.options, chosen.rank) == ("svd", "split='in'", 1)
    assert chosen.relative_error == f.relative_error
    dense = contracts.cost(tc.ConvSequence((layer,)), "macs", None)
    assert chosen.cost == float(contracts.cost(f.sequence, "macs", None) / dense)
    lines = str(f.tried).splitlines()
    assert lines[0].split() == ["method", "options", "rank", "error", "cost", "note"]
    assert len(lines) == 1 + len(f.tried)
    (line,) = [line for line in lines if line.endswith("chosen")]
    assert line.split()[:3] == ["svd", "split='in'", "1"]


def test_what_costs_as_much_as_the_best_is_not_pursued() -> None:
    f = tc.factorize(SEPARABLE, error=0.01)
    given_up = [trial for trial in f.tried if trial.rank is None]
    assert given_up
    assert all(trial.relative_error is None and trial.cost is None for trial in given_up)
    assert all(trial.note.startswith("at no lower cost: ") for trial in given_up)


def test_a_layer_that_nothing_makes_cheaper_is_left_alone() -> None:
    layer = tc.ConvLayer.of(KERNEL, np.ones(8), padding=1, name="conv")
    f = tc.factorize(layer, error=1e-6)
    assert (f.method, f.rank, f.relative_error) == ("dense", (), 0.0)
    assert f.kernel.tobytes() == layer.kernel.tobytes()
    assert len(f.sequence) == 1
    assert f.sequence.layers[0].geometry == layer.geometry
    contracts.check_bias(layer, f)
    assert f.n_parameters == layer.n_parameters
    assert f.tried[-1] == Trial("dense", "", None, 0.0, 1.0, "chosen: nothing cheaper meets the error")
    assert list(f.factors) == ["kernel"]
    assert f.factors["kernel"].shape == (1, 8, 6, 3, 3)
    assert tc.verify(layer, f).exact
    with pytest.raises(RankError, match='method "dense" has no rank to choose; take the layer itself'):
        f.scheme.fitter()


def test_one_channel_depthwise_layers_are_left_alone() -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(2).standard_normal((8, 1, 3, 3)), groups=8, padding=1)
    assert tc.factorize(layer, error=1e-3).method == "dense"


def test_a_budget_that_none_meets_shows_the_table() -> None:
    with pytest.raises(RankError) as caught:
        tc.factorize(KERNEL, budget=1e-3, of="parameters")
    head, *table = str(caught.value).splitlines()
    assert head == "budget=0.001 of parameters cannot be met by any method:"
    assert len(table) == 1 + len(cases.compared(tc.ConvLayer.of(KERNEL)))
    assert "rank 1 already costs" in table[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rank": 3},
            '"best" compares methods, which differ in rank; name a method, or give error= or budget=',
        ),
        (
            {"error": 0.1, "split": "in"},
            '"best" compares methods, which differ in split; name a method, or give error= or budget=',
        ),
        ({}, "exactly one of rank, error and budget must be given, got none"),
        ({"error": 0.1, "budget": 0.5}, "exactly one of rank, error and budget must be given, got error, budget"),
        (
            {"method": "vbmf", "rank": 1},
            f"method must be \"best\" or one of {', '.join(tc.methods())}, got 'vbmf'",
        ),
    ],
)
def test_a_request_that_is_none_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RankError) as caught:
        tc.factorize(KERNEL, **options)
    assert str(caught.value) == message


def test_an_option_that_a_method_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'split'"):
        tc.factorize(KERNEL, "tucker", rank=2, split="in")


def test_the_best_is_repeatable() -> None:
    contracts.check_repeatable(lambda: tc.factorize(cases.layer("grouped 2d"), error=0.6))
    contracts.check_repeatable(lambda: tc.factorize(cases.layer("grouped 2d"), budget=0.6, rng=5))


@pytest.mark.parametrize("budget", [1.0, 1.5])
def test_a_budget_that_the_layer_itself_fits_keeps_it(budget: float) -> None:
    f = tc.factorize(np.random.default_rng(0).standard_normal((8, 6, 3, 3)), budget=budget)
    assert f.method == "dense"
    assert f.relative_error == 0


# ---- the best for data


def data_of(layer: tc.ConvLayer, *, targets: bool = False, **options: Any) -> tuple[Any, Any, tc.PatchStatistics]:
    x = contracts.correlated_inputs(layer)
    z = contracts.wanted_responses(layer, x) if targets else None
    return x, z, contracts.statistics_of(layer, x, z, **options)


@pytest.mark.parametrize("method", ["svd", "depthwise_separable", "tucker", "cp"])
def test_statistics_reach_the_method(method: str) -> None:
    layer = cases.layer("uneven 1d")
    _, _, stats = data_of(layer)
    contracts.check_same(
        tc.factorize(layer, method, rank=2, statistics=stats), tc.methods()[method](layer, 2, statistics=stats)
    )


def test_a_method_that_takes_no_statistics_says_which_do() -> None:
    layer = cases.layer("uneven 1d")
    with pytest.raises(RankError) as caught:
        tc.factorize(layer, "tensor_train", rank=2, statistics=data_of(layer)[2])
    message = "method 'tensor_train' takes no statistics; take one of depthwise_separable, svd, tucker, cp"
    assert str(caught.value) == message


@pytest.mark.parametrize("case", ["unequal 2d", "grouped 2d", "uneven 1d"])
@pytest.mark.parametrize("targets", [False, True])
def test_the_best_for_the_data_meets_the_error_of_their_responses(case: str, targets: bool) -> None:
    layer = cases.layer(case)
    x, z, stats = data_of(layer, targets=targets)
    error = 0.5 if targets else 0.2
    f = tc.factorize(layer, error=error, statistics=stats)
    assert f.method != "dense"
    contracts.check_responses(layer, f, x, z)
    assert f.response_error is not None
    assert f.response_error <= error
    cost = contracts.cost(f.sequence, "macs", None)
    assert cost < contracts.cost(tc.ConvSequence((layer,)), "macs", None)
    for trial in f.tried:
        assert (trial.rank is None) == (trial.response_error is None) == (trial.relative_error is None)
        assert trial.response_error is None or trial.response_error <= error
    (chosen,) = [trial for trial in f.tried if trial.note == "chosen"]
    assert (chosen.relative_error, chosen.response_error) == (f.relative_error, f.response_error)
    assert chosen.cost == min(trial.cost for trial in f.tried if trial.cost is not None)
    assert {trial.method for trial in f.tried} == {"svd", "depthwise_separable", "tucker", "cp"}  # no tensor_train
    lines = str(f.tried).splitlines()
    assert lines[0].split() == ["method", "options", "rank", "error", "response", "error", "cost", "note"]
    (line,) = [line for line in lines if line.endswith("chosen")]
    assert f"{f.relative_error:.3g}" in line
    assert f"{f.response_error:.3g}" in line


@pytest.mark.parametrize("case", ["unequal 2d", "grouped 2d"])
def test_the_best_of_a_budget_for_the_data_is_the_least_response_error(case: str) -> None:
    layer = cases.layer(case)
    _, _, stats = data_of(layer, shrinkage=0.05)
    f = tc.factorize(layer, budget=0.7, of="parameters", statistics=stats)
    assert contracts.cost(f.sequence, "parameters", None) <= 0.7 * layer.n_parameters
    found = [trial for trial in f.tried if trial.response_error is not None]
    assert f.response_error == min(trial.response_error for trial in found if trial.response_error is not None)
    # the one of least error of the kernel is another
    assert f.relative_error > min(trial.relative_error for trial in found if trial.relative_error is not None)


@pytest.mark.parametrize("targets", [False, True])
@pytest.mark.parametrize("case", ["unequal 2d", "plain 1d"])
def test_where_nothing_cheaper_is_good_enough_the_layer_is_kept(case: str, targets: bool) -> None:
    layer = cases.layer(case)
    x, z, stats = data_of(layer, targets=targets)
    f = tc.factorize(layer, error=1e-9, statistics=stats)
    assert (f.method, f.relative_error) == ("dense", 0.0)
    contracts.check_bias(layer, f)
    y = tc.convolve(x, layer)
    wanted = y if z is None else z
    assert f.response_error == pytest.approx(np.linalg.norm(wanted - y) / np.linalg.norm(wanted), rel=1e-9, abs=1e-14)
    assert f.tried[-1] == Trial(
        "dense", "", None, 0.0, 1.0, "chosen: nothing cheaper meets the error", f.response_error
    )
    assert f.n_parameters == layer.n_parameters


def test_the_layer_itself_fits_its_own_budget_unless_the_data_ask_for_another() -> None:
    layer = cases.layer("unequal 2d")
    _, _, stats = data_of(layer)
    kept = tc.factorize(layer, budget=1.0, statistics=stats)
    assert kept.method == "dense"
    assert kept.response_error is not None
    assert kept.response_error <= 1e-14
    _, _, stats = data_of(layer, targets=True)
    f = tc.factorize(layer, budget=1.3, statistics=stats)
    dense = f.tried[-1]
    assert (dense.method, dense.cost, dense.relative_error) == ("dense", 1.0, 0.0)
    assert f.method != "dense"  # whose responses are not those wanted
    assert f.response_error is not None
    assert dense.response_error is not None
    assert f.response_error < dense.response_error


def test_a_layer_without_bias_is_counted_without() -> None:
    layer = tc.ConvLayer.of(KERNEL)
    _, _, stats = data_of(layer)
    f = tc.factorize(layer, error=0.4, of="parameters", statistics=stats)
    (chosen,) = [trial for trial in f.tried if trial.note == "chosen"]
    assert chosen.cost == f.n_parameters / KERNEL.size
    assert f.n_parameters == sum(step.kernel.size for step in f.sequence) + 8


def test_the_best_for_data_is_repeatable() -> None:
    layer = cases.layer("grouped 2d")
    _, _, stats = data_of(layer)
    contracts.check_repeatable(lambda: tc.factorize(layer, error=0.2, statistics=stats))
