"""The chapter "Scale: which random start?" under other parameters: words follow numbers."""

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import start as chapter
from implreg_book.chapters.compared import completed, widened
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate, simultaneous
from implreg_book.parameters.start import Parameters

from implreg.errors import InputError

CHAPTER = "start"
FEW = {
    "train": 40,
    "pairs": 3,
    "scales": [0.5, 2.0],
    "distributions": ["uniform"],
    "biases": [0.5],
    "output_scales": [2.0],
}
TINY = FEW | {"width": 8, "epochs": 3}


def test_the_prose_has_what_it_says():
    found = found_with(CHAPTER, **FEW)
    check_prose(CHAPTER, told(CHAPTER, found))
    ratios = found.ratios["deflection"]["scale 2"]
    by = found.reached.pivot(index="seed", columns="condition", values="deflection")
    steps = by["scale 2"] / by["reference"]
    assert ratios.value == pytest.approx(float(np.exp(np.log(steps).mean())))


@pytest.mark.parametrize(
    "values",
    [
        {"target_losses": [0.001]},
        {"seeds": 1, "target_losses": [100.0, 50.0]},
        {"learning_rate": 100.0, "width": 1},
        {"epochs": 1, "batch": 60, "width": 2, "scales": [0.001], "seeds": 1},
    ],
)
def test_networks_that_learn_nothing_test_nothing(values):
    found = found_with(CHAPTER, **TINY | values)
    numbers = told(CHAPTER, found) if values.get("width") == 1 else chapter.numbers(found)
    assert numbers["verdict"] == "not tested" and numbers["answer"].startswith("Not tested")
    assert numbers["means"] == "These runs do not say what about it matters."
    if not len(found.reached):
        assert numbers["correlation"] == "not known" and "no comparison" in numbers["extremes"]


def test_larger_scales_alone_say_nothing_of_smaller_ones():
    values = {"scales": [1.5, 4.0], "output_scales": [0.5], "epochs": 30}
    found = found_with(CHAPTER, **TINY | values)
    numbers = chapter.numbers(found)
    assert numbers["extremes"].startswith("From hidden weights 1.5 times")
    rises = found.steps("scale", (1.5, 4.0))[0] == "rises"
    assert (numbers["scale"] == "Larger is more bent") == rises
    assert not numbers["scale"].startswith("Smaller")
    assert "kernel regime" not in numbers["output-ends"]


def networks(deflections, *, seeds=4, losses=(0.5, 0.1), spread=1e-3, **more):
    """Networks whose deflection, by condition, is the same at all losses up to a little noise."""
    noise = np.random.default_rng(0)
    rows = [
        {"condition": name, "seed": s, "target_loss": loss, "reached": True, "diverged": False,
         "deflection": x * np.exp(spread * noise.standard_normal()) * (x if loss > 0.1 else 1),
         "normalized_deflection": x, "fluctuation": 0.1 * x, "edge_margin": 1.0, "epochs": 9,
         "test_error": 0.2 * x**0.1 * (1 + spread * s), "train_error": 0.01, "train_loss": loss,
         "relative_distance": 1 / x} | more
        for name, x in deflections.items() for s in range(seeds) for loss in losses
    ]  # fmt: skip
    return completed(pd.DataFrame(rows), chapter.Found.quantities)


def with_scales(small=1.0, large=1.0, uniform=1.0, output=1.0, **more):
    p = Parameters(
        target_losses=(0.5, 0.1), scales=(0.1, 10.0), distributions=("uniform",),
        biases=(0.5,), output_scales=(3.0,), seeds=4,
    )  # fmt: skip
    deflections = {"reference": 1.0, "scale 0.1": small, "scale 10": large, "uniform": uniform,
                   "biases 0.5": 1.0, "output scale 3": output}  # fmt: skip
    return chapter.Found(p, networks(deflections, **more))


@pytest.mark.parametrize(
    ("small", "large", "title", "path"),
    [
        (0.5, 4.0, "Smaller is straighter", "straighter than"),
        (3.0, 0.3, "Smaller is more bent", "more bent than"),
        (2.0, 2.0, "Neither smaller nor larger is always straighter", "more bent than"),
        (1.0, 1.01, "The scale does not matter", "as bent, within 10 %, as"),
    ],
)
def test_smaller_is_straighter_only_if_it_is(small, large, title, path):
    found = with_scales(small, large)
    numbers = chapter.numbers(found)
    assert numbers["scale"] == title
    assert (
        f"From hidden weights 0.1 times the usual ones the path ends {path}" in numbers["extremes"]
    )
    clear = numbers["usual"] == "The usual scale is not the one that makes paths straightest."
    assert clear == (min(small, large) < 0.9)
    decides = numbers["answer"] == "Not the shape of its distribution but its scale decides."
    assert decides == (title != "The scale does not matter")


def test_other_conclusions_are_those_of_the_intervals():
    numbers = chapter.numbers(with_scales(0.5, 4.0, uniform=2.0, output=0.4))
    assert numbers["shape"] == "The shape of the distribution matters"
    assert numbers["answer"].endswith("the shape of its distribution makes a difference.")
    assert numbers["output"] == "The kernel regime is straighter"
    wide = chapter.numbers(with_scales(0.5, 4.0, spread=5.0))
    assert wide["scale"] == "Whether smaller is straighter stays open"
    assert wide["shape"] == "Whether the shape of the distribution matters stays open"
    assert wide["means"] == "These runs do not say what about it matters."


def test_differences_that_shrink_are_counted():
    # By construction a deflection is the square of its last value at the first loss.
    losses = chapter.numbers(with_scales(0.5, 4.0))["losses"]
    assert "the deflections of 2 of 5 starts differ clearly" in losses
    assert "of these, 2 are nearer to it at 0.1" in losses


@pytest.mark.parametrize(
    ("deflections", "outcome"),
    [
        ((2.0, 4.0, 3.0, 3.0), Outcome.SUPPORTED),
        ((0.5, 4.0, 3.0, 3.0), Outcome.NOT_SUPPORTED),
        ((1.0, 4.0, 3.0, 3.0), Outcome.UNDECIDED),
    ],
)
def test_the_verdict_is_that_of_the_ratios(deflections, outcome):
    found = with_scales(*deflections, spread=1e-6)
    table = found.table[found.table.condition != "biases 0.5"]
    assert chapter.verdicts(chapter.Found(found.p, table))["C7"].outcome is outcome
    untrained = with_scales(*deflections, train_error=0.6)
    assert chapter.verdicts(untrained)["C7"].outcome is Outcome.NOT_TESTED


@pytest.mark.parametrize("name", ["scales", "distributions", "biases", "output_scales"])
def test_a_list_of_nothing_is_refused(name):
    with pytest.raises(InputError, match=name):
        Parameters(**{name: ()})


def test_intervals_of_two_seeds_stay_numbers():
    wide = widened(Estimate(2.0, 1e-9, 1e9, 2), 100)
    assert (wide.low, wide.value, wide.high) == (1e-3, 2.0, 1e3)
    usual = Estimate(2.0, 1.5, 2.7, 5)
    assert widened(usual, 7) == simultaneous(usual, 7)
