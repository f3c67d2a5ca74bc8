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


@pytest.mark.parametrize(("method", "options"), cases.variants(cases.layer("unequal 2d")), ids=str)
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
    for method, options in cases.variants(layer):
        if options != {"split": (0, 2)}:  # not among what is compared
            alone = tc.methods()[method](layer, error=error, **options)
            assert cost <= contracts.cost(alone.sequence, "macs", None) or method in ("cp", "tucker")


@pytest.mark.parametrize("case", ["unequal 2d", "grouped 2d", "uneven 1d", "transposed 2d"])
def test_the_best_of_a_budget_is_the_most_exact_tried(case: str) -> None:
    layer = cases.layer(case)
    f = tc.factorize(layer, budget=0.6, of="parameters")
    assert f.sequence.n_parameters <= 0.6 * layer.n_parameters
    for method, options in cases.variants(layer):
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
        for method, options in cases.variants(layer)
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
    assert len(table) == 1 + len(cases.variants(tc.ConvLayer.of(KERNEL)))
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
