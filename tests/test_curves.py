"""Tests of error curves: their options are what single factorizations give."""

from __future__ import annotations

import numpy as np
import pytest

import tensorconv as tc
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["tensor_train"]}, "methods must be of .*, which take statistics, got 'tensor_train'"),
        ({"shares": (0.2, 0.0)}, "shares must be numbers above 0"),
    ],
)
def test_unknown_methods_and_shares_are_refused(change: dict[str, object], message: str) -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((4, 4, 3)))
    statistics = tc.PatchStatistics(layer)
    statistics.update(np.random.default_rng(1).standard_normal((4, 4, 20)))
    with pytest.raises(RankError, match=message):
        tc.error_curve(layer, statistics, **change)  # type: ignore[arg-type]
