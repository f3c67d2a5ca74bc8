"""Tests of the exporter "torch": torch computes what the sequence says, and gives it back bitwise."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from export.sequences import DTYPES, GEOMETRIES, assert_same, chain, data, layer, padded
from oracles import reference_bound, reference_sequence

import tensorconv as tc
from tensorconv.errors import FormatError, KernelError, UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, ConvSequence, PadLayer

FLOAT64 = 2.0**-53
NAMES = {
    "float16": "torch.float16",
    "bfloat16": "torch.bfloat16",
    "float32": "torch.float32",
    "float64": "torch.float64",
}


def assert_computes(module: torch.nn.Module, sequence: ConvSequence, x: np.ndarray) -> None:
    """Assert that torch, in float64, agrees with the reference to rounding."""
    with torch.no_grad():
        y = module(torch.from_numpy(x)).numpy()
    expected = reference_sequence(x, sequence)
    assert y.shape == expected.shape
    # both round in float64
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, [FLOAT64, FLOAT64]))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", GEOMETRIES)
def test_torch_computes_the_layer_and_gives_it_back(kind: str, ndim: int, bias: bool) -> None:
    sequence = layer(kind, ndim, bias=bias, name="conv1").sequence
    module = dump(sequence, "torch")
    assert_computes(module, sequence, data(ndim))
    assert_same(load(module, "torch"), sequence)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_torch_computes_a_chain_and_gives_it_back(ndim: int) -> None:
    sequence = chain(ndim)
    module = dump(sequence, "torch")
    assert_computes(module, sequence, data(ndim))
    loaded = load(module, "torch")
    assert_same(loaded, sequence, names=False)
    assert [one.name for one in loaded] == ["squeeze", "", "", "grow", ""]  # torch has no dots in keys


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_an_output_can_be_extended_without_bias(ndim: int) -> None:
    sequence = layer("extended", ndim, bias=False).sequence
    module = dump(sequence, "torch")
    assert_computes(module, sequence, data(ndim))
    assert_same(load(module, "torch"), sequence)


def test_an_output_cannot_be_extended_with_bias() -> None:
    with pytest.raises(
        UnsupportedExportError, match=r"extend a transposed .*\(\(-1, 1\), \(0, -4\)\).*export to \"onnx\""
    ):
        dump(layer("extended", 2), "torch")


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("low", [0, 1, 4])
def test_every_high_padding_that_torch_can_say_is_said_without_steps(stride: int, dilation: int, low: int) -> None:
    for high in range(low - 4, low + 3):
        one = ConvLayer.of(
            np.arange(1.0, 13).reshape(1, 4, 3),
            None,
            stride=stride,
            dilation=dilation,
            padding=[(low, high)],
            transposed=True,
        )
        module = dump(one, "torch")
        assert (len(module) == 1) == (0 <= low - high < max(stride, dilation))
        assert_computes(module, one.sequence, np.random.default_rng(0).standard_normal((2, 4, 9)))
        assert_same(load(module, "torch"), one.sequence)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 3])
def test_every_data_type_comes_back_bitwise(ndim: int, dtype: str) -> None:
    sequence = chain(ndim, dtype)
    module = dump(sequence, "torch")
    assert {str(parameter.dtype) for parameter in module.parameters()} == {NAMES[dtype]}
    assert module(torch.from_numpy(data(ndim)).to(next(module.parameters()).dtype)).shape[1] == 3
    assert_same(load(module, "torch"), sequence, names=False)


def test_the_kernels_stand_as_torch_wants_them() -> None:
    kernel = np.arange(6 * 2 * 3.0).reshape(6, 2, 3)  # (O, I/G, K) with 2 groups of 3 and 2 channels
    forward = dump(ConvLayer.of(kernel, groups=2), "torch")[0].weight
    assert forward.shape == (6, 2, 3)
    assert forward[4, 1, 2] == kernel[4, 1, 2]
    backward = dump(ConvLayer.of(kernel, groups=2, transposed=True), "torch")[0].weight
    assert backward.shape == (4, 3, 3)  # (I, O/G, K)
    # in-channel 3 is the second of group 1; its out-channel 2 is out-channel 3 + 2 of all
    assert backward[3, 2, 1] == kernel[5, 1, 1]


def test_torchs_padding_modules_count_the_last_axis_first() -> None:
    module = dump(ConvLayer.of(np.ones((1, 1, 1, 1)), padding=((1, 2), (-3, 4))), "torch")
    assert module[0].padding == (-3, 4, 1, 2)
    assert module(torch.zeros(1, 1, 5, 6, dtype=torch.float64)).shape == (1, 1, 8, 7)


def test_parameters_are_trainable_and_own_their_memory() -> None:
    one = layer("plain", 2)
    module = dump(one, "torch")
    with torch.no_grad():
        for parameter in module.parameters():
            assert parameter.requires_grad
            parameter.zero_()
    assert np.all(one.kernel != 0)
    module(torch.zeros(1, 4, 5, 5, dtype=torch.float64)).sum().backward()
    loaded = load(dump(one, "torch"), "torch")
    assert_same(loaded, one.sequence)


def test_torchs_random_numbers_are_not_touched() -> None:
    state = torch.get_rng_state()
    dump(chain(2), "torch")
    assert torch.equal(state, torch.get_rng_state())


def test_names_become_keys_where_they_can() -> None:
    kernel = np.ones((1, 1, 1))
    names = ["stem", "twice", "twice", "a.b", "7", "forward", ""]
    layers = [ConvLayer.of(kernel, padding=[(0, 1)], name=name) for name in names]
    module = dump(ConvSequence(tuple(layers)), "torch")
    assert [key for key, _ in module.named_children()] == ["0", "stem", *map(str, range(2, 14))]
    assert [one.name for one in load(module, "torch")] == ["stem", *[""] * 6]


def test_four_axes_are_refused_with_a_cure() -> None:
    with pytest.raises(UnsupportedExportError, match='over 1 to 3 spatial axes, got 4; export to "onnx", which runs 4'):
        dump(layer("plain", 4), "torch")


@pytest.mark.parametrize(
    ("module", "geometry"),
    [
        (
            torch.nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
            ConvGeometry((2, 1), ((1, 1), (0, 0)), (1, 2), 2),
        ),
        (torch.nn.Conv1d(2, 2, 4, padding="same", bias=False), ConvGeometry((1,), ((1, 2),), (1,))),
        (torch.nn.Conv1d(2, 2, 4, padding="same", dilation=3), ConvGeometry((1,), ((4, 5),), (3,))),
        (torch.nn.Conv3d(2, 2, 2, padding="valid"), ConvGeometry((1,) * 3, ((0, 0),) * 3, (1,) * 3)),
        (
            torch.nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=1, output_padding=(1, 2), groups=2),
            ConvGeometry((2, 3), ((1, 0), (1, -1)), (1, 1), 2, transposed=True),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch, of its own module
def test_a_single_module_is_read(module: torch.nn.Module, geometry: ConvGeometry) -> None:
    sequence = load(module.double(), "torch")
    assert sequence.layers[0].geometry == geometry
    x = np.random.default_rng(0).standard_normal((1, sequence.in_channels, *(6, 7, 5)[: geometry.ndim]))
    assert_computes(module, sequence, x)


def test_zero_padding_modules_of_others_are_read() -> None:
    module = torch.nn.Sequential(torch.nn.ZeroPad2d((1, 2, 3, 4)), torch.nn.Conv2d(4, 2, 3, padding=1)).double()
    sequence = load(module, "torch")
    assert sequence.layers[0].geometry.padding == ((4, 5), (2, 3))
    assert_computes(module, sequence, data(2))


class Doubled(torch.nn.Conv1d):
    """A convolution that does something else."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's own name
        return 2 * super().forward(input)


CONV = {"in_channels": 2, "out_channels": 2, "kernel_size": 3}


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([torch.nn.ReLU()], "module '' must be a Conv.* got ReLU"),
        ([torch.nn.Sequential(torch.nn.Conv1d(**CONV))], "got Sequential"),
        ([Doubled(**CONV)], "got Doubled"),
        ([torch.nn.ConstantPad1d(1, 2.0), torch.nn.Conv1d(**CONV)], "padding by zeros .* got the value 2.0"),
        (
            [torch.nn.ConstantPad1d(1, 0.0), torch.nn.ReflectionPad1d(1), torch.nn.Conv1d(**CONV)],
            "no convolution takes",
        ),
        ([torch.nn.ConstantPad1d(1, 0.0)] * 2 + [torch.nn.Conv1d(**CONV)], "join them into one"),
        ([torch.nn.Conv1d(**CONV), torch.nn.ConstantPad1d(1, 0.0)], "belongs to no convolution"),
        ([torch.nn.ConstantPad2d(1, 0.0), torch.nn.Conv1d(**CONV)], "does not fit a convolution over 1 spatial axes"),
        ([torch.nn.ConstantPad1d(-1, 0.0), torch.nn.Conv1d(**CONV, padding=1)], "cropping by .* is followed by zero"),
        ([torch.nn.ConstantPad1d(1, 0.0), torch.nn.ConvTranspose1d(**CONV)], "before a transposed convolution"),
        ([torch.nn.ConvTranspose1d(**CONV), torch.nn.ConstantPad1d(1, 0.0)], "that crops or has a bias"),
        (
            [torch.nn.ConvTranspose1d(**CONV, bias=False, padding=1), torch.nn.ConstantPad1d((0, 1), 0.0)],
            "that crops or has a bias",
        ),
    ],
)
def test_what_is_no_sequence_is_refused(modules: list[torch.nn.Module], message: str) -> None:
    with pytest.raises(UnsupportedExportError, match=message):
        load(torch.nn.Sequential(*modules), "torch")


def hooked(kind: str) -> torch.nn.Module:
    module = torch.nn.Conv1d(**CONV)
    if kind == "output":
        module.register_forward_hook(lambda *arguments: 2 * arguments[-1])
    else:
        torch.nn.utils.prune.l1_unstructured(module, "weight", 0.5)
    return module


@pytest.mark.parametrize("kind", ["output", "pruned"])
def test_a_module_with_hooks_is_refused(kind: str) -> None:
    for module in (hooked(kind), torch.nn.Sequential(hooked(kind))):
        with pytest.raises(UnsupportedExportError, match=r"has forward hooks, .*; remove them first"):
            load(module, "torch")


def test_what_a_container_or_a_changed_module_does_is_not_lost() -> None:
    hooked_whole = torch.nn.Sequential(torch.nn.Conv1d(**CONV))
    hooked_whole.register_forward_pre_hook(lambda *arguments: arguments[-1])
    own = torch.nn.Conv1d(**CONV)
    own.forward = lambda input: 0 * input  # type: ignore[method-assign]  # noqa: A006
    for module in (hooked_whole, own):
        with pytest.raises(UnsupportedExportError, match=r"has forward hooks, or a forward of its own"):
            load(module, "torch")
    resized = torch.nn.Conv1d(**CONV, padding="same")
    resized.weight = torch.nn.Parameter(torch.ones(2, 2, 5))
    with pytest.raises(UnsupportedExportError, match=r"kernel_size \(3,\), but a weight of shape \(2, 2, 5\)"):
        load(resized, "torch")
    mirrored = torch.nn.Conv1d(**CONV, padding=1, padding_mode="reflect")
    mirrored.padding = (2,)  # torch pads by what it was made with
    assert load(mirrored, "torch").layers[0] == PadLayer(((1, 1),), "reflect")


def test_steps_along_the_channels_refuse_other_channels() -> None:
    module = dump(ConvSequence([tc.PermuteLayer((1, 0)), ConvLayer.of(np.ones((2, 2, 3)))]), "torch")
    with pytest.raises(KernelError, match=r"x must have 2 channels, got shape \(1, 3, 5\)"):
        module(torch.ones(1, 3, 5, dtype=torch.float64))


def test_a_module_that_stands_twice_counts_twice() -> None:
    twice = [torch.nn.Conv1d(**CONV, bias=False)] * 2
    assert_computes(torch.nn.Sequential(*twice).double(), load(torch.nn.Sequential(*twice), "torch"), data(1)[:, :2])


def test_an_inner_bias_is_refused() -> None:
    with pytest.raises(KernelError, match="layer 0 has a bias; only the last convolution may"):
        load(torch.nn.Sequential(torch.nn.Conv1d(**CONV), torch.nn.Conv1d(**CONV)), "torch")


def test_an_activation_alone_is_refused() -> None:
    with pytest.raises(UnsupportedExportError, match="got GELU"):
        load(torch.nn.GELU(), "torch")


def test_a_crop_of_one_layer_is_not_taken_for_the_padding_of_the_next() -> None:
    options: dict[str, Any] = {"transposed": True, "padding": 1}
    first, second = layer("plain", 1, bias=False).kernel[:4], layer("plain", 1, seed=1).kernel
    for own, following in [((1, 1), (0, 1)), ((0, 2), (1, 1)), ((0, 2), (0, 1)), ((0, 0), (-1, 0))]:
        sequence = ConvSequence(
            (ConvLayer.of(first, **options | {"padding": [own]}), ConvLayer.of(second, padding=[following]))
        )
        module = dump(sequence, "torch")
        assert_computes(module, sequence, data(1))
        assert_same(load(module, "torch"), sequence)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_padding_by_values_is_a_module(ndim: int, mode: str) -> None:
    sequence = padded(ndim, mode)
    module = dump(sequence, "torch")
    assert_computes(module, sequence, data(ndim))
    assert_same(load(module, "torch"), sequence)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [(2, 1), "same"])
def test_a_convolution_that_pads_by_values_is_two_steps(mode: str, padding: Any) -> None:
    module = torch.nn.Conv2d(4, 6, (4, 3), padding=padding, dilation=(1, 2), padding_mode=mode).double()
    sequence = load(module, "torch")
    pad, convolution = sequence
    pairs = ((2, 2), (1, 1)) if padding == (2, 1) else ((1, 2), (2, 2))
    assert pad == PadLayer(pairs, mode)
    assert isinstance(convolution, ConvLayer)
    assert convolution.geometry.padding == ((0, 0), (0, 0))
    assert_computes(module, sequence, data(2))


def test_a_state_dict_has_the_modules_keys_and_comes_back() -> None:
    sequence = chain(2)
    state = dump(sequence, "torch", state_dict=True)
    module = dump(sequence, "torch")
    assert list(state) == list(module.state_dict())
    module.load_state_dict(state)
    assert_same(load(state, "torch", like=sequence), sequence)
    other = ConvSequence([ConvLayer(0 * one.kernel, one.geometry, one.bias, one.name) for one in sequence.convolutions])
    assert_same(load(state, "torch", like=other), sequence)  # the numbers are the state's


def test_a_state_dict_alone_or_of_another_is_refused() -> None:
    state = dump(chain(2), "torch", state_dict=True)
    with pytest.raises(UnsupportedExportError, match=r"holds no stride, .* give like="):
        load(state, "torch")
    with pytest.raises(FormatError, match=r"(?s)obj is no state dict of like: .*size mismatch for squeeze\.weight"):
        load(state, "torch", like=chain(1))


def test_torch_export_captures_the_module() -> None:
    sequence, x = chain(2), torch.from_numpy(data(2))
    exported = torch.export.export(dump(sequence, "torch"), (x,), dynamic_shapes=({2: torch.export.Dim.AUTO},))
    larger = np.random.default_rng(2).standard_normal((2, 4, 11, 6))
    assert_computes(exported.module(), sequence, larger)


def test_torch_compile_takes_the_module() -> None:
    # a process of its own: the compiler changes global state of torch
    code = """
import torch
import torch.nn.utils.prune
from export.sequences import chain, data
from export.test_torch import assert_computes
from tensorconv.export import dump
sequence = chain(2)
compiled = torch.compile(dump(sequence, "torch"), fullgraph=True, backend="aot_eager")
assert_computes(compiled, sequence, data(2))
print("computed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="tests", check=False)
    assert done.stdout == "computed\n", done.stderr


def test_a_sequence_fine_tuned_in_torch_comes_back() -> None:
    rng = np.random.default_rng(0)
    original = ConvLayer.of(
        rng.standard_normal((8, 6, 3, 3)), rng.standard_normal(8), stride=2, padding=((1, 0), (0, 1))
    )
    found = tc.tucker(original, (4, 4))
    module = dump(found, "torch")
    x = torch.from_numpy(rng.standard_normal((64, 6, 9, 8)))
    target = torch.from_numpy(tc.convolve(x.numpy(), original))
    before = tc.verify(original, found, x.numpy())
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(x), target).backward()
        optimizer.step()
    tuned = load(module, "torch")
    report = tc.verify(original, tuned, x.numpy())
    assert report.consistent
    assert report.output_error is not None
    assert before.output_error is not None
    assert report.output_error < 0.999 * before.output_error  # the best fit to the kernel is not the best fit to x
    dense = tc.compose(tuned)
    assert dense.geometry == original.geometry
    assert dense.kernel.shape == original.kernel.shape
    assert_computes(module, tuned, x.numpy())
    drift = tc.verify(dense, tuned, x.numpy())
    assert drift.exact
    # one convolution or its factors: the same to float64 rounding of both
    bound = reference_bound(x.numpy(), tuned, [FLOAT64, FLOAT64]) + reference_bound(
        x.numpy(), dense.sequence, [FLOAT64]
    )
    difference = reference_sequence(x.numpy(), tuned) - reference_sequence(x.numpy(), dense.sequence)
    assert np.all(np.abs(difference) <= bound)
