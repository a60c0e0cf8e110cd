"""Ratios to a reference: paired by seed, missing runs, many tests at once."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from implreg.comparisons import in_words, paired_ratios, ratios_at, simultaneous
from implreg.errors import InputError
from implreg.statistics import Estimate, ratio


def table_of(**conditions):
    return pd.DataFrame(
        [
            {"condition": name, "seed": seed, "x": x}
            for name, values in conditions.items()
            for seed, x in enumerate(values)
        ]
    )


def test_ratios_are_paired_by_seed():
    table = table_of(usual=[1.0, 10.0, 100.0], other=[2.0, 20.0, 200.0]).sample(
        frac=1, random_state=0
    )
    (found,) = paired_ratios(table, "x", reference="usual").values()
    assert (found.value, found.low, found.high, found.n) == pytest.approx((2, 2, 2, 3))


def test_a_seed_counts_if_both_of_its_runs_do():
    table = table_of(usual=[1.0, 1.0, math.nan, 1.0], other=[2.0, math.nan, 5.0, 8.0],
                     lost=[math.nan] * 4, only=[math.nan, math.nan, 3.0, math.nan])  # fmt: skip
    found = paired_ratios(table, "x", reference="usual")
    assert list(found) == ["other", "lost", "only"]
    assert (found["other"].value, found["other"].n) == (pytest.approx(4), 2)
    for name in ("lost", "only"):
        assert found[name].n == 0
        assert math.isnan(found[name].value)


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


@pytest.mark.parametrize(
    ("table", "reference", "message"),
    [
        (table_of(a=[1.0], b=[0.0]), "a", "must be positive"),
        (table_of(a=[math.nan], b=[1.0]), "a", "reference must be a condition"),
        (table_of(a=[1.0], b=[1.0]), "c", "reference must be a condition"),
        (pd.concat([table_of(a=[1.0])] * 2), "a", "one row per condition and seed"),
    ],
)
def test_what_cannot_be_compared_is_refused(table, reference, message):
    with pytest.raises(InputError, match=message):
        paired_ratios(table, "x", reference=reference)


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Estimate(2.0, 1.01, 4.0, 8), "larger"),
        (Estimate(0.5, 0.3, 0.99, 8), "smaller"),
        (Estimate(1.0, 0.8, 1.3, 8), "undecided"),
        (Estimate(1.0, 0.92, 1.09, 8), "the same within 10 %"),
        (Estimate(0.95, 0.92, 0.97, 8), "the same within 10 %"),
        (Estimate(2.0, math.nan, math.nan, 1), "one run"),
        (Estimate(math.nan, math.nan, math.nan, 0), "no run"),
    ],
)
def test_ratios_in_words(ratio, words):
    assert in_words(ratio) == words


def test_ratios_at_a_loss_are_of_the_runs_that_reached_it():
    columns = ["condition", "seed", "target_loss", "reached", "x"]
    rows = [
        ("usual", 0, 0.1, True, 1.0), ("usual", 1, 0.1, True, 1.0), ("usual", 0, 0.3, True, 9.0),
        ("other", 0, 0.1, True, 3.0), ("other", 1, 0.1, False, 50.0), ("other", 0, 0.3, True, 9.0),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns).assign(y=lambda t: 2 * t.x)
    found = ratios_at(table, 0.1, {"x": "size", "y": "twice"}, reference="usual")
    assert {name: (of["other"].value, of["other"].n) for name, of in found.items()} == {
        "size": (pytest.approx(3), 1), "twice": (pytest.approx(3), 1),
    }  # fmt: skip
