"""The chapter "Width at initialisation" under other parameters: words follow numbers."""

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import width_figure
from implreg_book.chapters.width import Found
from implreg_book.chapters.width_figure import InBoth
from implreg_book.parameters.width import Parameters

from implreg.errors import InputError

CHAPTER = "width"


@pytest.fixture(scope="module")
def found():
    return found_with(CHAPTER)


def test_the_prose_has_what_it_says(found):
    check_prose(CHAPTER, told(CHAPTER, found))


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "different", "widths": [8, 64], "seeds": 3},
        {"kind": "random", "datasets": ["digits"], "pairs": 1},
        {"widths": [1, 2], "pairs": 40, "datasets": ["mnist1d"]},
        {"seeds": 1},
    ],
)
def test_other_parameters_tell_no_untruth(values):
    numbers = told(CHAPTER, found_with(CHAPTER, **values))
    kinds = {"different": "of different classes", "random": "of any classes"}
    assert numbers["classes"] == kinds.get(values.get("kind"), "of the same class")
    if values.get("seeds") == 1:
        assert "open" in numbers["answer"]


def in_both(p, program=1.0, exact=1.0, exponent=-0.5):
    """Figure 2 in both definitions, of networks whose two estimates have these ratios."""
    rows = [
        {"dataset": d, "size": n, "seed": s, "estimator": e, "variant": v,
         "gap_deviation": n**exponent * (1 + 1e-3 * s),
         "bridge_deviation": n**exponent * (1 + 1e-3 * s) * (program if e == "program" else exact)}
        for d in p.figure_datasets for n in p.figure_widths for s in (0, 1, 2)
        for e in ("program", "exact") for v in ("raw", "reference")
    ]  # fmt: skip
    return InBoth(p, pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("program", "exact", "words"),
    [(1.0, 1.0, ("all 10 rows", "all 10 rows")), (1.3, 1.0, ("none of the 10 rows", "all 10 rows")),
     (1.0, 0.5, ("all 10 rows", "none of the 10 rows"))],
)  # fmt: skip
def test_figure_2_says_where_the_estimates_agree(program, exact, words):
    p = Parameters(figure_datasets=("digits", "mnist1d"), figure_seeds=3)
    numbers = width_figure.numbers(in_both(p, program, exact))
    assert (numbers["figure-agree-program"], numbers["figure-agree-exact"]) == words
    assert numbers["figure-falls"] == "2 of 2 data sets"
    assert numbers["figure-sizes"].startswith("at the widths of the paper, 1,000, 2,000")
    assert numbers["figure-program"].startswith(f"{program:.3f}"[:4])
    told = width_figure.table(in_both(p, program, exact))
    assert told.loc["digits: exponent of the gap deviation", "program"].startswith("−0.500")
    assert told.loc["mnist1d: bridge over gap, 5,000 units", "exact, raw"].startswith(
        f"{exact:.3f}"[:4]
    )
    rising = width_figure.numbers(in_both(p, exponent=0.2))
    assert rising["figure-falls"] == "0 of 2 data sets"
    other = Parameters(figure_widths=(40, 1000), figure_seeds=3)
    assert width_figure.numbers(in_both(other))["figure-sizes"] == "at 40 and 1,000 units"


def table(exponent, growth, bridge):
    """Networks of two seeds whose measures are power laws of the width."""
    rows = [
        {"dataset": "digits", "width": n, "seed": s, "gap_deviation": n**exponent * (1 + 1e-3 * s),
         "deflection": n**growth * (1 + 1e-3 * s), "switches": n}
        for n in (64, 256) for s in (0, 1, 2)
    ]  # fmt: skip
    made = pd.DataFrame(rows)
    made["bridge_deviation"] = bridge * made.gap_deviation * (1 + 1e-3 * made.seed)
    theory = made[["gap_deviation", "deflection", "bridge_deviation", "switches"]]
    return made.join(theory.add_prefix("theory_"))


@pytest.mark.parametrize(
    ("growth", "path", "point"),
    [(0.0, "no", "finer pieces"), (0.5, "no, more", "more crooked"), (-0.5, "yes", "straighter")],
)
def test_the_answer_follows_the_deflection(growth, path, point):
    p = Parameters(datasets=("digits",), widths=(64, 256), seeds=3)
    made = Found(p, table(-0.5, growth, 1.0), in_both(p))
    numbers = told(CHAPTER, made)
    assert numbers["answer"] == f"One kink, yes; the whole path, {path}."
    assert point in numbers["point"]
    ratio = made.overall()["deflection, widest over narrowest"].value
    assert np.isclose(ratio, 4**growth, rtol=1e-2)


def test_gaps_that_grow_are_not_said_to_fall():
    p = Parameters(datasets=("digits",), widths=(64, 256), seeds=3)
    numbers = told(CHAPTER, Found(p, table(0.3, 0.0, 1.5), in_both(p)))
    assert numbers["course"] == "rises" and "no, more" in numbers["answer"]
    assert "do not cancel here" in numbers["walk"]


def test_reference_networks_too_narrow_to_divide_by_are_refused():
    with pytest.raises(InputError, match="figure_widths"):
        Parameters.of({"figure_widths": [3, 40]})
