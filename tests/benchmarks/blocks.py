"""What the blocks of well-known networks cost, and whether whole networks have their published totals.

Run ``python tests/benchmarks/blocks.py [--channels 256] [--size 14] [--write docs/blocks.md]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import common

from tensorconv import blocks
from tensorconv.blocks import networks

SETTING = """# Blocks

`tc.blocks` describes the blocks of well-known networks by shapes and geometries alone: steps, channels, sizes,
parameters, MACs, bytes moved. `print(block)` is a table of its steps, `block.table(input_size)` has sizes and MACs as
well, `block.cost_ratio(input_size)` is the exact share of what the dense layers cost that it stands for. `python
tests/benchmarks/blocks.py --write docs/blocks.md` writes this page.

Where the linear part of a block is a factorization, `block.from_kernel(layer)` turns a trained dense layer into it:

```python
>>> import numpy as np
>>> import tensorconv as tc
>>> layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((256, 256, 3, 3), np.float32), padding=1)
>>> block = tc.blocks.resnet_bottleneck(256, 256)
>>> f = block.from_kernel(layer)
>>> f.method, f.rank, [step.kernel_size for step in f.sequence]
('tucker', (64, 64), [(1, 1), (3, 3), (1, 1)])

```

## Blocks in one setting

{channels} channels in and out, 3x3 taps, {size}x{size} positions, neither biases nor batch normalizations. MACs are
multiply-accumulates of convolutions, padded taps counted: pooling, addition, concatenation, split and channel shuffle
take none. Bytes are inputs, parameters and outputs of every step, 4 per entry; a split moves nothing. Shares are of the
dense layers that a block stands for: one 3x3 convolution with the same stride, two of them for a basic block and for
the group modules, which take the place of two layers.

{rows}

EffNet halves both axes, so it stands for a convolution of stride 2. ShuffleNet v1 has 4 groups, the group modules of
ChannelNet have 2 and kernels along 8 channels, its depthwise separable channel-wise convolution (DWSCW) one along 64.

ChannelNet's convolutional classification layer, 1024 features of 7x7 and 1000 classes, has {classifier} parameters
where the fully connected layer has {connected}, and {classifier_macs} MACs.
"""
TOTALS = """## Whole networks

Inputs are 224x224, classes 1000, the fully connected layers counted but where it says otherwise. Parameters are
kernels and biases, then with the scales and shifts of batch normalizations. "Met" is within half a unit of the last
digit published.

{rows}

- VGG-16's published MACs are those of its thirteen convolutions.
- ResNet-50 v1.5 has its strides on the 3x3 convolutions.
- ShuffleNet 2x has its 524 M MACs with 2 x 24 channels in the stem, too, and a first pointwise convolution without
  groups. Gao, Wang and Ji (2018) list it with 5.3 M parameters, Sandler and others (2018, table 4) with 5.4 M; the
  kernels and the fully connected layer alone, without any bias, have {shufflenet}.
- ChannelNet-v1 is read from section 3.5 of its paper: MobileNet with two GCWMs and one GM, of two depthwise separable
  layers each, in the place of its layers from 512 to 512 channels, of which the paper counts six and MobileNet has
  five. That has the published parameters and {excess} MACs more than published; halving the early layers, whose
  inputs are concatenated to their outputs instead, gives 350 M and 3.6 M parameters. No reading found gives 407 M: the
  figure is not reproduced.
"""


def share(block: blocks.Block, size: int, of: str) -> str:
    """Return a share of the dense cost in percent."""
    return f"{float(block.cost_ratio(size, of)):.1%}"


def linear_part(block: blocks.Block) -> str:
    """Return the call that makes the linear part of a block."""
    if block.form is None:
        return ""
    options = "".join(f", {name}={value!r}" for name, value in block.form.options)
    return f"`tc.{block.form.method}(layer, {block.form.rank}{options})`"


def block_rows(n: int, size: int) -> str:
    """Return the table of blocks from n to n channels."""
    described = {
        "dense convolution": blocks.dense(n, n),
        "MobileNet v1 (2017)": blocks.mobilenet_v1(n, n),
        "the same, 2 terms": blocks.mobilenet_v1(n, n, terms=2),
        "Xception (2017)": blocks.xception(n, n),
        "MobileNet v2 (2018)": blocks.mobilenet_v2(n, n),
        "ResNet bottleneck (2016)": blocks.resnet_bottleneck(n, n),
        "ResNet basic (2016)": blocks.resnet_basic(n, n),
        "ShuffleNet v1 (2018)": blocks.shufflenet_v1(n, n, 4),
        "ShuffleNet v2 (2018)": blocks.shufflenet_v2(n, n),
        "EffNet (2018)": blocks.effnet(n, n),
        "ChannelNet GM (2018)": blocks.group_module(n),
        "ChannelNet GCWM (2018)": blocks.group_channelwise_module(n),
        "ChannelNet DWSCW (2018)": blocks.depthwise_separable_channelwise(n),
    }
    shares = [f"share of {what}" for what in ("parameters", "MACs", "bytes")]
    rows = [
        [
            name,
            f"{block.n_parameters:,}",
            f"{block.macs(size):,}",
            *(share(block, size, of) for of in ("parameters", "macs", "bytes")),
            linear_part(block),
        ]
        for name, block in described.items()
    ]
    return common.table(["block", "parameters", "MACs", *shares, "from a kernel"], rows)


def verdict(counts: Sequence[int], published: str) -> str:
    """Return a published figure, such as "4.1 G", and whether one of the counts rounds to it."""
    if not published:
        return ""
    digits, unit = published.split()
    scale = {"M": 1e6, "G": 1e9}[unit]
    half = scale / 2 / 10 ** len(digits.partition(".")[2])
    nearest = min(counts, key=lambda count: abs(count - float(digits) * scale))
    missed = nearest - float(digits) * scale
    return f"{published}, met" if abs(missed) <= half else f"{published}, {missed / 1e6:+.1f} M"


def network_rows() -> str:
    """Return the table of networks."""
    vgg = networks.vgg16()
    described = [
        (vgg.steps[0], "VGG-16, convolutions", "15.35 G", ""),
        (vgg, "VGG-16", "", "138 M"),
        (networks.mobilenet_v1(), "MobileNet v1, 1.0", "569 M", "4.2 M"),
        (networks.resnet50(), "ResNet-50 v1.5", "4.1 G", "25.6 M"),
        (networks.shufflenet_v1(2), "ShuffleNet v1 2x, 3 groups", "524 M", "5.3 M"),
        (networks.channelnet(1), "ChannelNet-v1", "407 M", "3.7 M"),
        (networks.channelnet(2), "ChannelNet-v2", "", ""),
        (networks.channelnet(3), "ChannelNet-v3", "", ""),
    ]
    rows = []
    for network, name, macs, parameters in described:
        counts = [network.n_parameters, network.n_parameters + network.n_norm_parameters]
        rows.append(
            [
                name,
                f"{network.macs(224):,}",
                verdict([network.macs(224)], macs),
                *(f"{count:,}" for count in counts),
                verdict(counts, parameters),
            ]
        )
    return common.table(["network", "MACs", "published", "parameters", "with norms", "published"], rows)


def main(arguments: Sequence[str] | None = None) -> str:
    """Return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=256, help="a multiple of 16")
    parser.add_argument("--size", type=int, default=14, help="an even number of positions per axis")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(arguments)
    classifier = blocks.convolutional_classifier(1024, 1000)
    setting = SETTING.format(
        channels=chosen.channels,
        size=chosen.size,
        rows=block_rows(chosen.channels, chosen.size),
        classifier=f"{classifier.n_parameters:,}",
        connected=f"{sum(step.n_parameters for step in classifier.dense):,}",
        classifier_macs=f"{classifier.macs(7):,}",
    )
    shufflenet = networks.shufflenet_v1(2)
    totals = TOTALS.format(
        rows=network_rows(),
        shufflenet=f"{shufflenet.n_parameters - 1000:,}",
        excess=f"{networks.channelnet().macs(224) / 1e6 - 407:.1f} M",
    )
    page = f"{setting}\n{totals}"
    if chosen.write:
        common.write(chosen.write, page)
    return page


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
