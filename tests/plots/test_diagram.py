"""Tests of the diagram of a sequence: every number in it is that of the library, or of a count by hand."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import tensorconv as tc
from tensorconv import plots
from tensorconv.errors import GeometryError


def texts(ax: Axes) -> list[str]:
    return [text for text in (each.get_text() for each in ax.texts) if text]


def test_a_separable_sequence_is_counted() -> None:
    depthwise = tc.ConvLayer.of(np.ones((4, 1, 3, 3)), padding=1, stride=2, groups=4)
    pointwise = tc.ConvLayer.of(np.ones((8, 4, 1, 1)), np.zeros(8))
    ax = plots.chain(tc.ConvSequence([depthwise, pointwise]), (10, 12))
    assert texts(ax) == [
        *("4 x 10 x 12", "depthwise 3x3", "stride 2, padding 1, groups 4", "36 parameters", "1,080 MACs"),
        *("4 x 5 x 6", "pointwise 1x1", "stride 1, padding 0, bias", "40 parameters", "960 MACs", "8 x 5 x 6"),
    ]
    assert ax.get_title() == "76 parameters, 2,040 MACs"


def test_the_shaded_parts_are_the_shares_of_the_macs() -> None:
    f = tc.cp(np.random.default_rng(0).standard_normal((8, 6, 3, 3)), 5)
    ax = plots.chain(f, 9)
    shaded = [patch.get_width() for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    size, macs = (9, 9), []
    for layer in f.sequence:
        macs.append(layer.macs(size))
        size = layer.output_size(size)
    assert shaded == pytest.approx([one / sum(macs) for one in macs], rel=1e-12)


def test_a_factorization_is_compared_with_its_layer() -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((8, 8, 3, 3)), padding=1)
    title = plots.chain(tc.svd(layer, 2), 4).get_title()
    assert title == "160 parameters, 2,560 MACs: 27.8% and 27.8% of the layer's"


def test_one_layer_is_a_sequence_too() -> None:
    layer = tc.ConvLayer.of(np.ones((2, 3, 5)), transposed=True, stride=2)
    assert texts(plots.chain(layer, 7)) == [
        *("3 x 7", "convolution 5", str(layer.geometry), "30 parameters", f"{30 * 7} MACs", "2 x 17")
    ]


def test_steps_without_kernels_cost_nothing() -> None:
    steps = [
        tc.PadLayer(((1, 1), (1, 1)), "reflect"),
        tc.ConvLayer.of(np.ones((6, 2, 3, 3)), groups=2),
        tc.PermuteLayer.shuffle(6, 2),
        tc.ChannelwiseLayer(np.ones((1, 3, 1, 1)), 6, tc.ConvGeometry.of(3, padding=((1, 1), (0, 0), (0, 0)))),
    ]
    shown = texts(plots.chain(tc.ConvSequence(steps), 5))
    assert shown[0] == "4 x 5 x 5"
    assert shown[1:5] == ["padding", str(steps[0]), "0 parameters", "0 MACs"]
    assert shown[5:7] == ["4 x 7 x 7", "grouped convolution 3x3"]
    assert shown[11:15] == ["channel order", "shuffle of 2 groups", "0 parameters", "0 MACs"]
    assert shown[16] == "channel-wise 3x1x1"
    assert shown[-3:] == ["3 parameters", f"{steps[3].macs((5, 5)):,} MACs", "6 x 5 x 5"]


def test_all_text_fits_into_a_figure_of_its_own() -> None:
    f = tc.cp(np.random.default_rng(0).standard_normal((64, 64, 3, 3)), 40)
    ax = plots.chain(f, 224)
    figure = ax.figure
    figure.canvas.draw()
    inside = figure.bbox
    boxes = [text.get_window_extent() for text in [*ax.texts, ax.title] if text.get_text()]
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)
    assert all(inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_it_goes_where_it_is_told_and_checks_the_size() -> None:
    given = plt.subplots()[1]
    layer = tc.ConvLayer.of(np.ones((2, 3, 5, 5)))
    assert plots.chain(layer, 7, ax=given) is given
    with pytest.raises(GeometryError, match="input_size"):
        plots.chain(layer, (7, 7, 7))
