"""Ratios to a reference: paired by seed, missing runs, many tests at once."""

import math

import numpy as np
import pandas as pd
import pytest
from implreg_book.evidence.comparisons import paired_ratios, ratios_at
from implreg_book.evidence.statistics import ratio, simultaneous

from implreg.errors import InputError


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


def test_each_seed_is_divided_by_its_own_reference():
    table = pd.DataFrame(
        [("b", 3, 5.0), ("a", 7, 2.0), ("b", 7, 8.0), ("a", 9, 3.0), ("a", 3, 1.0), ("b", 9, 1.0)],
        columns=["kind", "network", "x"],
    )
    found = paired_ratios(table, "x", reference="a", by="kind", seed="network", tests=4)
    assert list(found) == ["b"]
    assert found["b"] == simultaneous(ratio([5.0, 8.0, 1.0], [1.0, 2.0, 3.0]), 4)
    assert paired_ratios(table, "x", reference="b", by="kind", seed="network")["a"] == ratio(
        [1.0, 2.0, 3.0], [5.0, 8.0, 1.0]
    )


def test_a_seed_counts_if_both_of_its_runs_do():
    table = table_of(usual=[1.0, 1.0, math.nan, 1.0], other=[2.0, math.nan, 5.0, 8.0],
                     lost=[math.nan] * 4, only=[math.nan, math.nan, 3.0, math.nan])  # fmt: skip
    found = paired_ratios(table, "x", reference="usual")
    assert list(found) == ["other", "lost", "only"]
    assert (found["other"].value, found["other"].n) == (pytest.approx(4), 2)
    for name in ("lost", "only"):
        assert found[name].n == 0
        assert math.isnan(found[name].value)


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
    (earlier,) = ratios_at(table, 0.3, {"x": "size"}, reference="usual")["size"].values()
    assert (earlier.value, earlier.n) == (pytest.approx(1), 1)


def test_ratios_at_a_loss_are_widened_for_the_tests():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"condition": list("ab") * 4, "seed": np.arange(8) // 2})
    table = table.assign(target_loss=0.1, reached=True, x=random.lognormal(size=8))
    plain, wide = (
        ratios_at(table, 0.1, {"x": "size"}, reference="a", tests=tests)["size"]["b"]
        for tests in (1, 12)
    )
    assert wide.low == pytest.approx(simultaneous(plain, 12).low) and wide.low < plain.low
