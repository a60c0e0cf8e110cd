"""Intervals against closed forms and scipy, and by coverage."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from implreg_book.evidence.statistics import (
    FISHER,
    LINEAR,
    LOG,
    Estimate,
    mean_interval,
    power_law,
    quantile,
    ratio,
    share_interval,
    simultaneous,
    tail,
)
from scipy import stats

from implreg.errors import InputError


def test_mean_interval_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=12)
    found = mean_interval(x)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(x.mean())
    assert found.n == 12


@pytest.mark.parametrize("n", [2, 3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(n: int) -> None:
    random = np.random.default_rng(1)
    hits = sum(2.0 in mean_interval(random.normal(2.0, 3.0, size=n)) for _ in range(2000))
    assert abs(hits / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def student(freedom: int, tests: int) -> float:
    """The quantile of two-sided 95 % intervals, widened for `tests`, in closed form."""
    beyond = 0.025 / tests
    if freedom == 1:
        return math.tan(math.pi * (0.5 - beyond))
    assert freedom == 2
    return (1 - 2 * beyond) / math.sqrt(2 * beyond * (1 - beyond))


@given(st.integers(1, 200))
def test_quantiles_have_closed_forms(tests: int) -> None:
    assert tail(tests) == pytest.approx(0.025 / tests)
    assert quantile(1, tests) == pytest.approx(student(1, tests), rel=1e-9)
    assert quantile(2, tests) == pytest.approx(student(2, tests), rel=1e-9)
    normal = NormalDist().inv_cdf(1 - 0.025 / tests)
    assert quantile(math.inf, tests) == pytest.approx(normal, rel=1e-9)


def test_the_interval_of_two_and_of_three_numbers_by_hand() -> None:
    two = mean_interval([1.0, 4.0])
    assert (two.low, two.high) == pytest.approx(
        (2.5 - student(1, 1) * 1.5, 2.5 + student(1, 1) * 1.5)
    )
    three = mean_interval([-1.0, 0.0, 1.0])
    assert three.high == pytest.approx(student(2, 1) / math.sqrt(3)) and three.low == -three.high
    logs = ratio([2.0, 8.0], [1.0, 1.0])
    assert math.log2(logs.high) == pytest.approx(2 + student(1, 1))
    assert math.log2(logs.low) == pytest.approx(2 - student(1, 1))


def test_the_exponent_is_the_mean_of_the_seeds_slopes() -> None:
    rows = [
        {"n": n, "run": run, "y": factor * n**slope}
        for run, factor, slope in ((0, 1.0, -0.5), (1, 500.0, -0.7))
        for n in (10, 100, 1000)
    ]
    rows[1]["y"] *= 3  # in the middle, where it moves no least-squares slope
    found = power_law(pd.DataFrame(rows), "n", "y", seed="run")
    assert found.value == pytest.approx(-0.6) and found.n == 2
    assert found.high == pytest.approx(-0.6 + student(1, 1) * 0.1)


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


@pytest.mark.parametrize(
    ("shares", "trials", "effective"),
    [
        # s² = 0.08 is 50/3 times p (1 - p) / T: 100 trials are worth 6.
        ([0.2, 0.6], 50, 6.0),
        ([0.5, 0.5], 50, 100.0),
        ([0.48, 0.52], 50, 100.0),  # nearer than chance: all trials count, and no more
        ([0.0, 0.0], 50, 100.0),
        ([1.0, 0.8, 0.9], 20, 27.0),  # s² = 0.01 of 0.09 / 20: a factor of 20/9
    ],
)
def test_ends_of_shares_solve_wilsons_equation(
    shares: list[float], trials: int, effective: float
) -> None:
    found, p = share_interval(shares, trials), sum(shares) / len(shares)
    ends = 0.0 if p == 0 else found.low, found.high
    for end in ends:
        chance = student(len(shares) - 1, 1) ** 2 * end * (1 - end) / effective
        assert (p - end) ** 2 == pytest.approx(chance, rel=1e-9, abs=1e-12)
    assert found.low <= p < found.high and found.n == len(shares)


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


# ---------------------------------------------------------------- several intervals at once


def test_simultaneous_intervals_use_bonferroni_s_quantile():
    random = np.random.default_rng(0)
    a, b = random.lognormal(size=(2, 12))
    plain = ratio(a, b)
    wide = simultaneous(plain, 7)
    logs = np.log(a / b)
    half = stats.t.ppf(1 - 0.025 / 7, 11) * logs.std(ddof=1) / math.sqrt(12)
    assert math.log(wide.high) == pytest.approx(logs.mean() + half)
    assert math.log(wide.low) == pytest.approx(logs.mean() - half)
    assert simultaneous(plain, 1).high == pytest.approx(plain.high)
    one = Estimate(2.0, math.nan, math.nan, 1)
    assert simultaneous(one, 7) is one


def test_together_they_hold_as_often_as_they_say():
    """Where nothing differs, one of 10 plain intervals often misses, one of 10 widened ones not."""
    random = np.random.default_rng(0)
    misses = np.zeros(2)
    for _ in range(300):
        one, *others = random.lognormal(size=(11, 8))
        plain = [ratio(other, one) for other in others]
        misses[0] += any(1 not in x for x in plain)
        misses[1] += any(1 not in simultaneous(x, 10) for x in plain)
    assert misses[0] / 300 > 0.15
    assert misses[1] / 300 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("tests", [1, 2, 10])
def test_intervals_of_two_or_three_seeds_are_widened_too(n: int, tests: int) -> None:
    factor = student(n - 1, tests) / student(n - 1, 1)
    wide = simultaneous(Estimate(2.0, 1.0, 4.0, n), tests)
    assert (wide.value, wide.n) == (2.0, n)
    assert math.log2(wide.low) == pytest.approx(1 - factor)
    assert math.log2(wide.high) == pytest.approx(1 + factor)
    mean = simultaneous(Estimate(-3.0, -5.0, 0.0, n), tests, LINEAR)
    assert (mean.low, mean.high) == pytest.approx((-3 - 2 * factor, -3 + 3 * factor))


def test_two_seeds_hold_together_as_often_as_they_say() -> None:
    """Ten independent intervals, of two seeds each: 0.995 to the power of 10 of all repetitions."""
    random, holds, times = np.random.default_rng(2), 0.995**10, 1500
    hits = 0
    for _ in range(times):
        found = [ratio(a, [1.0, 1.0]) for a in random.lognormal(size=(10, 2))]
        hits += all(1 in simultaneous(x, 10) for x in found)
    assert abs(hits / times - holds) < 4 * math.sqrt(holds * (1 - holds) / times)


def test_means_of_any_size_are_widened() -> None:
    found = simultaneous(Estimate(5000.0, 4000.0, 6000.0, 8), 10, LINEAR)
    assert found.low + found.high == pytest.approx(10_000) and found.low < 4000
    assert simultaneous(Estimate(-1.0, -2.0, 0.0, 8), 1, LINEAR) == Estimate(-1.0, -2.0, 0.0, 8)


@pytest.mark.parametrize("scale", [LINEAR, LOG, FISHER])
def test_without_an_interval_there_is_nothing_to_widen(scale) -> None:
    for n in (0, 1, 8):
        found = simultaneous(Estimate(0.5, math.nan, math.nan, n), 7, scale)
        assert math.isnan(found.low) and math.isnan(found.high)
        assert (found.value, found.n) == (0.5, n)


@pytest.mark.parametrize("tests", [0, -1, 1.5])
def test_intervals_hold_together_for_a_number_of_tests(tests) -> None:
    with pytest.raises(InputError, match="tests must be"):
        simultaneous(Estimate(2.0, 1.0, 4.0, 1), tests)


@given(st.integers(1, 50), st.integers(1, 50))
def test_more_tests_widen_more(few: int, more: int) -> None:
    plain = Estimate(0.5, 0.2, 0.7, 5)
    for scale in (LINEAR, LOG, FISHER):
        a, b = (simultaneous(plain, tests, scale) for tests in sorted([few, few + more]))
        assert b.low < a.low <= 0.2 + 1e-12 and a.high + 1e-12 >= 0.7 and b.high > a.high


def test_widened_correlation_is_fishers_at_the_corrected_level():
    error, value, normal = 1 / math.sqrt(40 - 3), math.atanh(0.6), NormalDist()
    ends = [math.tanh(value + side * normal.inv_cdf(0.975) * error) for side in (-1, 1)]
    found = simultaneous(Estimate(0.6, *ends, 40), 7, FISHER)
    corrected = normal.inv_cdf(1 - 0.025 / 7)
    assert math.atanh(found.low) == pytest.approx(value - corrected * error)
    assert math.atanh(found.high) == pytest.approx(value + corrected * error)
    perfect = simultaneous(Estimate(-1.0, -1.0, -1.0, 40), 7, FISHER)
    assert perfect.high == pytest.approx(-1)
    assert math.isnan(simultaneous(Estimate(0.5, math.nan, math.nan, 1), 7, FISHER).high)
