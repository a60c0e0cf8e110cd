"""Intervals against scipy and by coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from implreg.errors import InputError
from implreg.statistics import Estimate, mean_interval, power_law, ratio


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
    assert str(found) == "3 (one seed)"
    assert 3.0 not in found


def test_format_uses_minus_signs() -> None:
    assert f"{Estimate(-0.5, -0.61, 0.4, 5):.2f}" == "−0.50 [−0.61, 0.40]"


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
