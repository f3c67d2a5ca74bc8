"""Matrix and tensor decompositions on plain arrays, useful without any convolution."""

from tensorconv.linalg.binary_dictionary import binary_dictionary
from tensorconv.linalg.compensation import CompensatedSlices, compensated_slices
from tensorconv.linalg.contraction import contracted
from tensorconv.linalg.cp import CPDecomposition, cp_als
from tensorconv.linalg.cp_epc import cp_epc
from tensorconv.linalg.dictionary import Dictionary, sparse_dictionary
from tensorconv.linalg.evbmf import EVBMF, evbmf, posterior_spectrum
from tensorconv.linalg.gsvd import GSVD, gsvd
from tensorconv.linalg.metric import metric_svd
from tensorconv.linalg.metric_als import MetricFit, metric_als
from tensorconv.linalg.randomness import as_generator
from tensorconv.linalg.regression import reduced_rank_regression
from tensorconv.linalg.scaling import balance, square_safe_scale, unit_scale
from tensorconv.linalg.seriation import ToeplitzSeriation, toeplitz_seriation
from tensorconv.linalg.slices import slice_svd, slice_values
from tensorconv.linalg.svd import balanced_svd, singular_values, truncated_svd
from tensorconv.linalg.tensor_train import tensor_train_svd, unfolding_ranks, unfolding_spectra
from tensorconv.linalg.threads import one_blas_thread
from tensorconv.linalg.toeplitz import ToeplitzBand
from tensorconv.linalg.tucker import hooi, hosvd, mode_product, multi_mode_product

__all__ = [
    "EVBMF",
    "GSVD",
    "CPDecomposition",
    "CompensatedSlices",
    "Dictionary",
    "MetricFit",
    "ToeplitzBand",
    "ToeplitzSeriation",
    "as_generator",
    "balance",
    "balanced_svd",
    "binary_dictionary",
    "compensated_slices",
    "contracted",
    "cp_als",
    "cp_epc",
    "evbmf",
    "gsvd",
    "hooi",
    "hosvd",
    "metric_als",
    "metric_svd",
    "mode_product",
    "multi_mode_product",
    "one_blas_thread",
    "posterior_spectrum",
    "reduced_rank_regression",
    "singular_values",
    "slice_svd",
    "slice_values",
    "sparse_dictionary",
    "square_safe_scale",
    "tensor_train_svd",
    "toeplitz_seriation",
    "truncated_svd",
    "unfolding_ranks",
    "unfolding_spectra",
    "unit_scale",
]
