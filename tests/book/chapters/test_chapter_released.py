"""The chapter "What the released program measures" under other parameters."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, module_of, told
from implreg_book.chapters.released_found import AFTER, BEFORE, TRAITS, Found, mean
from implreg_book.experiments.released import ESTIMATORS
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
    assert numbers["moved"] == numbers["gaps-moved"] == "no trait at any width"
    assert numbers["index-before"] == "none of the 2 widths"
    assert numbers["agree"] == numbers["agree-exact"] == "none of the 8 rows"
    assert numbers["made"] == numbers["lost"] == "no figure"
    for table in (module_of(CHAPTER).figures_table, module_of(CHAPTER).agreements_table):
        states = table(found).map(lambda text: text.split(":")[0])
        assert set(states.to_numpy().ravel()) == {"undecided"}


def test_ratios_are_those_of_the_networks(found):
    rows = found.sampled
    program = rows[(rows.estimator == "program") & (rows.family == "mlp")]
    one = program[(program["size"] == 48) & (program.phase == "after") & (program.points == 1000)]
    one = one[one.variant == "reference"].iloc[0]
    rows = found.exact
    rows = rows[(rows.family == "mlp") & (rows["size"] == 48) & (rows.phase == "after")]
    exact = rows[rows.variant == "reference"].iloc[0]
    made = found.effect("program", "bridge_deviation_over_exact", 48, AFTER)
    assert made.value == pytest.approx(one.bridge_deviation / exact.bridge_deviation)
    walks = [found.walk(of, 48, AFTER, "mlp").value for of in ("program", "exact")]
    assert walks == pytest.approx([x.bridge_deviation / x.gap_deviation for x in (one, exact)])


def test_each_trait_is_compared_with_what_lacks_it_alone(found):
    rows = found.sampled
    late = rows[(rows.phase == "after") & (rows.variant == "reference") & (rows.points == 1000)]
    late = late[(late.family == "resnet")].set_index("estimator")
    for trait in ESTIMATORS:
        base = late.loc["drift" if trait == "seam" else "sampled"]
        if trait not in ("program", "program with seam"):
            ratio = late.loc[trait].gap_deviation / base.gap_deviation
            assert found.trait(trait, "gap_deviation", 10, AFTER, "resnet").value == pytest.approx(
                ratio
            )


def test_every_trait_of_the_program_is_listed(found):
    assert list(TRAITS) == [f"P{k}" for k in range(1, 18)]
    single = {name for name, _, _ in TRAITS.values()}
    assert set(ESTIMATORS) - {"sampled", "program", "program with seam"} <= single
    assert len(module_of(CHAPTER).list_table(found)) == 17


def made(index=1.3, *, gap=1.0, seeds=3, share=0.3, power=-1.0, walk=1.0):
    """Networks of which the index multiplies the bridge estimate, after training."""
    rows, exact = [], []
    for family, size in (("mlp", 64), ("mlp", 256), ("vgg", 3), ("resnet", 10)):
        for seed in range(seeds):
            for phase, variant in (BEFORE, AFTER, ("before", "raw"), ("after", "raw")):
                known = {"family": family, "size": size, "seed": seed, "phase": phase,
                         "variant": variant, "switches": 100.0}  # fmt: skip
                noise = 1 + 1e-3 * seed
                exact.append(known | {"gap_deviation": 1.0, "bridge_deviation": walk * noise})
                for estimator in ESTIMATORS:
                    for points in (100, 1000):
                        late = estimator in ("index", "program", "program with seam")
                        factor = (index if phase == "after" and late else 1.0) * noise
                        rows.append(
                            known
                            | {"estimator": estimator, "points": points,
                               "intervals": 100 * (1 - share * (points / 100) ** power),
                               "gap_deviation": gap, "bridge_deviation": walk * factor,
                               **{f"{name}_over_{to}": x for to in ("exact", "base")
                                  for name, x in (("gap_deviation", gap), ("deflection", 1.0),
                                                  ("bridge_deviation", factor))}}
                        )  # fmt: skip
    p = Parameters(widths=(64, 256), points=(100, 1000), seeds=seeds, conv_seeds=seeds)
    return Found(p, pd.DataFrame(rows), pd.DataFrame(exact), len(rows), 0)


@pytest.mark.parametrize(
    ("index", "moved", "word"),
    [(1.3, "the index at 64 and 256 units", "changed"),
     (1.0, "no trait at any width", "unchanged")],
)  # fmt: skip
def test_what_moves_follows_the_factors(index, moved, word):
    numbers = module_of(CHAPTER).numbers(made(index))
    assert numbers["moved"] == moved and numbers["gaps-moved"] == "no trait at any width"
    assert numbers["index-before"] == "all 2 widths"
    table = module_of(CHAPTER).figures_table(made(index))
    assert table["bridge estimate"]["figure 3, width 64"].startswith(f"{word}:")
    assert table["bridge estimate"]["figure 2, width 64"].startswith("unchanged:")


def test_which_agreements_the_traits_make_and_lose():
    late = "figure 3, width 64, 3, width 256, 4 d–f and 5 d–f"
    lost = module_of(CHAPTER).numbers(made(1.3))
    assert lost["lost"] == late and lost["made"] == "no figure"
    assert lost["agree"] == "4 of 8 rows" and lost["agree-exact"] == "all 8 rows"
    kept = module_of(CHAPTER).numbers(made(1 / 0.7, walk=0.7))
    assert kept["made"] == late and kept["lost"] == "no figure"
    table = module_of(CHAPTER).agreements_table(made(1 / 0.7, walk=0.7))
    assert [text.split(":")[0] for text in table.loc["figure 4 d–f"]] == ["equal", "apart", "apart"]


def test_networks_that_diverge_are_not_tested():
    whole = made()
    lost = replace(
        whole,
        sampled=whole.sampled[whole.sampled.phase == "before"],
        exact=whole.exact[whole.exact.phase == "before"],
        diverged=12,
    )
    numbers = module_of(CHAPTER).numbers(lost)
    assert numbers["gap"] == numbers["single"] == "(not tested)"
    assert numbers["bridges"].startswith("(not tested) times")
    assert "all perceptrons diverged" in module_of(CHAPTER).after_figure(lost).alt
    for table in (module_of(CHAPTER).figures_table, module_of(CHAPTER).agreements_table):
        assert set(table(lost).loc["figure 3, width 64"]) == {"not tested"}
    assert "no run" not in module_of(CHAPTER).traits_table(lost).iloc[:, 0].tolist()


def test_gaps_that_change_are_named():
    assert (
        "the merging at 64 and 256 units" in module_of(CHAPTER).numbers(made(gap=2.0))["gaps-moved"]
    )


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
    assert mean(pd.Series([np.nan, 2.0, 8.0])).value == pytest.approx(4.0)
    assert mean(pd.Series([np.nan, np.inf])).n == 0
