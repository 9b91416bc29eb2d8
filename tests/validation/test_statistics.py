import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from nbmlops.validation import statistics
from nbmlops.validation.metrics import METRICS, Array, metric
from nbmlops.validation.statistics import improvement, standard_error


def paired(n: int, seed: int = 3) -> tuple[Array, Array, Array]:
    """Two classes, and the correlated scores of a better and a worse model, in (0, 1)."""
    random = np.random.default_rng(seed)
    truth = (random.random(n) < 0.3).astype(int)
    shared = truth + random.normal(size=n)
    scores = [1 / (1 + np.exp(-(shared + random.normal(scale=s, size=n)))) for s in (0.5, 1.0)]
    return truth, scores[0], scores[1]


def delong(truth: Array, a: Array, b: Array) -> float:
    """Standard error of the difference of two paired AUCs (DeLong, DeLong & Clarke-Pearson 1988)."""
    parts = []
    for scores in (a, b):
        wins = (scores[truth == 1][:, None] > scores[truth == 0]) + 0.5 * (
            scores[truth == 1][:, None] == scores[truth == 0]
        )
        parts.append((wins.mean(axis=1), wins.mean(axis=0)))
    positives, negatives = (np.cov([parts[0][i], parts[1][i]]) / len(parts[0][i]) for i in (0, 1))
    covariance = positives + negatives
    return float(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))


def test_bootstrap_of_roc_auc_agrees_with_delong() -> None:
    truth, a, b = paired(1500)
    assert standard_error(metric("roc_auc"), truth, a, b) == pytest.approx(delong(truth, a, b), rel=0.15)


def test_bootstrap_of_mae_agrees_with_the_paired_formula() -> None:
    random = np.random.default_rng(0)
    truth, a, b = random.normal(size=(3, 2000))
    gaps = np.abs(truth - a) - np.abs(truth - b)
    assert standard_error(metric("mae"), truth, a, b) == pytest.approx(gaps.std() / np.sqrt(2000), rel=0.15)


def test_bootstrap_of_accuracy_agrees_with_mcnemars_variance() -> None:
    truth, a, b = paired(3000)
    a, b = (a > 0.6).astype(int), (b > 0.6).astype(int)
    gaps = (a == truth).astype(float) - (b == truth)
    assert standard_error(metric("accuracy"), truth, a, b) == pytest.approx(gaps.std() / np.sqrt(3000), rel=0.15)


def test_many_rows_are_judged_by_a_scaled_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, a, b = paired(6000)
    monkeypatch.setattr(statistics, "MAX_ROWS", 1500)
    assert standard_error(metric("roc_auc"), truth, a, b) == pytest.approx(delong(truth, a, b), rel=0.25)


def test_interval_covers_the_true_difference_nearly_always() -> None:
    found = [improvement_of_accuracy(seed) for seed in range(20)]
    true_gap = improvement_of_accuracy(seed=99, n=200_000).difference
    assert sum(each.lower <= true_gap <= each.upper for each in found) >= 17


def improvement_of_accuracy(seed: int, n: int = 300) -> statistics.Interval:
    truth, a, b = paired(n, seed)
    return improvement(metric("accuracy"), truth, (a > 0.6).astype(int), (b > 0.6).astype(int))


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "brier_score", "average_precision"])
def test_positive_is_better_for_every_score_metric(name: str) -> None:
    truth, better, worse = paired(2000)
    better = np.clip(0.1 + 0.6 * truth + 0.2 * better, 0, 1)
    found = improvement(metric(name), truth, better, worse)
    assert 0 < found.lower < found.difference < found.upper


@pytest.mark.parametrize("name", ["mae", "rmse", "mse", "r2"])
def test_positive_is_better_for_every_value_metric(name: str) -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=1000)
    better, worse = truth + random.normal(scale=0.1, size=1000), truth + random.normal(size=1000)
    assert improvement(metric(name), truth, better, worse).lower > 0
    assert improvement(metric(name), truth, worse, better).upper < 0


def test_same_seed_gives_the_same_interval_and_more_confidence_a_wider_one() -> None:
    truth, a, b = paired(400)
    one = improvement(metric("roc_auc"), truth, a, b)
    assert improvement(metric("roc_auc"), truth, a, b) == one
    wide = improvement(metric("roc_auc"), truth, a, b, confidence=0.99)
    assert wide.lower < one.lower < one.upper < wide.upper


def test_a_class_of_one_row_is_too_few_to_tell() -> None:
    truth, scores = np.eye(1, 40, dtype=int)[0], np.linspace(1, 0, 40)
    found = improvement(metric("roc_auc"), truth, scores, -scores)
    assert found.difference == 1.0
    assert np.isnan([found.lower, found.upper]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["accuracy", "balanced_accuracy", "f1", "precision", "recall"]))
def test_weights_mean_what_repeated_rows_mean(seed: int, name: str) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, 2, (2, 30))
    truth[:2] = 0, 1
    weights = random.integers(1, 4, 30)
    weighted = metric(name).measure(truth, predicted, weights)
    repeated = metric(name).measure(np.repeat(truth, weights), np.repeat(predicted, weights), None)
    assert weighted == pytest.approx(repeated)


def test_class_metrics_take_text_and_more_than_two_classes() -> None:
    truth, predicted = np.array(["a", "b", "c", "a"]), np.array(["a", "b", "b", "a"])
    assert metric("f1").measure(truth, predicted, None) == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metric("recall").measure(np.array(["no", "yes"]), np.array(["no", "yes"]), None) == 1.0


def test_roc_auc_is_scikit_learns() -> None:
    truth, a, _ = paired(500)
    assert METRICS["roc_auc"].measure(truth, a, None) == roc_auc_score(truth, a)


def test_both_models_are_measured_over_the_same_classes() -> None:
    truth = np.tile([0, 1], 50)
    strays = np.where(np.arange(100) == 7, 2, truth)
    found = improvement(metric("f1"), truth, truth, strays)
    labels = [0, 1, 2]
    f1 = [f1_score(truth, each, labels=labels, average="macro", zero_division=0.0) for each in (truth, strays)]
    assert found.difference == pytest.approx(f1[0] - f1[1])
