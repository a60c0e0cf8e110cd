"""The chapter "Initialisation" under other parameters: words follow numbers."""

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, module_of, told
from implreg_book.chapters.initialisation import Found
from implreg_book.experiments.initialisation import STARTS
from implreg_book.parameters.initialisation import Parameters

from implreg.datasets import load, pairs
from implreg.errors import InputError
from implreg.measures import fluctuation
from implreg.networks import mlp
from implreg.tracing import trace

CHAPTER = "initialisation"


QUICK = {"train": 60, "width": 32, "batch": 16, "learning_rate": 0.1, "epochs": 40, "pairs": 4}


def test_the_prose_has_what_it_says():
    numbers = told(CHAPTER, found_with(CHAPTER))
    check_prose(CHAPTER, {f"init-{name}": text for name, text in numbers.items()})


def test_a_smaller_scale_is_not_said_to_be_large_nor_its_deflection():
    numbers = module_of(CHAPTER).numbers(found_with(CHAPTER, **QUICK, scale=0.25, seeds=3))
    assert numbers["scaled"] == "small scale"
    assert "smaller from small scale" in numbers["larger"]
    assert "every other start" not in numbers["larger"]
    assert numbers["verdict"] != "supported"
    assert "do not decide" in numbers["answer"] or "Not the usual" in numbers["answer"]
    assert not numbers["randomness"]


def test_scale_one_is_the_reference_itself():
    found = found_with(CHAPTER, **QUICK, scale=1.0)
    ratio = found.ratios("deflection")["scale 1"]
    assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)
    assert "the same within 10 % from scale 1" in module_of(CHAPTER).numbers(found)["larger"]


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 100.0, "warmup_epochs": 0, "epochs": 3},
        {"epochs": 1, "copies": 1, "zeroed": 0.0, "kind": "random", "seeds": 1},
    ],
)
def test_what_never_arrives_is_not_tested(values):
    numbers = told(CHAPTER, found_with(CHAPTER, **values))
    assert "not test it: no network reached" in numbers["answer"]
    assert numbers["verdict"] == "not tested"
    assert numbers["deflection-large"] == "(not tested)"


def test_one_seed_decides_nothing():
    values = QUICK | {"seeds": 1, "target_losses": [0.8], "kind": "different", "pairs": 1}
    numbers = module_of(CHAPTER).numbers(found_with(CHAPTER, **values))
    assert "undecided, with one seed," in numbers["larger"]
    assert numbers["verdict"] == "undecided"


def test_networks_too_narrow_to_be_normalised_are_refused():
    with pytest.raises(InputError, match=r"width .* from 32"):
        Parameters(width=1)


def made(ratio=2.0, *, error=0.02, after=1.0, losses=(0.5, 0.1), arrived=4):
    """Runs of three seeds; other starts have `ratio` times the random one's measures."""
    rows = []
    for start, seed, loss in (
        (start, seed, loss) for start in STARTS for seed in range(3) for loss in losses
    ):
        size = (1 + 1e-3 * seed) * (ratio if start != "random" else 1)
        there = STARTS.index(start) < arrived
        values = dict.fromkeys(
            ("deflection", "normalized_deflection", "test_error"), size if there else np.nan
        )
        rows.append(
            {"start": start, "seed": seed, "target_loss": loss, "reached": there, "diverged": False,
             "epochs": 9.0, "train_loss": loss, "train_error": error, "straightness": 0.1 * size,
             "start_deflection": size / after, "start_normalized_deflection": 2 * size} | values
        )  # fmt: skip
    p = Parameters(seeds=3, target_losses=losses)
    return Found(p, pd.DataFrame(rows), pd.DataFrame(columns=["start", "t"]), (0, 0), 9)


@pytest.mark.parametrize(
    ("ratio", "word", "outcome"),
    [(2.0, "larger", "supported"), (0.5, "smaller", "not supported"),
     (1.0, "the same within 10 %", "undecided")],
)  # fmt: skip
def test_words_and_verdict_follow_the_ratios(ratio, word, outcome):
    found = made(ratio)
    numbers = module_of(CHAPTER).numbers(found)
    every = f"{word} from every other start"
    assert numbers["larger"] == f"the deflection is {every}; normalised, it is {every}"
    assert f"{every}, at every loss" in numbers["by-loss"]
    assert numbers["verdict"] == outcome
    assert found.ratios("deflection")["adversarial"].value == pytest.approx(ratio)
    assert ("another start ends with a smaller" in numbers["answer"]) == (ratio < 1)
    blind = "does not tell a good start from a bad one" in numbers["straight"]
    assert blind == (ratio > 1)


@pytest.mark.parametrize(
    ("after", "word"), [(1.0, "takes no deflection"), (2.0, "adds"), (0.5, "takes some deflection")]
)
def test_what_training_does_to_the_deflection(after, word):
    found = made(after=after)
    assert word in module_of(CHAPTER).numbers(found)["taken"]
    assert found.change(["random"]).value == pytest.approx(after)
    assert found.change(found.others, "normalized_deflection").value == pytest.approx(0.5)


def test_untrained_networks_and_missing_starts_are_not_tested():
    verdicts = module_of(CHAPTER).verdicts
    assert {v.outcome for v in verdicts(made(error=0.6)).values()} == {"not tested"}
    some = verdicts(made(arrived=2))
    assert (some["C7"].outcome, some["C6"].outcome) == ("not tested", "supported")
    assert "no comparison for random labels and adversarial" in some["C7"].details
    assert verdicts(made(0.5, arrived=2))["C7"].outcome == "not supported"


def test_a_number_of_zero_has_no_ratio():
    found = made()
    found.table.loc[found.table.start == "random", "test_error"] = 0.0
    assert {x.n for x in found.ratios("test_error").values()} == {0}
    assert found.ratios("deflection")["adversarial"].n == 3


def test_the_distance_from_the_chord_is_the_fluctuation():
    data = load("digits", train=60)
    net, drawn = mlp(64, 16, 10, seed=0), pairs(data, count=1, seed=0)
    path = trace(net, drawn)[0]
    values = np.vstack([path.values, path.ends])[:, 3]
    line = pd.DataFrame({"t": [*path.piece_start.tolist(), 1.0], "value": values})
    found = module_of(CHAPTER)._distance(line)
    assert found == pytest.approx(float(fluctuation(path)[0, 3]))
