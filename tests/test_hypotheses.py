"""Hypotheses: ranges for measured quantities, and many judged together."""

import math

import numpy as np
import pytest
from scipy import stats

from implreg import hypotheses
from implreg.errors import InputError
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
