"""What a super-resolution network keeps of its quality when its inner convolutions are compressed, without training.

Run ``python tests/benchmarks/waifu2x.py MODELS PHOTO [PHOTO ..] --calibrate PHOTO [PHOTO ..]`` with, to make the page,
``--write docs/waifu2x.md``. MODELS is the folder ``models`` of the package waifu2x 2024.0.1 on PyPI. The photographs to
calibrate on should be others than those that are scored; scikit-image and scikit-learn come with some.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import TorchChain, macs, plot, table, weights_only, write
from PIL import Image

import tensorconv as tc

MARGIN = 7  # what seven convolutions of 3 x 3 without padding take off on every side
BORDER = 8  # not scored
KEPT = (0, 6)
logger = logging.getLogger(__name__)
TEXT = """# Super-resolution after compression

Made by `python tests/benchmarks/waifu2x.py MODELS PHOTO .. --calibrate PHOTO .. --write docs/waifu2x.md`: the VGG7
network of waifu2x for twice the size (`vgg7/anime_style_scale_rgb.npz` of the package waifu2x 2024.0.1), conv2 to conv6
compressed, nothing trained afterwards. Photographs of at most {size} pixels are averaged down to half their size; the
PSNR in dB is that of the colours that come back, without a border of {border} pixels. Scored on {scored}; calibrated on
{n} crops of {crop} x {crop} pixels of
{seen}. "Weights only" is `tc.factorize`, the same share for every
layer. "Responses" is `tc.reconstruct` with `{options}`; its first budget's seconds contain
the error curves that the others go by, too. MACs are those of the whole network on the first photograph.
"""


@dataclass(frozen=True)
class Photo:
    """A photograph: the network's input (1, 3, H + 14, W + 14), the truth and the bicubic enlargement (3, H, W)."""

    name: str
    given: Any
    truth: Any
    bicubic: Any

    @classmethod
    def read(cls, path: Path, most: int) -> Photo:
        """Read a photograph and make it small, with even sides."""
        image = Image.open(path).convert("RGB")
        share = min(1.0, most / max(image.size))
        size = tuple(int(side * share) // 2 * 2 for side in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS) if share < 1 else image.crop((0, 0, *size))
        half = image.resize((size[0] // 2, size[1] // 2), Image.Resampling.BOX)
        nearest, bicubic = (
            colours(half.resize(size, way)) for way in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)
        )
        given = np.pad(nearest, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="edge")[None]
        return cls(path.stem, given, colours(image), bicubic)

    def psnr(self, found: Any) -> float:
        """Return the PSNR of an enlargement."""
        inner = (slice(None), slice(BORDER, -BORDER), slice(BORDER, -BORDER))
        return float(-10 * np.log10(np.mean((found[inner].clip(0, 1) - self.truth[inner]) ** 2)))

    def crops(self, n: int, size: int, rng: np.random.Generator) -> Iterator[Any]:
        """Yield parts of the input at random places."""
        for _ in range(n):
            row, column = (rng.integers(0, side - size - 2 * MARGIN + 1) for side in self.given.shape[2:])
            yield self.given[:, :, row : row + size + 2 * MARGIN, column : column + size + 2 * MARGIN]


def colours(image: Image.Image) -> Any:
    """Return an image as (3, H, W), from 0 to 1."""
    return np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255))


def network(models: Path) -> list[Any]:
    """Return the chain of the network."""
    with np.load(models / "vgg7" / "anime_style_scale_rgb.npz") as arrays:
        layers = [tc.ConvLayer.of(arrays[f"conv{i}/W"], arrays[f"conv{i}/b"]) for i in range(1, 8)]
    return [step for layer in layers for step in (layer, tc.Activation.leaky_relu(0.1))][:-1]


def main(arguments: Sequence[str] | None = None) -> str:
    """Compress the network at every budget and return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--calibrate", type=Path, nargs="+", required=True, help="other photographs")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.75, 0.5, 0.25])
    parser.add_argument("--weights-only", nargs="*", default=["svd", "cp"], help="methods of the weights-only rows")
    parser.add_argument("--methods", nargs="+", default=["cp"])
    parser.add_argument("--crops", type=int, default=8, help="number per photograph")
    parser.add_argument("--crop-size", type=int, default=48)
    parser.add_argument("--size", type=int, default=512, help="the longer side of photographs at most")
    parser.add_argument("--sweeps", type=int, default=1)
    parser.add_argument("--shrinkage", type=float)
    parser.add_argument("--nonlinear", action="store_true")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args(arguments)
    photos = [Photo.read(path, chosen.size) for path in chosen.photos]
    others, rng = [Photo.read(path, chosen.size) for path in chosen.calibrate], np.random.default_rng(0)
    data = np.concatenate([crop for photo in others for crop in photo.crops(chosen.crops, chosen.crop_size, rng)])
    chain = network(chosen.models)
    sizes = [tuple(side - 2 * i for side in photos[0].given.shape[2:]) for i in range(MARGIN)]
    rows, points = list[list[str]](), dict[str, list[tuple[float, float]]]()

    def score(budget: str, way: str, steps: Sequence[Any], seconds: str) -> None:
        run, share = TorchChain(steps), macs(steps, sizes) / macs(chain, sizes)
        found = [photo.psnr(run(photo.given)[0]) for photo in photos]
        rows.append([budget, way, f"{share:.1%}", *(f"{db:.2f}" for db in found), f"{np.mean(found):.2f}", seconds])
        points.setdefault(way, []).append((share, float(np.mean(found))))
        logger.info("%s", rows[-1])

    bicubic = [photo.psnr(photo.bicubic) for photo in photos]
    rows.append(["", "bicubic", "0%", *(f"{db:.2f}" for db in bicubic), f"{np.mean(bicubic):.2f}", ""])
    score("", "dense", chain, "")
    options = {"methods": chosen.methods, "n_sweeps": chosen.sweeps, "shrinkage": chosen.shrinkage}
    options |= {"nonlinear": True} if chosen.nonlinear else {}
    curves: Any = None
    for budget in chosen.budgets:
        for method in chosen.weights_only:
            start = time.perf_counter()
            steps = weights_only(chain, sizes, KEPT, budget, method)
            score(f"{budget:.0%}", f"weights only, {method}", steps, f"{time.perf_counter() - start:.0f}")
        start = time.perf_counter()
        compressed = tc.reconstruct(chain, data, budget=budget, keep=KEPT, curves=curves, **options)
        curves = compressed.curves
        score(f"{budget:.0%}", "responses", compressed.chain, f"{time.perf_counter() - start:.0f}")
    head = ["budget", "fitted to", "MACs used", *(photo.name for photo in photos), "mean dB", "seconds"]
    page = TEXT.format(
        size=chosen.size,
        border=BORDER,
        scored=", ".join(photo.name for photo in photos),
        n=len(data),
        crop=chosen.crop_size,
        seen=", ".join(photo.name for photo in others),
        options=", ".join(f"{name}={value}" for name, value in options.items()),
    )
    page += "\n" + table(head, rows) + "\n"
    if chosen.plot:
        plot(chosen.plot, "share of the MACs", "PSNR, dB", {"waifu2x VGG7": points})
    if chosen.write:
        write(chosen.write, page)
    return page


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(main())  # noqa: T201 - a program that prints its result
