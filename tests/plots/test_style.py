"""Tests of how figures look: styles that differ, also in grey, and axes that are checked."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tensorconv import plots
from tensorconv.errors import GeometryError, MissingFrameworkError
from tensorconv.plots.style import COLOURS, IMAGE, axes_of, line_style


def lightness(colour: object) -> float:
    """Return the CIE lightness of a colour, 0 to 100."""
    c = np.array(to_rgb(colour))  # type: ignore[arg-type]
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(116 * np.cbrt(linear @ (0.2126, 0.7152, 0.0722)) - 16)


def test_no_two_of_28_curves_are_drawn_alike() -> None:
    styles = [line_style(i) for i in range(28)]
    assert len({(s["color"], s["marker"], s["linestyle"]) for s in styles}) == 28


def test_the_first_curves_are_told_apart_without_colour() -> None:
    assert len({line_style(i)["marker"] for i in range(len(COLOURS))}) == len(COLOURS)
    for one, other in combinations(map(line_style, range(4)), 2):
        assert one["linestyle"] != other["linestyle"]


def test_every_line_stands_out_from_white() -> None:
    assert max(map(lightness, COLOURS)) < 75


def test_images_grow_lighter_with_the_value() -> None:
    steps = [lightness(mpl.colormaps[IMAGE](v)[:3]) for v in np.linspace(0, 1, 40)]
    assert np.all(np.diff(steps) > 0)


def test_axes_are_made_or_taken() -> None:
    made = axes_of(None, 3, (6, 2))
    assert len(made) == 3
    assert tuple(made[0].figure.get_size_inches()) == (6, 2)
    assert axes_of(np.array(made), 3, (1, 1)) == made
    assert axes_of(made[1], 1, (1, 1)) == [made[1]]


def test_axes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"axes must be 3 matplotlib Axes, got 2 of them; leave it out"):
        axes_of(plt.subplots(1, 2)[1], 3, (1, 1))
    with pytest.raises(GeometryError, match=r"ax must be one matplotlib Axes, got str; leave it out for a new figure"):
        axes_of("left", 1, (1, 1))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingFrameworkError, match=r"pip install 'tensorconv\[plots\]'"):
        plots.spectra(np.ones((2, 2, 3)))


def test_matplotlib_is_loaded_by_the_first_figure_only() -> None:
    source = """
import sys, numpy, tensorconv as tc
tc.plots.spectra
print("matplotlib" in sys.modules)
tc.plots.spectra(numpy.ones((2, 2, 3)))
print("matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
