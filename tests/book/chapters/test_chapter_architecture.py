"""The chapter "Architecture" under other parameters: words follow numbers."""

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import architecture as chapter
from implreg_book.chapters import architecture_kinds as kinds
from implreg_book.chapters import same_loss
from implreg_book.chapters.architecture_found import Found, Names
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import NONE, Estimate, ratio, simultaneous
from implreg_book.parameters.architecture import Parameters

from implreg.errors import InputError

CHAPTER = "architecture"
QUICK = {"epochs": 30, "target_losses": [2.0], "pairs": 4, "width": 8, "train": 40}


def check(numbers):
    check_prose(CHAPTER, {f"arch-{name}": text for name, text in numbers.items()})


def test_the_prose_has_what_it_says():
    check(told(CHAPTER, found_with(CHAPTER, **QUICK)))


def test_a_page_without_any_trained_network_tests_nothing():
    found = found_with(CHAPTER, **QUICK | {"epochs": 1, "target_losses": [1e-3], "width": 4})
    numbers = told(CHAPTER, found)
    check(numbers)
    assert set(kinds.outcomes(found).values()) == {Outcome.NOT_TESTED}
    assert chapter.verdicts(found)["C8"].outcome is Outcome.NOT_TESTED
    assert numbers["answer"] == "No hypothesis of this page is tested in this run."
    assert "The loss 0.001 was reached by none of the 18 runs" in numbers["arrival"]
    assert "1 epoch." in numbers["arrival"] and numbers["growth"] == ""


def test_networks_that_diverge_leave_a_page_that_says_so():
    found = made({}, reached=())
    found.table["diverged"] = True
    numbers = chapter.numbers(found)
    assert "27 diverged" in numbers["arrival"] and "stayed" not in numbers["arrival"]
    assert numbers["outcome-5"] == "not tested"
    assert len(chapter.TABLES["arrivals"](found)) == 9


def test_signals_have_other_convolutions_and_one_seed_no_intervals():
    values = {"dataset": "mnist1d", "channels": [2], "depths": [2, 3], "deep": 2, "seeds": 1}
    found = found_with(CHAPTER, **QUICK | values | {"target_losses": [2.2]})
    numbers = chapter.numbers(found)
    assert numbers["convolutions"] == "one layer of convolutions of width 3 with 2 channels"
    assert "no intervals" in numbers["reservation"] or "too little" in numbers["reservation"]
    assert not {"supported", "not supported"} & {str(x) for x in numbers.values()}


@pytest.mark.parametrize(
    "values",
    [
        {"batch": 1},
        {"batch": 3},
        {"depths": [2, 3, 4, 5, 6, 7, 8]},
        {"width": 3},
        {"learning_rate": 100.0},
    ],
)
def test_what_cannot_work_is_refused_at_once(values):
    with pytest.raises(InputError, match="of chapter architecture must"):
        Parameters.of({"train": 100, "depths": [2, 5]} | values)


# Tables that are made up.


def made(deflection, error=None, *, reached=None, train_error=0.0):
    """Networks of three seeds, their deflections and errors multiples of those of the reference."""
    p = Parameters(depths=(2,), leaks=(0.5,), deep=2, seeds=3, target_losses=(0.1,))
    order = ["reference", *Names(p, 9).order]
    rows = []
    for name in order:
        for seed in range(3):
            bend = deflection.get(name, 1.0) * (1 + 1e-3 * seed * (name != "reference"))
            rows.append(
                {"condition": name, "seed": seed, "deflection": bend, "mid_path_deflection": bend,
                 "total_variation": bend, "straightness": bend, "bridge_ratio": 1.0,
                 "test_error": 0.2 * (error or {}).get(name, 1.0) * (1 + 1e-3 * seed)}
            )  # fmt: skip
    bends = pd.DataFrame(rows)
    table = bends.assign(
        target_loss=0.1, reached=bends.condition.isin(order if reached is None else reached),
        train_loss=0.1 - 1e-3 * bends.seed, train_error=train_error, switches=5.0, epochs=9,
        diverged=False, fluctuation=1.0, edge_margin=1.0,
    )  # fmt: skip
    start = bends.drop(columns=["test_error", "straightness", "total_variation"])
    start = start.assign(deflection=1.0, mid_path_deflection=1.0, output_size=1.0, switches=5.0)
    names = ("deflection", "mid_path_deflection", "bridge_ratio", "switches")
    start = start.assign(**{f"theory_{name}": start[name] for name in names})
    start = start.assign(parameters=100, units=9)
    modes = pd.DataFrame(columns=["condition", "statistics", "seed", "reached", "loss",
                                  "deflection", "test_error"])  # fmt: skip
    return Found(p, table, start, modes, units=9, scale=0.8, test_samples=100)


def test_depth_that_acts_as_theory_says():
    found = made({})
    assert "the same within 10 % as the" in chapter.numbers(found)["growth"]
    found = made({"depth 2": 3.0})
    assert "more than the 1.41 of theory" in chapter.numbers(found)["growth"]
    assert kinds.outcomes(found)["1  depth acts as before training"] is Outcome.NOT_SUPPORTED
    assert "has multiplied" in chapter.numbers(found)["grown"]


@pytest.mark.parametrize(("factor", "outcome"), [(0.5, "supported"), (0.9, "not supported")])
def test_a_leak_is_judged_by_its_law(factor, outcome):
    numbers = chapter.numbers(made({"leak 0.5": factor}))
    assert numbers["outcome-2"] == outcome
    assert f"{2 * factor:.2f}" in numbers["law-course"]


def test_straighter_is_better_only_without_an_exception():
    order = Names(Parameters(depths=(2,), leaks=(0.5,), deep=2), 9).order
    bends = {name: 1 + 0.3 * i for i, name in enumerate(order)}
    better = chapter.numbers(made(bends, bends))
    assert better["outcome-5"] == "supported" and "foretold" in better["answer"]
    assert "depends much on" in better["answer"]
    worse = made(bends, {name: 1 / x for name, x in bends.items()})
    numbers = chapter.numbers(worse)
    assert numbers["outcome-5"] == "not supported" and numbers["at-target"].startswith("−")
    assert chapter.verdicts(worse)["C8"].outcome is Outcome.NOT_SUPPORTED


def test_not_trained_is_not_refuted():
    numbers = chapter.numbers(made({"depth 2": 3.0}, train_error=0.9))
    outcomes = {numbers[f"outcome-{n}"] for n in ("1", "2", "3a", "3b", "4", "5")}
    assert outcomes == {"not tested"} and "too little" in numbers["reservation"]


def test_ratios_are_geometric_means_of_seeds():
    random = np.random.default_rng(0)
    values = random.uniform(1, 2, (2, 5))
    table = pd.DataFrame(
        {"condition": np.repeat(["a", "b"], 5), "seed": [*range(5)] * 2, "x": values.ravel(),
         "reached": True}
    )  # fmt: skip
    found = same_loss.ratios(table, {"x": "x"}, ["b", "c"], "a", tests=7)["x"]
    expected = simultaneous(ratio(values[1], values[0]), 7)
    for side in ("value", "low", "high"):
        assert getattr(found["b"], side) == pytest.approx(getattr(expected, side), rel=1e-12)
    assert found["c"] == NONE
    table.loc[7, "x"] = 0.0  # such as the deflection of a path without a switch
    assert same_loss.ratios(table, {"x": "x"}, ["b"], "a")["x"]["b"].n == 0
    one = same_loss.ratios(table[table.seed == 0], {"x": "x"}, ["b"], "a")["x"]["b"]
    assert one.n == 1 and np.isnan(one.low)


def test_two_seeds_far_apart_have_a_finite_interval():
    table = pd.DataFrame(
        {"condition": ["a", "a", "b", "b"], "seed": [0, 1] * 2, "x": [1, 1, 1e-3, 1e3],
         "reached": True}
    )  # fmt: skip
    found = same_loss.ratios(table, {"x": "x"}, ["b"], "a", tests=99)["x"]["b"]
    assert np.isfinite([found.low, found.high]).all() and same_loss.cell(found).endswith(
        "(wide interval) undecided"
    )


def test_correlations_that_there_are_not():
    rows = pd.DataFrame({"condition": list("aabb"), "x": [1.0, 2, 3, 4], "y": 1.0})
    assert same_loss.correlated(rows, "x", "y") == NONE
    assert same_loss.correlated(rows[:2], "x", "x") == NONE
    assert same_loss.correlation(NONE).startswith("not to be had")
    assert same_loss.times(Estimate(2.0, 1.0, 3.0, 4)) == "2.00 [1.00,\xa03.00] times"
