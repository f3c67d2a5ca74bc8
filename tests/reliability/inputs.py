"""Kernels and data in every form and at every scale that arrays come in: the same results, true errors, no warnings."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cases
import contracts
import numpy as np
from reliability.outcome import Clock, Outcome

import tensorconv as tc
from tensorconv.arrays import Array

Form = Callable[[Array, Path], Any]


def mapped(array: Array, folder: Path) -> Array:
    """Return an array that lies in a file."""
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, array)
    found: Array = np.load(path, mmap_mode="r")
    return found


def read_only(array: Array, folder: Path) -> Array:
    """Return an array that cannot be written to."""
    del folder
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def reversed_twice(array: Array, folder: Path) -> Array:
    """Return an array with negative strides on every axis."""
    del folder
    back = (slice(None, None, -1),) * array.ndim
    return array[back].copy()[back]


def unaligned(array: Array, folder: Path) -> Array:
    """Return an array that starts at an odd address."""
    del folder
    return np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)


FORMS: dict[str, Form] = {
    "Fortran order": lambda array, _: np.asfortranarray(array),
    "read-only": read_only,
    "big-endian": lambda array, _: array.astype(array.dtype.newbyteorder(">")),
    "memory-mapped": mapped,
    "negative strides": reversed_twice,
    "every second entry": lambda array, _: np.repeat(array, 2, axis=-1)[..., ::2],
    "unaligned": unaligned,
}
# factors of normally distributed kernels; the smallest leave subnormal numbers, of few bits each
SCALES = {
    "float16": (2.0**-20, 2.0**-10, 2.0**12),
    "float32": (1e-42, 1e-38, 1e-30, 1e30, 1e37),
    "float64": (1e-318, 1e-300, 1e-30, 1e30, 1e300),
}


def kernels(case: str, dtype: str) -> Iterator[tuple[str, tc.ConvLayer]]:
    """Yield layers of one geometry at all scales, and one whose channels are of all of them."""
    like = cases.layer(case)
    plain = np.clip(like.kernel, -3, 3)
    for scale in SCALES[dtype]:
        yield f"times {scale:.0e}", cases.with_kernel(like, (plain * scale).astype(dtype))
    scales = np.resize(SCALES[dtype], len(plain)).reshape(-1, *(1,) * (plain.ndim - 1))
    yield "channels of all scales", cases.with_kernel(like, (plain * scales).astype(dtype))


def size(array: Array, unit: Any) -> float:
    """Return the Frobenius norm of an array in a unit, computed where nothing over- or underflows."""
    return float(np.sqrt(np.sum((array.astype(np.longdouble) / unit) ** 2)))


def check_scaled(layer: tc.ConvLayer, method: str, options: dict[str, Any]) -> None:
    """A kernel of any scale has a factorization, of its data type, whose error is the true one."""
    f = cases.fitted(layer, method, options, cases.middle(layer, method, options))
    contracts.check_types(layer, f)
    assert np.isfinite(f.kernel.astype(np.float64)).all(), "the kernel is not finite"
    exact = layer.kernel.astype(np.longdouble)
    unit = np.abs(exact).max()
    whole = size(exact, unit)
    expected = size(exact - f.kernel.astype(np.longdouble), unit) / whole
    # its sum of squares is rounded, and the kernel that the factors mean is summed in float64
    slack = contracts.gamma(f.kernel.size + 16, contracts.U64) * expected
    slack += contracts.gamma(contracts.n_sums(f), contracts.U64) * size(contracts.stored_magnitude(f), unit) / whole
    assert abs(f.relative_error - expected) <= slack, f"error {f.relative_error}, truly {expected}, {slack=}"


def check_form(plain: tc.ConvLayer, method: str, options: dict[str, Any], form: Form, folder: Path) -> None:
    """A kernel in another form gives the same factors to the bit."""
    other = tc.ConvLayer(
        form(plain.kernel, folder),
        plain.geometry,
        None if plain.bias is None else form(plain.bias, folder),
        plain.name,
    )
    rank = cases.middle(plain, method, options)
    contracts.check_same(cases.fitted(other, method, options, rank), cases.fitted(plain, method, options, rank))


def check_data(plain: tc.ConvLayer, form: Form, folder: Path) -> None:
    """Data in another form give the same responses and statistics to the bit."""
    x = contracts.correlated_inputs(plain, 2).astype(plain.dtype if plain.dtype.itemsize > 2 else "float32")
    other = form(x, folder)
    assert tc.convolve(other, plain).tobytes() == tc.convolve(x, plain).tobytes()
    moments = [contracts.statistics_of(plain, data).second_moment.tobytes() for data in (x, other)]
    assert moments[0] == moments[1]


def run(names: Sequence[str], dtypes: Sequence[str] = ("float16", "float32", "float64")) -> Outcome:
    """Try every method on some geometries, in every form and at every scale, with warnings as errors."""
    outcome = Outcome()
    with Clock(outcome), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in names:
            for dtype in dtypes:
                plain = cases.layer(case, dtype)
                variants = cases.variants(plain)
                for form in FORMS.values():
                    _try(outcome, "forms of data", f"{case} {dtype}", lambda: check_data(plain, form, Path(folder)))  # noqa: B023
                for number, (method, options) in enumerate(variants):
                    form_name = list(FORMS)[(number + list(names).index(case)) % len(FORMS)]
                    what = f"{case} {dtype} {method} {options}"
                    _try(
                        outcome,
                        "forms of kernels",
                        f"{what} {form_name}",
                        lambda: check_form(plain, method, options, FORMS[form_name], Path(folder)),  # noqa: B023
                    )
                    for scale, layer in kernels(case, dtype):
                        _try(outcome, "scales", f"{what} {scale}", lambda: check_scaled(layer, method, options))  # noqa: B023
    return outcome


def _try(outcome: Outcome, kind: str, what: str, check: Callable[[], None]) -> None:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - any is a loss, warnings too
        outcome.add(kind, lost=f"{what}: {type(error).__name__}: {str(error)[:200]}")
    else:
        outcome.add(kind)
