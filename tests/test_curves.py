"""Tests of error curves: their options are what single factorizations give."""

from __future__ import annotations

from fractions import Fraction

import cases
import contracts
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.cost import chain_cost
from tensorconv.errors import RankError


def test_a_curve_is_what_single_calls_give() -> None:
    rng = np.random.default_rng(5)
    layer = tc.ConvLayer.of(rng.standard_normal((8, 8, 3, 3)), rng.standard_normal(8), padding=1)
    x = np.cumsum(rng.standard_normal((6, 8, 12, 12)), axis=2) + 1
    statistics = tc.PatchStatistics(layer)
    statistics.update(x)
    curve = tc.error_curve(layer, statistics, shares=(0.2, 0.4), input_size=(12, 12), methods=["svd"])
    assert (curve[0].label, curve[0].error, curve[0].cost) == (None, 0.0, layer.macs((12, 12)))
    assert [option.cost for option in curve[1:]] == sorted(option.cost for option in curve[1:])
    for split in ("out", "in", (0,), (1,)):
        for share in (0.2, 0.4):
            f = tc.svd(layer, budget=share, split=split, statistics=statistics, input_size=(12, 12))
            assert any(
                option.error == pytest.approx(f.error**2, rel=1e-6) and option.cost == f.sequence.macs((12, 12))
                for option in curve[1:]
            )
    every = tc.error_curve(layer, statistics, shares=(0.3,), input_size=(12, 12))
    assert {option.label.method for option in every[1:]} == {"svd", "depthwise_separable", "tucker", "cp"}


@pytest.mark.parametrize("of", ["macs", "parameters", "bytes"])
@pytest.mark.parametrize("case", ["uneven 1d", "grouped 2d", "transposed 2d"])
def test_options_are_what_they_say(case: str, of: str) -> None:
    layer = cases.layer(case)
    x = contracts.correlated_inputs(layer)
    statistics, size = contracts.statistics_of(layer, x), cases.input_size(layer)
    curve = tc.error_curve(layer, statistics, of=of, input_size=size, shares=[0.3, 0.9, 0.6], methods=["svd", "tucker"])
    assert (curve[0].label, curve[0].error) == (None, 0.0)
    assert curve[0].cost == chain_cost(layer.chain, of, size, n_bias=n_bias(layer), itemsize=8)
    wanted = tc.convolve(x, layer)
    for option in curve[1:]:
        f = option.label
        assert option.cost == chain_cost(f.sequence.chain, of, size, n_bias=layer.out_channels, itemsize=8)
        assert option.cost <= Fraction(0.9) * curve[0].cost
        assert option.error == f.response_error**2
        measured = float(np.sum((tc.convolve(x, f) - wanted) ** 2) / np.sum(wanted**2))
        assert option.error == pytest.approx(measured, rel=1e-6, abs=1e-12)  # checked closely by the laws of methods
    pairs = [(option.cost, option.error) for option in curve[1:]]
    assert pairs == sorted(pairs)
    assert len({(f.label.scheme, f.label.rank) for f in curve[1:]}) == len(curve) - 1


def n_bias(layer: tc.ConvLayer) -> int:
    return 0 if layer.bias is None else layer.out_channels


def test_an_svd_is_bitwise_that_of_its_own_call() -> None:
    layer = cases.layer("unequal 2d")
    statistics = contracts.statistics_of(layer, contracts.correlated_inputs(layer))
    curve = tc.error_curve(layer, statistics, methods=iter(["svd"]), shares=(0.4, 0.8), of="parameters")
    single = [
        tc.svd(layer, budget=share, split=split, statistics=statistics, of="parameters")
        for split in ("out", "in", (0,), (1,))
        for share in (0.4, 0.8)
    ]
    assert len(curve) == 1 + len(single)
    for f in single:
        (option,) = (o for o in curve[1:] if (o.label.scheme, o.label.rank) == (f.scheme, f.rank))
        assert option.error == f.error**2
        assert [a.tobytes() for a in option.label.factors.values()] == [a.tobytes() for a in f.factors.values()]


def test_shares_that_not_even_rank_one_meets_are_left_out() -> None:
    layer = cases.layer("plain 1d")
    statistics = contracts.statistics_of(layer, contracts.correlated_inputs(layer))
    assert [option.label for option in tc.error_curve(layer, statistics, shares=(0.001,))] == [None]
    assert len(tc.error_curve(layer, statistics, methods=[])) == 1
    assert len(tc.error_curve(layer.kernel, tc.PatchStatistics(layer.kernel), methods=[])) == 1


def test_seeds_count_for_methods_with_random_starts() -> None:
    layer = cases.layer("unequal 2d")
    statistics = contracts.statistics_of(layer, contracts.correlated_inputs(layer))
    one, same, other = (
        [o.label.factors for o in tc.error_curve(layer, statistics, methods=["cp"], shares=[0.4], rng=seed)[1:]]
        for seed in (1, 1, 2)
    )
    assert all(a[name].tobytes() == b[name].tobytes() for a, b in zip(one, same, strict=True) for name in a)
    assert any(a[name].tobytes() != b[name].tobytes() for a, b in zip(one, other, strict=True) for name in a)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["tensor_train"]}, "methods must be of .*, which take statistics, got 'tensor_train'"),
        ({"shares": (0.2, 0.0)}, "shares must be numbers above 0"),
        ({"shares": (float("nan"),)}, "shares must be numbers above 0"),
        ({"methods": ["svd", "best"]}, "methods must be of .*, got 'best'"),
    ],
)
def test_unknown_methods_and_shares_are_refused(change: dict[str, object], message: str) -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((4, 4, 3)))
    statistics = tc.PatchStatistics(layer)
    statistics.update(np.random.default_rng(1).standard_normal((4, 4, 20)))
    with pytest.raises(RankError, match=message):
        tc.error_curve(layer, statistics, **change)  # type: ignore[arg-type]
