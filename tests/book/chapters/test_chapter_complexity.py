"""The chapter "Complexity measures" under other parameters: words follow numbers."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from _chapters import ROOT, check_prose, found_with, told
from implreg_book.chapters import compared, double_descent
from implreg_book.chapters import complexity as chapter
from implreg_book.chapters.complexity_measures import MEASURES, by_hand
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import NONE
from implreg_book.parameters.complexity import Parameters

from implreg.errors import InputError

CHAPTER = "complexity"
TINY = {"train": 30, "pairs": 2, "width": 4, "epochs": 3, "widths": [2, 3], "random_labels": [0.5]}


@pytest.fixture
def few(monkeypatch):
    """Two conditions of each chapter: all of them take a minute."""
    every = chapter.groups_of

    def two(p):
        return {key: dict(list(group.items())[:2]) for key, group in every(p).items()}

    monkeypatch.setattr(chapter, "groups_of", two)


@pytest.mark.usefixtures("few")
def test_the_prose_has_what_it_says():
    found = found_with(CHAPTER, **TINY | {"epochs": 20})
    check_prose(CHAPTER, told(CHAPTER, found))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 100.0, "seeds": 1, "width": 1},
        {"seeds": 1, "epochs": 1, "random_labels": [0.0, 1.0]},
    ],
)
def test_networks_that_learn_nothing_test_nothing(values):
    found = found_with(CHAPTER, **TINY | values)
    numbers = told(CHAPTER, found) if "width" in values else chapter.numbers(found)
    assert numbers["verdict-all"] == numbers["verdict-true"] == "not tested"
    assert numbers["answer"].startswith("Not tested: ")
    assert "double descent:" not in numbers["descent"]


def test_the_network_of_the_check_has_what_is_known_by_hand():
    cells = json.loads((ROOT / "book" / "complexity.ipynb").read_text("utf-8"))["cells"]
    namespace: dict = {}
    exec("".join(next(c["source"] for c in cells if c["id"] == "check")), namespace)
    table = by_hand(namespace["computed"])
    assert len(table) == 17 and (table["by hand"] == table.computed).all()


P = Parameters(widths=(4, 8, 16), random_labels=(0.2,), target_losses=(0.1,), resamples=1000)


def made(links=1.0, *, errors=(0.3, 0.4, 0.2), bends=(0.5, 1.0, 0.2), fits=(False, True, True),
         seeds=4, **more):  # fmt: skip
    """Ten starts whose error goes as `links` times each measure, and three widths."""
    noise = np.random.default_rng(0)
    rows = []

    def row(group, name, seed, error, bend, reached=True, units=math.nan, labels=0.0):
        wiggle = math.exp(1e-3 * noise.standard_normal())
        rows.append(
            dict.fromkeys(MEASURES, bend * wiggle)
            | {"group": group, "condition": name, "seed": seed, "test_error": error * wiggle,
               "train_error": 0.01, "train_loss": noise.uniform(0.1, 0.2), "target_loss": 0.1,
               "reached": reached, "diverged": False, "units": units, "random_labels": labels,
               "edge_margin": 1.0, "epochs": 5, "gap": error} | more
        )  # fmt: skip

    for seed in range(seeds):
        for i in range(10):
            name = "reference" if i == 0 else f"scale {i}"
            row("reference" if i == 0 else "starts", name, seed, 2.0 ** (links * i / 10), 1 + i)
            if i:
                row("optimisers", f"step {i}", seed, 2.0 ** (links * i / 9), 1.5 + i)
        for n, error, bend, fit in zip(P.widths, errors, bends, fits, strict=True):
            row("widths", f"width {n}", seed, error, bend, fit, n, 0.2)
    return chapter.Found(P, compared.completed(pd.DataFrame(rows), MEASURES))


def described(found):
    """What is said of double descent."""
    return double_descent.told(found.sets["all networks"], found.p.random_labels)


@pytest.mark.parametrize(
    ("links", "outcome", "answer"),
    [(5.0, "supported", "Somewhat."), (-5.0, "not supported", "Rather the opposite.")],
)
def test_the_answer_follows_the_correlation(links, outcome, answer):
    found = made(links)
    numbers = chapter.numbers(found)
    assert (numbers["verdict-true"], numbers["answer"]) == (outcome, answer)
    assert ("supports" in numbers["means"]) == (outcome == "supported")
    true = found.sets["true labels"]
    # Partial Spearman correlation, from residuals of ranks after a line on those of the loss.
    ranks = true[["deflection", "test_error", "train_loss"]].rank()
    x, y = (np.polyval(np.polyfit(ranks.train_loss, ranks[c], 1), ranks.train_loss) - ranks[c]
            for c in ("deflection", "test_error"))  # fmt: skip
    partial = np.corrcoef(x, y)[0, 1]
    assert found.correlations["true labels"]["gradient deflection"].value == pytest.approx(partial)


@pytest.mark.parametrize(
    ("errors", "fits", "kind"),
    [
        ((0.3, 0.4, 0.2), (False, True, True), "there is double descent"),
        ((0.4, 0.3, 0.35), (False, True, True), "there is no double descent"),
        ((0.4, 0.3, 0.35), (False, False, False), "there is double descent"),
        ((0.3, 0.4, 0.2), (True, True, True), "it stays open"),
    ],
)
def test_double_descent_is_a_rise_below_the_width_that_fits(errors, fits, kind):
    found = made(errors=errors, fits=fits)
    assert kind in described(found)["descent"]


def test_the_width_from_which_all_fit_is_not_the_first_that_does():
    rows = made(fits=(True, False, True)).sets["all networks"].dropna(subset="units")
    assert double_descent.fits_from(rows) == 16
    assert math.isinf(
        double_descent.fits_from(made(fits=(True, True, False)).table.dropna(subset="units"))
    )


@pytest.mark.parametrize(
    ("bends", "errors", "holds"),
    [((0.5, 1.0, 0.2), (0.3, 0.4, 0.2), True), ((0.2, 0.5, 1.0), (0.3, 0.4, 0.2), False),
     ((0.5, 1.0, 0.2), (0.3, 0.2, 0.4), False)],
)  # fmt: skip
def test_the_moral_holds_only_where_it_does(bends, errors, holds):
    numbers = described(made(bends=bends, errors=errors))
    assert ("moral holds" in numbers["moral"]) == holds


def test_one_width_left_and_one_seed_are_said():
    found = made()
    one = chapter.Found(P, found.table[~found.table.units.isin([8, 16])])
    assert "fewer than two widths were measured" in described(one)["descent"]
    numbers = described(made(seeds=1))
    assert "it stays open whether there is double descent" in numbers["descent"]


def test_a_correlation_of_nothing_is_not_told():
    rows = made().sets["true labels"]
    assert compared.correlation(rows.assign(x=1.0), "x", "test_error") is NONE
    few = rows[rows.condition.isin(["reference", "scale 1", "scale 2", "scale 3"])]
    assert compared.correlation(few, "gap", "deflection") is NONE
    fixed = rows.assign(x=rows.test_error)
    assert compared.correlation(fixed, "x", "gap", given="test_error") is NONE
    constant = chapter.Found(P, made().table.assign(fluctuation=1.0))
    verdict = chapter.verdicts(constant)["true labels"]
    assert verdict.outcome is Outcome.NOT_TESTED and "fluctuation" in verdict.details


@pytest.mark.parametrize(
    "values",
    [{"resamples": 200}, {"widths": (8,)}, {"random_labels": ()},
     {"random_labels": tuple(n / 10 for n in range(1, 8))}],
)  # fmt: skip
def test_what_leaves_nothing_to_compare_is_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Parameters(**values)
