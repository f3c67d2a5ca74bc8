"""tensorconv turns trained convolution kernels into cheaper, equivalent sequences of convolutions, and proves it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tensorconv import blocks, certificates, cost, errors, export, linalg, models, plots, ranks
    from tensorconv.activations import Activation
    from tensorconv.allocation import allocate, allocate_greedy
    from tensorconv.convolution.compose import compose
    from tensorconv.convolution.run import convolve, prepare
    from tensorconv.curves import error_curve
    from tensorconv.export.files import load, save
    from tensorconv.factorizations.best import factorize
    from tensorconv.factorizations.cp import cp
    from tensorconv.factorizations.decoupled import decoupled
    from tensorconv.factorizations.depthwise import depthwise_separable
    from tensorconv.factorizations.factorization import Factorization
    from tensorconv.factorizations.initialize import initialize
    from tensorconv.factorizations.interchange import from_tensorly
    from tensorconv.factorizations.registry import methods
    from tensorconv.factorizations.svd import svd
    from tensorconv.factorizations.tensor_train import tensor_train
    from tensorconv.factorizations.toeplitz import ChannelwiseFit, channelwise, classification_layer
    from tensorconv.factorizations.tucker import tucker
    from tensorconv.geometry import ConvGeometry
    from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer
    from tensorconv.models import read_layers
    from tensorconv.models.compressing import compress
    from tensorconv.models.compression import Compression
    from tensorconv.reconstruction import Reconstruction, reconstruct
    from tensorconv.shards import statistics_of_shards
    from tensorconv.statistics import PatchStatistics
    from tensorconv.verdict import Report
    from tensorconv.verification import verify

_HOMES = {
    "Activation": "activations",
    "ChannelwiseFit": "factorizations",
    "ChannelwiseLayer": "layers",
    "Compression": "models.compression",
    "ConvGeometry": "geometry",
    "ConvLayer": "layers",
    "ConvSequence": "layers",
    "Factorization": "factorizations",
    "PadLayer": "layers",
    "PatchStatistics": "statistics",
    "PermuteLayer": "layers",
    "Reconstruction": "reconstruction",
    "Report": "verdict",
    "allocate": "allocation",
    "allocate_greedy": "allocation",
    "channelwise": "factorizations",
    "classification_layer": "factorizations",
    "compose": "convolution",
    "compress": "models.compressing",
    "convolve": "convolution",
    "cp": "factorizations",
    "decoupled": "factorizations",
    "depthwise_separable": "factorizations",
    "error_curve": "curves",
    "factorize": "factorizations",
    "from_tensorly": "factorizations",
    "initialize": "factorizations",
    "load": "export.files",
    "methods": "factorizations",
    "prepare": "convolution",
    "read_layers": "models",
    "reconstruct": "reconstruction",
    "save": "export.files",
    "statistics_of_shards": "shards",
    "svd": "factorizations",
    "tensor_train": "factorizations",
    "tucker": "factorizations",
    "verify": "verification",
}
_MODULES = ("blocks", "certificates", "cost", "errors", "export", "linalg", "models", "plots", "ranks")

__all__ = [
    "Activation",
    "ChannelwiseFit",
    "ChannelwiseLayer",
    "Compression",
    "ConvGeometry",
    "ConvLayer",
    "ConvSequence",
    "Factorization",
    "PadLayer",
    "PatchStatistics",
    "PermuteLayer",
    "Reconstruction",
    "Report",
    "allocate",
    "allocate_greedy",
    "blocks",
    "certificates",
    "channelwise",
    "classification_layer",
    "compose",
    "compress",
    "convolve",
    "cost",
    "cp",
    "decoupled",
    "depthwise_separable",
    "error_curve",
    "errors",
    "export",
    "factorize",
    "from_tensorly",
    "initialize",
    "linalg",
    "load",
    "methods",
    "models",
    "plots",
    "prepare",
    "ranks",
    "read_layers",
    "reconstruct",
    "save",
    "statistics_of_shards",
    "svd",
    "tensor_train",
    "tucker",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing the package costs next to nothing."""
    if name in _MODULES:
        return importlib.import_module(f"tensorconv.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'tensorconv' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tensorconv.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
