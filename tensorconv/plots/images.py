"""Images: the factors of a factorization, and responses before and after."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.convolution import convolve
from tensorconv.errors import GeometryError
from tensorconv.integers import is_integer
from tensorconv.layers import as_layer
from tensorconv.plots.style import IMAGE, axes_of

TALL = 12  # rows per column of tiles from which they are folded


def factors(f: Any, *, axes: Any = None) -> Array:
    """Draw every factor as an image.

    Rows and columns are a factor's first two axes after the groups. Where there are taps, each of these entries is a
    tile of them, apart from the next by a white line; a tall column of tiles is folded into several, read one after
    another. Groups stand below one another.

    Parameters
    ----------
    f : Factorization
        The factorization.
    axes : array of Axes, optional
        Where to draw, one per factor; a new figure if not given.

    Returns
    -------
    ndarray of Axes, shape (n,)
        One per factor, in the order of ``f.factors``, each with its own scale, symmetric about 0.

    Raises
    ------
    MissingFrameworkError
        If matplotlib is not installed.
    GeometryError
        If there are not as many axes as factors.
    """
    drawn = axes_of(axes, len(f.factors), (0.6 + 2.6 * len(f.factors), 3.2))
    for ax, (name, factor) in zip(drawn, f.factors.items(), strict=True):
        tiles = _tiles(factor.astype(np.float64), f.layer.kernel_size)
        n_rows, n_columns, height, width = tiles.shape
        image = tiles.swapaxes(1, 2).reshape(n_rows * height, n_columns * width)
        largest = float(np.nanmax(np.abs(image))) or 1.0
        shown = ax.imshow(image, cmap=IMAGE, vmin=-largest, vmax=largest, aspect="auto", interpolation="none")
        if height * width > 1:
            for n_tiles, size, line in ((n_rows, height, ax.axhline), (n_columns, width, ax.axvline)):
                for edge in np.arange(1, n_tiles) * size - 0.5:
                    line(float(edge), color="white", linewidth=min(2.0, 20 / n_tiles))
        ax.set_title(f"{name}\n{' x '.join(map(str, factor.shape))}", fontsize="medium")
        ax.set(xticks=[], yticks=[])
        ticks = [-largest, 0, largest]
        ax.figure.colorbar(shown, ax=ax, orientation="horizontal", pad=0.03, ticks=ticks, format="%.2g")
    return np.array(drawn)


def responses(
    layer: Any, sequence: Any, x: Any, *, image: int = 0, channel: int | None = None, axes: Any = None
) -> Array:
    """Draw one channel of the responses to an image: the layer's, the sequence's, and their difference.

    Of more than two spatial axes the last two are drawn, at the middle of the others.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer before.
    sequence : ConvLayer, ConvSequence, Factorization, or anything with ``.sequence``
        What takes its place.
    x : array_like, shape (B, C, L1..LN)
        Inputs.
    image : int
        Which of them.
    channel : int, optional
        Which out-channel; the one that is changed most, relative to its own size, if not given.
    axes : array of Axes, optional
        Where to draw, three of them; a new figure if not given.

    Returns
    -------
    ndarray of Axes, shape (3,)
        Before, after and difference on one scale; the title of the last has the relative error over the channel.

    Raises
    ------
    MissingFrameworkError
        If matplotlib is not installed.
    GeometryError
        If there is no such image or channel, the responses are of another shape, or there are not three axes.
    """
    one = as_layer(layer)
    batch = as_float_array("x", x)
    at = _checked("image", image, len(batch))
    before, after = (convolve(batch[at : at + 1], each)[0].astype(np.float64) for each in (one, sequence))
    if before.shape != after.shape:
        raise GeometryError(f"sequence must give responses {before.shape} as the layer does, got {after.shape}")
    spatial = tuple(range(1, before.ndim))
    sizes, lost = (np.sqrt(np.sum(np.square(y), axis=spatial)) for y in (before, before - after))
    shares = np.divide(lost, sizes, out=np.where(lost > 0, np.inf, 0.0), where=sizes > 0)
    c = int(np.argmax(shares)) if channel is None else _checked("channel", channel, len(before))
    drawn = axes_of(axes, 3, (9.0, 3.0))
    panels = [_plane(y[c]) for y in (before, after, after - before)]
    low, high = min(map(np.min, panels)), max(map(np.max, panels))
    titles = (f"layer, channel {c}", "sequence", f"difference: {shares[c]:.1%} of the layer")
    for ax, panel, title in zip(drawn, panels, titles, strict=True):
        shown = ax.imshow(panel, cmap=IMAGE, vmin=low, vmax=high, interpolation="none")
        ax.set_title(title, fontsize="medium")
        ax.set(xticks=[], yticks=[])
    drawn[-1].figure.colorbar(shown, ax=drawn, shrink=0.85)
    return np.array(drawn)


def _tiles(factor: Array, kernel_size: tuple[int, ...]) -> Array:
    """Return a factor (G, A, B, K1..) as tiles of taps (rows, columns, height, width), not too tall a column."""
    if factor.ndim > 3 and factor.shape[2:] == kernel_size:  # (G, A, K1..): nothing but taps for every component
        factor = factor[:, :, None]
    n_columns, taps = factor.shape[2], factor.shape[3:] or (1,)
    tiles = factor.reshape(-1, n_columns, taps[0], math.prod(taps[1:]))
    n_folds = round(math.sqrt(len(tiles) / n_columns)) if math.prod(taps) > 1 and len(tiles) > TALL * n_columns else 1
    length = -(-len(tiles) // n_folds)
    padded = np.full((n_folds * length, *tiles.shape[1:]), np.nan)
    padded[: len(tiles)] = tiles
    folded = padded.reshape(n_folds, length, *tiles.shape[1:]).swapaxes(0, 1)
    return folded.reshape(length, n_folds * n_columns, *tiles.shape[2:])


def _plane(y: Array) -> Array:
    """Return the last two axes, at the middle of the others."""
    while y.ndim > 2:
        y = y[len(y) // 2]
    return np.atleast_2d(y)


def _checked(name: str, index: Any, count: int) -> int:
    """Return an index that exists."""
    if not is_integer(index) or not 0 <= index < count:
        raise GeometryError(f"{name} must be from 0 to {count - 1}, got {index!r}")
    return int(index)
