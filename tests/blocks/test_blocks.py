"""What blocks cost, against the formulas of their papers written out by hand, and what they refuse."""

import math
import subprocess
import sys
from fractions import Fraction

import pytest

import tensorconv as tc
from tensorconv import blocks
from tensorconv.cost import chain_cost
from tensorconv.errors import GeometryError

M, N, K, P = 24, 40, 9, 14 * 14
QUARTER = P // 4  # positions after a stride of 2

# block, parameters, MACs at 14x14, both in letters
FORMULAS = {
    "dense": (blocks.dense(M, N), M * N * K, M * N * K * P),
    "dense, bias": (blocks.dense(M, N, bias=True), M * N * K + N, M * N * K * P),
    "dense, stride": (blocks.dense(M, N, stride=2), M * N * K, M * N * K * QUARTER),
    "mobilenet_v1": (blocks.mobilenet_v1(M, N), M * K + M * N, P * (M * K + M * N)),
    "mobilenet_v1, stride": (blocks.mobilenet_v1(M, N, stride=2), M * K + M * N, QUARTER * (M * K + M * N)),
    "mobilenet_v1, terms": (blocks.mobilenet_v1(M, N, terms=3), 3 * (M * K + M * N), 3 * P * (M * K + M * N)),
    "xception": (blocks.xception(M, N), M * N + N * K, P * (M * N + N * K)),
    "xception, stride": (blocks.xception(M, N, stride=2), M * N + N * K, P * M * N + QUARTER * N * K),
    "xception, terms": (blocks.xception(M, N, terms=2), 2 * (M * N + N * K), 2 * P * (M * N + N * K)),
    "xception, reversed": (
        blocks.xception(M, N, stride=2, order="depthwise-first"),
        M * K + M * N,
        QUARTER * (M * K + M * N),
    ),
    "mobilenet_v2": (blocks.mobilenet_v2(M, M), 6 * M * (M + K + M), 6 * M * (M + K + M) * P),
    "mobilenet_v2, stride": (
        blocks.mobilenet_v2(M, N, stride=2, expansion=4),
        4 * M * (M + K + N),
        4 * M * (P * M + QUARTER * (K + N)),
    ),
    "mobilenet_v2, t = 1": (blocks.mobilenet_v2(M, N, expansion=1), M * K + M * N, P * (M * K + M * N)),
    "resnet_bottleneck": (blocks.resnet_bottleneck(N, N), 10 * N + 100 * K + 10 * N, P * (20 * N + 100 * K)),
    "resnet_bottleneck, stride": (
        blocks.resnet_bottleneck(M, N, 12, stride=2),
        12 * M + 144 * K + 12 * N + M * N,
        P * 12 * M + QUARTER * (144 * K + 12 * N + M * N),
    ),
    "resnet_basic": (blocks.resnet_basic(N, N), 2 * N * N * K, 2 * N * N * K * P),
    "resnet_basic, stride": (
        blocks.resnet_basic(M, N, stride=2),
        M * N * K + N * N * K + M * N,
        QUARTER * (M * N * K + N * N * K + M * N),
    ),
    "shufflenet_v1": (blocks.shufflenet_v1(24, 24), 2 * 24 * 6 // 3 + 6 * K, P * (2 * 24 * 6 // 3 + 6 * K)),
    "shufflenet_v1, stride": (
        blocks.shufflenet_v1(24, 60, stride=2),
        24 * 15 // 3 + 15 * K + 15 * 36 // 3,
        P * 24 * 15 // 3 + QUARTER * (15 * K + 15 * 36 // 3),
    ),
    "shufflenet_v1, first unit": (
        blocks.shufflenet_v1(24, 60, stride=2, first_groups=1),
        24 * 15 + 15 * K + 15 * 36 // 3,
        P * 24 * 15 + QUARTER * (15 * K + 15 * 36 // 3),
    ),
    "shufflenet_v2": (blocks.shufflenet_v2(M, M), 2 * 144 + 12 * K, P * (2 * 144 + 12 * K)),
    "shufflenet_v2, stride": (
        blocks.shufflenet_v2(M, N, stride=2),
        (M * K + M * 20) + (M * 20 + 20 * K + 400),
        QUARTER * (M * K + M * 20) + P * M * 20 + QUARTER * (20 * K + 400),
    ),
    "effnet": (
        blocks.effnet(M, N),  # H = 20: 1x1 and 1x3 at P, 3x1 at P/2, 2x1 at P/4
        M * 20 + 3 * 20 + 3 * 20 + 2 * 20 * N,
        P * (M * 20 + 3 * 20) + P // 2 * 3 * 20 + QUARTER * 2 * 20 * N,
    ),
    "group_module": (blocks.group_module(M, 3), 2 * (M * K + M * M // 3), 2 * (M * K + M * M // 3) * P),
    "group_channelwise_module": (
        blocks.group_channelwise_module(M, 2, 8),
        2 * (M * K + M * M // 2) + 8 * 2,
        (2 * (M * K + M * M // 2) + 8 * M) * P,
    ),
    "depthwise_separable_channelwise": (
        blocks.depthwise_separable_channelwise(M, 16),
        M * K + 16,
        (M * K + 16 * M) * P,
    ),
    "convolutional_classifier": (blocks.convolutional_classifier(M, 10, 14), P * 15, P * 15 * 10),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_parameters_and_macs_are_those_of_the_formulas(name: str) -> None:
    block, n_parameters, macs = FORMULAS[name]
    assert (block.n_parameters, block.macs(14)) == (n_parameters, macs)
    assert (type(block.n_parameters), type(block.macs(14))) == (int, int)


HALVED = {name for name in FORMULAS if name.endswith("stride")}
HALVED |= {"xception, reversed", "shufflenet_v1, first unit", "effnet"}


@pytest.mark.parametrize("name", FORMULAS)
def test_sizes_of_outputs(name: str) -> None:
    side = 7 if name in HALVED else 1 if name == "convolutional_classifier" else 14
    assert FORMULAS[name][0].output_size(14) == (side, side)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_dense_layers_end_where_the_block_does(name: str) -> None:
    block, *_ = FORMULAS[name]
    plain = blocks.Block("dense", block.dense)
    assert (plain.out_channels, plain.output_size(14)) == (block.out_channels, block.output_size(14))


SQUARE = ("dense", "mobilenet_v1", "xception", "mobilenet_v2", "resnet_bottleneck", "resnet_basic", "shufflenet_v1")


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", [*SQUARE, "shufflenet_v2"])
def test_any_number_of_axes(name: str, ndim: int) -> None:
    make = getattr(blocks, name)
    whole, strided = make(24, 24, ndim=ndim), make(24, 48, stride=2, ndim=ndim)
    assert (whole.ndim, whole.out_channels, whole.output_size(4)) == (ndim, 24, (4,) * ndim)
    assert (strided.ndim, strided.out_channels, strided.output_size(4)) == (ndim, 48, (2,) * ndim)
    assert len(whole.table(4).splitlines()[1].split()) > 3


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_any_number_of_axes_beside_the_channels(ndim: int) -> None:
    fused, grouped = blocks.group_channelwise_module(24, ndim=ndim), blocks.group_module(24, ndim=ndim)
    assert fused.n_parameters - grouped.n_parameters == 8 * 2
    assert fused.macs(4) - grouped.macs(4) == 8 * 24 * 4**ndim
    shared = blocks.depthwise_separable_channelwise(24, 8, stride=2, ndim=ndim)
    assert (shared.n_parameters, shared.macs(4)) == (24 * 3**ndim + 8, (24 * 3**ndim + 8 * 24) * 2**ndim)
    classifier = blocks.convolutional_classifier(24, 10, 4, ndim=ndim)
    assert (classifier.n_parameters, classifier.output_size(4)) == (15 * 4**ndim, (1,) * ndim)


def test_a_strided_axis_of_its_own() -> None:
    block = blocks.mobilenet_v1(M, N, (1, 5), stride=(1, 2))
    assert block.output_size((6, 9)) == (6, 5)
    assert block.macs((6, 9)) == 30 * (M * 5 + M * N)


@pytest.mark.parametrize(("n", "k"), [(256, 9), (40, 9), (7, 25)])
def test_a_depthwise_separable_costs_one_over_n_plus_one_over_k(n: int, k: int) -> None:
    block = blocks.mobilenet_v1(M, n, math.isqrt(k))
    assert block.cost_ratio(14) == Fraction(1, n) + Fraction(1, k)
    assert block.cost_ratio(14, "parameters") == Fraction(1, n) + Fraction(1, k)


def test_a_ratio_of_bytes() -> None:
    block = blocks.mobilenet_v1(M, N)
    moved = 4 * (M * P + M * K + M * P) + 4 * (M * P + M * N + N * P)
    assert block.bytes_moved(14) == moved
    assert block.cost_ratio(14, "bytes") == Fraction(moved, 4 * (M * P + M * N * K + N * P))


def test_a_network_of_its_own_has_no_ratio() -> None:
    block = blocks.Block("two", (blocks.dense(3, 4), blocks.dense(4, 5)))
    with pytest.raises(GeometryError, match="'two' stands for no dense layer"):
        block.cost_ratio(8)
    with pytest.raises(GeometryError, match="of must be one of"):
        blocks.dense(3, 4).cost_ratio(8, "flops")


def test_a_chain_moves_the_bytes_that_cost_counts() -> None:
    block = blocks.mobilenet_v2(M, N, stride=2)
    chain = [(step.shape, step.geometry) for step in block.steps if isinstance(step, blocks.Convolution)]
    for input_size in (14, (9, 6)):
        assert block.bytes_moved(input_size, 2) == chain_cost(chain, "bytes", input_size, itemsize=2)
        assert block.macs(input_size) == chain_cost(chain, "macs", input_size)


def test_steps_without_arithmetic_move_bytes_and_cost_no_macs() -> None:
    shuffle = blocks.ChannelShuffle(12, 3)
    pooling = blocks.Pooling(12, (3, 3), tc.ConvGeometry.of(2, stride=2, padding=1))
    joined = blocks.Branches(12, ((), (shuffle,)), "concat")
    halves = blocks.Branches(12, ((), ()), "concat", split=True)
    assert [step.macs(14) for step in (shuffle, pooling, joined, halves)] == [0] * 4
    assert [step.n_parameters for step in (shuffle, pooling, joined, halves)] == [0] * 4
    assert shuffle.bytes_moved(14) == 4 * 2 * 12 * P
    assert pooling.bytes_moved(14) == 4 * 12 * (P + QUARTER)
    assert joined.bytes_moved(14) == 4 * (2 * 12 * P + 24 * P + 24 * P)
    assert halves.bytes_moved(14) == 4 * (12 * P + 12 * P)  # the split alone moves nothing
    assert (joined.out_channels, halves.out_channels) == (24, 12)


def test_batch_normalizations_are_counted_apart() -> None:
    assert blocks.mobilenet_v1(M, N, norm=True).n_norm_parameters == 2 * (M + N)
    assert blocks.xception(M, N, norm=True).n_norm_parameters == 2 * N
    assert blocks.shufflenet_v1(24, 60, stride=2, norm=True).n_norm_parameters == 2 * (15 + 15 + 36)
    assert blocks.resnet_bottleneck(M, N, norm=True).n_norm_parameters == 2 * (10 + 10 + N + N)
    assert blocks.resnet_basic(N, N, norm=True).n_norm_parameters == 2 * 2 * N
    assert blocks.group_module(M, norm=True).n_norm_parameters == 2 * 2 * M
    for name, (block, n_parameters, _) in FORMULAS.items():
        assert (block.n_norm_parameters, block.n_parameters) == (0, n_parameters), name


@pytest.mark.parametrize(("length", "groups"), [(8, 2), (7, 3), (3, 3), (64, 1), (5, 1)])
def test_a_channel_wise_convolution_costs_what_the_paper_says(length: int, groups: int) -> None:
    step = blocks.channelwise(48, length, groups)
    assert (step.n_parameters, step.macs((5, 7))) == (length * groups, length * 48 * 35)
    assert (step.in_channels, step.out_channels, step.output_size((5, 7))) == (48, 48, (5, 7))
    low, high = step.geometry.padding[0]
    assert low + high == length - groups


def test_the_convolutional_classification_layer_of_the_paper() -> None:
    block = blocks.convolutional_classifier(1024, 1000)
    assert (block.n_parameters, sum(step.n_parameters for step in block.dense)) == (1_225, 1_024_000)
    assert (block.macs(7), block.output_size(7), block.out_channels) == (1_225_000, (1, 1), 1000)
    assert block.cost_ratio(7) == Fraction(1_225_000, 1_024_000)


def test_shortcuts_are_where_they_can_be() -> None:
    def kinds(block: blocks.Block) -> list[str]:
        return [line.split("  ")[0] for line in str(block).splitlines()[1:]]

    assert kinds(blocks.mobilenet_v2(M, M))[-2:] == ["b: identity", "add"]
    assert "add" not in kinds(blocks.mobilenet_v2(M, N))
    assert "add" not in kinds(blocks.mobilenet_v2(M, M, stride=2))
    assert kinds(blocks.resnet_bottleneck(M, M))[-2:] == ["b: identity", "add"]
    assert kinds(blocks.resnet_bottleneck(M, N))[-2:] == ["b: pointwise", "add"]
    assert kinds(blocks.resnet_basic(M, M, stride=2))[-2:] == ["b: pointwise", "add"]
    assert kinds(blocks.shufflenet_v1(24, 60, stride=2)) == [
        *("a: pooling", "b: grouped pointwise", "b: channel shuffle", "b: depthwise", "b: grouped pointwise", "concat")
    ]
    assert kinds(blocks.shufflenet_v2(24, 24))[:2] == ["split", "a: identity"]


def test_the_table_has_sizes_where_the_input_has_one() -> None:
    block = blocks.shufflenet_v2(24, 24)
    assert str(block) == block.table()
    rows = [line.split() for line in block.table((4, 6)).splitlines()]
    assert rows[0] == ["step", "channels", "kernel", "geometry", "parameters", "output", "MACs"]
    assert rows[3][-3:] == ["144", "4x6", f"{144 * 24:,}"]
    assert sum(int(row[-1].replace(",", "")) for row in rows[1:]) == block.macs((4, 6))
    assert sum(int(row[-3].replace(",", "")) for row in rows[1:]) == block.n_parameters


def test_costs_need_no_arrays_of_kernels() -> None:
    source = (
        "import sys\nfrom tensorconv import blocks\nprint(blocks.networks.resnet50().table(224))\n"
        "assert not {'numpy', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


POINTWISE = blocks.convolution(4, 6)
REFUSED = {
    "groups must divide the channels, 24 in and 40 out, got 3": lambda: blocks.convolution(M, N, groups=3),
    "groups must divide the 5 out-channels": lambda: blocks.Convolution((5, 1, 1), tc.ConvGeometry.of(1, groups=2)),
    "shape must be .O, I, K1..KN. with the 2 spatial": lambda: blocks.Convolution((4, 4, 3), tc.ConvGeometry.of(2)),
    "in_channels must be an integer": lambda: blocks.dense(2.5, 4),  # type: ignore[arg-type]
    "kernel_size must have one entry per spatial axis": lambda: blocks.dense(3, 4, (3, 3), ndim=3),
    "terms must be at least 1": lambda: blocks.mobilenet_v1(3, 4, terms=0),
    'order must be "depthwise-first" or "pointwise-first"': lambda: blocks.xception(3, 4, order="both"),
    "out_channels must be a multiple of 4 and equal": lambda: blocks.shufflenet_v1(24, 48),
    "out_channels must be a multiple of 4 and above": lambda: blocks.shufflenet_v1(24, 24, stride=2),
    "out_channels must be even and equal": lambda: blocks.shufflenet_v2(24, 48),
    "groups must divide the channels, 24 in and 24 out, got 5": lambda: blocks.group_module(24, 5),
    "groups must divide the 24 channels": lambda: blocks.channelwise(24, 8, 5),
    "length must be at least 4, got 3": lambda: blocks.channelwise(24, 3, 4),
    "n_classes must be at most the 24 in-channels, got 25": lambda: blocks.convolutional_classifier(24, 25),
    "groups must divide the 24 channels, got 7": lambda: blocks.ChannelShuffle(24, 7),
    "window must have one entry for each of the 2": lambda: blocks.Pooling(4, (2,), tc.ConvGeometry.of(2)),
    "global pooling has no stride": lambda: blocks.Pooling(4, (), tc.ConvGeometry.of(2, stride=2)),
    "a pooling is neither": lambda: blocks.Pooling(4, (2,), tc.ConvGeometry.of(1, groups=2)),
    "a channel-wise convolution is neither": lambda: blocks.ChannelConvolution(
        4, (2, 1), tc.ConvGeometry.of(2, groups=2)
    ),
    "the channel axis and at least one spatial axis": lambda: blocks.ChannelConvolution(4, (2,), tc.ConvGeometry.of(1)),
    "gives no output on axis 0": lambda: blocks.ChannelConvolution(4, (5, 1), tc.ConvGeometry.of(2)),
    "join must be one of": lambda: blocks.Branches(4, ((), ()), "multiply"),
    "4 channels cannot be split evenly among 3": lambda: blocks.Branches(4, ((), (), ()), split=True),
    "branches that are added must have one number": lambda: blocks.Branches(4, ((), (POINTWISE,))),
    "step 0 takes 4 channels, what comes before it gives 5": lambda: blocks.Branches(5, ((POINTWISE,),)),
    "steps of block 'b' must hold at least one": lambda: blocks.Block("b", ()),
    r"steps\[0\] must be a Step": lambda: blocks.Block("b", (tc.ConvGeometry.of(2),)),  # type: ignore[arg-type]
    "step 1 takes 4 channels, what comes before it gives 6": lambda: blocks.Block("b", (POINTWISE, POINTWISE)),
    "steps must have one number of spatial axes": lambda: blocks.Block(
        "b", (POINTWISE, blocks.convolution(6, 6, ndim=1))
    ),
    "dense must end with the 6 channels": lambda: blocks.Block("b", (POINTWISE,), (blocks.convolution(4, 4),)),
    "version must be 1, 2 or 3": lambda: blocks.networks.channelnet(4),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_no_block_is_refused(message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        REFUSED[message]()


def test_sizes_that_branches_do_not_share_are_refused() -> None:
    strided = (blocks.convolution(4, 4, stride=2),)
    whole = (blocks.Pooling(4, (2, 2), tc.ConvGeometry.of(2, stride=2)),)
    step = blocks.Branches(4, (strided, whole))
    assert step.output_size(8) == (4, 4)
    with pytest.raises(GeometryError, match="branches end at different sizes"):
        step.macs(7)  # 4 by the convolution, 3 by the pooling
    with pytest.raises(GeometryError, match="gives no output"):
        blocks.convolutional_classifier(24, 10, 7).macs(6)
