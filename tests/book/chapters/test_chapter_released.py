"""The chapter "What the released program measures" under other parameters."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, module_of, told
from implreg_book.chapters.released import AFTER, BEFORE, Found
from implreg_book.parameters.released import Parameters

from implreg.errors import InputError

CHAPTER = "released"
QUICK = {
    "dataset": "digits", "side": 0, "train": 60, "conv_train": 40, "widths": [32, 48], "seeds": 1,
    "conv_seeds": 1, "epochs": 1, "conv_epochs": 1, "pairs": 1, "conv_pairs": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return found_with(CHAPTER, **QUICK | {"points": [3, 10]})


def test_the_prose_has_what_it_says_and_one_seed_decides_nothing(found):
    numbers = told(CHAPTER, found)
    check_prose(CHAPTER, numbers)
    assert numbers["epochs"] == "1 epoch"
    assert numbers["moved"] == "no trait at any width"
    assert numbers["index-before"] == "none of the 2 widths"
    states = module_of(CHAPTER).figures_table(found).map(lambda text: text.split(":")[0])
    assert set(states.to_numpy().ravel()) == {"undecided"}


def test_ratios_are_those_of_the_networks(found):
    rows = found.sampled
    program = rows[(rows.estimator == "released program") & (rows.family == "mlp")]
    one = program[(program["size"] == 48) & (program.phase == "after") & (program.points == 1000)]
    one = one[one.variant == "normalized"].iloc[0]
    ratio = one.bridge_deviation / one.bridge_deviation_exact
    made = found.effect("released program", "bridge_deviation_over_exact", 48, AFTER)
    assert made.value == pytest.approx(ratio)


def made(index=1.3, *, gap=1.0, seeds=3, share=0.3, power=-1.0):
    """Networks of which the index multiplies the bridge estimate, after training."""
    rows = []
    for family, size in (("mlp", 64), ("mlp", 256), ("vgg", 3), ("resnet", 10)):
        for seed in range(seeds):
            for phase, variant in (BEFORE, AFTER, ("after", "raw")):
                for estimator in ("merging alone", "merging and index", "merging and biases",
                                  "released program"):  # fmt: skip
                    for points in (100, 1000):
                        late = estimator in ("merging and index", "released program")
                        factor = index if phase == "after" and late else 1.0
                        factor *= 1 + 1e-3 * seed
                        rows.append(
                            {"family": family, "size": size, "seed": seed, "phase": phase,
                             "variant": variant, "estimator": estimator, "points": points,
                             "switches": 100.0,
                             "intervals": 100 * (1 - share * (points / 100) ** power),
                             **{f"gap_deviation_over_{to}": gap for to in ("exact", "merged")},
                             **{f"bridge_deviation_over_{to}": factor
                                for to in ("exact", "merged")}}
                        )  # fmt: skip
    p = Parameters(widths=(64, 256), points=(100, 1000), seeds=seeds, conv_seeds=seeds)
    return Found(p, pd.DataFrame(rows), len(rows), 0)


@pytest.mark.parametrize(
    ("index", "moved", "word"),
    [(1.3, "the index at 64 and 256 units", "changed"),
     (1.0, "no trait at any width", "unchanged")],
)  # fmt: skip
def test_what_moves_follows_the_factors(index, moved, word):
    numbers = module_of(CHAPTER).numbers(made(index))
    assert numbers["moved"] == moved
    assert numbers["gaps"] == "6 of 6"
    assert numbers["index-before"] == "all 2 widths"
    table = module_of(CHAPTER).figures_table(made(index))
    assert table["bridge estimate"]["figure 3, width 64"].startswith(f"{word}:")
    assert table["bridge estimate"]["figure 2, width 64"].startswith("unchanged:")


def test_networks_that_diverge_are_not_tested():
    whole = made()
    lost = replace(whole, sampled=whole.sampled[whole.sampled.phase == "before"], diverged=12)
    numbers = module_of(CHAPTER).numbers(lost)
    assert numbers["bridge"] == numbers["gap"] == numbers["single"] == "(not tested)"
    assert numbers["gaps"] == "0 of 0"
    assert "all perceptrons diverged" in module_of(CHAPTER).after_figure(lost).alt
    table = module_of(CHAPTER).figures_table(lost)
    assert set(table.loc["figure 3, width 64"]) == {"not tested"}
    assert "no run" not in module_of(CHAPTER).traits_table(lost).iloc[0].tolist()


def test_gaps_that_change_are_counted():
    assert module_of(CHAPTER).numbers(made(gap=2.0))["gaps"] == "0 of 6"


@pytest.mark.parametrize(("power", "course"), [(-1.0, "falls"), (0.5, "changes")])
def test_the_exponent_of_merging(power, course):
    found = made(power=power)
    assert found.rates == pytest.approx({"before": power, "after": power})
    assert module_of(CHAPTER).numbers(found)["course"] == course


def test_nothing_merges_at_all():
    numbers = module_of(CHAPTER).numbers(made(share=0.0))
    assert "no switches share an interval" in numbers["rate"]
    assert numbers["course"] == "changes"


@pytest.mark.parametrize("values", [{"widths": [1, 64]}, {"vgg_factor": 0.01}])
def test_networks_too_narrow_to_be_normalised_are_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Parameters.of(values)


def test_the_mean_leaves_out_what_has_no_ratio():
    mean = module_of(CHAPTER)._mean
    assert mean(pd.Series([np.nan, 2.0, 8.0])).value == pytest.approx(4.0)
    assert mean(pd.Series([np.nan, np.inf])).n == 0
