"""Matrix and tensor decompositions on plain arrays, useful without any convolution."""

from tensorconv.linalg.cp import CPDecomposition, cp_als
from tensorconv.linalg.scaling import balance, unit_scale
from tensorconv.linalg.svd import singular_values, truncated_svd
from tensorconv.linalg.threads import one_blas_thread
from tensorconv.linalg.tucker import hooi, hosvd, mode_product, multi_mode_product

__all__ = [
    "CPDecomposition",
    "balance",
    "cp_als",
    "hooi",
    "hosvd",
    "mode_product",
    "multi_mode_product",
    "one_blas_thread",
    "singular_values",
    "truncated_svd",
    "unit_scale",
]
