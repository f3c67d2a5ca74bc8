"""Tests of curves: the points drawn are the singular values and errors computed another way."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

import tensorconv as tc
from tensorconv import plots
from tensorconv.errors import GeometryError, KernelError, RankError

RNG = np.random.default_rng


def drawn(ax: Axes) -> dict[str, np.ndarray]:
    """Return the points of every labelled line, as they are on the paper."""
    return {str(line.get_label()): np.array(line.get_xydata()) for line in ax.get_lines()}


def test_curves_are_drawn_in_the_order_of_x() -> None:
    ax = plots.labelled_curves({"one": [(3, 1), (1, 2)], "two": [(0, 0)]})
    assert drawn(ax)["one"].tolist() == [[1, 2], [3, 1]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    assert len({(line.get_color(), line.get_marker()) for line in ax.get_lines()}) == 2


def test_curves_go_where_they_are_told() -> None:
    left, right = plt.subplots(1, 2)[1]
    assert plots.labelled_curves({"one": [(0, 0)]}, ax=right) is right
    assert not left.get_lines()


@pytest.mark.parametrize("groups", [1, 2])
def test_spectra_are_those_of_the_unfoldings(groups: int) -> None:
    layer = tc.ConvLayer.of(RNG(0).standard_normal((8, 6, 3, 5)), groups=groups)
    lines = drawn(plots.spectra(layer))
    blocks = layer.kernel.reshape(groups, 8 // groups, 6, 3, 5)
    unfoldings = {
        "split 'out'": blocks.reshape(groups, 8 // groups, -1),
        "split 'in'": blocks.transpose(0, 2, 1, 3, 4).reshape(groups, 6, -1),
        "split (0,)": blocks.transpose(0, 1, 4, 2, 3).reshape(groups, 8 // groups * 5, -1),
        "split (1,)": blocks.transpose(0, 1, 3, 2, 4).reshape(groups, 8 // groups * 3, -1),
    }
    assert [label.partition(":")[0] for label in lines] == list(unfoldings)
    for (label, points), matrices in zip(lines.items(), unfoldings.values(), strict=True):
        values = np.sqrt(np.sum(np.linalg.svd(matrices, compute_uv=False) ** 2, axis=0))
        np.testing.assert_allclose(points[:, 1], values / values[0], rtol=1e-9)
        np.testing.assert_array_equal(points[:, 0], np.arange(1, len(values) + 1))
        sides = {int(side) for side in label.partition(":")[2].split("x")}
        assert sides == set(matrices.shape[1:])


def test_what_a_spectrum_leaves_out_is_the_error_of_the_svd() -> None:
    layer = tc.ConvLayer.of(RNG(1).standard_normal((8, 6, 3, 3)))
    values = drawn(plots.spectra(layer))["split 'out': 8 x 54"][:, 1]
    lost = math.sqrt(np.sum(values[3:] ** 2) / np.sum(values**2))
    assert tc.svd(layer, 3).relative_error == pytest.approx(lost, rel=1e-9)


def test_a_spectrum_is_logarithmic_and_leaves_out_zeros() -> None:
    kernel = np.einsum("o,i,k->oik", *(RNG(2).standard_normal(n) for n in (4, 3, 3)))
    ax = plots.spectra(kernel)
    assert ax.get_yscale() == "log"
    assert ax.get_xlabel() == "rank r"
    for points in drawn(ax).values():
        assert points[0].tolist() == [1, 1]
        assert np.all(points[1:, 1] < 1e-6)


def test_a_zero_kernel_has_no_spectrum() -> None:
    with pytest.raises(KernelError, match="the kernel is zero"):
        plots.spectra(np.zeros((2, 2, 3)))


def test_errors_are_the_best_of_each_method_at_each_cost() -> None:
    layer = tc.ConvLayer.of(RNG(3).standard_normal((16, 12, 3, 3)), padding=1)
    lines = drawn(plots.error_curve(tc.error_curve(layer, methods=["svd", "tucker"], shares=[0.2, 0.5, 0.8])))
    assert list(lines) == ["svd", "tucker", "dense layer"]
    assert lines["dense layer"].tolist() == [[1, 0]]
    for share, error in lines["tucker"]:
        assert tc.tucker(layer, budget=float(share) * (1 + 1e-12)).relative_error == pytest.approx(error, rel=1e-9)
    every = [tc.svd(layer, budget=s, split=split) for s in (0.2, 0.5, 0.8) for split in ("out", "in", (0,), (1,))]
    dense = 16 * 12 * 9
    for share, error in lines["svd"]:
        affordable = [f.relative_error for f in every if f.sequence.n_parameters <= share * dense * (1 + 1e-12)]
        assert error == pytest.approx(min(affordable), rel=1e-9)
    assert np.all(np.diff(lines["svd"][:, 1]) < 0)


def test_errors_say_what_they_are_of() -> None:
    layer = tc.ConvLayer.of(RNG(4).standard_normal((6, 4, 3)))
    statistics = tc.PatchStatistics(layer)
    statistics.update(RNG(5).standard_normal((3, 4, 40)))
    options = {"of": "parameters", "methods": ["svd"], "shares": [0.5]}
    kernel = plots.error_curve(tc.error_curve(layer, **options), of="parameters")
    responses = plots.error_curve(tc.error_curve(layer, statistics, **options), of="parameters")
    assert kernel.get_ylabel() == "relative error of the kernel"
    assert responses.get_ylabel() == "relative error of the responses"
    assert kernel.get_xlabel() == "parameters, share of the dense layer's"
    assert drawn(kernel)["svd"][-1, 1] == pytest.approx(tc.svd(layer, budget=0.5, of="parameters").relative_error)


def test_what_is_no_curve_is_refused() -> None:
    curve = tc.error_curve(RNG(6).standard_normal((4, 4, 3)), methods=["svd"], shares=[0.5])
    for wrong in (curve[1:], ()):
        with pytest.raises(RankError, match=r"curve must begin with the dense layer .* tc.error_curve returned"):
            plots.error_curve(wrong)
    with pytest.raises(GeometryError, match=r"of must be one of .*, got 'flops'"):
        plots.error_curve(curve, of="flops")


def test_a_layer_that_nothing_is_cheaper_than_is_a_star() -> None:
    lines = drawn(plots.error_curve(tc.error_curve(np.ones((2, 2, 3)), methods=["svd"], shares=[0.01])))
    assert list(lines) == ["dense layer"]
