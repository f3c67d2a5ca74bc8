"""Curves: the spectra of a kernel's unfoldings, and what a layer loses at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorconv.allocation import Option
from tensorconv.cost import IN_WORDS, MEASURES
from tensorconv.errors import GeometryError, KernelError, RankError
from tensorconv.factorizations import registered
from tensorconv.layers import as_layer
from tensorconv.plots.style import BLACK, axes_of, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = 12  # on a long curve


def labelled_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, ax: Axes | None = None) -> Axes:
    """Draw curves that are told apart by colour, marker and dashes, with a legend and a grid.

    Parameters
    ----------
    curves : mapping of str to sequence of (float, float)
        Label to points (x, y), drawn in the order of x.
    ax : Axes, optional
        Where to draw; a new figure if not given.

    Returns
    -------
    Axes
        Without titles of its axes.

    Raises
    ------
    MissingFrameworkError
        If matplotlib is not installed.
    """
    (ax,) = axes_of(ax, 1, (5.6, 3.6))
    for i, (label, points) in enumerate(curves.items()):
        step = max(1, len(points) // MARKS)
        x, y = np.array(sorted(points), float).reshape(-1, 2).T
        ax.plot(x, y, label=label, markevery=step, **line_style(i))
    ax.grid(alpha=0.3)
    if curves:
        ax.legend(fontsize="small")
    return ax


def spectra(layer: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the singular values of the kernel's unfoldings, those that the splits of :func:`tensorconv.svd` cut.

    A curve that falls fast says that few channels between the two layers of that split are enough. Of a grouped
    kernel, which has one rank for all groups, value r is the root of the sum of squares over the groups.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer, or its kernel alone.
    ax : Axes, optional
        Where to draw; a new figure if not given.

    Returns
    -------
    Axes
        One line per unfolding: singular values over the largest, against their number.

    Raises
    ------
    MissingFrameworkError
        If matplotlib is not installed.
    KernelError
        If the kernel is zero.
    """
    one, svd, curves = as_layer(layer), registered()["svd"], {}
    if not np.any(one.kernel):
        raise KernelError("the kernel is zero, so its singular values are too; there is no spectrum to draw")
    for options in svd.variants(one):
        fitter = svd.scheme(one, **options).fitter()
        values = np.hypot.reduce(fitter.spectra()[0], axis=0)
        rows, columns = fitter.unfolding_shapes()[0]
        label = f"split {options['split']!r}: {rows} x {columns}"
        curves[label] = [(r, value) for r, value in enumerate(values / values[0], 1) if value > 0]
    ax = labelled_curves(curves, ax=ax)
    ax.set(xlabel="rank r", ylabel="singular value r / largest", yscale="log")
    ax.legend(fontsize="small", loc="lower left")
    return ax


def error_curve(curve: Sequence[Option], *, of: str = "macs", ax: Axes | None = None) -> Axes:
    """Draw what a layer loses at what cost, one line per method: the best that it reaches at each cost or below.

    Parameters
    ----------
    curve : sequence of Option
        What :func:`tensorconv.error_curve` returned.
    of : {"macs", "parameters", "bytes"}
        The cost that it was asked for.
    ax : Axes, optional
        Where to draw; a new figure if not given.

    Returns
    -------
    Axes
        Relative error against the share of the dense layer's cost; the dense layer is the star.

    Raises
    ------
    MissingFrameworkError
        If matplotlib is not installed.
    GeometryError
        If there is no such cost.
    RankError
        If the options are not those of one curve, the dense layer first.
    """
    if of not in MEASURES:
        raise GeometryError(f"of must be one of {MEASURES}, got {of!r}")
    dense, *others = curve or (None,)
    if dense is None or dense.label is not None or dense.cost == 0:
        raise RankError("curve must begin with the dense layer and its cost; give what tc.error_curve returned")
    points: dict[str, list[tuple[float, float]]] = {}
    for option in sorted(others, key=lambda one: (one.cost, one.error)):
        best = points.setdefault(option.label.method, [])
        error = float(np.sqrt(option.error))
        if not best or error < best[-1][1]:
            best.append((float(option.cost / dense.cost), error))
    ax = labelled_curves(points, ax=ax)
    ax.plot([1.0], [0.0], "*", color=BLACK, markersize=11, label="dense layer", clip_on=False)
    ax.legend(fontsize="small")
    responses = any(option.label.response_error is not None for option in others)
    ax.set(xlabel=f"{IN_WORDS[of]}, share of the dense layer's", xlim=(0, None), ylim=(0, None))
    ax.set_ylabel("relative error of the responses" if responses else "relative error of the kernel")
    return ax
