"""The chapter "Width at initialisation" under other parameters: words follow numbers."""

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters.width import Found
from implreg_book.parameters.width import Parameters

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
    made = Found(p, table(-0.5, growth, 1.0))
    numbers = told(CHAPTER, made)
    assert numbers["answer"] == f"One kink, yes; the whole path, {path}."
    assert point in numbers["point"]
    ratio = made.overall()["deflection, widest over narrowest"].value
    assert np.isclose(ratio, 4**growth, rtol=1e-2)


def test_gaps_that_grow_are_not_said_to_fall():
    p = Parameters(datasets=("digits",), widths=(64, 256), seeds=3)
    numbers = told(CHAPTER, Found(p, table(0.3, 0.0, 1.5)))
    assert numbers["course"] == "rises" and "no, more" in numbers["answer"]
    assert "do not cancel here" in numbers["walk"]
