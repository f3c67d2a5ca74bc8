"""Totals of whole networks against published figures; each tolerance is half a unit of the figure's last digit."""

import pytest

import tensorconv as tc
from tensorconv import blocks
from tensorconv.blocks import networks

VGG, MOBILENET, RESNET = networks.vgg16(), networks.mobilenet_v1(), networks.resnet50()
SHUFFLENET, CHANNELNET = networks.shufflenet_v1(2), networks.channelnet(1)


def trained(network: blocks.Block) -> int:
    """Every entry that training changes: kernels, biases, scales and shifts."""
    return network.n_parameters + network.n_norm_parameters


def test_vgg16() -> None:
    features, classifier = VGG.steps
    assert features.macs(224) == 15_346_630_656
    assert features.macs(224) == pytest.approx(15.35e9, abs=0.005e9)  # the convolutions alone, without the classifier
    assert classifier.macs(7) == 25_088 * 4096 + 4096 * 4096 + 4096 * 1000
    assert VGG.n_parameters == pytest.approx(138e6, abs=0.5e6)  # table 2 of the paper: 138 million, biases included
    assert VGG.n_parameters == 138_357_544


def test_mobilenet_v1() -> None:
    assert MOBILENET.macs(224) == pytest.approx(569e6, abs=0.5e6)  # tables 4 and 8, fully connected layer included
    for count in (MOBILENET.n_parameters, trained(MOBILENET)):  # with or without batch normalization
        assert count == pytest.approx(4.2e6, abs=0.05e6)


def test_resnet50() -> None:
    assert RESNET.macs(224) == pytest.approx(4.1e9, abs=0.05e9)  # fully connected layer included or not
    assert RESNET.macs(224) - 2048 * 1000 == pytest.approx(4.1e9, abs=0.05e9)
    assert trained(RESNET) == 25_557_032  # as trained models of this network have


def test_shufflenet_2x() -> None:
    # the paper's 524 M (table 5) needs a stem of 2 x 24 channels and a first pointwise convolution without groups
    assert SHUFFLENET.macs(224) == pytest.approx(524e6, abs=0.5e6)
    # 5.4 M parameters as Sandler and others (2018, table 4) list it; the 5.3 M of Gao, Wang, Ji (2018) is not met:
    # kernels and fully connected layer alone, without biases and normalizations, are 5.401 M
    assert trained(SHUFFLENET) == pytest.approx(5.4e6, abs=0.06e6)
    assert SHUFFLENET.n_parameters == pytest.approx(5.4e6, abs=0.05e6)
    assert SHUFFLENET.n_parameters - 1000 > 5.35e6


def test_channelnet_v1_has_the_published_parameters() -> None:
    for count in (CHANNELNET.n_parameters, trained(CHANNELNET)):
        assert count == pytest.approx(3.7e6, abs=0.05e6)


def concatenated_channelnet() -> blocks.Block:
    """The variant whose early layers give half the channels, concatenated with what goes into them."""

    def joined(channels: int) -> blocks.Branches:
        return blocks.Branches(channels, ((), (blocks.mobilenet_v1(channels, channels),)), "concat")

    early = [blocks.convolution(3, 32, 3, stride=2), joined(32)]
    for channels in (64, 128):
        early += [blocks.mobilenet_v1(channels, channels, stride=2), joined(channels)]
    return blocks.Block("variant", (*early, *CHANNELNET.steps[6:]))


def test_channelnet_v1_does_not_have_the_published_macs() -> None:
    # MobileNet's table with two GCWMs and one GM in the place of six layers of 512 channels counts 61.5 M more than the
    # published 407 M; with early layers that concatenate it counts 57 M less. No reading found counts 407 M.
    assert CHANNELNET.macs(224) == 468_488_704
    variant = concatenated_channelnet()
    assert variant.macs(224) == pytest.approx(350e6, abs=0.5e6)
    assert variant.n_parameters == pytest.approx(3.6e6, abs=0.05e6)
    assert variant.macs(224) < 407e6 < CHANNELNET.macs(224)


def test_channelnets_are_mobilenet_but_for_the_layers_replaced() -> None:
    modules = 2 * (4 * 4608 // 2 + 512 * 512) + 2 * 8 * 2 + (4 * 4608 // 2 + 512 * 512)
    five = 5 * (4608 + 512 * 512)
    assert CHANNELNET.n_parameters == MOBILENET.n_parameters - five + modules
    fused = 2 * 8 * 512 * 196
    assert CHANNELNET.macs(224) == MOBILENET.macs(224) - 196 * five + 196 * (modules - 32) + fused


def test_channelnet_v2_and_v3_replace_the_last_two_layers() -> None:
    second, third = networks.channelnet(2), networks.channelnet(3)
    assert CHANNELNET.n_parameters - second.n_parameters == 1024 * 1024 - 64
    assert CHANNELNET.macs(224) - second.macs(224) == 49 * (1024 * 1024 - 64 * 1024)
    assert second.n_parameters - third.n_parameters == 1_024_000 + 1000 - 1_225
    assert third.macs(224) - second.macs(224) == 1_225_000 - 1_024_000


@pytest.mark.parametrize("network", [VGG, MOBILENET, RESNET, SHUFFLENET, CHANNELNET, networks.channelnet(3)])
def test_networks_end_in_classes(network: blocks.Block) -> None:
    assert (network.in_channels, network.out_channels, network.output_size(224)) == (3, 1000, (1, 1))
    assert network.macs(224) == sum(step.macs(size) for step, size in sizes(network))
    assert str(network).count("\n") == len(network.steps)


def sizes(network: blocks.Block) -> list[tuple[blocks.Step, tuple[int, ...]]]:
    size, found = (224, 224), []
    for step in network.steps:
        found.append((step, size))
        size = step.output_size(size)
    return found


def test_resnets_strides_are_on_the_3x3_convolutions() -> None:
    strided = [
        step
        for block in RESNET.steps[1:-1]
        for branch in block.steps[0].branches
        for step in branch
        if max(step.geometry.stride) > 1 and len(branch) > 1
    ]
    assert [step.kernel_size for step in strided] == [(3, 3)] * 3
    assert all(step.geometry == tc.ConvGeometry.of(2, stride=2, padding=1) for step in strided)
