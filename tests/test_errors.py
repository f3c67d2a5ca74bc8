"""Tests of the errors: their family, and the text of every refusal by geometries, layers and sequences."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tensorconv import errors
from tensorconv.errors import GeometryError, KernelError, KernelTypeError, TensorconvError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, ConvSequence, as_layer, as_sequence, from_layout, to_layout

FAMILY = {
    "GeometryError": ValueError,
    "KernelError": ValueError,
    "KernelTypeError": TypeError,
    "RankError": ValueError,
    "UnsupportedExportError": NotImplementedError,
    "MissingFrameworkError": ImportError,
    "FormatError": ValueError,
    "ModelError": ValueError,
}
PER_AXIS = "must have one entry per spatial axis, 2 here, got"
TUPLE = "must be a tuple of integers, one per spatial axis, got"
PAIRS = "padding must be one integer or one (low, high) pair per spatial axis, 2 here, got"
ONES = np.ones((4, 2, 3))


@pytest.mark.parametrize("name", FAMILY)
def test_an_error_is_one_of_ours_and_of_the_builtin_kind(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, TensorconvError)
    assert issubclass(error, FAMILY[name])


def test_the_family_is_complete() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == {*FAMILY, "TensorconvError"}


@pytest.mark.parametrize(
    ("integers", "message"),
    [
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"stride": (1, -2)}, "stride must be at least 1, got -2"),
        ({"stride": (1, 2, 3)}, f"stride {PER_AXIS} (1, 2, 3)"),
        ({"stride": 1.5}, f"stride {TUPLE} 1.5"),
        ({"stride": (1, 1.5)}, "stride must be an integer, got 1.5"),
        ({"stride": True}, f"stride {TUPLE} True"),
        ({"stride": (1, True)}, "stride must be an integer, got True"),
        ({"stride": "22"}, f"stride {TUPLE} '22'"),
        ({"dilation": 0}, "dilation must be at least 1, got 0"),
        ({"dilation": (2,)}, f"dilation {PER_AXIS} (2,)"),
        ({"groups": 0}, "groups must be at least 1, got 0"),
        ({"groups": True}, "groups must be an integer, got True"),
        ({"groups": (1, 2)}, "groups must be an integer, got (1, 2)"),
        (
            {"padding": "same"},
            "padding must be integers, got 'same'; resolve it first by ConvGeometry.same(kernel_size, ...)",
        ),
        ({"padding": (1, "same")}, f"{PAIRS} (1, 'same')"),
        ({"padding": 0.5}, f"{PAIRS} 0.5"),
        ({"padding": True}, f"{PAIRS} True"),
        ({"padding": (1, 2, 3)}, f"{PAIRS} (1, 2, 3)"),
        ({"padding": ((0, 1, 2), 0)}, f"{PAIRS} ((0, 1, 2), 0)"),
        ({"padding": (0, None)}, f"{PAIRS} (0, None)"),
        ({"padding": (0, (1, 1.5))}, "padding must be an integer, got 1.5"),
        ({"padding": (0, (1, False))}, "padding must be an integer, got False"),
        (
            {"output_padding": 1},
            "output_padding=1 is for transposed convolutions only; set transposed=True or drop it",
        ),
        ({"output_padding": -1, "transposed": True}, "output_padding must be at least 0, got -1"),
        ({"output_padding": (1,), "transposed": True}, f"output_padding {PER_AXIS} (1,)"),
    ],
)
def test_of_names_the_argument_the_value_and_the_rule(integers: dict[str, Any], message: str) -> None:
    with pytest.raises(GeometryError, match=re.escape(message)):
        ConvGeometry.of(2, **integers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), (), ()), "stride must have one entry per spatial axis, at least one, got ()"),
        ((2, ((0, 0),), (1,)), f"stride {TUPLE} 2"),
        (((1, 1), ((0, 0),), (1, 1)), f"{PAIRS} ((0, 0),)"),
        (((1, 1), 0, (1, 1)), f"{PAIRS} 0"),
        (((1, 1), "same", (1, 1)), f"{PAIRS} 'same'"),
        (((1, 1), (0, 0), (1,)), "dilation must have one entry per spatial axis, 2 as stride (1, 1) has, got (1,)"),
        (((1, 1), (0, 0), (1, 1), 0), "groups must be at least 1, got 0"),
    ],
)
def test_the_constructor_checks_what_of_checks(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(GeometryError, match=re.escape(message)):
        ConvGeometry(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConvGeometry.of(0), "ndim must be at least 1, got 0"),
        (lambda: ConvGeometry.of(2.0), "ndim must be an integer, got 2.0"),  # type: ignore[arg-type]
        (
            lambda: ConvGeometry.same((3, 3), stride=(1, 2)),
            "input_size is needed to resolve same padding at stride (1, 2);",
        ),
        (lambda: ConvGeometry.same((3,), extra="left"), 'extra must be "high" or "low", got \'left\''),
        (lambda: ConvGeometry.same(3), f"kernel_size {TUPLE} 3"),  # type: ignore[arg-type]
        (lambda: ConvGeometry.same((0,)), "kernel_size must be at least 1, got 0"),
        (lambda: ConvGeometry.same((3, 3), input_size=(8,)), f"input_size {PER_AXIS} (8,)"),
        (lambda: ConvGeometry.of(2).output_size((8,), (3, 3)), f"input_size {PER_AXIS} (8,)"),
        (lambda: ConvGeometry.of(2).output_size((8, 8), (3,)), f"kernel_size {PER_AXIS} (3,)"),
        (lambda: ConvGeometry.of(2).output_size((8, 0), (3, 3)), "input_size must be at least 1, got 0"),
        (lambda: ConvGeometry.of(2).output_size((8, 8.0), (3, 3)), "input_size must be an integer, got 8.0"),  # type: ignore[arg-type]
        (
            lambda: ConvGeometry.of(2, dilation=2).output_size((8, 4), (3, 3)),
            "input_size (8, 4) gives no output on axis 1: a convolution of 3 taps, dilation 2, padding (0, 0) needs a "
            "longer axis or more padding",
        ),
        (
            lambda: ConvGeometry.of(1, padding=2, transposed=True).output_size((1,), (3,)),
            "input_size (1,) gives no output on axis 0: a transposed convolution of 3 taps, dilation 1, padding (2, 2)",
        ),
        (lambda: ConvGeometry.of(2).on_axes([0, 2]), "axes must be from 0 to 1, got [0, 2]"),
        (lambda: ConvGeometry.of(2).on_axes([-1]), "axes must be at least 0, got -1"),
        (lambda: ConvGeometry.of(2).on_axes([0.0]), "axes must be an integer, got 0.0"),  # type: ignore[list-item]
        (lambda: ConvGeometry.of(2).on_axes([0], groups=0), "groups must be at least 1, got 0"),
    ],
)
def test_methods_name_the_argument_the_value_and_the_rule(call: Callable[[], object], message: str) -> None:
    with pytest.raises(GeometryError, match=re.escape(message)):
        call()


BIAS = "bias must have shape (4,), one entry per out-channel, got"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ConvLayer.of(ONES * np.nan), KernelError, "kernel must hold finite numbers only, got NaN or inf"),
        (lambda: ConvLayer.of(ONES, [0.0, 1.0, 2.0, np.inf]), KernelError, "bias must hold finite numbers only"),
        (lambda: ConvLayer.of(ONES.astype(int)), KernelTypeError, "kernel must be of a real floating-point type"),
        (lambda: ConvLayer.of(ONES, [0, 1, 2, 3]), KernelTypeError, "bias must be of a real floating-point type"),
        (lambda: ConvLayer.of(ONES * 1j), KernelTypeError, "float64, got complex128; convert it first"),
        (lambda: ConvLayer.of(np.empty((4, 0, 3))), KernelError, "kernel must not be empty, got shape (4, 0, 3)"),
        (
            lambda: ConvLayer.of(np.ones((4, 2))),
            KernelError,
            "kernel must have an O, an I and at least one spatial axis, got shape (4, 2); "
            "a matrix becomes a pointwise kernel by kernel[:, :, None]",
        ),
        (
            lambda: ConvLayer(np.ones((4, 2)), ConvGeometry.of(1)),
            KernelError,
            "kernel must have shape (O, I, K1..KN) with at least one spatial axis, got (4, 2); "
            "a matrix becomes a pointwise kernel by kernel[:, :, None]",
        ),
        (
            lambda: ConvLayer(ONES, {"stride": 1}),  # type: ignore[arg-type]
            GeometryError,
            "geometry must be a ConvGeometry, got {'stride': 1}; use ConvGeometry.of(...)",
        ),
        (
            lambda: ConvLayer(ONES, ConvGeometry.of(2)),
            GeometryError,
            "geometry has 2 spatial axes, but the kernel of shape (4, 2, 3) has 1; give one entry per spatial axis",
        ),
        (
            lambda: ConvLayer.of(ONES, groups=3),
            GeometryError,
            "groups must divide the 4 out-channels, got groups=3; check groups and the kernel's layout",
        ),
        (
            lambda: ConvLayer.of(ONES, groups=3, transposed=True, layout="IO*"),
            GeometryError,
            "groups must divide the 4 in-channels, got groups=3",
        ),
        (lambda: ConvLayer.of(ONES, np.ones(3)), KernelError, f"{BIAS} (3,)"),
        (lambda: ConvLayer.of(ONES, np.ones((4, 1))), KernelError, f"{BIAS} (4, 1)"),
        (lambda: ConvLayer.of(ONES, 1.0), KernelError, f"{BIAS} ()"),
        (lambda: ConvLayer.of(ONES, np.ones(4), layout="IO*"), KernelError, "bias must have shape (2,)"),
        (
            lambda: ConvLayer.of(ONES.astype("float16"), np.full(4, 1e5)),
            KernelError,
            "bias as float16 must hold finite numbers only, got NaN or inf",
        ),
        (
            lambda: ConvLayer.of(ONES, stride=(1, 2)),
            GeometryError,
            "stride must have one entry per spatial axis, 1 here",
        ),
        (lambda: ConvLayer.of(ONES, padding="same"), GeometryError, "padding must be integers, got 'same'"),  # type: ignore[arg-type]
        (lambda: ConvLayer.of(ONES).output_size((2,)), GeometryError, "input_size (2,) gives no output on axis 0"),
        (lambda: ConvLayer.of(ONES).adjoint((2,)), GeometryError, "input_size (2,) gives no output on axis 0"),
        (lambda: as_layer("kernel"), KernelTypeError, "kernel must be of a real floating-point type"),
    ],
)
def test_a_layer_is_refused_with_argument_value_and_rule(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("layout", ["OIHW", "OI", "OI**", "oi*", "", None, ("O", "I", "*")])
def test_a_layout_is_an_order_of_o_i_and_star(layout: Any) -> None:
    message = (
        re.escape('layout must hold O, I and * once each, as "OI*" or "*IO"; ') + ".*" + re.escape(f"; got {layout!r}")
    )
    layer = ConvLayer.of(ONES)
    for call in (
        lambda: ConvLayer.of(ONES, layout=layout),
        lambda: from_layout(ONES, layout, layer.geometry),
        lambda: to_layout(layer.kernel, layout, layer.geometry),
    ):
        with pytest.raises(KernelError, match=message):
            call()


POINTWISE = ConvLayer.of(np.ones((2, 4, 1)))


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], KernelError, "layers must hold at least one ConvLayer, got 0 steps without a kernel"),
        (
            [POINTWISE, ONES],
            KernelTypeError,
            "layers[1] must be a ConvLayer, ChannelwiseLayer, PermuteLayer or PadLayer, got ndarray; use "
            "ConvLayer.of(...)",
        ),
        (POINTWISE, KernelTypeError, "layers must be"),
        (None, KernelTypeError, "layers must be"),
        (
            [POINTWISE, ConvLayer.of(np.ones((2, 2, 1, 1)))],
            GeometryError,
            "layers must have one number of spatial axes, got 1 in layer 0 and 2 in layer 1",
        ),
        (
            [POINTWISE, ConvLayer.of(np.ones((2, 2, 1), "float32"))],
            KernelTypeError,
            "layers must be of one data type, got float64 in layer 0 and float32 in layer 1; convert the kernels first",
        ),
        ([POINTWISE, POINTWISE], KernelError, "layer 1 takes 4 channels, layer 0 gives 2"),
        (
            [POINTWISE, ConvLayer.of(np.ones((2, 2, 1)), groups=2)],
            KernelError,
            "layer 1 takes 4 channels, layer 0 gives 2",
        ),
        (
            [ConvLayer.of(np.ones((4, 4, 1)), np.zeros(4)), POINTWISE],
            KernelError,
            "layer 0 has a bias; only the last convolution may (an inner bias is wrong at zero-padded borders), so "
            "move it through the later kernels where no padding follows",
        ),
    ],
)
def test_a_sequence_is_refused_with_the_layer_and_the_rule(layers: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ConvSequence(layers)


@pytest.mark.parametrize("value", [ONES, [POINTWISE], None, "sequence"])
def test_what_means_no_sequence_is_refused_with_the_cure(value: Any) -> None:
    message = (
        f"sequence must be a ConvLayer, a ConvSequence or have .sequence, got {type(value).__name__}; "
        "a plain array becomes a layer by ConvLayer.of(array, stride=..., padding=...)"
    )
    with pytest.raises(KernelTypeError, match=re.escape(message)):
        as_sequence(value)


@pytest.mark.parametrize("value", ["False", "no", 1, None])
def test_a_truth_value_is_no_text_and_no_number(value: Any) -> None:
    with pytest.raises(GeometryError, match="transposed must be True or False, got "):
        ConvGeometry.of(1, transposed=value)


def test_a_single_axis_is_no_listing_of_axes() -> None:
    with pytest.raises(GeometryError, match="axes must be a tuple of integers, one per spatial axis, got 0"):
        ConvGeometry.of(2).on_axes(0)  # type: ignore[arg-type]
