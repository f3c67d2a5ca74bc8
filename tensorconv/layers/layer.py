"""ConvLayer: one convolution with its kernel, bias and geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorconv import cost
from tensorconv.arrays import Array, as_float_array, frozen_copy
from tensorconv.errors import GeometryError, KernelError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import Padding, PerAxis
from tensorconv.layers.entries import check_entries, stored
from tensorconv.layers.layouts import from_layout, swap_channels

if TYPE_CHECKING:
    from tensorconv.layers.sequence import ConvSequence


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
    entries : {"dense", "sparse", "binary", "fixed"}
        What of the kernel is stored and multiplied: all, what is not zero, one scale per out-channel, or nothing.

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
    entries: str = "dense"

    def __post_init__(self) -> None:
        kernel = as_float_array("kernel", self.kernel)
        if kernel.ndim < 3:
            raise KernelError(
                f"kernel must have shape (O, I, K1..KN) with at least one spatial axis, got {kernel.shape}; "
                "a matrix becomes a pointwise kernel by kernel[:, :, None]"
            )
        if not isinstance(self.geometry, ConvGeometry):
            raise GeometryError(f"geometry must be a ConvGeometry, got {self.geometry!r}; use ConvGeometry.of(...)")
        if self.geometry.ndim != kernel.ndim - 2:
            raise GeometryError(
                f"geometry has {self.ndim} spatial axes, but the kernel of shape {kernel.shape} has {kernel.ndim - 2}; "
                "give one entry per spatial axis"
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
                raise KernelError(
                    f"bias must have shape {kernel.shape[:1]}, one entry per out-channel, got {bias.shape}"
                )
            with np.errstate(over="ignore"):
                bias = bias.astype(kernel.dtype)
            object.__setattr__(self, "bias", frozen_copy(as_float_array(f"bias as {kernel.dtype}", bias)))
        object.__setattr__(self, "name", "" if self.name is None else str(self.name))
        check_entries(self.kernel, self.entries)

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
        stride : int or sequence of int
            One value for all axes, or one per axis.
        padding : int or sequence of int or of (int, int)
            One value for all sides, one per axis, or (low, high) per axis.
        dilation : int or sequence of int
            One value for all axes, or one per axis.
        groups : int
            Number of channel groups.
        transposed : bool
            Whether the convolution is transposed.
        output_padding : int or sequence of int
            Extra output positions at the high end of a transposed convolution.
        layout : str
            Any order of O (out), I (in) and ``*`` (all spatial axes): ``"OI*"`` PyTorch, ONNX, JAX; ``"*IO"`` Keras,
            Flax; ``"*OI"`` Keras transposed; ``"IO*"`` PyTorch and ONNX transposed. D in place of O is the multiplier
            of a depthwise kernel, ``"*ID"`` Keras, whose ``groups`` are the in-channels. With ``transposed`` and
            groups, I before O means all in-channels and the out-channels of one group, as PyTorch's (I, O/G, K..);
            else it is all out-channels and the in-channels of one group.
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
                f"kernel must have an O, an I and at least one spatial axis, got shape {array.shape}; a matrix becomes "
                "a pointwise kernel by kernel[:, :, None]"
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
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.geometry.ndim

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
        return self.stored.parameters + (0 if self.bias is None else int(self.bias.size))

    @property
    def stored(self) -> cost.Stored:
        """Entries that are stored, products and mere additions per position."""
        return stored(self.kernel, self.entries)

    @property
    def sequence(self) -> ConvSequence:
        """The sequence of this one layer."""
        from tensorconv.layers.sequence import ConvSequence  # a sequence holds layers: the two know each other

        return ConvSequence((self,))

    @property
    def chain(self) -> cost.Chain:
        """Kernel shape and geometry, and what is stored where that is not all, as :mod:`tensorconv.cost` counts it."""
        shape, geometry = self.kernel.shape, self.geometry
        return [(shape, geometry) if self.entries == "dense" else (shape, geometry, self.stored)]

    def macs(self, input_size: int | Sequence[int]) -> int:
        """Return the multiply-accumulates for one image of this spatial size, padded taps counted.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            ``O I K P``, P the output positions (transposed: the input positions), for a dense kernel.
        """
        return int(cost.chain_cost(self.chain, "macs", input_size))

    def additions(self, input_size: int | Sequence[int]) -> int:
        """Return the additions for one image that follow no product, of a fixed or binary kernel.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            One per entry that is not zero and position.
        """
        return int(cost.chain_cost([(*self.chain[0][:2], cost.Stored(0, self.stored.additions))], "macs", input_size))

    def output_size(self, input_size: int | Sequence[int]) -> tuple[int, ...]:
        """Return the spatial size of the output.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        tuple of int
            Spatial size of the output.
        """
        return self.geometry.output_size(input_size, self.kernel_size)

    def adjoint(self, input_size: int | Sequence[int]) -> ConvLayer:
        """Return the adjoint of the linear part: the layer A* with <A x, u> = <x, A* u> at this input size.

        The adjoint of a convolution is a transposed convolution and the other way round, with the channels of the
        kernel swapped in each group. The bias does not take part.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input of this layer, which the adjoint's output has.

        Returns
        -------
        ConvLayer
            The adjoint, without bias.
        """
        g, size, output_size = self.geometry, self.geometry.spatial_size(input_size), self.output_size(input_size)
        padding = tuple(
            (low, high if g.transposed else s * (p - 1) + d * (k - 1) + 1 - low - x)
            for x, p, k, s, d, (low, high) in zip(
                size, output_size, self.kernel_size, g.stride, g.dilation, g.padding, strict=True
            )
        )
        kernel = swap_channels(self.kernel, g.groups)
        return ConvLayer(kernel, replace(g, padding=padding, transposed=not g.transposed), name=self.name)

    def __reduce__(self) -> tuple[Any, ...]:  # copies and unpickled layers are checked and read-only too
        return (ConvLayer, (np.array(self.kernel), self.geometry, self.bias, self.name, self.entries))

    def __str__(self) -> str:
        size = "x".join(map(str, self.kernel_size))
        words = f", {self.entries}" * (self.entries != "dense") + ", bias" * (self.bias is not None)
        return f"{self.in_channels} -> {self.out_channels}, kernel {size}, {self.geometry}{words}"

    def __repr__(self) -> str:
        return f"<ConvLayer{self.name and f' {self.name!r}'}: {self}, {self.dtype}>"
