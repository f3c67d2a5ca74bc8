"""ConvLayer and ConvSequence, the narrow waist of the library: factorizations make them, everything else reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tensorconv import cost
from tensorconv.arrays import Array, as_float_array, frozen_copy
from tensorconv.errors import GeometryError, KernelError, KernelTypeError
from tensorconv.geometry import ConvGeometry, Padding, PerAxis


@dataclass(frozen=True, eq=False, repr=False)
class ConvLayer:
    """One convolution: a kernel, an optional bias, and the geometry it is applied with.

    Parameters
    ----------
    kernel : array_like, shape (O, I, K1..KN)
        I is per group; a transposed convolution's kernel is kept in this layout of its map too. Copied once.
    geometry : ConvGeometry
        Stride, padding, dilation, groups, transposed.
    bias : array_like, shape (O,), optional
        Added to every output position; stored in the kernel's data type.
    name : str
        A label that exporters and reports keep.

    Raises
    ------
    KernelTypeError
        If kernel or bias are not real floating-point numbers.
    KernelError
        If they are empty, not finite, or their shapes do not fit one another.
    GeometryError
        If the geometry has another number of spatial axes, or its groups do not divide the out-channels.

    Examples
    --------
    >>> layer = ConvLayer.of(np.ones((8, 4, 3, 3), "float32"), padding=1)
    >>> print(layer)
    4 -> 8, kernel 3x3, stride 1, padding 1
    """

    kernel: Array
    geometry: ConvGeometry
    bias: Array | None = None
    name: str = ""

    def __post_init__(self) -> None:
        kernel = as_float_array("kernel", self.kernel)
        if kernel.ndim < 3:
            raise KernelError(
                f"kernel must have shape (O, I, K1..KN) with at least one spatial axis, got {kernel.shape}; "
                "a matrix becomes a pointwise kernel by kernel[:, :, None]"
            )
        if not isinstance(self.geometry, ConvGeometry):
            raise GeometryError(f"geometry must be a ConvGeometry, got {self.geometry!r}; make it by ConvGeometry.of(...)")
        if self.geometry.ndim != kernel.ndim - 2:
            raise GeometryError(
                f"geometry has {self.geometry.ndim} spatial axes, the kernel of shape {kernel.shape} has {kernel.ndim - 2}"
            )
        if kernel.shape[0] % self.geometry.groups:
            raise GeometryError(
                f"groups must divide the {kernel.shape[0]} out-channels, got groups={self.geometry.groups}; "
                "check groups and the kernel's layout"
            )
        object.__setattr__(self, "kernel", frozen_copy(kernel))
        if self.bias is not None:
            bias = as_float_array("bias", self.bias)
            if bias.shape != kernel.shape[:1]:
                raise KernelError(f"bias must have shape {kernel.shape[:1]}, one entry per out-channel, got {bias.shape}")
            with np.errstate(over="ignore"):
                bias = bias.astype(kernel.dtype)
            object.__setattr__(self, "bias", frozen_copy(as_float_array(f"bias as {kernel.dtype}", bias)))
        object.__setattr__(self, "name", str(self.name))

    @classmethod
    def of(
        cls,
        kernel: Any,
        bias: Any = None,
        *,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        transposed: bool = False,
        output_padding: PerAxis = 0,
        layout: str = "OI*",
        name: str = "",
    ) -> ConvLayer:
        """Make a layer from a framework's kernel and its integers.

        Parameters
        ----------
        kernel : array_like
            The kernel, its axes in the order that ``layout`` says.
        bias : array_like, shape (O,), optional
            The bias.
        stride, padding, dilation, groups, transposed, output_padding
            As in :meth:`ConvGeometry.of`.
        layout : str
            Any order of O (out), I (in) and * (all spatial axes): "OI*" PyTorch, ONNX, JAX; "*IO" Keras, Flax; "*OI"
            Keras transposed; "IO*" PyTorch and ONNX transposed. With ``transposed`` and groups, a layout with I before
            O holds all in-channels and the out-channels of one group, as PyTorch's (I, O/G, K..); all others hold all
            out-channels and the in-channels of one group.
        name : str
            A label that exporters and reports keep.

        Returns
        -------
        ConvLayer
            The layer, its kernel in the layout (O, I, K1..KN).

        Raises
        ------
        KernelError, KernelTypeError, GeometryError
            If arrays and integers do not make a convolution.

        Examples
        --------
        >>> keras_kernel = np.ones((3, 3, 16, 32), "float32")
        >>> ConvLayer.of(keras_kernel, layout="*IO").kernel.shape
        (32, 16, 3, 3)
        """
        array = as_float_array("kernel", kernel)
        if array.ndim < 3:
            raise KernelError(
                f"kernel must have an O, an I and at least one spatial axis, got shape {array.shape}; "
                "a matrix becomes a pointwise kernel by kernel[:, :, None]"
            )
        geometry = ConvGeometry.of(
            array.ndim - 2,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            transposed=transposed,
            output_padding=output_padding,
        )
        return cls(from_layout(array, layout, geometry), geometry, bias, name)

    @property
    def in_channels(self) -> int:
        """Channels of the input, all groups together."""
        return int(self.kernel.shape[1]) * self.geometry.groups

    @property
    def out_channels(self) -> int:
        """Channels of the output, all groups together."""
        return int(self.kernel.shape[0])

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Taps per spatial axis."""
        return tuple(self.kernel.shape[2:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the kernel."""
        return self.kernel.dtype

    @property
    def n_parameters(self) -> int:
        """Stored entries of kernel and bias."""
        return int(self.kernel.size) + (0 if self.bias is None else int(self.bias.size))

    @property
    def sequence(self) -> ConvSequence:
        """The sequence of this one layer."""
        return ConvSequence((self,))

    def macs(self, input_size: Sequence[int]) -> int:
        """Return the multiply-accumulates for one image of this spatial size, padded taps counted.

        Parameters
        ----------
        input_size : sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            ``O * I * K * P``, P the output positions (transposed: the input positions).
        """
        return int(cost.chain_cost([(self.kernel.shape, self.geometry)], "macs", input_size))

    def output_size(self, input_size: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial size of the output.

        Parameters
        ----------
        input_size : sequence of int
            Spatial size of the input.

        Returns
        -------
        tuple of int
            Spatial size of the output.
        """
        return self.geometry.output_size(input_size, self.kernel_size)

    def adjoint(self, input_size: Sequence[int]) -> ConvLayer:
        """Return the adjoint of the linear part: the layer A* with <A x, u> = <x, A* u> at this input size.

        The adjoint of a convolution is a transposed convolution and the other way round, with the channels of the
        kernel swapped in each group. The bias does not take part.

        Parameters
        ----------
        input_size : sequence of int
            Spatial size of the input of this layer, which the adjoint's output has.

        Returns
        -------
        ConvLayer
            The adjoint, without bias.
        """
        g = self.geometry
        size, output_size = tuple(input_size), self.output_size(input_size)
        padding = tuple(
            (low, high if g.transposed else s * (p - 1) + d * (k - 1) + 1 - low - x)
            for x, p, k, s, d, (low, high) in zip(
                size, output_size, self.kernel_size, g.stride, g.dilation, g.padding, strict=True
            )
        )
        kernel = swap_channels(self.kernel, g.groups)
        return ConvLayer(kernel, replace(g, padding=padding, transposed=not g.transposed), name=self.name)

    def __str__(self) -> str:
        size = "x".join(map(str, self.kernel_size))
        bias = "" if self.bias is None else ", bias"
        return f"{self.in_channels} -> {self.out_channels}, kernel {size}, {self.geometry}{bias}"

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<ConvLayer{name}: {self}, {self.dtype}>"


@dataclass(frozen=True, eq=False, repr=False)
class ConvSequence:
    """Convolutions applied one after another.

    Only the last layer may have a bias: an inner bias is not the same at zero-padded borders as inside.

    Parameters
    ----------
    layers : iterable of ConvLayer
        The layers in order.

    Raises
    ------
    KernelError
        If there is no layer, the channels do not chain, or a layer but the last has a bias.
    KernelTypeError
        If the layers are of different data types or not layers.
    GeometryError
        If the layers have different numbers of spatial axes.

    Examples
    --------
    >>> depthwise = ConvLayer.of(np.ones((4, 1, 3, 3)), padding=1, groups=4)
    >>> pointwise = ConvLayer.of(np.ones((8, 4, 1, 1)))
    >>> print(ConvSequence([depthwise, pointwise]))
    layer  channels  kernel  geometry                       parameters
    0      4 -> 4    3x3     stride 1, padding 1, groups 4          36
    1      4 -> 8    1x1     stride 1, padding 0                    32
    """

    layers: tuple[ConvLayer, ...]

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        if not layers:
            raise KernelError("layers must hold at least one ConvLayer, got none")
        for i, layer in enumerate(layers):
            if not isinstance(layer, ConvLayer):
                raise KernelTypeError(f"layers[{i}] must be a ConvLayer, got {type(layer).__name__}; use ConvLayer.of(...)")
            if layer.geometry.ndim != layers[0].geometry.ndim:
                raise GeometryError(
                    f"layers must have one number of spatial axes, got {layers[0].geometry.ndim} in layer 0 and "
                    f"{layer.geometry.ndim} in layer {i}"
                )
            if layer.dtype != layers[0].dtype:
                raise KernelTypeError(
                    f"layers must be of one data type, got {layers[0].dtype} in layer 0 and {layer.dtype} in layer {i}; "
                    "convert the kernels first"
                )
            if i and layer.in_channels != layers[i - 1].out_channels:
                raise KernelError(
                    f"layer {i} takes {layer.in_channels} channels, layer {i - 1} gives {layers[i - 1].out_channels}"
                )
            if layer.bias is not None and i < len(layers) - 1:
                raise KernelError(
                    f"layer {i} has a bias; only the last layer may (an inner bias is wrong at zero-padded borders), "
                    "so move it through the later kernels where no padding follows"
                )
        object.__setattr__(self, "layers", layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[ConvLayer]:
        return iter(self.layers)

    @property
    def sequence(self) -> ConvSequence:
        """This sequence."""
        return self

    @property
    def chain(self) -> list[tuple[tuple[int, ...], ConvGeometry]]:
        """Kernel shape and geometry of every layer, as :mod:`tensorconv.cost` counts them."""
        return [(layer.kernel.shape, layer.geometry) for layer in self.layers]

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.layers[0].in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.layers[-1].out_channels

    @property
    def bias(self) -> Array | None:
        """Bias of the last layer."""
        return self.layers[-1].bias

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of all kernels."""
        return self.layers[0].dtype

    @property
    def n_parameters(self) -> int:
        """Stored entries of all kernels and the bias."""
        return sum(layer.n_parameters for layer in self.layers)

    def macs(self, input_size: Sequence[int]) -> int:
        """Return the multiply-accumulates for one image of this spatial size, padded taps counted.

        Parameters
        ----------
        input_size : sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            Sum over the layers, each at its own size.
        """
        return int(cost.chain_cost(self.chain, "macs", input_size))

    def output_size(self, input_size: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial size of the output.

        Parameters
        ----------
        input_size : sequence of int
            Spatial size of the input.

        Returns
        -------
        tuple of int
            Spatial size of the output.
        """
        return cost.chain_output_size(self.chain, input_size)

    def __str__(self) -> str:
        rows = [("layer", "channels", "kernel", "geometry", "parameters")]
        for i, layer in enumerate(self.layers):
            size = "x".join(map(str, layer.kernel_size))
            bias = "" if layer.bias is None else ", bias"
            channels = f"{layer.in_channels} -> {layer.out_channels}"
            rows.append((layer.name or str(i), channels, size, f"{layer.geometry}{bias}", f"{layer.n_parameters:,}"))
        return aligned_table(rows)

    def __repr__(self) -> str:
        inside = ", ".join(str(layer.kernel.shape) for layer in self.layers)
        return f"<ConvSequence of {len(self.layers)}: {inside}, {self.dtype}>"


def as_sequence(value: Any) -> ConvSequence:
    """Return the sequence that a layer, a sequence, or anything with ``.sequence`` means.

    Parameters
    ----------
    value : ConvLayer, ConvSequence or object with ``.sequence``
        What to execute, check or export.

    Returns
    -------
    ConvSequence
        The sequence.

    Raises
    ------
    KernelTypeError
        If it is none of these.
    """
    sequence = getattr(value, "sequence", None)
    if not isinstance(sequence, ConvSequence):
        raise KernelTypeError(
            f"sequence must be a ConvLayer, a ConvSequence or have .sequence, got {type(value).__name__}; "
            "a plain array becomes a layer by ConvLayer.of(array, stride=..., padding=...)"
        )
    return sequence


def as_layer(value: Any) -> ConvLayer:
    """Return the layer itself, or a layer of stride 1 without padding from a plain (O, I, K1..KN) array.

    Parameters
    ----------
    value : ConvLayer or array_like
        What to factorize.

    Returns
    -------
    ConvLayer
        The layer.
    """
    return value if isinstance(value, ConvLayer) else ConvLayer.of(value)


def swap_channels(kernel: Array, groups: int) -> Array:
    """Swap O and I within each group: (O, I/G, K..) to (I, O/G, K..), and back.

    Parameters
    ----------
    kernel : ndarray, shape (O, I/G, K1..KN)
        The kernel.
    groups : int
        Number of groups G.

    Returns
    -------
    ndarray, shape (I, O/G, K1..KN)
        The kernel of the adjoint map; also PyTorch's and ONNX's layout of a transposed convolution.
    """
    total, per_group, *size = kernel.shape
    blocks = kernel.reshape(groups, total // groups, per_group, *size)
    return np.swapaxes(blocks, 1, 2).reshape(groups * per_group, total // groups, *size)


def _layout_axes(ndim: int, layout: str) -> list[int]:
    """Return where O, I and the spatial axes stand in an array of this layout."""
    if not isinstance(layout, str) or sorted(layout) != ["*", "I", "O"]:
        raise KernelError(f'layout must hold O, I and * once each, as "OI*" or "*IO", got {layout!r}')
    at = layout.index("*")
    axes = {"*": list(range(at, at + ndim - 2))}
    for letter in "OI":
        position = layout.index(letter)
        axes[letter] = [position if position < at else position + ndim - 3]
    return axes["O"] + axes["I"] + axes["*"]


def from_layout(array: Array, layout: str, geometry: ConvGeometry) -> Array:
    """Return a kernel (O, I, K1..KN) from an array whose axes stand in another order.

    Parameters
    ----------
    array : ndarray
        The kernel in a framework's layout.
    layout : str
        Order of O, I and *, as in :meth:`ConvLayer.of`.
    geometry : ConvGeometry
        Its groups and ``transposed`` decide which channel axis holds all groups.

    Returns
    -------
    ndarray, shape (O, I, K1..KN)
        The kernel, I per group.

    Raises
    ------
    KernelError
        If the layout is not an order of O, I and *.
    GeometryError
        If the groups do not divide the channels.
    """
    kernel = np.transpose(array, _layout_axes(array.ndim, layout))
    if not _splits_out_channels(layout, geometry):
        return kernel
    if kernel.shape[1] % geometry.groups:
        raise GeometryError(f"groups must divide the {kernel.shape[1]} in-channels, got groups={geometry.groups}")
    return swap_channels(np.swapaxes(kernel, 0, 1), geometry.groups)


def to_layout(layer: ConvLayer, layout: str) -> Array:
    """Return the kernel of a layer with its axes in a framework's order, the inverse of :func:`from_layout`.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    layout : str
        Order of O, I and *, as in :meth:`ConvLayer.of`.

    Returns
    -------
    ndarray
        A C-contiguous array.

    Raises
    ------
    KernelError
        If the layout is not an order of O, I and *.
    """
    axes = _layout_axes(layer.kernel.ndim, layout)
    kernel = layer.kernel
    if _splits_out_channels(layout, layer.geometry):
        kernel = np.swapaxes(swap_channels(kernel, layer.geometry.groups), 0, 1)
    return np.ascontiguousarray(np.transpose(kernel, np.argsort(axes)))


def _splits_out_channels(layout: str, geometry: ConvGeometry) -> bool:
    """Whether an array of this layout holds (I, O/G), as PyTorch's grouped transposed kernels do."""
    return geometry.transposed and geometry.groups > 1 and layout.index("I") < layout.index("O")


def aligned_table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of text as aligned columns, numbers to the right.

    Parameters
    ----------
    rows : iterable of sequence of str
        The first row is the header.

    Returns
    -------
    str
        One line per row.
    """
    table = [tuple(row) for row in rows]
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() and " " not in cell and "x" not in cell for cell in column[1:]) for column in columns]
    right = [r and i > 0 for i, r in enumerate(right)]
    lines = (
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        for row in table
    )
    return "\n".join(line.rstrip() for line in lines)
