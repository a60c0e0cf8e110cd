"""Hypotheses: ranges for measured quantities, and many judged together."""

import math

import numpy as np
import pytest
from implreg_book.evidence import hypotheses
from implreg_book.evidence.hypotheses import Expectation
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate, mean_interval
from scipy import stats

from implreg.errors import InputError


def test_intervals_of_several_hypotheses_are_wider():
    logs = np.log([1.4, 1.5, 1.7, 1.6])
    plain = mean_interval(logs).map(math.exp)
    found = hypotheses.judge({str(i): ("above", plain) for i in range(7)})
    mean, error = logs.mean(), logs.std(ddof=1) / 2
    reach = stats.t.ppf(1 - 0.025 / 7, 3) * error
    assert found.low["0"] == pytest.approx(math.exp(mean - reach))
    assert found.high["6"] == pytest.approx(math.exp(mean + reach))


@pytest.mark.parametrize(
    ("expected", "interval", "outcome"),
    [
        ("above", (1.1, 1.3), "supported"),
        ("above", (0.9, 1.3), "undecided"),
        ("above", (0.7, 0.9), "not supported"),
        ("below", (0.7, 0.9), "supported"),
        ("below", (1.1, 1.3), "not supported"),
        ("near", (0.95, 1.05), "supported"),
        ("near", (0.95, 1.2), "undecided"),
        ("near", (1.2, 1.3), "not supported"),
        ("above", (math.nan, math.nan), "undecided"),
    ],
)
def test_hypotheses_have_outcomes(expected, interval, outcome):
    low, high = interval
    ratio = Estimate(math.sqrt(low * high), low, high, 1 if math.isnan(low) else 8)
    assert hypotheses.judge({"it": (expected, ratio)}).outcome["it"] == outcome


@pytest.mark.parametrize(
    ("expected", "interval", "outcome"),
    [
        ("near", (1 / 1.1 + 1e-9, 1.1 - 1e-9), "supported"),
        ("near", (0.905, 1.0), "undecided"),
        ("near", (1 / 1.1 - 1e-9, 1.0), "undecided"),
        ("near", (1.0, 1.1 + 1e-9), "undecided"),
        ("near", (0.5, 1 / 1.1 - 1e-9), "not supported"),
        ("near", (1.1 + 1e-9, 2.0), "not supported"),
        ("above", (1 + 1e-9, 1.05), "supported"),
        ("above", (1.0, 1.0), "undecided"),  # of networks against themselves
        ("below", (1.0, 1.0), "undecided"),
        ("above", (0.5, 1 - 1e-9), "not supported"),
        ("below", (0.95, 1 - 1e-9), "supported"),
    ],
)
def test_hypotheses_at_their_margins(expected, interval, outcome):
    ratio = Estimate(math.sqrt(math.prod(interval)), *interval, 8)
    assert hypotheses.judge({"it": (expected, ratio)}).outcome["it"] == outcome


def test_hypotheses_are_judged_by_the_widened_interval():
    # Of two seeds the plain interval is narrow enough for each of the three places.
    ratios = {"above": 1.5, "below": 0.6, "near": 1.0}
    for place, value in ratios.items():
        ratio = Estimate(value, value / 1.05, value * 1.05, 2)
        alone = hypotheses.judge({"it": (place, ratio)})
        assert alone.outcome["it"] == "supported"
        assert alone.low["it"] == pytest.approx(ratio.low)
        many = hypotheses.judge({str(i): (place, ratio) for i in range(100)})
        assert set(many.outcome) == {"undecided"} and many.ratio["7"] is ratio
        assert many.expected["7"] == place


def test_hypotheses_refuse():
    with pytest.raises(InputError, match="ratios must hold at least one"):
        hypotheses.judge({})
    with pytest.raises(InputError, match="ratios must be one of above, below, near"):
        hypotheses.judge({"it": ("over", Estimate(1, 1, 1, 2))})


def test_expectations_are_widened_and_judged_by_their_range():
    estimate = Estimate(-0.5, -0.55, -0.45, 8)
    expected = Expectation("exponent", estimate, low=-0.6, high=-0.4)
    assert expected.outcome() is Outcome.SUPPORTED
    t = stats.t(7)
    factor = t.ppf(1 - 0.025 / 10) / t.ppf(0.975)
    wide = expected.widened(10)
    assert wide.low == pytest.approx(-0.5 - 0.05 * factor)
    assert wide.high == pytest.approx(-0.5 + 0.05 * factor)
    assert expected.outcome(1000) is Outcome.UNDECIDED
    assert Expectation("x", estimate, low=-0.4).outcome() is Outcome.NOT_SUPPORTED
    assert Expectation("x", estimate, high=-0.6).outcome(1000) is Outcome.UNDECIDED


def test_an_expectation_touches_its_range():
    margins = {"low": -0.6, "high": -0.4}
    outcome = {
        (-0.6, -0.4): Outcome.SUPPORTED,
        (-0.6 - 1e-9, -0.4): Outcome.UNDECIDED,
        (-0.6, -0.4 + 1e-9): Outcome.UNDECIDED,
        (-0.9, -0.6 - 1e-9): Outcome.NOT_SUPPORTED,
        (-0.4 + 1e-9, 0.0): Outcome.NOT_SUPPORTED,
    }
    for (low, high), wanted in outcome.items():
        found = Expectation("exponent", Estimate((low + high) / 2, low, high, 8), **margins)
        assert found.outcome() is wanted
    zero = Estimate(-0.1, -0.2, 0.0, 8)
    assert Expectation("exponent", zero, high=0).outcome() is Outcome.UNDECIDED


def test_expected_ratios_are_widened_by_factors():
    wide = Expectation("ratio", Estimate(2.0, 1.0, 4.0, 8), low=0.1, ratio=True).widened(10)
    assert wide.low * wide.high == pytest.approx(4.0) and wide.low < 1


@pytest.mark.parametrize("n", [0, 1])
def test_an_expectation_without_an_interval_is_undecided(n):
    none = Estimate(math.nan if n == 0 else 0.5, math.nan, math.nan, n)
    for kind in (False, True):
        assert Expectation("x", none, low=0.0, ratio=kind).outcome(3) is Outcome.UNDECIDED
