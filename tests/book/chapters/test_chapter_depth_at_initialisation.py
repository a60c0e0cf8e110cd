"""The chapter "Depth at initialisation" under other parameters: words follow numbers."""

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters.depth_at_initialisation import FAMILIES, RESNET, VGG, Found, verdicts
from implreg_book.chapters.depth_at_initialisation import numbers as numbers_of
from implreg_book.parameters.depth_at_initialisation import Parameters

from implreg.errors import InputError
from implreg.networks import resnet

CHAPTER = "depth-at-initialisation"


@pytest.fixture(scope="module")
def found():
    return found_with(CHAPTER, datasets=["digits"], pairs=1)


def test_the_prose_has_what_it_says(found):
    check_prose(CHAPTER, {f"deep-{name}": text for name, text in told(CHAPTER, found).items()})


@pytest.mark.parametrize("dataset", ["digits", "mnist1d"])
def test_one_network_of_each_kind_decides_nothing(dataset):
    one = {"datasets": [dataset], "convolutions": [3, 8], "depths": [10, 16], "vgg_factor": 0.01}
    one |= {"seeds": 1, "theory_seeds": 1, "pairs": 1, "resnet_factor": 0.05}
    numbers = numbers_of(found_with(CHAPTER, **one))
    assert numbers["networks"] == "4" and numbers["vgg-channels"] == 1
    for family in ("vgg", "resnet"):
        assert "clearly" in numbers[f"{family}-gaps"] and "open" in numbers[f"{family}-course"]


def made(gaps, ratio, *, seeds=3, silent=()):
    """Networks of two sizes whose gap deviation and bridge ratio are powers of the size."""
    p = Parameters(
        datasets=("digits", "mnist1d"), convolutions=(3, 6), depths=(10, 22), seeds=seeds,
        theory_seeds=1,
    )  # fmt: skip
    rows = [
        {"dataset": d, "seed": s, "size": n, "gap_deviation": n**gaps * (1 + s / 1e3) * (1 + i),
         "switches": 50.0 * n, "deflection": n**0.5, "mid_path_deflection": float(n),
         "variance_ratio_1": 1.0, "variance_ratio_3": 0.5 + s / 1e3, "variance_ratio_10": np.nan,
         "bridge_ratio": (n / 3) ** ratio * (1 + s / 1e3)}
        for i, d in enumerate(p.datasets) for n in (3, 6, 10, 22) for s in range(seeds)
    ]  # fmt: skip
    table = pd.DataFrame(rows).assign(variance_ratio_30=np.nan, variance_ratio_100=np.nan)
    table = table.assign(
        variance_ratio_300=np.nan, bridge_deviation=table.bridge_ratio * table.gap_deviation
    )
    tables = {VGG: table[table["size"] < 10], RESNET: table[table["size"] > 6]}
    live = {f: rows[[f not in silent] * len(rows)] for f, rows in tables.items()}
    return Found(p, len(table), live, tables)


@pytest.mark.parametrize(
    ("gaps", "ratio", "grow", "walk", "course"),
    [
        (-1, -0.5, "shrink", "are not", "the less"),
        (1, 0.5, "grow", "are not", "the larger"),
        (0, 0, "keep", "are", "does not change"),
    ],
)
def test_words_follow_growth(gaps, ratio, grow, walk, course):
    found = made(gaps, ratio)
    numbers = numbers_of(found)
    assert numbers["vgg-gaps"].startswith(grow) and numbers["vgg-walk"] == walk
    assert course in numbers["vgg-course"]
    assert ("anti-correlate" in numbers["reason"]) == (ratio < 0)
    assert np.isclose(found.growth(VGG, "gap_deviation").value, 2.0**gaps)
    assert np.isclose(found.agreement(VGG, 6, "switches").value, 1)
    assert numbers["vgg-longest"] == "3" and numbers["vgg-near"].endswith("(smaller)")


def test_silent_networks_are_counted_and_judged_by_nobody():
    numbers = numbers_of(made(-1, -0.5, silent=(VGG,)))
    assert "of 12 of them" in numbers["silent"] and "no run" in numbers["vgg-deep"]
    none = made(0, 0, silent=FAMILIES)
    assert told(CHAPTER, none)["resnet-longest"] == "no"
    assert {str(verdict.outcome) for verdict in verdicts(none).values()} == {"not tested"}


@pytest.mark.parametrize("factor", [0.01, 0.046])
def test_a_resnet_without_growing_stages_is_refused(factor):
    with pytest.raises(InputError, match="resnet_factor"):
        Parameters(resnet_factor=factor)


def test_any_other_resnet_has_growing_stages():
    for factor in (0.05, 0.078125, 0.09375, 0.16, 1.01, 4.0):
        norms = resnet(10, width_factor=factor, seed=0).state_dict()
        wide = [len(norms[f"stage{i}.0.norm2.weight"]) for i in (1, 2, 3)]
        assert wide[0] < wide[1] < wide[2]
