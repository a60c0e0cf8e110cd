"""Rank correlations against closed forms and scipy, and their intervals by coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implreg_book.evidence import correlation
from implreg_book.evidence.correlation import rank_correlation
from scipy import stats

from implreg.errors import InputError


def plain_bootstrap(x, y, clusters, given=None, resamples=300, seed=0, tests=1):
    """Interval by drawing rows, one draw after the other."""
    random = np.random.default_rng(seed)
    names = pd.unique(np.asarray(clusters))
    found = []
    for times in random.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples):
        rows = np.concatenate(
            [np.repeat(np.flatnonzero(clusters == name), k) for name, k in zip(names, times)]
        )
        if given is None:
            found.append(stats.spearmanr(x[rows], y[rows]).statistic)
        else:
            found.append(residual_correlation(x[rows], y[rows], given[rows]))
    return np.quantile(found, [0.025 / tests, 1 - 0.025 / tests])


def residual_correlation(x, y, z):
    """Correlation of what a line on the ranks of z leaves of the ranks of x and y."""
    rx, ry, rz = (stats.rankdata(v) for v in (x, y, z))
    rest = [r - np.polyval(np.polyfit(rz, r, 1), rz) for r in (rx, ry)]
    return stats.pearsonr(*rest).statistic


def draw(clusters, seeds, effect, seed):
    """Measure and error that share an effect of the configuration, and a covariate of both."""
    random = np.random.default_rng(seed)
    names = np.repeat(np.arange(clusters), seeds)
    shared = random.normal(size=(2, clusters))[:, names]
    z = random.normal(size=len(names))
    x = effect * shared[0] + random.normal(size=len(names)) + z
    y = effect * (0.5 * shared[0] + shared[1]) + random.normal(size=len(names)) + z
    return x, y, z, names


# ---------------------------------------------------------------- values


def test_small_cases_by_hand():
    # 1 - 6 sum d^2 / (n (n^2 - 1)) with differences of ranks d.
    assert rank_correlation([1, 2, 3], [10, 30, 20], [0, 1, 2]).value == pytest.approx(0.5)
    assert rank_correlation([1, 2, 3], [3, 2, 1], [0, 1, 2]).value == pytest.approx(-1)
    x, y, z = [1, 2, 3, 4], [1, 3, 2, 4], [2, 1, 4, 3]
    rxy, rxz, ryz = 0.8, 0.6, 0.0
    expected = (rxy - rxz * ryz) / math.sqrt((1 - rxz**2) * (1 - ryz**2))
    assert rank_correlation(x, y, range(4), given=z).value == pytest.approx(expected)


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=4, max_size=30))
def test_values_are_scipys_with_ties(rows):
    x, y, z = np.array(rows, dtype=float).T
    if min(len(set(v)) for v in (x, y)) < 2:
        return
    found = rank_correlation(x, y, np.zeros(len(x)), resamples=1)
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    if len(set(z)) < 2 or max(abs(stats.spearmanr(v, z).statistic) for v in (x, y)) > 0.999:
        return
    found = rank_correlation(x, y, np.zeros(len(x)), given=z, resamples=1)
    assert found.value == pytest.approx(residual_correlation(x, y, z), abs=1e-9)


def test_ranks_of_draws_are_those_of_their_rows():
    random = np.random.default_rng(0)
    values, times = random.integers(0, 5, 12), random.integers(0, 4, (6, 12))
    found = correlation._Order(values).ranks(times.astype(float))
    for row, count in zip(found, times):
        rows = np.repeat(np.arange(12), count)
        assert row[rows] == pytest.approx(stats.rankdata(values[rows]))


def test_a_common_cause_is_taken_out():
    random = np.random.default_rng(0)
    z = random.normal(size=2000)
    x, y = z + random.normal(size=(2, 2000)) / 2
    clusters = np.arange(2000)
    assert rank_correlation(x, y, clusters, resamples=200).low > 0.7
    assert 0 in rank_correlation(x, y, clusters, given=z, resamples=200)
    assert rank_correlation(x, y, clusters, given=np.exp(z), resamples=200) == rank_correlation(
        x, y, clusters, given=z, resamples=200
    )


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize("tests", [1, 4])
@pytest.mark.parametrize("partial", [False, True])
def test_interval_is_that_of_rows_drawn_by_cluster(partial, tests):
    x, y, z, names = draw(9, 3, 1.0, seed=1)
    keep = np.arange(len(x)) != 4  # clusters of different sizes
    x, y, z, names = x[keep], y[keep], z[keep], names[keep]
    covariate = z if partial else None
    found = rank_correlation(x, y, names, given=covariate, resamples=300, seed=7, tests=tests)
    low, high = plain_bootstrap(x, y, names, covariate, seed=7, tests=tests)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.n == 9


def test_chunks_and_names_change_nothing(monkeypatch):
    x, y, z, names = draw(6, 3, 1.0, seed=2)
    whole = rank_correlation(x, y, names, given=z, resamples=50)
    monkeypatch.setattr(correlation, "_ENTRIES", 1)
    parts = rank_correlation(x, y, [f"width {k}" for k in names], given=z, resamples=50)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


def test_seed_and_number_of_tests():
    x, y, _, names = draw(12, 4, 1.0, seed=3)
    narrow, wide = (rank_correlation(x, y, names, tests=tests) for tests in (1, 50))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert rank_correlation(x, y, names) == narrow
    assert rank_correlation(x, y, names, seed=1) != narrow


@pytest.mark.parametrize("partial", [False, True])
def test_intervals_cover_the_truth(partial):
    random_x, random_y, z, names = draw(40_000, 2, 1.0, seed=4)
    covariate = z if partial else None
    true = rank_correlation(random_x, random_y, names, given=covariate, resamples=1).value
    hits = []
    for seed in range(200):
        x, y, z, names = draw(30, 5, 1.0, seed=100 + seed)
        covariate = z if partial else None
        hits.append(true in rank_correlation(x, y, names, given=covariate, resamples=300))
    assert 0.88 <= np.mean(hits) <= 0.99


def test_networks_of_one_configuration_are_not_independent():
    x, y, _, names = draw(20, 10, 3.0, seed=5)
    whole = rank_correlation(x, y, names)
    naive = rank_correlation(x, y, np.arange(len(x)))
    assert whole.high - whole.low > 1.5 * (naive.high - naive.low)


# ---------------------------------------------------------------- degenerate cases


def test_one_cluster_has_no_interval():
    found = rank_correlation([1, 2, 3], [1, 3, 2], ["a"] * 3)
    assert (found.value, found.n) == (pytest.approx(0.5), 1)
    assert math.isnan(found.low) and math.isnan(found.high)


def test_draws_without_a_correlation_are_left_out():
    clusters, x = range(3), [1, 0, 0]
    # x and y vary together only where clusters 0 and 1 are drawn: 12 of 27 draws.
    rare = rank_correlation(x, [0, 1, 0], clusters)
    assert rare.value == pytest.approx(-0.5) and rare.n == 3
    assert math.isnan(rare.low) and math.isnan(rare.high)
    # Against three values 18 of 27 draws are defined.
    found = rank_correlation(x, [1, 3, 2], clusters)
    assert -1 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": [1, math.nan, 3, 4]}, "x must be finite, but 1 of its 4"),
        ({"y": [1, math.inf, -math.inf, 4]}, "y must be finite, but 2 of its 4"),
        ({"given": [1, 2, 3, math.nan]}, "given must be finite"),
        ({"x": [1, 2, 3]}, "x must be a list of 4 numbers"),
        ({"y": [2, 2, 2, 2]}, "y must take two values or more"),
        ({"given": [1, 4, 9, 16]}, "given must leave the ranks"),
        ({"tests": 0}, "tests must be"),
        ({"tests": 1.5}, "tests must be"),
        ({"resamples": 0}, "resamples must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_refusals(change, words):
    arguments = {"x": [1, 2, 3, 4], "y": [2, 1, 4, 3], "clusters": [0, 0, 1, 1]} | change
    with pytest.raises(InputError, match=words):
        rank_correlation(**arguments)
