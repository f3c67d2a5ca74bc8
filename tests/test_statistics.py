"""Tests of patch statistics: against plain numpy, over every geometry and split, in both forms, and at the edges."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from typing import Any

import cases
import numpy as np
import pytest

import tensorconv as tc
from tensorconv import patches as patches_module
from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, KernelError, KernelTypeError
from tensorconv.moments import Moments, approximating_shrinkage
from tensorconv.patches import patches

FORMS = [False, True]
U = 2.0**-53


def data(layer: tc.ConvLayer, n_images: int = 4, seed: int = 0) -> Array:
    """Return inputs with means, all of them different."""
    rng = np.random.default_rng(seed)
    shape = (n_images, layer.in_channels, *cases.input_size(layer))
    return rng.standard_normal(shape) + rng.standard_normal((layer.in_channels, *(1,) * layer.geometry.ndim))


def targets(layer: tc.ConvLayer, x: Array, seed: int = 1) -> Array:
    y = tc.convolve(x, layer)
    return y + 0.3 * np.random.default_rng(seed).standard_normal(y.shape)


def gathered(layer: tc.ConvLayer, x: Array, target: Array | None = None, **options: Any) -> tc.PatchStatistics:
    stats = tc.PatchStatistics(layer, **options)
    stats.update(x, target)
    return stats


def by_group(layer: tc.ConvLayer, y: Array) -> Array:
    """Return the channels of an output as (G, O / G, P), positions in the order of patches."""
    return np.moveaxis(y, 1, 0).reshape(layer.geometry.groups, layer.out_channels // layer.geometry.groups, -1)


def matrices(layer: tc.ConvLayer) -> tuple[Array, Array]:
    """Return kernel (G, O / G, n) and bias (G, O / G) in float64."""
    n_groups = layer.geometry.groups
    bias = np.zeros(layer.out_channels) if layer.bias is None else layer.bias
    kernel = layer.kernel.astype(float).reshape(n_groups, layer.out_channels // n_groups, -1)
    return kernel, bias.astype(float).reshape(n_groups, -1)


def readings(stats: tc.PatchStatistics) -> dict[str, Array]:
    names = ["mean", "second_moment", "covariance"] + ["target_mean", "cross_moment"] * bool(stats._targets)
    return {name: getattr(stats, name) for name in names}


def assert_same_moments(found: tc.PatchStatistics, expected: tc.PatchStatistics) -> None:
    """Equal to 1e-12 of the magnitude: sums of P terms differ by at most 2 P u, and P stays below 4000 here."""
    assert found.n_samples == expected.n_samples < 4000
    for name, wanted in readings(expected).items():
        scale = np.abs(expected.second_moment).max() if name == "covariance" else np.abs(wanted).max()
        np.testing.assert_allclose(getattr(found, name), wanted, rtol=0, atol=1e-12 * scale, err_msg=name)


def same_bits(one: tc.PatchStatistics, other: tc.PatchStatistics) -> bool:
    a, b = one._scatter, other._scatter
    if a is None or b is None:
        return a is b
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("counts", "origin", "offset", "matrix"))


@pytest.mark.parametrize("square_root", FORMS)
@pytest.mark.parametrize("case", cases.GEOMETRIES)
def test_readings_are_those_of_plain_numpy(case: str, square_root: bool) -> None:
    layer = cases.layer(case)
    x = data(layer)
    target = targets(layer, x)
    v, z = patches(x, layer), by_group(layer, target)
    p = v.shape[2]
    expected = {
        "mean": v.mean(axis=2),
        "second_moment": v @ np.swapaxes(v, 1, 2) / p,
        "covariance": np.stack([np.cov(part, ddof=0).reshape(len(part), -1) for part in v]),
        "target_mean": z.mean(axis=2),
        "cross_moment": z @ np.swapaxes(v, 1, 2) / p,
    }
    stats = gathered(layer, x, target, square_root=square_root)
    assert stats.n_samples == p
    for name, found in readings(stats).items():
        # sums of p products, and for a root also QR's backward error of as many columns: 4 (p + m) u of the squares
        magnitude = max(np.sum(v**2, axis=(1, 2)).max(), np.sum(z**2, axis=(1, 2)).max()) / p
        tolerance = 4 * (p + v.shape[1] + z.shape[1]) * U * magnitude
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("square_root", FORMS)
@pytest.mark.parametrize("case", cases.GEOMETRIES)
def test_the_error_of_responses_is_the_measured_one(case: str, square_root: bool, with_targets: bool) -> None:
    layer = cases.layer(case)
    x = data(layer)
    y = targets(layer, x) if with_targets else tc.convolve(x, layer)
    rng = np.random.default_rng(2)
    changed = layer.kernel + 0.2 * rng.standard_normal(layer.kernel.shape)
    other = tc.ConvLayer(changed, layer.geometry, np.asarray(rng.standard_normal(layer.out_channels)))
    moments = gathered(layer, x, y if with_targets else None, square_root=square_root).moments()
    measured = np.linalg.norm(y - tc.convolve(x, other)) / np.linalg.norm(y)
    # the squares are sums of up to 1e3 terms, and eigenvalues below n eps of the largest are left out: n < 100
    assert moments.response_error(*matrices(other)) == pytest.approx(measured, rel=1e-11)
    kernel, bias = matrices(other)
    best = tc.ConvLayer(other.kernel, layer.geometry, moments.best_bias(kernel).ravel())
    measured = np.linalg.norm(y - tc.convolve(x, best)) / np.linalg.norm(y)
    assert moments.response_error(kernel, moments.best_bias(kernel)) == pytest.approx(measured, rel=1e-11)
    assert measured < moments.response_error(kernel, bias)


@pytest.mark.parametrize("square_root", FORMS)
@pytest.mark.parametrize("case", cases.GEOMETRIES)
def test_without_targets_the_layer_itself_is_exact(case: str, square_root: bool) -> None:
    layer = cases.layer(case)
    stats = gathered(layer, data(layer), square_root=square_root)
    moments = stats.moments()
    assert moments.response_error(*matrices(layer)) <= 8 * U  # the best bias is a rounded sum
    assert not moments.missed.any()
    np.testing.assert_array_equal(moments.kernel, matrices(layer)[0])
    np.testing.assert_array_equal(moments.problem[1], moments.kernel)  # nothing else to fit, not even rounding
    assert moments.energy == pytest.approx(np.mean(by_group(layer, tc.convolve(data(layer), layer)) ** 2, 2).sum())
    shifted = tc.ConvLayer(-2 * layer.kernel, layer.geometry)
    assert stats.moments(shifted).response_error(*matrices(shifted)) <= 8 * U
    assert moments.response_error(*matrices(shifted)) > 1


@pytest.mark.parametrize("square_root", FORMS)
def test_targets_stay_targets_for_another_layer(square_root: bool) -> None:
    layer = cases.layer("grouped 2d")
    x = data(layer)
    stats = gathered(layer, x, targets(layer, x), square_root=square_root)
    mine, others = stats.moments(), stats.moments(cases.with_kernel(layer, layer.kernel * 2))
    for name in ("root", "seen", "missed", "mean", "target_mean"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(others, name))
    np.testing.assert_array_equal(others.kernel, 2 * mine.kernel)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("square_root", FORMS)
@pytest.mark.parametrize("case", cases.FEW)
def test_any_split_into_updates_objects_and_chunks_is_the_same(
    case: str, square_root: bool, with_targets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = cases.layer(case)
    x = data(layer, n_images=8) * 3 + 5
    y = targets(layer, x) if with_targets else None

    def of(images: slice) -> tc.PatchStatistics:
        return gathered(layer, x[images], None if y is None else y[images], square_root=square_root)

    whole = of(slice(None))
    one_by_one = of(slice(0, 1))
    for i in range(1, 8):
        one_by_one.update(x[i : i + 1], None if y is None else y[i : i + 1])
    parts = [of(slice(5, 8)), tc.PatchStatistics(layer, square_root=square_root), of(slice(0, 1)), of(slice(1, 5))]
    kept = [readings(part) for part in parts if part.n_samples]
    added = sum(parts)
    assert isinstance(added, tc.PatchStatistics)
    for before, part in zip(kept, [part for part in parts if part.n_samples], strict=True):
        for name, values in readings(part).items():
            np.testing.assert_array_equal(values, before[name])
    for positions in (3, 40):
        monkeypatch.setattr(patches_module, "_CHUNK_BYTES", 8 * whole.mean.shape[1] * positions)
        monkeypatch.setattr(patches_module, "_MOST_BYTES", 8 * whole.mean.shape[1] * positions)
        assert_same_moments(of(slice(None)), whole)
    for found in (one_by_one, added, parts[0] + (parts[2] + parts[3]), parts[3] + parts[0] + parts[2]):
        assert_same_moments(found, whole)
        kernel, bias = matrices(layer)
        errors = [stats.moments().response_error(0.9 * kernel, bias) for stats in (found, whole)]
        assert errors[0] == pytest.approx(errors[1], rel=1e-11)


def test_float32_inputs_are_summed_in_float64() -> None:
    layer = cases.layer("unequal 2d")
    x = (data(layer) + 1000).astype("float32")
    assert same_bits(gathered(layer, x), gathered(layer, x.astype("float64")))


def narrow() -> tuple[tc.ConvLayer, Array, Array]:
    """Return a pointwise layer and inputs with means of 2^20 spreads and a spread of 1 to 2^-31 across directions.

    The second channel is the first and a little of its own; all sums are exact. The kernel sees the little only.
    """
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (2, 64))
    x = np.stack([2.0**20 + signs[0], 2.0**20 + signs[0] + 2.0**-31 * signs[1]])[None]
    return tc.ConvLayer.of(np.array([[[-1.0], [1.0]]])), x, signs[1]


def test_the_square_root_keeps_what_squares_lose() -> None:
    layer, x, _ = narrow()
    little = [Fraction(b) - Fraction(a) for a, b in x[0].T.tolist()]
    exact = float(sum(v * v for v in little) / 64 - (sum(little) / 64) ** 2)
    assert exact == pytest.approx(2.0**-62, rel=0.1, abs=0)
    found = {}
    for square_root in FORMS:
        parts = [gathered(layer, part, square_root=square_root) for part in np.split(x, [5, 20, 40], axis=2)]
        moments = sum(parts[1:], parts[0]).moments()
        found[square_root] = float(np.sum((moments.root @ np.array([-1.0, 1.0])) ** 2))
    # QR is off by (64 + 2) 2 u of the larger spread, here 2^31 of the smaller: the standard deviation by 3.2e-5
    assert np.sqrt(found[True]) == pytest.approx(np.sqrt(exact), rel=132 * U * 2**31, abs=0)
    assert found[False] < 0.1 * exact  # squares are off by u of the larger variance, 2^62 of the smaller: left out


def test_the_square_root_sees_small_errors() -> None:
    layer = cases.layer("unequal 2d")
    x = data(layer)
    y = tc.convolve(x, layer)
    off = y + 1e-11 * np.random.default_rng(1).standard_normal(y.shape) * np.linalg.norm(y) / np.sqrt(y.size)
    measured = np.linalg.norm(off - y) / np.linalg.norm(off)
    found = [gathered(layer, x, off, square_root=form).moments().response_error(*matrices(layer)) for form in FORMS]
    p, m = y[:, 0].size, layer.kernel[0].size + layer.out_channels
    assert found[True] == pytest.approx(measured, abs=4 * (p + m) * U)
    assert abs(found[False] - measured) < 2 * np.sqrt((p + m) * 2 * U)  # it cancels, but no more than so


@pytest.mark.parametrize("square_root", FORMS)
@pytest.mark.parametrize("with_targets", [False, True])
def test_constant_and_dead_channels(square_root: bool, with_targets: bool) -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((4, 3, 2, 2)), np.ones(4))
    x = np.random.default_rng(1).standard_normal((5, 3, 6, 6))
    x[:, 0], x[:, 1] = 0.1, 0.0
    y = tc.convolve(x, layer)
    stats = gathered(layer, x, y if with_targets else None, square_root=square_root)
    covariance = stats.covariance[0].reshape(3, 4, 3, 4)
    assert not covariance[1].any()
    assert not covariance[:, :, 1].any()
    assert not covariance[0, :, 0].any()
    assert np.all(np.diag(covariance[2, :, 2]) > 0.5)
    np.testing.assert_array_equal(stats.mean[0, 4:8], 0)
    np.testing.assert_allclose(stats.mean[0, :4], 0.1, rtol=64 * U)
    moments = stats.moments()
    assert 0 <= moments.shrinkage <= 1
    for kernel, bias in (matrices(layer), (0.5 * matrices(layer)[0], np.zeros((1, 4)))):
        other = tc.ConvLayer(kernel.reshape(layer.kernel.shape), layer.geometry, bias.ravel())
        measured = np.linalg.norm(y - tc.convolve(x, other)) / np.linalg.norm(y)
        # where targets are given, sums of squares cancel to 2 (p + m) u of the energy
        assert moments.response_error(kernel, bias) == pytest.approx(measured, rel=1e-11, abs=np.sqrt(300 * 2 * U))


@pytest.mark.parametrize("square_root", FORMS)
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_data_that_are_constant_everywhere(value: float, square_root: bool) -> None:
    layer = tc.ConvLayer.of(np.ones((2, 3, 2)))
    moments = gathered(layer, np.full((3, 3, 9), value), square_root=square_root).moments()
    assert not moments.root.any()
    assert moments.shrinkage == 0
    kernel, bias = matrices(layer)
    assert moments.response_error(kernel, bias) == 0
    assert moments.response_error(0 * kernel, bias) == pytest.approx(float(value > 0))
    np.testing.assert_array_equal(moments.problem[1], kernel)
    assert not moments.metrics.any()


def test_a_shrinkage_that_is_given_is_that_of_the_moments() -> None:
    layer = cases.layer("plain 1d")
    stats = gathered(layer, data(layer), shrinkage=0.25)
    assert stats.shrinkage == stats.moments().shrinkage == 0.25
    other = stats.shrunk(0)
    assert other.shrinkage == other.moments().shrinkage == 0.0
    assert stats.shrinkage == 0.25
    np.testing.assert_array_equal(other.covariance, stats.covariance)
    other.update(data(layer))
    assert other.n_samples == 2 * stats.n_samples


def test_the_automatic_shrinkage_falls_with_the_number_of_samples() -> None:
    layer = cases.layer("unequal 2d")
    found = []
    for n_images in (8, 64, 512):
        x = data(layer, n_images) * np.arange(1.0, 6).reshape(5, 1, 1)
        moments = gathered(layer, x).moments()
        expected = approximating_shrinkage(moments.root, moments.n_samples / 6)  # a kernel of 3 x 2 taps
        assert moments.shrinkage == pytest.approx(expected, rel=1e-12)
        found.append(moments.shrinkage)
    assert 1 >= found[0] > found[1] > found[2] > 0
    stats = gathered(layer, data(layer), shrinkage=0.5)
    assert stats.shrinkage == 0.5
    assert stats.shrunk(None).shrinkage is None


def test_an_array_is_a_layer_of_stride_one() -> None:
    kernel, x = np.random.default_rng(0).standard_normal((2, 3, 2, 2)), np.ones((1, 3, 4, 4))
    assert same_bits(gathered(kernel, x), gathered(tc.ConvLayer.of(kernel), x))  # type: ignore[arg-type]


def test_moments_are_plain_moments() -> None:
    layer = cases.layer("transposed grouped 2d")
    x = data(layer)
    moments = gathered(layer, x, targets(layer, x), square_root=True).moments()
    n, o = layer.kernel[0].size, layer.out_channels // 2
    assert isinstance(moments, Moments)
    shapes = [getattr(moments, name).shape for name in ("mean", "root", "target_mean", "seen", "missed")]
    assert shapes == [(2, n), (2, n, n), (2, o), (2, n, o), (2,)]
    assert type(moments.n_samples) is int


def test_texts() -> None:
    layer = tc.ConvLayer.of(np.ones((2, 3, 2, 2)), stride=2)
    stats = tc.PatchStatistics(layer, square_root=True)
    assert repr(stats).endswith("kernel 2x2, stride 2, padding 0: 0 positions, square-root form>")
    x = np.ones((1, 3, 4, 4))
    assert repr(gathered(layer, x, tc.convolve(x, layer))).endswith(": 4 positions, with targets>")


X = np.ones((2, 5, 6, 6))
WRONG: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "axes": ((X[0],), KernelError, "add a batch axis"),
    "channels": ((X[:, :4],), KernelError, "5 channels"),
    "empty": ((X[:0],), KernelError, "not be empty"),
    "integers": ((X.astype(int),), KernelTypeError, "floating-point"),
    "text": (("x",), KernelTypeError, "floating-point"),
    "nan": ((np.where(np.arange(6) == 5, np.nan, X),), KernelError, "x must hold finite"),
    "inf": ((np.where(np.arange(6) == 5, -np.inf, X),), KernelError, "x must hold finite"),
    "huge": ((np.where(np.arange(6) == 5, -1e101, X),), KernelError, "x must stay below"),
    "small": ((X[:, :, :2],), GeometryError, "no output"),
    "target's shape": ((X, np.ones((2, 7, 4, 3))), KernelError, r"target must have shape \(2, 7, 4, 4\)"),
    "target's channels": ((X, np.ones((2, 6, 4, 4))), KernelError, "target must have shape"),
    "target's type": ((X, np.ones((2, 7, 4, 4), int)), KernelTypeError, "target must be of a real"),
    "target's nan": ((X, np.full((2, 7, 4, 4), np.nan)), KernelError, "target must hold finite"),
    "target's magnitude": ((X, np.full((2, 7, 4, 4), 1e200)), KernelError, "target must stay below"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("with_targets", [False, True])
def test_a_refused_update_changes_nothing(wrong: str, with_targets: bool) -> None:
    arguments, error, words = WRONG[wrong]
    kernel = np.random.default_rng(0).standard_normal((7, 5, 3, 3))
    x = np.random.default_rng(1).standard_normal((2, 5, 6, 6))
    y = tc.convolve(x, tc.ConvLayer.of(kernel)) if with_targets else None
    empty, stats = tc.PatchStatistics(kernel), gathered(kernel, x, y)  # type: ignore[arg-type]
    for one in (empty, stats):
        before = one.shrunk(None)
        with pytest.raises(error, match=words):
            one.update(*arguments)
        assert same_bits(one, before)
    empty.update(x, y)
    assert same_bits(empty, stats)


@pytest.mark.parametrize("with_targets", [False, True])
def test_targets_are_given_always_or_never(with_targets: bool) -> None:
    layer = cases.layer("plain 1d")
    x = data(layer)
    y = tc.convolve(x, layer)
    stats = gathered(layer, x, y if with_targets else None)
    before = stats.shrunk(None)
    with pytest.raises(KernelError, match=f"{'every' if with_targets else 'no'} update so far had one"):
        stats.update(x, None if with_targets else y)
    assert same_bits(stats, before)


def test_an_update_that_is_interrupted_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = cases.layer("grouped 2d")
    stats = gathered(layer, data(layer))
    before = stats.shrunk(None)
    monkeypatch.setattr(patches_module, "_MOST_BYTES", 1000)
    original, calls = patches_module._gather, []

    def interrupted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(patches_module, "_gather", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stats.update(data(layer))
    assert same_bits(stats, before)


def test_reading_without_data_is_refused() -> None:
    stats = tc.PatchStatistics(cases.layer("plain 1d"))
    assert stats.n_samples == 0
    for name in ("mean", "second_moment", "covariance", "target_mean", "cross_moment"):
        with pytest.raises(KernelError, match="call update"):
            getattr(stats, name)
    with pytest.raises(KernelError, match="call update"):
        stats.moments()


def test_one_position_makes_no_moments() -> None:
    stats = gathered(np.ones((2, 3, 2)), np.ones((1, 3, 2)))  # type: ignore[arg-type]
    assert stats.n_samples == 1
    with pytest.raises(KernelError, match="at least 2 positions"):
        stats.moments()
    stats.update(np.zeros((1, 3, 2)))
    assert stats.moments().n_samples == 2


def test_targets_are_read_only_where_there_are_some() -> None:
    layer = cases.layer("plain 1d")
    stats = gathered(layer, data(layer))
    for name in ("target_mean", "cross_moment"):
        with pytest.raises(KernelError, match="hold no targets"):
            getattr(stats, name)


@pytest.mark.parametrize("name", ["n_samples", "mean", "second_moment", "covariance", "shrinkage"])
def test_readings_are_read_only(name: str) -> None:
    layer = cases.layer("plain 1d")
    stats = gathered(layer, data(layer))
    with pytest.raises(AttributeError):
        setattr(stats, name, 0)
    if name in ("mean", "second_moment", "covariance"):
        before = stats.mean
        getattr(stats, name)[...] = 7
        np.testing.assert_array_equal(stats.mean, before)


def test_moments_of_another_layer_must_fit() -> None:
    layer = cases.layer("unequal 2d")
    stats = gathered(layer, data(layer))
    with pytest.raises(KernelError, match=r"kernel of shape \(7, 5, 3, 2\)"):
        stats.moments(tc.ConvLayer(layer.kernel[:6], layer.geometry))
    with pytest.raises(GeometryError, match="stride"):
        stats.moments(layer.kernel)


def test_unlike_statistics_are_not_added() -> None:
    layer = cases.layer("unequal 2d")
    x = data(layer)
    stats = gathered(layer, x)
    other = tc.ConvLayer(layer.kernel[:6], layer.geometry)
    for unlike, words in [
        (tc.PatchStatistics(other), "like layers"),
        (gathered(layer.kernel, x), "like layers"),  # type: ignore[arg-type]
        (gathered(layer, x, square_root=True), "same square_root"),
        (gathered(layer, x, shrinkage=0.5), "same shrinkage"),
        (gathered(layer, x, tc.convolve(x, layer)), "both have targets"),
    ]:
        for pair in ((stats, unlike), (unlike, stats)):
            with pytest.raises(KernelError, match=words):
                pair[0] + pair[1]
    for strange in (1, None, "stats", layer):
        with pytest.raises(TypeError):
            stats + strange
        with pytest.raises(TypeError):
            strange + stats


@pytest.mark.parametrize("shrinkage", [-0.1, 1.5, np.nan, "auto", True, [0.1]])
def test_a_shrinkage_out_of_range_is_refused(shrinkage: Any) -> None:
    with pytest.raises(KernelError, match="shrinkage must be a number from 0 to 1"):
        tc.PatchStatistics(np.ones((2, 3, 2)), shrinkage=shrinkage)
    with pytest.raises(KernelError, match="shrinkage must be a number from 0 to 1"):
        tc.PatchStatistics(np.ones((2, 3, 2))).shrunk(shrinkage)


def test_a_sequence_is_no_layer() -> None:
    with pytest.raises(KernelTypeError, match="layer must be a ConvLayer"):
        tc.PatchStatistics(cases.layer("plain 1d").sequence)
    with pytest.raises(GeometryError, match="square_root must be True or False"):
        tc.PatchStatistics(np.ones((2, 3, 2)), square_root="no")  # type: ignore[arg-type]


def peak_of(stats: tc.PatchStatistics, x: Array) -> int:
    tracemalloc.start()
    try:
        stats.update(x)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(8, 3, 128, 128), (48, 3, 128, 128), (1, 3, 512, 1024), (1, 3, 4, 160_000)], ids=str)
def test_memory_depends_neither_on_number_nor_on_size_of_images(shape: tuple[int, ...]) -> None:
    x = np.ones(shape, "float32")
    patches_bytes = 8 * 27 * x.size // 3
    # a chunk of 16 MB, and little else: the check for NaN takes a byte per entry of x, less than a chunk, before it
    assert peak_of(tc.PatchStatistics(np.ones((4, 3, 3, 3)), square_root=True), x) < 2**24 + 2**20 < patches_bytes


def test_moments_are_made_once_for_a_layer_and_anew_after_an_update() -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((3, 2, 3)))
    other = tc.ConvLayer.of(2 * layer.kernel)
    statistics = tc.PatchStatistics(layer)
    statistics.update(np.random.default_rng(1).standard_normal((2, 2, 9)))
    first = statistics.moments()
    assert statistics.moments(layer) is first
    assert np.array_equal(statistics.moments(other).kernel, 2 * first.kernel)
    statistics.update(np.random.default_rng(2).standard_normal((2, 2, 9)))
    assert statistics.moments().n_samples == 2 * first.n_samples
