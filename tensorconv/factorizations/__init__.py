"""Factorizations of convolution kernels: one method, one file."""

from tensorconv.factorizations.affordable import affordable
from tensorconv.factorizations.best import Trial, factorize
from tensorconv.factorizations.cp import cp
from tensorconv.factorizations.decoupled import decoupled
from tensorconv.factorizations.depthwise import depthwise_separable
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.initialize import initialize
from tensorconv.factorizations.interchange import from_tensorly
from tensorconv.factorizations.registry import methods, register, registered
from tensorconv.factorizations.scheme import Scheme
from tensorconv.factorizations.solve import Request, refitted, solve
from tensorconv.factorizations.svd import svd
from tensorconv.factorizations.tensor_train import tensor_train
from tensorconv.factorizations.toeplitz import ChannelwiseFit, channelwise, classification_layer
from tensorconv.factorizations.tucker import tucker

__all__ = [
    "ChannelwiseFit",
    "Factorization",
    "Fitter",
    "Request",
    "Scheme",
    "Trial",
    "affordable",
    "channelwise",
    "classification_layer",
    "cp",
    "decoupled",
    "depthwise_separable",
    "factorize",
    "from_tensorly",
    "initialize",
    "methods",
    "refitted",
    "register",
    "registered",
    "solve",
    "svd",
    "tensor_train",
    "tucker",
]
