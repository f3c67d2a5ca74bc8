"""initialize: the variance is kept by every layer, the draws are repeatable, and what makes no sense is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import cases
import contracts
import numpy as np
import pytest
from cases import Run

import tensorconv as tc
from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import GeometryError, KernelError, KernelTypeError, RankError, TensorconvError
from tensorconv.factorizations import registered
from tensorconv.factorizations import scheme as schemes
from tensorconv.factorizations.tucker import Tucker

SHAPE = (6, 4, 3, 2)
GEOMETRY = tc.ConvGeometry.of(2, stride=(2, 1), padding=((1, 0), (2, 1)))
every_run = pytest.mark.parametrize("run", cases.runs(), ids=str)
few_runs = pytest.mark.parametrize("run", cases.runs(*cases.FEW), ids=str)


def drawn(run: Run, draws: int, rng: Any = 0, **more: Any) -> tc.Factorization:
    """Return an untrained layer of a run at middle ranks, of so many times its groups: groups are drawn one by one."""
    one = cases.layer(run.case)
    rank = cases.middle(one, run.method, run.options)
    geometry = replace(one.geometry, groups=one.geometry.groups * draws)
    shape = (one.kernel.shape[0] * draws, *one.kernel.shape[1:])
    return tc.initialize(shape, geometry, run.method, rank, rng, **run.options, **more)


# ---- factors


@every_run
@pytest.mark.parametrize("full", [False, True])
def test_a_scheme_knows_the_shapes_that_its_fitter_gives(run: Run, full: bool) -> None:
    f = cases.factorized(run, full=full)
    shapes = f.scheme.factor_shapes(f.ranks)
    assert list(shapes.items()) == [(name, factor.shape) for name, factor in f.factors.items()]
    assert set(f.scheme.fan_in(f.ranks)) == set(shapes)


def check_expected_squares(f: tc.Factorization) -> None:
    """The expected squares of the weights of every output position add up to 1, on average over positions.

    Kernels are linear in each factor, and independent entries of mean zero have no products in common: so a scheme
    makes the variances of the kernels from those of the factors as it makes the kernels. Only rounding is left.
    """
    fans = f.scheme.fan_in(f.ranks)
    variances = {name: np.full(shape, float(1 / fans[name])) for name, shape in f.scheme.factor_shapes(f.ranks).items()}
    for step, squares in zip(f.sequence, f.scheme.kernels(variances), strict=True):
        positions = math.prod(step.geometry.stride) if step.geometry.transposed else 1  # they share the taps
        row_sums = squares.reshape(step.out_channels, -1).sum(axis=1) / positions
        assert np.all(np.abs(row_sums - 1) <= contracts.gamma(squares.size + contracts.n_sums(f), contracts.U64))


@every_run
@pytest.mark.parametrize("full", [False, True])
def test_the_expected_squares_of_every_kernel_add_up_to_one(run: Run, full: bool) -> None:
    check_expected_squares(cases.factorized(run, full=full))


@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize("size", [(3, 3, 1), (1, 1, 1), (2, 1, 5)], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_strides_of_axes_with_one_tap_count_once(method: str, size: tuple[int, ...], transposed: bool) -> None:
    geometry = tc.ConvGeometry.of(3, stride=(2, 1, 3), groups=2, transposed=transposed)
    layer, forms = tc.ConvLayer(np.ones((24, 12, *size)), geometry), set()
    for options in registered()[method].variants(layer):
        most = cases.maximum(layer, method, options)
        for rank in (1, (*most[:2], *(1,) * (len(most) - 2)), most):
            f = tc.initialize((24, 12, *size), geometry, method, rank, **options)
            check_expected_squares(f)
            forms.add(len(f.sequence))
    if method == "tucker" and max(size) > 1:
        assert len(forms) == 2  # with the spatial steps in the core, and on their own


def test_every_factor_is_normal_of_its_own_variance() -> None:
    f = tc.initialize((300, 200, 3, 3), tc.ConvGeometry.of(2), "tucker", (100, 80, 2, 3), dtype="float64")
    fan_in = {"in": 200, "core": 80 * 2 * 3, "out": 100, "axis0": 3, "axis1": 3}
    assert list(f.factors) == list(fan_in)
    for name, n in fan_in.items():
        entries = np.sort(f.factors[name].ravel()) * math.sqrt(n)
        # Kolmogorov's distance of N numbers from their distribution is above 2.2 / sqrt(N) once in 8,000 times
        expected = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in entries])
        assert np.abs(expected - np.arange(1, entries.size + 1) / entries.size).max() <= 2.2 / math.sqrt(entries.size)


def test_a_factor_that_is_a_mere_scale_has_random_signs() -> None:
    f = tc.initialize((400, 1, 3, 1), tc.ConvGeometry.of(2, groups=400), "tucker", 1, spatial=True, dtype="float64")
    for name in ("in", "out", "axis1"):  # one channel, one channel, one tap
        assert set(f.factors[name].ravel()) == {-1.0, 1.0}
        # 400 fair coins are 50 or more off from 200 once in 1.7 million times: 5 standard deviations of 10
        assert abs(np.sum(f.factors[name] > 0) - 200) < 50
    assert np.unique(f.factors["axis0"]).size == 3 * 400


# ---- variance: means over many groups, each an independent draw, of what tc.convolve gives away from borders


def inner(step: tc.ConvLayer, size: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the output positions whose taps all lie inside; for a transposed layer, of whole periods of its stride."""
    g, cuts = step.geometry, []
    for x, k, s, d, (low, high) in zip(size, step.kernel_size, g.stride, g.dilation, g.padding, strict=True):
        reach = d * (k - 1)
        if g.transposed:
            first, last = max(0, reach - low), s * (x - 1) + min(-low, reach - low - high)
            last -= (last - first + 1) % s
        else:
            first, last = max(0, -(-low // s)), (x - 1 - reach + low + min(0, high)) // s
        assert last >= first
        cuts.append(slice(first, last + 1))
    return tuple(cuts)


def sufficient(one: tc.ConvLayer) -> tuple[int, ...]:
    """Return a small input size with an inside."""
    g = one.geometry
    return tuple(
        2 + (d * (k - 1) + s - 1 + max(0, low) + max(0, high)) // s
        if g.transposed
        else d * (k - 1) + s + max(0, -low) + max(0, -high) + 1
        for k, s, d, (low, high) in zip(one.kernel_size, g.stride, g.dilation, g.padding, strict=True)
    )


def through(step: tc.ConvLayer, x: Array) -> Array:
    y = tc.convolve(x, step)[(..., *inner(step, x.shape[2:]))]
    return np.ascontiguousarray(y)


def mean_squares(y: Array, n_groups: int) -> Array:
    return np.asarray(np.mean(np.square(y.astype(np.float64)).reshape(n_groups, -1), axis=1))


def check_mean(sample: Callable[[int, int], Array], expected: float) -> None:
    """The mean of independent draws is as expected, to 5 standard errors (once in 1.7 million times it is not).

    As many are drawn as make that less than 10 %, so that a mean which is 20 % off lies 10 standard errors away.
    """
    found, draws = sample(256, 0), 256
    while (tolerance := 5 * float(np.std(found)) / math.sqrt(len(found))) >= 0.1 * expected:
        found, draws = np.concatenate([found, sample(draws, draws)]), 2 * draws
    assert abs(float(np.mean(found)) - expected) <= tolerance


def check_steps(run: Run) -> None:
    """Independent data of variance 1 have variance 1 after every layer of the sequence, each on its own."""
    for index in range(len(drawn(run, 1).sequence)):

        def sample(draws: int, seed: int, index: int = index) -> Array:
            f = drawn(run, draws, seed)
            step = f.sequence.layers[index]
            rng = np.random.default_rng([seed, index])
            x = rng.standard_normal((1, step.in_channels, *sufficient(step)), np.float32)
            return mean_squares(through(step, x), f.layer.geometry.groups)

        check_mean(sample, 1.0)


@every_run
def test_every_layer_keeps_the_variance(run: Run) -> None:
    check_steps(run)


@pytest.mark.parametrize("run", cases.runs(*cases.FEW, "transposed 2d"), ids=str)
def test_the_whole_chain_multiplies_the_variance_by_the_square_of_the_gain(run: Run) -> None:
    def sample(draws: int, seed: int) -> Array:
        f = drawn(run, draws, seed, gain=math.sqrt(2))
        y = np.random.default_rng([seed, 0]).standard_normal((1, f.sequence.in_channels, *sufficient(f.layer)))
        for step in f.sequence:
            y = through(step, y)
        return mean_squares(y, f.layer.geometry.groups)

    check_mean(sample, 2.0)


@pytest.mark.parametrize("factor", ["in", "core", "axis1", "out"])
@pytest.mark.parametrize("share", [Fraction(5, 4), Fraction(5, 6)])
def test_a_fifth_of_the_variance_is_noticed(factor: str, share: Fraction, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Tucker.fan_in
    monkeypatch.setattr(Tucker, "fan_in", lambda *given: (fans := original(*given)) | {factor: fans[factor] * share})
    with pytest.raises(AssertionError):
        check_steps(Run("grouped 2d", "tucker", (("spatial", True),)))


def test_taps_without_strides_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemes, "layer_fan_in", lambda step: Fraction(math.prod(step[0][1:])))
    check_steps(Run("grouped 2d", "svd", (("split", "out"),)))
    for run in cases.runs("transposed 2d"):
        if type(drawn(run, 1).scheme).fan_in is schemes.Scheme.fan_in:  # others look the function up elsewhere
            with pytest.raises(AssertionError):
                check_steps(run)


def test_ranks_for_taps_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Tucker.fan_in
    wrong = {"axis0": Fraction(1), "axis1": Fraction(1)}  # the ranks, which come last, for the taps
    monkeypatch.setattr(Tucker, "fan_in", lambda *given: original(*given) | wrong)
    with pytest.raises(AssertionError):
        check_steps(Run("unequal 2d", "tucker", (("spatial", True),)))


# ---- the result


@every_run
def test_the_result_is_a_factorization_like_any_other(run: Run) -> None:
    f = drawn(run, 1, dtype="float64", bias=True)
    one = cases.layer(run.case)
    assert f.layer.geometry == one.geometry
    assert f.layer.kernel.shape == one.kernel.shape
    assert f.method == run.method
    assert f.rank == cases.middle(one, run.method, run.options)
    assert f.scheme == registered()[run.method].scheme(f.layer, **run.options)
    assert f.relative_error == 0.0
    contracts.check_composition(f.layer, f)
    contracts.check_error(f.layer, f)
    contracts.check_types(f.layer, f)
    assert tc.verify(f.layer, f).consistent
    assert f.sequence.bias is not None
    assert not f.sequence.bias.any()


@few_runs
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_data_types(run: Run, dtype: str) -> None:
    f = drawn(run, 1, dtype=dtype)
    contracts.check_types(f.layer, f)
    assert f.layer.dtype == named_dtype(dtype)
    assert f.relative_error == 0.0
    assert tc.verify(f.layer, f).consistent
    wide = drawn(run, 1, dtype=np.float64)
    for name, factor in f.factors.items():  # the same numbers, stored once
        assert factor.tobytes() == wide.factors[name].astype(factor.dtype).tobytes()


@few_runs
def test_it_is_exported_like_any_other(run: Run) -> None:
    f = drawn(run, 1, bias=True)
    again = tc.export.load(tc.export.dump(f, "numpy"), "numpy")
    assert len(again) == len(f.sequence)
    for one, other in zip(again, f.sequence, strict=True):
        assert one.geometry == other.geometry
        assert one.kernel.tobytes() == other.kernel.tobytes()
        assert (one.bias is None) == (other.bias is None)
    assert tc.verify(f.layer, again).consistent


@few_runs
def test_the_same_seed_gives_bitwise_the_same_and_another_does_not(run: Run) -> None:
    contracts.check_repeatable(lambda: drawn(run, 1, 7))
    contracts.check_same(drawn(run, 1, np.random.default_rng(7)), drawn(run, 1, 7))
    generator = np.random.default_rng(7)
    first, second, other = drawn(run, 2, generator), drawn(run, 2, generator), drawn(run, 2, 8)
    contracts.check_same(first, drawn(run, 2, 7))
    for name, factor in first.factors.items():
        if np.any(np.abs(factor) != 1):  # signs may agree
            for one, another in ((factor, second.factors[name]), (factor, other.factors[name]), tuple(factor[:2])):
                assert np.any(one != another)
                if factor.all() and np.unique(np.abs(factor)).size > 2:  # zeros and binary entries may agree
                    assert not np.any(one == another)


def test_there_is_a_bias_only_if_asked_for() -> None:
    assert tc.initialize(SHAPE, GEOMETRY, "svd", 3).layer.bias is None
    bias = tc.initialize(SHAPE, GEOMETRY, "svd", 3, bias=True, dtype="float16").sequence.bias
    assert bias is not None
    assert (bias.dtype, bias.tolist()) == (np.float16, [0.0] * 6)


def test_the_gain_is_shared_evenly() -> None:
    plain = tc.initialize(SHAPE, GEOMETRY, "cp", 3, dtype="float64")
    louder = tc.initialize(SHAPE, GEOMETRY, "cp", 3, dtype="float64", gain=16)
    for name, factor in plain.factors.items():
        assert (2 * factor).tobytes() == louder.factors[name].tobytes()


def test_ranks_are_counted_as_the_method_counts_them() -> None:
    assert tc.initialize(SHAPE, GEOMETRY, "tucker", 5).rank == (5, 4)
    assert tc.initialize(SHAPE, GEOMETRY, "tucker", (3, 2)).rank == (3, 2)
    assert tc.initialize(SHAPE, GEOMETRY, "tucker", (3, 2), spatial=True).rank == (3, 2, 3, 2)
    assert tc.initialize(SHAPE, GEOMETRY, "tucker", (3, 2, 2, 1)).rank == (3, 2, 2, 1)
    assert tc.initialize(SHAPE, GEOMETRY, "tensor_train", [3, 2, 4]).rank == (3, 2, 4)
    assert tc.initialize(np.array(SHAPE), GEOMETRY, "cp", np.int64(7)).rank == 7


# ---- refusals


@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize("rank", [0, -1, 1000, 2.0, "3", True, None, (1, 2, 3, 4, 5), ()], ids=repr)
def test_a_rank_is_refused_in_the_methods_own_words(method: str, rank: Any) -> None:
    with pytest.raises(RankError) as refused:
        tc.initialize(SHAPE, GEOMETRY, method, rank)
    if rank is None:
        assert str(refused.value).startswith("rank must be an integer")
        return
    with pytest.raises(RankError) as expected:
        tc.methods()[method](tc.ConvLayer(np.ones(SHAPE), GEOMETRY), rank)
    assert str(refused.value) == str(expected.value)


SIZES = "shape must be positive integers (O, I, K1..KN), I of one group, got "
REFUSALS: list[tuple[dict[str, Any], type[TensorconvError], str]] = [
    (
        {"method": "best"},
        RankError,
        "method must be one of depthwise_separable, svd, tensor_train, tucker, cp, decoupled "
        "(\"best\" needs a trained kernel), got 'best'",
    ),
    ({"method": "SVD"}, RankError, "tucker, cp, decoupled (\"best\" needs a trained kernel), got 'SVD'"),
    ({"method": ["svd"]}, RankError, "got ['svd']"),
    ({"rank": max}, RankError, "rank must be an integer or a tuple of integers, got the rule <built-in"),
    ({"rank": max}, RankError, "; an untrained layer has no singular values for it to look at"),
    ({"gain": 0}, KernelError, "gain must be a finite number above 0, got 0; 1 keeps the variance"),
    ({"gain": math.inf}, KernelError, "gain must be a finite number above 0, got inf"),
    ({"gain": math.nan}, KernelError, "gain must be a finite number above 0, got nan"),
    ({"gain": True}, KernelError, "gain must be a finite number above 0, got True"),
    ({"gain": "2"}, KernelError, "gain must be a finite number above 0, got '2'"),
    ({"gain": 1e30, "dtype": "float16"}, KernelError, "kernel must hold finite numbers only, got NaN or inf"),
    ({"bias": 1}, GeometryError, "bias must be True or False, got 1"),
    ({"dtype": "int8"}, KernelTypeError, "dtype must be one of float16, bfloat16, float32, float64, got 'int8'"),
    ({"dtype": float}, KernelTypeError, "dtype must be one of float16, bfloat16, float32, float64, got 'float'"),
    ({"dtype": None}, KernelTypeError, "dtype must be one of float16, bfloat16, float32, float64, got None"),
    ({"shape": (6, 4, 0, 2)}, KernelError, SIZES + "(6, 4, 0, 2)"),
    ({"shape": (6, 4, 3.0, 2)}, KernelError, SIZES + "(6, 4, 3.0, 2)"),
    ({"shape": 6}, KernelError, SIZES + "6"),
    ({"shape": (6, 4)}, KernelError, "kernel must have shape (O, I, K1..KN) with at least one spatial axis, got"),
    ({"shape": (6, 4, 3)}, GeometryError, "geometry has 2 spatial axes, but the kernel of shape (6, 4, 3) has 1"),
    ({"geometry": tc.ConvGeometry.of(2, groups=4)}, GeometryError, "groups must divide the 6 out-channels, got"),
    ({"geometry": None}, GeometryError, "geometry must be a ConvGeometry, got None"),
    ({"rng": "seed"}, KernelError, "rng must be a seed of at least 0 or a numpy.random.Generator, got 'seed'"),
    ({"split": "both"}, RankError, 'split must be "in", "out" or a tuple of spatial axes from 0 to 1, got \'both\''),
    ({"method": "depthwise_separable", "order": "first"}, RankError, "order must be one of"),
    ({"method": "tucker", "spatial": 1}, GeometryError, "spatial must be True or False, got 1"),
    ({"method": "cp", "merge_spatial": "no"}, GeometryError, "merge_spatial must be True or False, got 'no'"),
]


@pytest.mark.parametrize(("changed", "error", "message"), REFUSALS, ids=lambda value: str(value))
def test_refusals(changed: dict[str, Any], error: type[TensorconvError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        tc.initialize(**({"shape": SHAPE, "geometry": GEOMETRY, "method": "svd", "rank": 2} | changed))


def test_an_option_that_the_method_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'spatial'"):
        tc.initialize(SHAPE, GEOMETRY, "svd", 2, spatial=True)
