"""Tests of images: what is shown is the factors and responses themselves."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

import tensorconv as tc
from tensorconv import plots
from tensorconv.errors import GeometryError

RNG = np.random.default_rng


def image(ax: Axes) -> np.ndarray:
    """Return what the axes show, gaps as NaN."""
    (shown,) = ax.get_images()
    return np.ma.filled(np.ma.asarray(shown.get_array(), float), np.nan)


def test_matrices_are_shown_as_they_are() -> None:
    f = tc.cp(RNG(0).standard_normal((8, 6, 3, 5)), 4)
    axes = plots.factors(f)
    assert len(axes) == len(f.factors) == 4
    for ax, (name, factor) in zip(axes, f.factors.items(), strict=True):
        np.testing.assert_array_equal(image(ax), factor[0])
        assert ax.get_title() == f"{name}\n{' x '.join(map(str, factor.shape))}"
        low, high = ax.get_images()[0].get_clim()
        assert -low == high == np.abs(factor).max()


@pytest.mark.parametrize("groups", [1, 2])
def test_taps_are_tiles(groups: int) -> None:
    f = tc.tucker(tc.ConvLayer.of(RNG(1).standard_normal((8, 6, 3, 5)), groups=groups), (4, 5))
    axes = dict(zip(f.factors, plots.factors(f), strict=True))
    core = f.factors["core"]
    shown = image(axes["core"])
    assert shown.shape == (groups * 4 * 3, 5 * 5)
    for g, a, b in np.ndindex(core.shape[:3]):
        tile = shown[(4 * g + a) * 3 : (4 * g + a + 1) * 3, b * 5 : (b + 1) * 5]
        np.testing.assert_array_equal(tile, core[g, a, b])
    assert len(axes["core"].get_lines()) == groups * 4 - 1 + 5 - 1
    assert not axes["in"].get_lines()


def test_a_tall_column_of_tiles_is_folded() -> None:
    f = tc.cp(RNG(2).standard_normal((8, 6, 3, 3)), 14, merge_spatial=True)
    shown = image(dict(zip(f.factors, plots.factors(f), strict=True))["spatial"])
    taps = f.factors["spatial"][0]
    assert shown.shape == (4 * 3, 4 * 3)  # 14 tiles in four columns of four
    for r in range(14):
        column, row = divmod(r, 4)
        np.testing.assert_array_equal(shown[3 * row : 3 * row + 3, 3 * column : 3 * column + 3], taps[r])
    assert np.isnan(shown[6:, 9:]).all()
    assert np.isfinite(shown).sum() == taps.size


@pytest.mark.parametrize("name", list(tc.methods()))
@pytest.mark.parametrize("size", [(3,), (3, 3), (3, 2, 2)])
def test_every_entry_of_every_factor_is_shown_once(name: str, size: tuple[int, ...]) -> None:
    f = tc.methods()[name](RNG(3).standard_normal((8, 6, *size)), budget=0.9)
    for ax, factor in zip(plots.factors(f), f.factors.values(), strict=True):
        shown = image(ax)
        np.testing.assert_array_equal(np.sort(shown[np.isfinite(shown)]), np.sort(factor, axis=None))


def test_responses_are_those_of_both() -> None:
    layer = tc.ConvLayer.of(RNG(4).standard_normal((5, 4, 3, 3)), RNG(5).standard_normal(5), padding=1)
    f, x = tc.svd(layer, 2), RNG(6).standard_normal((3, 4, 7, 8))
    before, after, difference = plots.responses(layer, f, x, image=1, channel=2)
    y, z = (tc.convolve(x, each)[1, 2] for each in (layer, f))
    np.testing.assert_allclose(image(before), y, rtol=1e-12)
    np.testing.assert_allclose(image(after), z, rtol=1e-12)
    np.testing.assert_allclose(image(difference), z - y, rtol=1e-9, atol=1e-12)
    lost = np.linalg.norm(z - y) / np.linalg.norm(y)
    assert [ax.get_title() for ax in (before, after, difference)] == [
        *("layer, channel 2", "sequence", f"difference: {lost:.1%} of the layer")
    ]
    assert len({ax.get_images()[0].get_clim() for ax in (before, after, difference)}) == 1


def test_the_channel_that_changes_most_is_chosen() -> None:
    layer = tc.ConvLayer.of(RNG(7).standard_normal((4, 3, 3, 3)))
    changed = layer.kernel * np.array([1.1, 1.2, 3.0, 1.5])[:, None, None, None]
    axes = plots.responses(layer, tc.ConvLayer(changed, layer.geometry), RNG(8).standard_normal((1, 3, 6, 6)))
    assert axes[0].get_title() == "layer, channel 2"
    assert axes[2].get_title() == "difference: 200.0% of the layer"


def test_other_numbers_of_axes_are_shown_as_planes() -> None:
    line, block = (tc.ConvLayer.of(RNG(9).standard_normal((2, 2, *(3,) * n))) for n in (1, 3))
    x = RNG(10).standard_normal((1, 2, 9))
    np.testing.assert_allclose(image(plots.responses(line, line, x)[0]), tc.convolve(x, line)[0, :1], rtol=1e-12)
    x = RNG(11).standard_normal((1, 2, 7, 8, 9))
    shown = image(plots.responses(block, block, x, channel=1)[0])
    np.testing.assert_allclose(shown, tc.convolve(x, block)[0, 1, 2], rtol=1e-12)


def test_images_go_where_they_are_told() -> None:
    given = plt.subplots(1, 3)[1]
    layer = tc.ConvLayer.of(RNG(12).standard_normal((2, 2, 3, 3)))
    drawn = plots.responses(layer, layer, np.ones((1, 2, 5, 5)), axes=given)
    assert list(drawn) == list(given)
    with pytest.raises(GeometryError, match="axes must be 2 matplotlib Axes, got 3 of them"):
        plots.factors(tc.svd(layer, 1), axes=given)


def test_images_and_channels_that_are_not_there_are_refused() -> None:
    layer = tc.ConvLayer.of(RNG(13).standard_normal((2, 2, 3, 3)))
    with pytest.raises(GeometryError, match="image must be from 0 to 0, got 1"):
        plots.responses(layer, layer, np.ones((1, 2, 5, 5)), image=1)
    with pytest.raises(GeometryError, match="channel must be from 0 to 1, got -1"):
        plots.responses(layer, layer, np.ones((1, 2, 5, 5)), channel=-1)


def test_a_sequence_of_another_shape_is_refused() -> None:
    layer = tc.ConvLayer.of(RNG(14).standard_normal((2, 2, 3, 3)))
    padded = tc.ConvLayer.of(layer.kernel, padding=1)
    with pytest.raises(GeometryError, match=r"sequence must give responses \(2, 3, 3\) .*, got \(2, 5, 5\)"):
        plots.responses(layer, padded, np.ones((1, 2, 5, 5)))


def test_what_comes_from_nothing_is_changed_most() -> None:
    kernel = RNG(15).standard_normal((2, 2, 3, 3)) * np.array([1.0, 0.0])[:, None, None, None]
    layer, other = tc.ConvLayer.of(kernel), tc.ConvLayer.of(kernel + 1e-3)
    axes = plots.responses(layer, other, np.ones((1, 2, 5, 5)))
    assert axes[2].get_title() == "difference: inf% of the layer"
