"""The laws of every factorization, as checks that raise AssertionError where a layer and a result break them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import cases
import numpy as np
import tensorly
from oracles import reference_bound, reference_convolution, reference_sequence
from threadpoolctl import threadpool_limits

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, RankError
from tensorconv.factorizations import Factorization, registered

U64 = 2.0**-53
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": U64}
SMALLEST_NORMAL = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}


def gamma(n: int, u: float) -> float:
    """Return by what share n roundings of relative size u can change a sum of positive numbers."""
    return n * u / (1 - n * u)


# ---- what the documented factors of every method mean, groups first: (G, O/G, I, K1..KN)


def svd_meaning(f: Factorization, factors: dict[str, Array]) -> Array:
    del f
    return np.asarray(np.sum(factors["second"][:, :, :, None] * factors["first"][:, None], axis=2))


def depthwise_separable_meaning(f: Factorization, factors: dict[str, Array]) -> Array:
    first = "goir,gir...->goi..." if f.scheme.order == "depthwise-first" else "gori,gor...->goi..."  # type: ignore[attr-defined]
    return np.asarray(np.einsum(first, factors["pointwise"], factors["depthwise"]))


def tucker_meaning(f: Factorization, factors: dict[str, Array]) -> Array:
    core = factors["core"]
    for axis in range(f.layer.geometry.ndim if "axis0" in factors else 0):
        taps = factors[f"axis{axis}"]
        core = np.stack(
            [np.moveaxis(np.tensordot(c, a, (2 + axis, 1)), -1, 2 + axis) for c, a in zip(core, taps, strict=True)]
        )
    return np.asarray(np.einsum("goa,gab...,gbi->goi...", factors["out"], core, factors["in"], optimize=True))


def cp_meaning(f: Factorization, factors: dict[str, Array]) -> Array:
    ndim = f.layer.geometry.ndim
    taps = factors.get("spatial", np.ones((1, 1, *(1,) * ndim)))
    for axis in range(ndim):
        if f"axis{axis}" in factors:
            factor = factors[f"axis{axis}"]
            taps = taps * factor.reshape(*factor.shape[:2], *(-1 if a == axis else 1 for a in range(ndim)))
    return np.asarray(np.einsum("gor,gri,gr...->goi...", factors["out"], factors["in"], taps, optimize=True))


def tensor_train_meaning(f: Factorization, factors: dict[str, Array]) -> Array:
    product = factors["in"]
    for axis in range(f.layer.geometry.ndim):
        product = np.einsum("gsrk,gri...->gsi...k", factors[f"axis{axis}"], product)
    return np.asarray(np.einsum("gos,gsi...->goi...", factors["out"], product))


def decoupled_meaning(f: Factorization, factors: dict[str, Array]) -> Array:
    pointwise, (groups, n_out, n_in, *size) = factors["pointwise"], f.scheme.block_shape
    if "aggregation" not in factors:  # one-hot: channels are ordered by out-channels, then taps
        return np.moveaxis(pointwise.reshape(groups, n_out, *size, n_in), -1, 2)
    return np.asarray(np.einsum("got...,gti->goi...", factors["aggregation"], pointwise, optimize=True))


MEANINGS: dict[str, Callable[[Factorization, dict[str, Array]], Array]] = {
    "svd": svd_meaning,
    "depthwise_separable": depthwise_separable_meaning,
    "tucker": tucker_meaning,
    "cp": cp_meaning,
    "tensor_train": tensor_train_meaning,
    "decoupled": decoupled_meaning,
}


def meaning(f: Factorization, change: Callable[[Array], Array] = np.asarray) -> Array:
    """Return the kernel that the stored factors mean, in float64, after a change of every factor."""
    assert f.method in MEANINGS, f"write down in MEANINGS what the factors of {f.method} mean"
    factors = {name: change(np.asarray(factor, np.float64)) for name, factor in f.factors.items()}
    return MEANINGS[f.method](f, factors).reshape(f.layer.kernel.shape)


def n_sums(f: Factorization) -> int:
    """Return a bound on the roundings behind one entry: each contraction runs over one axis of a factor."""
    return sum(sum(factor.shape) for factor in f.factors.values())


def stored_magnitude(f: Factorization) -> Array:
    """Return what the factors mean without signs, each entry raised by what its storage can hide.

    An entry w is stored with an error of at most u |w|, or half of the smallest subnormal, which is u times the
    smallest normal number.
    """
    tiny = SMALLEST_NORMAL[f.layer.dtype.name]
    return meaning(f, lambda factor: np.abs(factor) + tiny)


def reconstruction_bound(f: Factorization) -> Array:
    """Return how far two computed kernels of the same stored factors can be apart: float64 sums, then storage."""
    u = UNIT[f.layer.dtype.name]
    return (2 * gamma(n_sums(f), U64) + gamma(2, u)) * stored_magnitude(f) + u * SMALLEST_NORMAL[f.layer.dtype.name]


def composition_bound(f: Factorization) -> float:
    """Return by what share composing the sequence can differ: kernels made of several factors are stored once more."""
    n = sum(layer.kernel[0].size + 3 for layer in f.sequence)
    return gamma(len(f.factors) + 3, UNIT[f.layer.dtype.name]) + 2 * gamma(n + n_sums(f), U64)


# ---- law 1: the sequence is the kernel, under the layer's geometry and bias


def check_composition(layer: tc.ConvLayer, f: Factorization) -> None:
    """The sequence composes to f.kernel, with the layer's stride, padding, dilation, groups and bias."""
    try:
        composed = tc.compose(f.sequence)
    except GeometryError as refusal:
        raise AssertionError(f"the sequence is no single convolution: {refusal}") from refusal
    assert composed.kernel.shape == layer.kernel.shape == f.kernel.shape
    assert f.sequence.in_channels == layer.in_channels
    is_pointwise = layer.geometry.is_pointwise and math.prod(layer.kernel_size) == 1  # the same map either way
    assert composed.geometry == (replace(layer.geometry, transposed=False) if is_pointwise else layer.geometry)
    check_bias(layer, f)
    error = np.abs(composed.kernel.astype(np.float64) - f.kernel.astype(np.float64))
    assert np.all(error <= composition_bound(f) * stored_magnitude(f) + SMALLEST_NORMAL[layer.dtype.name])


def check_bias(layer: tc.ConvLayer, f: Factorization) -> None:
    """The last layer has the layer's bias, bitwise, and no other has any."""
    *inner, last = f.sequence.layers
    assert all(step.bias is None for step in inner)
    assert (last.bias is None) == (layer.bias is None)
    if last.bias is not None and layer.bias is not None:
        assert last.bias.dtype == layer.bias.dtype
        assert last.bias.tobytes() == layer.bias.tobytes()


def check_execution(layer: tc.ConvLayer, f: Factorization, input_size: tuple[int, ...]) -> None:
    """Run step by step, by the tests' own convolution, the sequence gives what the layer gives with f.kernel."""
    x = np.random.default_rng(5).standard_normal((2, layer.in_channels, *input_size))
    expected = reference_convolution(x, f.kernel, layer.geometry, layer.bias)
    actual = reference_sequence(x, f.sequence)
    assert actual.shape == expected.shape
    whole = tc.ConvLayer(f.kernel, layer.geometry, layer.bias)
    magnitude = reference_convolution(np.abs(x), stored_magnitude(f), layer.geometry)
    bound = reference_bound(x, f.sequence, [U64]) + reference_bound(x, tc.ConvSequence((whole,)), [U64])
    # the two kernels differ by storage and sums, then both runs round in float64
    assert np.all(np.abs(actual - expected) <= bound + composition_bound(f) * magnitude)


# ---- law 2: the reported error is the true one


def true_error(layer: tc.ConvLayer, kernel: Array) -> float:
    """Return the relative Frobenius distance of a kernel from the layer's, in float64."""
    exact = layer.kernel.astype(np.float64)
    scale = float(np.abs(exact).max()) or 1.0  # keeps squares of 1e-30 and of 1e200 in range
    lost = np.linalg.norm((kernel.astype(np.float64) - exact).ravel() / scale)
    return float(lost / (np.linalg.norm(exact.ravel() / scale) or 1.0))


def check_error(layer: tc.ConvLayer, f: Factorization) -> None:
    """relative_error is the distance of f.kernel, and of the kernel that the documented factors mean."""
    assert isinstance(f.relative_error, float)
    recomputed = true_error(layer, f.kernel)
    # the same differences, squared and summed in another order
    assert abs(f.relative_error - recomputed) <= gamma(f.kernel.size + 8, U64) * recomputed
    meant, bound = meaning(f), reconstruction_bound(f)
    assert np.all(np.abs(meant - f.kernel.astype(np.float64)) <= bound)
    norm = float(np.linalg.norm(layer.kernel.astype(np.float64).ravel()))
    if norm:
        slack = float(np.linalg.norm(bound.ravel())) / norm
        assert abs(f.relative_error - true_error(layer, meant)) <= slack * (1 + gamma(f.kernel.size + 8, U64))


# ---- law 3: full rank is exact, requests are met


def check_exact(layer: tc.ConvLayer, f: Factorization) -> None:
    """f.kernel is the layer's kernel to the rounding of factors and of a backward stable decomposition."""
    exact = layer.kernel.astype(np.float64)
    assert np.all(np.abs(f.kernel.astype(np.float64) - exact) <= exactness_bound(layer, f))
    check_verified(layer, f, exact=True)


def exactness_bound(layer: tc.ConvLayer, f: Factorization) -> Array:
    """Return how far an exact factorization's kernel may be from the layer's."""
    u, norm = UNIT[layer.dtype.name], np.linalg.norm(layer.kernel.astype(np.float64).ravel())
    # each factor is stored once, and the kernel; orthonormal factors are orthonormal to n u64 of the norm
    stored = gamma(len(f.factors) + 1, u) * stored_magnitude(f) + u * SMALLEST_NORMAL[layer.dtype.name]
    return np.asarray(stored + 4 * gamma(n_sums(f), U64) * (norm + stored_magnitude(f)))


def check_verified(layer: tc.ConvLayer, f: Factorization, *, exact: bool | None = None) -> None:
    """Verify finds the sequence consistent, and the same error, sizes and bias as this file does."""
    report = tc.verify(layer, f)
    assert report.consistent is True
    assert exact is None or report.exact is exact
    assert report.bias_error == 0
    assert report.kernel_error is not None
    norm = float(np.linalg.norm(layer.kernel.astype(np.float64).ravel()))
    if norm:  # the composed kernel is not stored, f.kernel is
        slack = composition_bound(f) * float(np.linalg.norm(stored_magnitude(f).ravel())) / norm
        assert abs(report.kernel_error - f.relative_error) <= 2 * slack
    sizes = [step.stored.parameters + (0 if step.bias is None else step.bias.size) for step in f.sequence]
    assert report.n_parameters == (layer.n_parameters, sum(sizes)) == (layer.n_parameters, f.n_parameters)


def check_energy_falls(worse: Factorization, better: Factorization) -> None:
    """The error does not grow from one rank to the next, up to what eigenvectors of a Gram matrix leave uncertain.

    A projection onto r computed eigenvectors of an n x n Gram matrix captures all but 2 r n u of the energy, relative
    to the kernel's, that the exact ones capture; storage moves the error by the reconstruction bound.
    """
    n = max(worse.layer.kernel.shape[:2]) * math.prod(worse.layer.kernel_size)
    norm = float(np.linalg.norm(worse.layer.kernel.astype(np.float64).ravel())) or 1.0
    stored = sum(float(np.linalg.norm(reconstruction_bound(f).ravel())) for f in (worse, better)) / norm
    uncertain = 2 * n * n * U64
    assert (better.relative_error - stored) ** 2 <= worse.relative_error**2 + uncertain or (
        better.relative_error <= stored
    )


def check_smallest_rank(layer: tc.ConvLayer, method: str, options: dict[str, Any]) -> None:
    """For methods of one rank that are exact: errors fall, and error=e finds the first rank that meets e."""
    function = tc.methods()[method]
    (most,) = registered()[method].scheme(layer, **options).maximum
    results = [function(layer, rank, **options) for rank in range(1, most + 1)]
    for worse, better in itertools.pairwise(results):
        check_energy_falls(worse, better)
    errors = [f.relative_error for f in results]
    between = [math.sqrt(a * b) for a, b in itertools.pairwise(errors)]
    for error in {*errors, *between, 0.5, 1.0}:
        if error < errors[-1]:
            continue
        found = function(layer, error=error, **options)
        assert found.relative_error <= error
        assert found.rank == next(rank for rank, e in enumerate(errors, 1) if e <= error)


def check_meets_error(layer: tc.ConvLayer, method: str, options: dict[str, Any], error: float) -> Factorization:
    """The result of error=e is within e, truly."""
    f: Factorization = tc.methods()[method](layer, error=error, **options)
    assert true_error(layer, f.kernel) <= error * (1 + gamma(f.kernel.size + 8, U64))
    assert f.relative_error <= error
    return f


def cost(sequence: tc.ConvSequence, of: str, input_size: tuple[int, ...] | None) -> Fraction:
    """Return what a sequence costs, counted layer by layer from kernels and positions."""
    size, positions, total = input_size, Fraction(1), Fraction(0)
    for layer in sequence:
        before = positions if size is None else Fraction(math.prod(size))
        if size is None:  # per input position, where borders do not count
            share = Fraction(math.prod(layer.geometry.stride))
            positions = before * share if layer.geometry.transposed else before / share
        else:
            size = layer.output_size(size)
            positions = Fraction(math.prod(size))
        if of == "parameters":
            total += layer.n_parameters
        elif of == "macs":
            total += layer.stored.products * (before if layer.geometry.transposed else positions)
        else:
            n_stored = 0 if size is None else layer.n_parameters
            total += layer.dtype.itemsize * (layer.in_channels * before + layer.out_channels * positions + n_stored)
    return total


def check_budget(
    layer: tc.ConvLayer,
    method: str,
    options: dict[str, Any],
    budget: float,
    *,
    of: str = "macs",
    input_size: tuple[int, ...] | None = None,
    **given: Any,
) -> Factorization | None:
    """The result costs at most its share, and a method of one rank could not have had one more; or it says so."""
    function = tc.methods()[method]
    scheme = registered()[method].scheme(layer, **options)
    limit = Fraction(budget) * cost(tc.ConvSequence((layer,)), of, input_size)
    try:
        f: Factorization = function(layer, budget=budget, of=of, input_size=input_size, **given, **options)
    except RankError:
        least = function(layer, 1, **given, **options)
        assert cost(least.sequence, of, input_size) > limit
        return None
    assert cost(f.sequence, of, input_size) <= limit
    if isinstance(f.rank, int) and f.rank < scheme.maximum[0]:
        assert cost(function(layer, f.rank + 1, **given, **options).sequence, of, input_size) > limit
    return f


# ---- law 4: groups are separate, transposed convolutions are adjoints


def separate_groups(layer: tc.ConvLayer) -> list[tc.ConvLayer]:
    """Return one layer per group, without bias."""
    geometry = replace(layer.geometry, groups=1)
    return [tc.ConvLayer(kernel, geometry) for kernel in np.split(layer.kernel, layer.geometry.groups)]


def check_groups(layer: tc.ConvLayer, method: str, options: dict[str, Any], rank: Any) -> None:
    """At equal rank every group is what its kernel alone gives, and the energies lost add up."""
    f = tc.methods()[method](layer, rank, **options)
    lost = 0.0
    for group, one in enumerate(separate_groups(layer)):
        alone = tc.methods()[method](one, rank, **options)
        block = np.split(f.kernel, layer.geometry.groups)[group].astype(np.float64)
        # The same float64 numbers up to a power of two; then every factor is stored once, on both sides, which is
        # coarser than what they are uncertain by as long as neighbouring singular values differ by 1e-6 or more.
        stored = 2 * gamma(len(f.factors) + 2, UNIT[layer.dtype.name]) * stored_magnitude(alone)
        assert np.all(np.abs(block - alone.kernel.astype(np.float64)) <= stored)
        lost += (alone.relative_error * float(np.linalg.norm(one.kernel.astype(np.float64).ravel()))) ** 2
    norm = float(np.linalg.norm(layer.kernel.astype(np.float64).ravel()))
    slack = 2 * gamma(len(f.factors) + 2, UNIT[layer.dtype.name]) * float(np.linalg.norm(stored_magnitude(f).ravel()))
    assert abs(f.relative_error * norm - math.sqrt(lost)) <= 2 * slack


def check_adjoint(layer: tc.ConvLayer, f: Factorization, input_size: tuple[int, ...]) -> None:
    """<A x, u> = <x, A* u> for the sequence as it runs and the adjoint of what it composes to."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((1, layer.in_channels, *input_size))
    steps = tc.ConvSequence(tuple(tc.ConvLayer(step.kernel, step.geometry) for step in f.sequence))
    y = reference_sequence(x, steps)
    u = rng.standard_normal(y.shape)
    adjoint = tc.compose(steps).adjoint(input_size)
    assert adjoint.geometry.transposed is not tc.compose(steps).geometry.transposed
    back = reference_convolution(u, adjoint.kernel, adjoint.geometry)
    assert back.shape == x.shape
    # the largest the two can differ by: the kernels' distance and both runs' roundings, seen through |x| and |u|
    magnitude = reference_convolution(np.abs(x), stored_magnitude(f), layer.geometry)
    n = 2 * sum(step.kernel[0].size + 3 for step in steps) + layer.kernel[0].size + layer.kernel[:, 0].size + x.size
    bound = (composition_bound(f) + gamma(n + y.size, U64)) * float(np.sum(magnitude * np.abs(u)))
    assert abs(float(np.sum(y * u)) - float(np.sum(x * back))) <= bound


# ---- laws 5 and 6: data types, read-only results, repeatability


def check_types(layer: tc.ConvLayer, f: Factorization) -> None:
    """Kernel, factors and sequence have the layer's data type and cannot be written to."""
    arrays = [f.kernel, *f.factors.values(), *(step.kernel for step in f.sequence)]
    for array in arrays:
        assert array.dtype == layer.dtype
        assert array.flags.c_contiguous
        assert not array.flags.writeable
        assert np.isfinite(array.astype(np.float64)).all()
    assert f.sequence.dtype == layer.dtype
    assert all(len(factor) == layer.geometry.groups for factor in f.factors.values())


def check_same(first: Factorization, second: Factorization) -> None:
    """Two results are bitwise the same."""
    for name in ("method", "rank", "relative_error", "response_error"):
        assert getattr(first, name) == getattr(second, name)
    assert (first.bias is None) == (second.bias is None)
    if first.bias is not None and second.bias is not None:
        assert first.bias.tobytes() == second.bias.tobytes()
    assert list(first.factors) == list(second.factors)
    for name, factor in first.factors.items():
        assert factor.shape == second.factors[name].shape
        assert factor.tobytes() == second.factors[name].tobytes()


def check_repeatable(call: Callable[[], Factorization]) -> None:
    """Two calls give bitwise the same, and numpy's global generator is as it was."""
    before = np.random.get_state(legacy=False)  # noqa: NPY002 - it is the one that must not be touched
    first, second = call(), call()
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert str(before) == str(after)
    assert np.array_equal(before["state"]["key"], after["state"]["key"])
    check_same(first, second)


def check_threads(method: str) -> None:
    """One BLAS thread and two give bitwise the same factors of a kernel that is large enough for two."""
    kernel = np.random.default_rng(0).standard_normal((160, 130, 3, 3))
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            results.append(tc.methods()[method](kernel, 4))
    check_same(*results)


def check_tensorly(method: str) -> None:
    """Handing factors to TensorLy leaves its backend alone, whichever it is."""
    f = tc.methods()[method](np.random.default_rng(0).standard_normal((4, 3, 3)), 2)
    f.to_tensorly()
    assert tensorly.get_backend() == "numpy"
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        theirs = f.to_tensorly()
        assert tensorly.get_backend() == "pytorch"
    assert tensorly.get_backend() == "numpy"
    assert all(isinstance(factor, np.ndarray) for factor in (theirs[1] if method in ("cp", "tucker") else theirs))


# ---- law 7: consecutive factors share a component's size evenly


def norms(factor: Array, *kept: int) -> Array:
    """Return the norms over all axes but the kept ones."""
    others = tuple(axis for axis in range(factor.ndim) if axis not in kept)
    return np.asarray(np.sqrt(np.sum(np.square(factor.astype(np.float64)), axis=others)))


def component_norms(f: Factorization) -> list[tuple[Array, Array]]:
    """Return pairs of norms that must be equal, per group and component."""
    factors = f.factors
    if f.method == "svd":
        return [(norms(factors["first"], 0, 1), norms(factors["second"], 0, 2))]
    if f.method == "depthwise_separable":
        first = f.scheme.order == "depthwise-first"  # type: ignore[attr-defined]
        pointwise = norms(factors["pointwise"], 0, 2, 3) if first else norms(factors["pointwise"], 0, 1, 2)
        return [(norms(factors["depthwise"], 0, 1, 2), pointwise)]
    if f.method == "tucker":
        core = factors["core"]
        return [(norms(factors["out"], 0, 2), norms(core, 0, 1)), (norms(factors["in"], 0, 1), norms(core, 0, 2))]
    if f.method == "tensor_train":
        axes = [factors[f"axis{axis}"] for axis in range(f.layer.geometry.ndim)]
        after = [norms(factor, 0, 1) for factor in (factors["in"], *axes)]
        return list(zip(after, [norms(factor, 0, 2) for factor in (*axes, factors["out"])], strict=True))
    if f.method == "decoupled":
        kept = () if f.scheme.configuration == "binary" else (1,)  # type: ignore[attr-defined]
        return [(norms(factors["pointwise"], 0, *kept), norms(factors["aggregation"], 0, *(2 * k for k in kept)))]
    every = [norms(factor, 0, 2 if name == "out" else 1) for name, factor in factors.items()]
    return [(every[0], other) for other in every[1:]]


def check_balanced(f: Factorization) -> None:
    """Every component has the same norm in the factors on both sides of it."""
    pairs = component_norms(f)
    # unit vectors are so to n u64, roots and quotients add a few, and each entry is stored with u
    slack = gamma(n_sums(f) + 16, U64) + 2 * UNIT[f.layer.dtype.name]
    tiny = SMALLEST_NORMAL[f.layer.dtype.name] * math.sqrt(max(factor.size for factor in f.factors.values()))
    for index, (left, right) in enumerate(pairs):
        share = slack
        if f.method == "tucker" and index:
            share += settled(f)
        if f.method == "tensor_train":  # a chain has no closed form: it is settled to one percent
            share += 0.01
        assert left.shape == right.shape
        assert np.all(np.abs(left - right) <= share * np.maximum(left, right) + tiny)


def settled(f: Factorization) -> float:
    """Return what balancing two sides of one core in turn, 8 times, may leave on the side that came first.

    Each turn at least halves the largest logarithm of a quotient of norms. Undone, the factors have unit columns, so
    the first quotients are the norms of the undone core's slices.
    """
    core = f.factors["core"].astype(np.float64)
    core = core * norms(f.factors["out"], 0, 2).reshape(*core.shape[:2], *(1,) * (core.ndim - 2))
    core = core * norms(f.factors["in"], 0, 1).reshape(core.shape[0], 1, core.shape[2], *(1,) * (core.ndim - 3))
    slices = np.concatenate([norms(core, 0, 1).ravel(), norms(core, 0, 2).ravel()])
    peak = float(np.abs(f.layer.kernel.astype(np.float64)).max()) or 1.0
    first = np.abs(np.log(slices[slices > 0] / peak))  # of a kernel scaled to a peak between 1 and 2
    return math.expm1(float(first.max(initial=0.0) + math.log(2)) / 2**8)


# ---- fits to the responses to data


def correlated_inputs(layer: tc.ConvLayer, n_images: int = 8, seed: int = 0) -> Array:
    """Return inputs whose channels and neighbours are correlated, with means of five spreads."""
    rng = np.random.default_rng(seed)
    channels, ndim = layer.in_channels, layer.geometry.ndim
    mixing = np.linalg.qr(rng.standard_normal((channels, channels)))[0] * np.logspace(0, -1.5, channels)
    noise = np.cumsum(rng.standard_normal((n_images, channels, *cases.input_size(layer))), axis=2)
    return np.asarray(np.einsum("dc,bc...->bd...", mixing, noise) + 5 * rng.standard_normal((channels, *(1,) * ndim)))


def wanted_responses(layer: tc.ConvLayer, x: Array, seed: int = 1) -> Array:
    """Return responses with noise, a trend that no kernel explains, and other means."""
    y = reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
    rng = np.random.default_rng(seed)
    noise = 0.2 * rng.standard_normal(y.shape) + rng.standard_normal((layer.out_channels, *(1,) * layer.geometry.ndim))
    return np.asarray(1.1 * y + float(np.std(y)) * noise)


def statistics_of(layer: tc.ConvLayer, x: Array, target: Array | None = None, **options: Any) -> tc.PatchStatistics:
    """Return the statistics of data and targets."""
    stats = tc.PatchStatistics(layer, **options)
    stats.update(x, target)
    return stats


def response_slack(layer: tc.ConvLayer, f: Factorization, x: Array, z: Array) -> tuple[float, float]:
    """Return what rounding can add to the relative error of responses, and to its square."""
    n_positions, n = z[:, 0].size, layer.kernel[0].size
    absolute = reference_convolution(np.abs(x), stored_magnitude(f), layer.geometry)
    # the run's roundings and the kernel's, then means of the patches, which go into the bias
    linear = reference_bound(x, f.sequence, [U64]) + (composition_bound(f) + gamma(n_positions + n, U64)) * absolute
    # sums of squares, relative to the variance of patches seen by both kernels, and eigenvalues below n eps of the top
    spread = float(np.sum((x - x.mean(axis=(0, *range(2, x.ndim)), keepdims=True)) ** 2)) * layer.kernel[0, 0].size
    size = np.linalg.norm(layer.kernel.astype(np.float64)) + np.linalg.norm(f.kernel.astype(np.float64))
    energy = float(np.sum(z**2))
    squares = 8 * gamma(n_positions + n + layer.out_channels, U64) * (float(size) ** 2 * spread + energy)
    return float(np.linalg.norm(linear)) / math.sqrt(energy), squares / energy


def check_responses(layer: tc.ConvLayer, f: Factorization, x: Array, target: Array | None = None) -> None:
    """response_error is that of the sequence as it runs on the data, whose mean response is the mean target."""
    z = reference_convolution(x, layer.kernel, layer.geometry, layer.bias) if target is None else target
    y = reference_sequence(x, f.sequence)
    measured = float(np.linalg.norm(z - y) / np.linalg.norm(z))
    linear, squares = response_slack(layer, f, x, z)
    assert isinstance(f.response_error, float)
    assert f.error == f.response_error
    assert abs(f.response_error - measured) <= linear + min(math.sqrt(squares), squares / (measured or math.inf))
    assert f.bias is not None
    assert f.bias.dtype == layer.dtype
    assert not f.bias.flags.writeable
    axes = (0, *range(2, z.ndim))
    absolute = reference_convolution(np.abs(x), stored_magnitude(f), layer.geometry) + np.abs(z)
    slack = (composition_bound(f) + 2 * gamma(z[:, 0].size + layer.kernel[0].size, U64)) * absolute.mean(axis=axes)
    slack += UNIT[layer.dtype.name] * np.abs(f.bias.astype(np.float64)) + SMALLEST_NORMAL[layer.dtype.name]
    assert np.all(np.abs(z.mean(axis=axes) - y.mean(axis=axes)) <= slack)


def check_exact_responses(layer: tc.ConvLayer, f: Factorization, x: Array) -> None:
    """Without targets, the kernel, the bias and the responses are those of the layer, to rounding."""
    bound = exactness_bound(layer, f)
    assert np.all(np.abs(f.kernel.astype(np.float64) - layer.kernel) <= bound)
    z = reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
    linear, _ = response_slack(layer, f, x, z)
    seen = reference_convolution(np.abs(x), bound, layer.geometry)
    assert f.response_error is not None
    assert f.response_error <= linear + float(np.linalg.norm(seen) / np.linalg.norm(z))
    assert f.bias is not None
    bias = np.zeros(layer.out_channels) if layer.bias is None else layer.bias
    absolute = reference_convolution(np.abs(x), np.abs(layer.kernel), layer.geometry, np.abs(bias))
    axes = (0, *range(2, z.ndim))
    slack = seen.mean(axis=axes) + 2 * gamma(z[:, 0].size + layer.kernel[0].size, U64) * absolute.mean(axis=axes)
    assert np.all(np.abs(f.bias - bias) <= slack)


def check_response_groups(layer: tc.ConvLayer, method: str, options: dict[str, Any], rank: Any, n_groups: int) -> None:
    """At equal rank and shrinkage the first groups are what their kernels and channels alone give."""
    x, total = correlated_inputs(layer), layer.geometry.groups
    z = wanted_responses(layer, x)
    f = tc.methods()[method](layer, rank, statistics=statistics_of(layer, x, z, shrinkage=0.1), **options)
    parts = [np.split(array, total, axis=axis) for array, axis in ((x, 1), (z, 1), (f.kernel, 0), (f.bias, 0))]
    for one, data, target, kernel, bias in list(zip(separate_groups(layer), *parts, strict=True))[:n_groups]:
        stats = statistics_of(one, data, target, shrinkage=0.1)
        alone = tc.methods()[method](one, rank, statistics=stats, **options)
        # as without data: the same float64 numbers up to powers of two, stored once on both sides
        stored = 2 * gamma(len(f.factors) + 2, UNIT[layer.dtype.name]) * stored_magnitude(alone)
        assert np.all(np.abs(kernel.astype(np.float64) - alone.kernel.astype(np.float64)) <= stored)
        seen = reference_convolution(np.abs(data), stored, one.geometry).max()
        assert np.all(np.abs(bias - alone.bias) <= seen + 2 * UNIT[layer.dtype.name] * np.abs(bias))


def corrected(layer: tc.ConvLayer, f: Factorization) -> tc.ConvLayer:
    """Return the layer with the bias of a factorization."""
    return tc.ConvLayer(layer.kernel, layer.geometry, f.bias, layer.name)


def plain_response_error(stats: tc.PatchStatistics, f: Factorization) -> float:
    """Return the response error of any factorization's kernel with the best bias in float64."""
    moments = stats.moments(f.layer)
    kernel = f.kernel.astype(np.float64).reshape(moments.kernel.shape)
    return moments.response_error(kernel, moments.best_bias(kernel))


# ---- what verify certifies


def largest_gain(layer: tc.ConvLayer, input_size: tuple[int, ...]) -> float:
    """Return a lower bound of the operator norm of a layer's linear part: what power iteration reaches."""
    linear = tc.ConvLayer(layer.kernel.astype(np.float64), layer.geometry)
    adjoint = linear.adjoint(input_size)
    x = np.random.default_rng(7).standard_normal((1, layer.in_channels, *input_size))
    gain = 0.0
    for _ in range(12):
        x /= np.linalg.norm(x.ravel()) or 1.0
        y = tc.convolve(x, linear)
        gain = max(gain, float(np.linalg.norm(y.ravel())))
        x = tc.convolve(y, adjoint)
    return gain


def check_operator_bound(layer: tc.ConvLayer, f: Factorization, input_size: tuple[int, ...]) -> None:
    """No input is amplified by more than the certified bound, and the bound is not empty words.

    From above: at every frequency the transfer matrix is a sum over the K taps, so its norm is at most sqrt(K) times
    the Frobenius norm; 8 frequencies per tap add sqrt(8 / 7) per axis.
    """
    bound = tc.verify(layer, f).operator_bound
    difference = tc.ConvLayer(layer.kernel.astype(np.float64) - meaning(f), layer.geometry)
    n = 2 * difference.kernel[0].size + n_sums(f)
    rounding = math.sqrt(layer.kernel[0, 0].size) * float(np.linalg.norm(stored_magnitude(f).ravel()))
    assert largest_gain(difference, input_size) <= bound + gamma(n, U64) * rounding
    loosest = math.sqrt(layer.kernel[0, 0].size * (8 / 7) ** layer.geometry.ndim)
    norm = float(np.linalg.norm(difference.kernel.ravel()))
    assert bound <= loosest * norm * (1 + gamma(n, U64)) + 2 * gamma(8 * n, U64) * rounding


def check_verify_is_strict(layer: tc.ConvLayer) -> None:
    """A kernel that is 38 % too small everywhere, or too large, is not exact, and verify says how far off it is."""
    positive = np.abs(layer.kernel) + 1
    for share in (0.62, 1.38):
        other = tc.ConvLayer(share * positive, layer.geometry)
        report = tc.verify(tc.ConvLayer(positive, layer.geometry), other)
        assert not report.exact
        assert report.kernel_error is not None
        assert abs(report.kernel_error - 0.38) <= gamma(layer.kernel.size, U64)


def check_rank_order(method: str, layer: tc.ConvLayer, rank: tuple[int, int]) -> None:
    """The first rank is of the out-channels, the second of the in-channels."""
    f = tc.methods()[method](layer, rank)
    assert f.rank == rank
    assert f.factors["out"].shape[2] == rank[0]
    assert f.factors["in"].shape[1] == rank[1]
    assert [step.out_channels // layer.geometry.groups for step in f.sequence.layers[:2]] == [rank[1], rank[0]]


def check_rule_of_zeros(method: str) -> None:
    """A rank rule gives at least rank 1, also where there is nothing to keep."""
    try:
        f = tc.methods()[method](np.zeros((4, 3, 3)), tc.ranks.energy(0.9))
    except RankError as refusal:
        raise AssertionError(f"the rule gave no rank: {refusal}") from refusal
    assert set(np.ravel(f.rank)) == {1}
