"""Hypotheses: ranges for measured quantities, and many judged together."""

import math

import numpy as np
import pytest
from scipy import stats

from implreg import hypotheses
from implreg.claims import Outcome
from implreg.errors import InputError
from implreg.hypotheses import Expectation, together
from implreg.statistics import Estimate, mean_interval


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


def test_expected_ratios_are_widened_by_factors():
    wide = Expectation("ratio", Estimate(2.0, 1.0, 4.0, 8), low=0.1, ratio=True).widened(10)
    assert wide.low * wide.high == pytest.approx(4.0) and wide.low < 1


@pytest.mark.parametrize("n", [0, 1])
def test_an_expectation_without_an_interval_is_undecided(n):
    none = Estimate(math.nan if n == 0 else 0.5, math.nan, math.nan, n)
    for kind in (False, True):
        assert Expectation("x", none, low=0.0, ratio=kind).outcome(3) is Outcome.UNDECIDED


def test_hypotheses_need_all_their_expectations():
    yes, no, open_ = Outcome.SUPPORTED, Outcome.NOT_SUPPORTED, Outcome.UNDECIDED
    assert together([yes, yes]) is yes
    assert together([yes, open_]) is open_
    assert together([yes, open_, no]) is no
    with pytest.raises(InputError, match="outcomes must hold at least one outcome"):
        together([])
