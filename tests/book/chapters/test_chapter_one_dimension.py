"""The chapter "One dimension" under other parameters: words follow numbers."""

from dataclasses import replace

import numpy as np
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import one_dimension as chapter
from implreg_book.chapters.splines import TESTS, bend_of_limit, hypotheses, over
from implreg_book.evidence.rules import Outcome
from implreg_book.parameters.one_dimension import Parameters

from implreg.errors import InputError
from implreg.theory.splines import variational_spline

CHAPTER = "one-dimension"
TINY = {"widths": [16, 32], "solved_widths": [32, 64], "units": 16, "steps": 100, "solved": 2}
FOUR = {"x": [-1.0, -0.4, 0.3, 1.0], "y": [0.0, 1.0, 0.0, 1.0], "y_same": [0.0, 1.0, 1.0, 0.0]}


def prefixed(numbers):
    return {f"splines-{name}": text for name, text in numbers.items()}


@pytest.fixture(scope="module")
def found():
    """Networks that train for a moment: most do not arrive."""
    return found_with(CHAPTER, **TINY)


def test_what_did_not_arrive_is_not_tested(found):
    numbers = told(CHAPTER, found)
    check_prose(CHAPTER, prefixed(numbers))
    assert {numbers[f"h{i}"] for i in range(1, 6)} == {"not tested"}
    assert "no check here" in numbers["solved-off"] and numbers["moral"] == ""
    assert "not tested" in numbers["untested-kernel"] and "not tested" in numbers["untested-all"]
    assert set(chapter.TABLES["judged"](found).test) == {"not tested"}


def test_what_arrived_is_tested(found):
    numbers = chapter.numbers(made(found))
    assert numbers["untested-kernel"] == "" and "at most" in numbers["solved-off"]
    assert "not tested" not in {numbers[f"h{i}"] for i in range(1, 6)}


def test_one_network_through_four_points():
    one = dict.fromkeys(("networks", "random_networks", "solved", "scale_networks"), 1)
    found = found_with(CHAPTER, **TINY | FOUR | one | {"shown": 6})
    numbers = chapter.numbers(found)
    assert numbers["shown"] == "1 network" and "one seed" in numbers["distance"]
    assert numbers["inner"] == 2
    assert numbers["exponent-uniform-course"] == "neither clearly falls nor rises"


def test_losses_without_bounds(found):
    measures = ["to_limit", "to_linear", "variation", "variation_ratio", "near", "knots"]
    every = found.every.assign(reached=False, loss=np.inf, **dict.fromkeys(measures, np.nan))
    curves = found.curves.assign(value=np.nan, slope=np.nan)
    lost = replace(found, every=every, curves=curves)
    numbers = chapter.numbers(lost)
    assert numbers["h3"] == "not tested" and numbers["to-linear"] == "(no run)"
    assert numbers["rich-nearer"].startswith("not clearly nearer")
    assert "infinite" in set(chapter.TABLES["arrived"](lost)["largest loss"])
    assert "no network with a finite loss" in chapter.FIGURES["scale"](lost).alt
    assert "nan" not in chapter.FIGURES["slopes"](lost).alt


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("y", {"y": [0.3] * 6}),
        ("y", {"y": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}),
        ("y_same", {"y_same": [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]}),
        ("kernel_scale", {"kernel_scale": 0.3}),
        ("reach", {"reach": 1.0}),
        ("widths", {"reach": 100.0}),
        ("units", {"units": 1}),
        ("loss", {"loss": 0.9}),
        ("steps", {"steps": 99}),
        ("shown", {"shown": 7}),
        ("x", {"x": [-1.0, -0.6, -0.59, 0.2, 0.6, 1.0]}),
    ],
)
def test_what_the_chapter_is_not_about_is_refused(name, values):
    with pytest.raises(InputError, match=f"parameter {name} of"):
        Parameters.of(values)


def test_bends_are_the_jumps_of_the_slope():
    p = Parameters()
    slopes = np.diff(p.y) / np.diff(p.x)
    np.testing.assert_allclose(p.bends(p.y), np.diff(slopes))
    assert p.bends((1.0,) * 6) == [0.0] * 4


def made(found, rise=0.0, near=1.0, closer=1.0):
    """All networks arrived, at distances that are powers of the width, with some knots."""
    output = found.output.assign(reached=True, loss=0.0)
    wobble = output.width ** (1e-3 * (output.seed % 2 - 0.5))
    for name in ("to_limit", "gap_deviation", "quadratic_variation", "from_chords", "to_natural"):
        output[name] = 0.1 * output.width**rise * wobble
    every = found.every.assign(reached=True, loss=0.0, variation_ratio=1.0, near=near)
    wobble = 1 + 1e-3 * (every.seed % 7)
    small = every.scale == found.p.adaptive_scale
    every["to_linear"] = 0.1 * np.where(small, closer, 1) * wobble
    return replace(found, output=output, every=every.assign(to_limit=0.1 * wobble**2, knots=3))


@pytest.mark.parametrize(
    ("rise", "course", "outcome"),
    [(-0.5, "falls", "supported"), (0.5, "rises", "not supported"),
     (0.0, "neither", "not supported")],
)  # fmt: skip
def test_words_of_the_width(found, rise, course, outcome):
    shaped = made(found, rise)
    numbers = chapter.numbers(shaped)
    power = shaped.exponent("uniform", "to_limit")
    assert np.isclose(power.value, rise, atol=1e-9) and power.n == 2
    assert numbers["h1"] == outcome and course in numbers["exponent-uniform-course"]
    assert numbers["control-uniform"].startswith("1.00")


@pytest.mark.parametrize(
    ("near", "stairs", "same"),
    [(0.99, ", a staircase that jumps", ""), (0.3, "", ": between the samples the slope")],
)
def test_words_of_the_knots(found, near, stairs, same):
    shaped = made(found, near=near + 1e-4 * (found.every.seed % 2))
    numbers = chapter.numbers(shaped)
    for name, words in (("stairs", stairs), ("stairs-same", same)):
        assert numbers[name].startswith(words) and bool(numbers[name]) == bool(words)


@pytest.mark.parametrize(
    ("closer", "words"), [(0.01, "nearer to the linear"), (5.0, "nearer to the cubic")]
)
def test_words_of_the_scale(found, closer, words):
    shaped = made(found, closer=closer)
    numbers = chapter.numbers(shaped)
    assert words in numbers["rich-nearer"]
    assert numbers["made-small"] == "neither data set"
    outcome = hypotheses(shaped)["H2"].outcomes()[1]
    assert outcome is (Outcome.SUPPORTED if closer < 1 else Outcome.NOT_SUPPORTED)


def test_a_ratio_leaves_out_what_is_not_there(found):
    rows = found.every.set_index("seed").to_limit
    assert over(rows * np.nan, rows).n == 0 and over(rows * 2, rows).value == pytest.approx(2)


def test_ten_expectations_that_are_judged_together(found):
    expected = [one for of in hypotheses(found).values() for one in of.expected]
    assert len(expected) == TESTS == 10
    p = found.p
    at = np.linspace(p.x[0], p.x[-1], 201)
    spline, _ = variational_spline(chapter.starts(p)["uniform"], p.x, p.y)
    assert bend_of_limit(p) == pytest.approx(abs(spline - np.interp(at, p.x, p.y)).max(), rel=1e-4)
