"""The chapter "One hidden layer" under other parameters: words follow numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import one_hidden_layer as chapter
from implreg_book.parameters.one_hidden_layer import Parameters

from implreg.errors import InputError

CHAPTER = "one-hidden-layer"
SMALL = {
    "depths": [1], "angles": [1.5], "norms": [1.0], "sigma_bs": [0.0], "networks": 2, "width": 8,
    "walks": 1, "walk_width": 1, "walk_norm": 1.0, "pairs": 1, "outputs": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return found_with(CHAPTER, sigma_bs=[0.0, 0.5], networks=5, walk_width=64, pairs=4)


def test_the_prose_has_what_it_says(found):
    numbers = told(CHAPTER, found)
    check_prose(CHAPTER, {f"theory-{name}": text for name, text in numbers.items()})
    assert numbers["settings"] == "8" and numbers["scores"] == "24"
    assert numbers["rounding"] == ": rounding"
    contains = 1 in found.bridge(1)
    assert ("does not" in numbers["edge"]) == (not contains)


@pytest.mark.parametrize("seed", [2, 0])
def test_a_walk_of_one_unit_is_told_as_it_is(seed):
    """Its one unit switches with the first seed and not with the other."""
    found = found_with(CHAPTER, **SMALL, seed=seed)
    numbers = told(CHAPTER, found)
    assert "there is none" in numbers["edge"]
    outcome = str(chapter.verdicts(found)["C5"].outcome)
    switches = len(found.walk("squared gap", "t")) > 0
    assert outcome == ("undecided" if switches else "not tested")
    assert ("no run" in numbers["bridge"]) == (not switches)


def test_depths_without_one_and_silent_networks():
    values = {"depths": [3], "angles": [0.001], "walks": 2, "walk_width": 30, "pairs": 3}
    found = found_with(CHAPTER, **SMALL | values)
    numbers = chapter.numbers(found)
    assert len(chapter.deeper(found).data) == 2
    assert int(numbers["scores"]) + found.scores.z.isna().sum() == 3
    silent = replace(found, table=found.table.assign(measured=0.0))
    assert chapter.numbers(silent)["rms"] == "no"
    assert chapter.z_figure(silent).alt.startswith("Nothing is drawn")
    assert chapter.check("switches", silent).data.to_string().count("no z") == 1


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"networks": 1}, "networks"),
        ({"norms": (1.0, 1.0000001)}, "norms"),
        ({"sigma_bs": (0.5, 0.50000001)}, "sigma_bs"),
    ],
)
def test_what_cannot_work_is_refused(values, name):
    with pytest.raises(InputError, match=f"parameter {name} "):
        Parameters(**values)


def test_no_network_serves_two_settings():
    p = Parameters(networks=7, seed=2)
    settings = chapter.grids(p)["settings"].configs
    seeds = [s for c in settings for s in range(c.seed, c.seed + c.networks)]
    assert sorted(seeds) == list(range(2, 2 + 7 * 36))


def test_scores_are_measured_against_their_standard_error(found):
    row = found.scores.query("depth == 1 and quantity == 'switches'").iloc[0]
    same = found.table.query("depth == 1 and quantity == 'switches'")
    same = same[(same.norm == row.norm) & (same.sigma_b == row.sigma_b)].measured
    assert len(same) == 5
    error = same.std(ddof=1) / math.sqrt(5)
    assert row.z == pytest.approx((same.mean() - 64 * 1.5 / math.pi) / error)


def test_agreement_is_a_ratio_over_the_bins_that_there_are(found):
    walks = found.walks.copy()
    rows = walks.quantity == "squared gap"
    walks.loc[rows, "measured"] = 3 * np.array(found.sizes(walks[rows]["at"].tolist()))
    tripled = replace(found, walks=walks[~rows | (walks["at"] > 0.3)])
    assert tripled.agreement.value == pytest.approx(3)


def test_the_clock_ends_at_the_closed_form():
    found = chapter.Found(Parameters(walk_norm=1.0, walk_angle=1.2, walk_width=9), *[None] * 2)
    _, angle, clock = found.clock
    length = 2 - 2 * math.cos(1.2)  # squared, over d
    assert angle[-1] == pytest.approx(1.2)
    assert clock[-1] == pytest.approx(2 * length / math.pi * (1.2 + math.sin(1.2)))
    assert found.off < 1e-9
