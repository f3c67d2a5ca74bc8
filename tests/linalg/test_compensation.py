"""Compensated slices: every sweep by an independent dense route, closed forms, degenerate metrics, certificates."""

import numpy as np
import pytest

from tensorconv.errors import KernelError, RankError
from tensorconv.linalg import balanced_svd, compensated_slices, metric_svd, one_blas_thread, reduced_rank_regression
from tensorconv.linalg import compensation as module

ROUNDING = 1e-10  # a hundred thousand roundings: sums of a few hundred terms in a metric of condition up to a thousand


def problem(
    n_out: int, n_in: int, n_taps: int, n_samples: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a kernel (O, I, K) and samples F (I K, m) of correlated patches: the metric is F F.T."""
    rng = np.random.default_rng(seed)
    n = n_in * n_taps
    m = 2 * n if n_samples is None else n_samples
    shared = rng.standard_normal((n, max(2, n // 4))) @ rng.standard_normal((max(2, n // 4), m))
    return rng.standard_normal((n_out, n_in, n_taps)), shared / np.sqrt(n / 4) + 0.5 * rng.standard_normal((n, m))


def dense(found: module.CompensatedSlices) -> np.ndarray:
    return np.asarray(np.einsum("oir,irk->oik", found.pointwise, found.depthwise))


def measured(kernel: np.ndarray, kept: np.ndarray, samples: np.ndarray) -> float:
    """Return the relative error from the samples themselves."""
    lost = (kernel - kept).reshape(len(kernel), -1) @ samples
    return float(np.linalg.norm(lost) / np.linalg.norm(kernel.reshape(len(kernel), -1) @ samples))


def plain_svd(kernel: np.ndarray, rank: int) -> np.ndarray:
    left, right = balanced_svd(kernel.swapaxes(0, 1), rank)
    return np.asarray((left @ right).swapaxes(0, 1))


@one_blas_thread()
def reference_errors(kernel: np.ndarray, samples: np.ndarray, rank: int, n_sweeps: int) -> list[float]:
    """Run the method on the samples: a regression of their QR per channel, and dense least squares for the refit."""
    n_out, n_in, n_taps = kernel.shape
    rows = samples.reshape(n_in, n_taps, -1)
    kept, depthwise = np.zeros_like(kernel), np.zeros((n_in, rank, n_taps))
    for i in range(n_in):
        left, right, _ = reduced_rank_regression(kernel[:, i] @ rows[i], rows[i], rank)
        kept[:, i] = left @ right
    errors = [measured(kernel, kept, samples)]
    for _ in range(n_sweeps):
        for i in range(n_in):
            kept[:, i] = 0
            others = (kernel - kept).reshape(n_out, -1) @ samples
            left, depthwise[i], _ = reduced_rank_regression(others, rows[i], rank)
            kept[:, i] = left @ depthwise[i]
        features = (depthwise @ rows).reshape(n_in * rank, -1)
        size = np.maximum(np.linalg.norm(features, axis=1), 1e-300)[:, None]
        lost = (kernel - kept).reshape(n_out, -1) @ samples
        change = np.linalg.lstsq((features / size).T, lost.T, rcond=1e-10)[0].T / size[:, 0]
        kept += np.einsum("oir,irk->oik", change.reshape(n_out, n_in, rank), depthwise)
        errors.append(measured(kernel, kept, samples))
    return errors


def degenerate(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a problem of 40 channels, more than a block of the sweep, whose metric is singular in some way."""
    kernel, samples = problem(6, 40, 4, 70 if kind == "few samples" else None)
    rows = samples.reshape(40, 4, -1)
    if kind == "dependent taps":
        rows[3, 3] = rows[3, :3].sum(axis=0)
        rows[35, 1:] = rows[35, 0]  # one direction only, fewer than the rank
    elif kind == "equal channels":
        rows[5], rows[36] = rows[2], rows[2]
    elif kind == "uneven channels":
        rows *= np.logspace(-6, 6, 40)[:, None, None]
    return kernel, samples


KINDS = ["regular", "dependent taps", "equal channels", "uneven channels"]


@pytest.mark.parametrize(("kind", "rank"), [("few samples", 1), *((kind, rank) for kind in KINDS for rank in (1, 2))])
def test_every_sweep_is_that_of_dense_regressions(kind: str, rank: int) -> None:
    kernel, samples = degenerate(kind)
    found = compensated_slices(kernel, samples @ samples.T, rank, n_sweeps_max=4, tol=0.0)
    # the metric's rounding, 1e-16, over the smallest eigenvalues that it resolves here, 1e-6
    np.testing.assert_allclose(found.errors, reference_errors(kernel, samples, rank, 4), rtol=1e-8)


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_blocks_do_not_change_the_result(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, samples = problem(5, 10, 4)
    wanted = compensated_slices(kernel, samples @ samples.T, 2)
    monkeypatch.setattr(module, "BLOCK", block)
    found = compensated_slices(kernel, samples @ samples.T, 2)
    np.testing.assert_allclose(found.errors, wanted.errors, rtol=ROUNDING)


@one_blas_thread()
@pytest.mark.parametrize(("n_out", "n_in", "n_taps", "rank"), [(4, 3, 4, 1), (6, 4, 3, 2), (3, 5, 9, 2), (8, 1, 9, 3)])
def test_the_end_is_stationary_and_as_good_as_dense_alternating_least_squares(
    n_out: int, n_in: int, n_taps: int, rank: int
) -> None:
    kernel, samples = problem(n_out, n_in, n_taps, seed=n_out)
    found = compensated_slices(kernel, samples @ samples.T, rank, n_sweeps_max=2000, tol=1e-12)
    wanted = kernel.reshape(n_out, -1) @ samples
    rows = samples.reshape(n_in, n_taps, -1)

    def alternate(depthwise: np.ndarray, n_sweeps: int) -> float:
        for _ in range(n_sweeps):
            features = (depthwise @ rows).reshape(n_in * rank, -1)
            pointwise = np.linalg.lstsq(features.T, wanted.T, rcond=None)[0].T.reshape(n_out, n_in, rank)
            design = np.einsum("oir,ikm->omirk", pointwise, rows).reshape(wanted.size, -1)
            depthwise = np.linalg.lstsq(design, wanted.ravel(), rcond=None)[0].reshape(depthwise.shape)
        return measured(kernel, np.einsum("oir,irk->oik", pointwise, depthwise), samples)

    # sweeps stop where one gains 1e-12; ten others gain no more than a thousand such
    assert alternate(found.depthwise, 10) >= found.errors[-1] * (1 - 1e-8)
    rng = np.random.default_rng(1)
    best = min(alternate(rng.standard_normal(found.depthwise.shape), 100) for _ in range(5))
    assert found.errors[-1] <= 1.01 * best  # the problem has local minima: of the best of five random starts, or close


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_errors_fall_and_are_certified(rank: int) -> None:
    kernel, samples = problem(12, 10, 9, seed=3)
    metric = samples @ samples.T
    found = compensated_slices(kernel, metric, rank, tol=0.0)
    assert len(found.errors) == 21
    assert (np.diff(found.errors) < 0).all()
    assert found.errors[-1] < 0.9 * found.errors[0]  # compensation pays where channels are correlated
    assert found.errors[-1] == pytest.approx(measured(kernel, dense(found), samples), rel=ROUNDING)
    assert found.errors[0] < measured(kernel, plain_svd(kernel, rank), samples)


def test_the_pointwise_factors_are_least_squares() -> None:
    kernel, samples = problem(7, 6, 9)
    found = compensated_slices(kernel, samples @ samples.T, 2)
    features = (found.depthwise @ samples.reshape(6, 9, -1)).reshape(12, -1)
    wanted = kernel.reshape(7, -1) @ samples
    best = np.linalg.lstsq(features.T, wanted.T, rcond=None)[0].T
    np.testing.assert_allclose(found.pointwise.reshape(7, 12), best, atol=ROUNDING * np.abs(best).max())


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("seed", range(4))
def test_small_errors_are_not_lost_in_cancellation(noise: float, seed: int) -> None:
    kernel, samples = problem(12, 10, 9, seed=seed)
    kernel = plain_svd(kernel, 2) + noise * kernel
    found = compensated_slices(kernel, samples @ samples.T, 2)
    assert 0.1 * noise < found.errors[-1] < 2 * noise
    # the difference of kernels rounds by 1e-16 / noise, at random in a thousand entries
    assert found.errors[-1] == pytest.approx(measured(kernel, dense(found), samples), rel=2e-17 / noise + 1e-12)
    assert (np.diff(found.errors) <= 0).all()


def test_slices_of_the_rank_are_found_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, samples = problem(12, 10, 9, seed=5)
    kernel = plain_svd(kernel, 3)
    samples *= np.tile(np.logspace(0, -7, 9), 10)[:, None]
    for floor in (module.FLOOR, 0.0):  # without the floor the first sweep only adds rounding, and is taken back
        monkeypatch.setattr(module, "FLOOR", floor)
        found = compensated_slices(kernel, samples @ samples.T, 3)
        assert found.errors[-1] < 1e-14 * 90  # a rounding per term of the products
        np.testing.assert_allclose(dense(found), kernel, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 4, 9), (9, 4, 5), (3, 6, 1), (1, 2, 9)])
@pytest.mark.parametrize("seed", range(3))
def test_full_rank_is_exact(shape: tuple[int, int, int], seed: int) -> None:
    kernel, samples = problem(*shape, seed=seed)
    for metric in (samples @ samples.T, samples[:, :2] @ samples[:, :2].T):  # also where the metric does not see it
        found = compensated_slices(kernel, metric, min(shape[0], shape[2]))
        np.testing.assert_allclose(dense(found), kernel, atol=1e-14 * shape[2] * np.abs(kernel).max())
        assert len(found.errors) == 1
        assert found.errors[0] < 1e-13


def test_without_coupling_each_channel_alone_is_the_optimum() -> None:
    kernel, samples = problem(8, 5, 9)
    metric = np.zeros((45, 45))
    tails = []
    for i in range(5):
        taps = slice(9 * i, 9 * i + 9)
        metric[taps, taps] = samples[taps] @ samples[taps].T
        values = metric_svd(kernel[:, i], column_metric=metric[taps, taps])[1]
        tails.append(np.sum(values[2:] ** 2))
    found = compensated_slices(kernel, metric, 2)
    flat = kernel.reshape(8, -1)
    optimum = np.sqrt(np.sum(tails) / np.sum((flat @ metric) * flat))
    np.testing.assert_allclose(found.errors, optimum, rtol=ROUNDING)
    assert len(found.errors) <= 2


@pytest.mark.parametrize("rank", [1, 3])
def test_the_identity_gives_the_svd_of_every_slice(rank: int) -> None:
    kernel, _ = problem(8, 5, 9)
    found = compensated_slices(kernel, np.eye(45), rank)
    left, right = balanced_svd(kernel.swapaxes(0, 1), rank)
    np.testing.assert_allclose(found.depthwise, right, atol=1e-12)
    np.testing.assert_allclose(dense(found), (left @ right).swapaxes(0, 1), atol=1e-12)
    assert found.errors[-1] == pytest.approx(measured(kernel, plain_svd(kernel, rank), np.eye(45)), rel=ROUNDING)


@pytest.mark.parametrize("n_samples", [1, 4, 30])
def test_fewer_samples_than_taps(n_samples: int) -> None:
    kernel, samples = problem(6, 5, 9, n_samples)
    metric = samples @ samples.T
    for rank in (1, 3):
        found = compensated_slices(kernel, metric, rank)
        assert np.isfinite(found.pointwise).all()
        assert np.isfinite(found.depthwise).all()
        # what the metric does not see adds no more than the root of its rounding
        assert abs(found.errors[-1] - measured(kernel, dense(found), samples)) < 1e-7
        assert found.errors[-1] <= measured(kernel, plain_svd(kernel, rank), samples)


@pytest.mark.parametrize("seed", range(4))
def test_a_channel_without_variance_keeps_its_svd_and_harms_no_other(seed: int) -> None:
    kernel, samples = problem(6, 5, 9, seed=seed)
    rows = samples.reshape(5, 9, -1)
    rows[[1, 4]] = 0
    metric, alive = samples @ samples.T, [0, 2, 3]
    seen = np.concatenate([rows[i] for i in alive])
    without = compensated_slices(kernel[:, alive], seen @ seen.T, 2)
    for start in (None, (np.ones((6, 5, 2)), np.ones((5, 2, 9)))):
        found = compensated_slices(kernel, metric, 2, start=start)
        np.testing.assert_allclose(dense(found)[:, [1, 4]], plain_svd(kernel, 2)[:, [1, 4]], atol=1e-13)
    found = compensated_slices(kernel, metric, 2)
    np.testing.assert_allclose(dense(found)[:, alive], dense(without), atol=1e-9)  # twenty sweeps amplify rounding
    np.testing.assert_allclose(found.errors, without.errors, rtol=ROUNDING)


def test_zeros() -> None:
    kernel, samples = problem(6, 5, 9)
    nothing = compensated_slices(kernel, np.zeros((45, 45)), 2)
    np.testing.assert_allclose(dense(nothing), plain_svd(kernel, 2), atol=1e-13)
    assert nothing.errors == [0.0]
    zero = compensated_slices(np.zeros_like(kernel), samples @ samples.T, 2)
    assert not dense(zero).any()
    assert zero.errors == [0.0]


@pytest.mark.parametrize("of_target", [1.0, 1e-30, 1e30, 1e-200, 1e200])
@pytest.mark.parametrize("of_metric", [1.0, 1e-30, 1e30, 1e-300, 1e305])
def test_scale_does_not_matter(of_target: float, of_metric: float) -> None:
    kernel, samples = problem(6, 5, 9)
    wanted = compensated_slices(kernel, samples @ samples.T, 2, n_sweeps_max=5)
    found = compensated_slices(of_target * kernel, of_metric * (samples @ samples.T), 2, n_sweeps_max=5)
    np.testing.assert_allclose(found.errors, wanted.errors, rtol=ROUNDING)
    np.testing.assert_allclose(dense(found) / of_target, dense(wanted), atol=ROUNDING)


def test_factors_are_balanced_and_orthogonal_with_settled_signs() -> None:
    kernel, samples = problem(12, 10, 9)
    found = compensated_slices(kernel, samples @ samples.T, 3)
    norms = np.linalg.norm(found.depthwise, axis=2)
    np.testing.assert_allclose(np.linalg.norm(found.pointwise, axis=0), norms, rtol=1e-12)
    assert (np.diff(norms, axis=1) <= 0).all()
    grams = found.depthwise @ found.depthwise.swapaxes(1, 2)
    np.testing.assert_allclose(grams, norms[..., None] ** 2 * np.eye(3), atol=1e-12 * norms.max() ** 2)
    peaks = np.take_along_axis(found.depthwise, np.abs(found.depthwise).argmax(axis=2)[..., None], axis=2)
    assert (peaks > 0).all()


def test_it_repeats_bit_by_bit() -> None:
    kernel, samples = problem(12, 40, 9)
    first, second = (compensated_slices(kernel, samples @ samples.T, 2, n_sweeps_max=3) for _ in range(2))
    assert np.array_equal(first.pointwise, second.pointwise)
    assert np.array_equal(first.depthwise, second.depthwise)
    assert first.errors == second.errors


def test_starts() -> None:
    kernel, samples = problem(8, 6, 9)
    kernel, metric = 1e3 * kernel, samples @ samples.T
    plain = compensated_slices(kernel, metric, 2, n_sweeps_max=3)
    begun = compensated_slices(kernel, metric, 2, start=(plain.pointwise, plain.depthwise), n_sweeps_max=0)
    np.testing.assert_allclose(dense(begun), dense(plain), atol=1e-10)
    assert begun.errors == pytest.approx(plain.errors[-1:], rel=ROUNDING)
    further = compensated_slices(kernel, metric, 2, start=(plain.pointwise, plain.depthwise), n_sweeps_max=2, tol=0.0)
    whole = compensated_slices(kernel, metric, 2, n_sweeps_max=5, tol=0.0)
    np.testing.assert_allclose(further.errors, whole.errors[3:], rtol=ROUNDING)
    rng = np.random.default_rng(0)
    bad = rng.standard_normal((8, 6, 2)), 10 * rng.standard_normal((6, 2, 9))
    replaced = compensated_slices(kernel, metric, 2, start=bad, n_sweeps_max=0)
    np.testing.assert_allclose(dense(replaced), plain_svd(kernel, 2), atol=1e-10)
    assert replaced.errors[0] == pytest.approx(measured(kernel, plain_svd(kernel, 2), samples), rel=ROUNDING)


def test_the_better_of_both_starts() -> None:
    kernel, samples = problem(2, 2, 3)
    rows = samples.reshape(2, 3, -1)
    rows[0], rows[1] = rows[0] + 1e3 * rows[1], rows[0] - 1e3 * rows[1]
    worse = 0
    for seed in range(40):
        kernel, _ = problem(2, 2, 3, seed=seed)
        found = compensated_slices(kernel, samples @ samples.T, 1, n_sweeps_max=0)
        svd = measured(kernel, plain_svd(kernel, 1), samples)
        alone = reference_errors(kernel, samples, 1, 0)[0]
        assert found.errors[0] == pytest.approx(min(svd, alone), rel=1e-6)  # the metric's condition is above 1e6
        worse += svd < alone
    assert 0 < worse < 40  # both happen


def test_it_stops_at_the_tolerance() -> None:
    kernel, samples = problem(12, 10, 9)
    errors = compensated_slices(kernel, samples @ samples.T, 2, n_sweeps_max=100, tol=1e-2).errors
    shares = 1 - np.array(errors[1:]) / errors[:-1]
    assert (shares[:-1] > 1e-2).all()
    assert shares[-1] <= 1e-2


def test_refusals() -> None:
    kernel, samples = problem(6, 5, 9)
    metric = samples @ samples.T
    with pytest.raises(RankError, match=r"rank must be between 1 and 6 = min\(O, K\) .*, got 7"):
        compensated_slices(kernel, metric, 7)
    with pytest.raises(RankError, match=r"n_sweeps_max must be at least 0, got -1"):
        compensated_slices(kernel, metric, 2, n_sweeps_max=-1)
    with pytest.raises(RankError, match=r"start must have shapes \(6, 5, 2\) and \(5, 2, 9\)"):
        compensated_slices(kernel, metric, 2, start=(np.ones((6, 5, 1)), np.ones((5, 1, 9))))
    with pytest.raises(KernelError, match="start must be finite"):
        compensated_slices(kernel, metric, 2, start=(np.full((6, 5, 2), np.nan), np.ones((5, 2, 9))))
    with pytest.raises(KernelError, match=r"target must have shape \(O, I, K\)"):
        compensated_slices(kernel[0], metric, 2)
    with pytest.raises(KernelError, match=r"metric must have shape \(45, 45\) = \(I K, I K\)"):
        compensated_slices(kernel, metric[1:, 1:], 2)
    with pytest.raises(KernelError, match="must be finite"):
        compensated_slices(kernel, metric * np.nan, 2)
    with pytest.raises(KernelError, match="must be finite"):
        compensated_slices(np.where(kernel > 1, np.inf, kernel), metric, 2)
    with pytest.raises(KernelError, match="metric must be symmetric"):
        compensated_slices(kernel, metric + np.triu(metric), 2)
    with pytest.raises(KernelError, match="positive semidefinite, got a block with eigenvalue"):
        compensated_slices(kernel, metric - 0.5 * np.diag(np.diag(metric)), 2)
