"""The chapter "After training" under other parameters: words follow numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import after_training as chapter
from implreg_book.parameters.after_training import Parameters

from implreg.errors import InputError

CHAPTER = "after-training"
TINY = {
    "train": 20, "pairs": 1, "widths": [16, 64], "networks": 2, "groups": 1, "steps": 60,
    "moments": [1], "moment_width": 16, "moment_networks": 1, "shares": [1.5], "wide": [8, 32],
    "wide_networks": 1, "stable_steps": 20, "stable_width": 8, "stable_networks": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return found_with(CHAPTER, **TINY)


def test_the_prose_has_what_it_says(found):
    numbers = {f"trained-{name}": text for name, text in told(CHAPTER, found).items()}
    check_prose(CHAPTER, numbers)
    assert numbers["trained-shown"] == "2 networks"


def test_one_step_is_no_training():
    values = TINY | {"networks": 1, "steps": 1, "stable_networks": 1, "shares": [0.1, 9.0]}
    found = found_with(CHAPTER, **values)
    numbers = chapter.numbers(found)
    assert "not tested" in numbers["finite"]
    assert {str(one.outcome) for one in chapter.verdicts(found).values()} == {"not tested"}
    assert numbers["course"] == "neither clearly falls nor rises" and numbers["closer"] == ""
    assert "beyond the initial limit" not in numbers["bounds"]  # one network decides nothing


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("widths", {"widths": [8, 64]}),
        ("widths", {"depth": 20}),
        ("wide", {"wide": [4, 64]}),
        ("moment_width", {"moment_width": 2}),
        ("stable_width", {"stable_width": 7}),
        ("step", {"step": 0.9}),
        ("moments", {"steps": 100}),
        ("groups", {"networks": 1}),
    ],
)
def test_what_has_no_limit_is_refused(name, values):
    with pytest.raises(InputError, match=f"parameter {name} of"):
        Parameters.of(values)


def made(found, growth=0.5, gaps=-0.5, error=-0.5):
    """Networks that learned all, with measures that are powers of the width."""
    table = found.table.assign(loss=0.0)
    wobble = 1 + 1e-4 * table.seed
    after = table.phase == "after"
    table["quadratic_variation"] = table.width ** (2 * growth * after) * wobble**after
    table["gap_deviation"] = table.width**gaps * table.width ** (1e-3 * table.seed)
    for name in ("error", "deflection_error"):
        table[name] = table.width**error * table.width ** (1e-3 * table.seed)
    return replace(found, table=table)


@pytest.mark.parametrize(
    ("growth", "word", "outcome"),
    [(0.5, "grows with width", "not supported"), (0.0, "is the same at all", "supported"),
     (-0.5, "falls with width", "supported")],
)  # fmt: skip
def test_words_of_the_deflection(found, growth, word, outcome):
    shaped = made(found, growth)
    assert shaped.growth().value == pytest.approx(4**growth)
    assert word in chapter.numbers(shaped)["finite"]
    assert str(chapter.verdicts(shaped)["C4"].outcome) == outcome


@pytest.mark.parametrize(
    ("gaps", "word"),
    [(-0.3, "fall more slowly than"), (-0.8, "fall faster"), (-0.5, "fall about as"),
     (0.2, "do not clearly fall")],
)  # fmt: skip
def test_words_of_the_gaps(found, gaps, word):
    assert word in chapter.numbers(made(found, gaps=gaps))["finite"]


@pytest.mark.parametrize(("error", "word"), [(-0.4, "falls"), (0.3, "rises")])
def test_words_of_the_error(found, error, word):
    shaped = made(found, error=error)
    numbers = chapter.numbers(shaped)
    assert numbers["course"] == numbers["course-bend"] == word
    assert numbers["accident"].startswith("In size")  # both fall alike
    assert shaped.errors()[0][0].value == pytest.approx(error, abs=1e-3)


def test_steps_that_throw_out_and_steps_that_diverge(found):
    rows = found.stable.assign(loss=0.0, weighted_variation=2.0, step_bound=400.0)
    rows["kernel_bound"] = 8.0 + rows.seed
    small = rows.assign(step=0.5, kernel_bound=20.0 + rows.seed)
    both = replace(found, stable=pd.concat([rows, small]), p=replace(found.p, shares=(0.5, 1.5)))
    told_of = chapter.numbers(both)["bounds"]
    assert "hold in 4 of 4 networks" in told_of and "beyond the initial limit" in told_of
    assert "4.0 to 10.5 times the sum itself, the second 200 to 200 times" in told_of
    lost = replace(found, stable=rows.assign(loss=np.inf))
    assert "nothing to bound" in chapter.numbers(lost)["bounds"]
    assert (chapter.TABLES["stable"](lost)["sum of gaps"] == "—").all()


def test_the_band_holds_what_it_holds(found):
    t = found.theory["after"].t.numpy()
    output = int(found.known.paths.y0[0])
    mean = found.theory["after"].mean[0, : len(t), output].numpy()
    curves = found.curves.assign(value=np.interp(found.curves.t, t, mean))
    assert chapter.numbers(replace(found, curves=curves))["inside"] == "100 %"
    assert chapter.numbers(replace(found, curves=curves.assign(value=99.0)))["inside"] == "0 %"
