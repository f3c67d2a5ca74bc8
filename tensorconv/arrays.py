"""The door for arrays: anything array-like in, a checked, native, real floating-point numpy array out."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import KernelError, KernelTypeError, MissingFrameworkError

Array = NDArray[Any]
FLOATS = ("float16", "bfloat16", "float32", "float64")
CACHE_LINE = 64  # bytes
_COMMON = (np.dtype("float32"), np.dtype("float64"))


def as_float_array(name: str, value: Any, *, finite: bool = True) -> Array:
    """Return a native floating-point array with the values of an array-like object.

    Parameters
    ----------
    name : str
        What the array is, for messages.
    value : array_like
        A numpy array, a (nested) list of floats, or anything with ``__array__`` or ``__dlpack__``, such as a torch
        tensor (detached and brought to the CPU) or a JAX array.
    finite : bool
        Whether to look at every number; a caller that does so itself spares the time.

    Returns
    -------
    ndarray
        Of type float16, bfloat16, float32 or float64, in native byte order; not necessarily a copy.

    Raises
    ------
    KernelTypeError
        If the values are not real floating-point numbers of these types.
    KernelError
        If the array is empty or holds NaN or inf.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise KernelTypeError(f"{name} must not be a masked array; fill what is masked first: {name}.filled(0)")
    array = _to_numpy(name, value)
    if not finite and array.dtype in _COMMON and array.size:  # as every input of a convolution: be quick
        return array
    kind = array.dtype.newbyteorder("=")
    if kind.name not in FLOATS:
        raise KernelTypeError(
            f"{name} must be of a real floating-point type, {', '.join(FLOATS)}, got {array.dtype}; "
            f'convert it first, e.g. {name}.astype("float32")'
        )
    if array.size == 0:
        raise KernelError(f"{name} must not be empty, got shape {array.shape}")
    array = array.astype(kind, copy=False)
    with np.errstate(invalid="ignore"):  # bfloat16 has patterns of NaN that warn where they are looked at
        is_finite = not finite or np.isfinite(array).all()
    if not is_finite:
        raise KernelError(f"{name} must hold finite numbers only, got NaN or inf; clean or re-load it first")
    return array


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a new array that begins with a cache line.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its type.

    Returns
    -------
    ndarray
        The array, whose values are arbitrary.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(n_bytes + CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    return memory[first : first + n_bytes].view(dtype).reshape(shape)


def frozen_copy(array: Array) -> Array:
    """Return a C-contiguous, read-only copy.

    Parameters
    ----------
    array : ndarray
        Any array.

    Returns
    -------
    ndarray
        The copy.
    """
    copy = np.array(array, order="C", copy=True)
    copy.flags.writeable = False
    return copy


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Return half the distance from 1 to the next number: the largest relative rounding error of the type.

    Parameters
    ----------
    dtype : dtype
        One of the types in FLOATS.

    Returns
    -------
    float
        2**-11 for float16, 2**-8 for bfloat16, 2**-24 for float32, 2**-53 for float64.
    """
    return float(_finfo(dtype).eps) / 2


def smallest_normal(dtype: np.dtype[Any]) -> float:
    """Return the smallest positive number of full precision of the type.

    Parameters
    ----------
    dtype : dtype
        One of the types in FLOATS.

    Returns
    -------
    float
        The smallest normal number.
    """
    return float(_finfo(dtype).smallest_normal)


def named_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of a name in FLOATS, bfloat16 from the package ml_dtypes.

    Parameters
    ----------
    name : str
        One of FLOATS.

    Returns
    -------
    dtype
        The numpy data type.

    Raises
    ------
    KernelTypeError
        If the name is not in FLOATS.
    MissingFrameworkError
        If bfloat16 is asked for and ml_dtypes is not installed.
    """
    if name not in FLOATS:
        raise KernelTypeError(f"dtype must be one of {', '.join(FLOATS)}, got {name!r}")
    return np.dtype(_ml_dtypes().bfloat16 if name == "bfloat16" else name)


def _finfo(dtype: np.dtype[Any]) -> Any:
    return _ml_dtypes().finfo(dtype) if dtype.name == "bfloat16" else np.finfo(dtype)


def _ml_dtypes() -> Any:
    try:
        return importlib.import_module("ml_dtypes")
    except ImportError as error:
        raise MissingFrameworkError("bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes") from error


def _to_numpy(name: str, value: Any) -> Array:
    try:
        if hasattr(value, "detach") and hasattr(value, "cpu"):  # a torch tensor, maybe a parameter, maybe on a device
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":  # no numpy type to hand it over in; float32 holds it exactly
                return np.asarray(value.float()).astype(named_dtype("bfloat16"))
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (ValueError, TypeError, BufferError, RuntimeError, NotImplementedError) as error:
        raise KernelTypeError(f"{name} cannot be read as an array: {error}; pass a numpy array") from error
