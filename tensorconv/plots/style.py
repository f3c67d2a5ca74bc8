"""How figures look: colours that colour-blind readers can tell apart, markers that survive grey print, axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorconv.errors import GeometryError, MissingFrameworkError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008), without the yellow that is too light for lines on white
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
IMAGE = "cividis"  # its lightness rises throughout, so that it reads alike for all eyes and in grey
GREY = "0.35"


def line_style(i: int) -> dict[str, Any]:
    """Return how the i-th of several curves is drawn, unlike all before it up to 28.

    Parameters
    ----------
    i : int
        Which curve, from 0.

    Returns
    -------
    dict
        Options of ``Axes.plot``.
    """
    which = i % len(COLOURS)
    return {
        "color": COLOURS[which],
        "marker": MARKERS[which],
        "linestyle": DASHES[(i // len(COLOURS) + which) % len(DASHES)],
        "markersize": 5,
        "linewidth": 1.5,
    }


def axes_of(given: Any, count: int, size: tuple[float, float]) -> list[Axes]:
    """Return the axes to draw on: those given, or the panels of a new figure in a row.

    Parameters
    ----------
    given : Axes, array of Axes, or None
        What the caller gave.
    count : int
        How many are needed.
    size : (float, float)
        Width and height of a new figure in inches.

    Returns
    -------
    list of Axes
        As many as needed.

    Raises
    ------
    MissingFrameworkError
        If matplotlib is not installed.
    GeometryError
        If others than so many axes were given.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes
    except ImportError as error:
        raise MissingFrameworkError("plots need the package matplotlib: pip install 'tensorconv[plots]'") from error
    if given is None:
        return list(plt.subplots(1, count, figsize=size, layout="constrained", squeeze=False)[1][0])
    found = list(np.ravel(np.asarray(given, dtype=object)))
    if len(found) != count or not all(isinstance(ax, Axes) for ax in found):
        what = type(given).__name__ if len(found) == 1 else f"{len(found)} of them"
        wanted = "ax must be one matplotlib Axes" if count == 1 else f"axes must be {count} matplotlib Axes"
        raise GeometryError(f"{wanted}, got {what}; leave it out for a new figure")
    return found
