"""The diagram of a sequence: its steps in order, the shapes between them, and what each costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tensorconv.integers import per_axis
from tensorconv.layers import ChannelwiseLayer, ConvLayer, PermuteLayer, as_sequence
from tensorconv.plots.style import BLACK, GREY, SKY, axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOX = 0.56  # height of a box, where the distance between steps is 1


def chain(sequence: Any, input_size: int | Sequence[int], *, ax: Axes | None = None) -> Axes:
    """Draw the steps of a sequence from top to bottom, with shapes, parameters and MACs.

    Parameters
    ----------
    sequence : ConvLayer, ConvSequence, Factorization, or anything with ``.sequence``
        What to draw; a factorization is compared with its layer in the title.
    input_size : int or sequence of int
        Spatial size of the input.
    ax : Axes, optional
        Where to draw; a new figure if not given.

    Returns
    -------
    Axes
        The shaded part of every box is its share of the MACs.

    Raises
    ------
    MissingFrameworkError
        If matplotlib is not installed.
    GeometryError
        If the size is none of an input.
    """
    whole = as_sequence(sequence)
    size = per_axis("input_size", input_size, whole.ndim, at_least=1)
    total = whole.macs(size)
    (ax,) = axes_of(ax, 1, (6.4, 0.7 + 0.85 * len(whole)))
    channels = whole.in_channels
    _arrow(ax, 0, channels, size)
    for i, layer in enumerate(whole, 1):
        macs = layer.macs(size) if isinstance(layer, (ConvLayer, ChannelwiseLayer)) else 0
        _box(ax, i - 0.5, layer, macs, total)
        size, channels = layer.output_size(size), getattr(layer, "out_channels", channels)
        _arrow(ax, i, channels, size)
    ax.set(xlim=(-0.01, 1.01), ylim=(len(whole) + 0.25, -0.25))
    ax.set_axis_off()
    title = f"{whole.n_parameters:,} parameters, {total:,} MACs"
    original = getattr(sequence, "layer", None)
    if isinstance(original, ConvLayer) and original.stored.products:
        shares = (whole.n_parameters / original.n_parameters, total / original.macs(input_size))
        title += f": {shares[0]:.1%} and {shares[1]:.1%} of the layer's"
    ax.set_title(title, fontsize="medium")
    return ax


def _arrow(ax: Axes, y: float, channels: int, size: Sequence[int]) -> None:
    """Draw what flows from one step to the next, with its shape."""
    reach = 0.5 - BOX / 2
    ax.annotate("", (0.5, y + reach), (0.5, y - reach), arrowprops={"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0})
    ax.text(0.52, y, " x ".join(map(str, (channels, *size))), va="center", fontsize="medium")


def _box(ax: Axes, y: float, layer: Any, macs: int, total: int) -> None:
    """Draw one step: what it is and what it costs."""
    from matplotlib.patches import Rectangle

    top = y - BOX / 2
    share = macs / total if total else 0.0
    ax.add_patch(Rectangle((0, top), share, BOX, facecolor=SKY, alpha=0.4, edgecolor="none"))
    ax.add_patch(Rectangle((0, top), 1, BOX, fill=False, edgecolor=BLACK, linewidth=1.1))
    kind, rule = _words(layer)
    ax.text(0.015, y - 0.12, kind, va="center", fontsize="medium", fontweight="bold")
    ax.text(0.015, y + 0.13, rule, va="center", fontsize="small", color=GREY)
    counts = (f"{getattr(layer, 'n_parameters', 0):,} parameters", f"{macs:,} MACs")
    for dy, text in zip((-0.12, 0.13), counts, strict=True):
        ax.text(0.985, y + dy, text, va="center", ha="right", fontsize="small")


def _words(layer: Any) -> tuple[str, str]:
    """Return what a step is, and its geometry."""
    if isinstance(layer, ConvLayer):
        taps = "x".join(map(str, layer.kernel_size))
        kind = "convolution"
        if max(layer.kernel_size) == 1:
            kind = "pointwise"
        if layer.geometry.groups > 1:
            kind = "depthwise" if layer.kernel.shape[1] == 1 else f"grouped {kind}"
        words = [str(layer.geometry)] + [layer.entries] * (layer.entries != "dense")
        return f"{kind} {taps}", ", ".join(words + ["bias"] * (layer.bias is not None))
    if isinstance(layer, ChannelwiseLayer):
        return f"channel-wise {'x'.join(map(str, layer.kernel.shape[1:]))}", str(layer.geometry)
    return ("channel order" if isinstance(layer, PermuteLayer) else "padding"), str(layer)
