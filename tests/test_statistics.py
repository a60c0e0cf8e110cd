"""Intervals against scipy and by coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from implreg.errors import InputError
from implreg.statistics import Estimate, mean_interval, power_law, ratio, share_interval


def test_mean_interval_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=12)
    found = mean_interval(x)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(x.mean())
    assert found.n == 12


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    hits = sum(2.0 in mean_interval(random.normal(2.0, 3.0, size=5)) for _ in range(2000))
    assert abs(hits / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_power_law_finds_the_exponent() -> None:
    random = np.random.default_rng(2)
    rows = [
        {"n": n, "seed": seed, "y": 7 * n**-0.5 * math.exp(random.normal(0, 0.05))}
        for seed in range(10)
        for n in (10, 100, 1000)
    ]
    found = power_law(pd.DataFrame(rows), "n", "y")
    assert -0.5 in found
    assert found.high - found.low < 0.05
    assert found.n == 10


def test_ratio_is_a_geometric_mean() -> None:
    found = ratio([2.0, 8.0, 4.0], [1.0, 1.0, 1.0])
    assert found.value == pytest.approx(4)
    assert found.low * found.high == pytest.approx(16)


def test_one_seed_has_no_interval() -> None:
    found = mean_interval([3.0])
    assert math.isnan(found.low)
    assert str(found) == "3.00 (one seed)"
    assert 3.0 not in found


def test_format_uses_minus_signs() -> None:
    assert f"{Estimate(-0.5, -0.61, 0.4, 5):.2f}" == "−0.50 [−0.61,\N{NO-BREAK SPACE}0.40]"


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_mean_interval_refuses(values: list[float]) -> None:
    with pytest.raises(InputError, match="values must be a list of finite numbers"):
        mean_interval(values)


def test_refusals() -> None:
    table = pd.DataFrame({"n": [1, 1], "y": [1.0, 2.0], "seed": [0, 0]})
    with pytest.raises(InputError, match="at least two values of n, got 1"):
        power_law(table, "n", "y")
    with pytest.raises(InputError, match="positive numbers"):
        power_law(table.assign(n=[1, 2], y=[1.0, -2.0]), "n", "y")
    with pytest.raises(InputError, match="positive numbers of the same seeds"):
        ratio([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="positive numbers of the same seeds"):
        ratio([1.0], [0.0])


def test_shares_of_independent_trials_have_wilsons_interval() -> None:
    hits = np.random.default_rng(0).random(4000) < 0.1
    found = share_interval(hits.astype(float), trials=1)
    wilson = stats.binomtest(int(hits.sum()), 4000).proportion_ci(method="wilson")
    assert found.value == hits.mean()
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), rel=1e-3)


def test_shares_of_seeds_that_differ_have_a_wider_interval() -> None:
    alike, apart = ([0.3, 0.3, 0.3, 0.3], [0.1, 0.2, 0.4, 0.5])
    narrow, wide = share_interval(alike, 100), share_interval(apart, 100)
    student = mean_interval(apart)
    assert narrow.high - narrow.low < 0.7 * (wide.high - wide.low)
    assert wide.high - wide.low == pytest.approx(student.high - student.low, rel=0.25)


def test_intervals_of_shares_cover_the_share() -> None:
    random = np.random.default_rng(0)
    for true, spread in ((0.05, 20.0), (0.5, 20.0), (0.9, 1000.0)):
        seeds = random.beta(true * spread, (1 - true) * spread, (1000, 5))
        found = [share_interval(row, 16) for row in random.binomial(16, seeds) / 16]
        assert np.mean([true in interval for interval in found]) > 0.92


@given(st.lists(st.integers(0, 16), min_size=2, max_size=8))
def test_intervals_of_shares_are_shares_and_mirror(hits: list[int]) -> None:
    shares = np.array(hits) / 16
    found, other = share_interval(shares, 16), share_interval(1 - shares, 16)
    assert 0 <= found.low <= found.value + 1e-12 and found.value <= found.high + 1e-12 <= 1 + 1e-12
    assert (other.low, other.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-12)


def test_shares_are_checked() -> None:
    assert share_interval([0.25], 4).n == 1
    with pytest.raises(InputError, match="shares must lie between 0 and 1"):
        share_interval([0.5, 1.5], 4)
    with pytest.raises(InputError, match="trials must be"):
        share_interval([0.5, 0.5], 0)
