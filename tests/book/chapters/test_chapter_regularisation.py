"""The chapter "Labels and explicit regularisation" under other parameters: words follow numbers."""

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import regularisation as chapter
from implreg_book.chapters import regularisation_conditions as conditions
from implreg_book.chapters import regularisation_mixup as mixup
from implreg_book.chapters.regularisation_found import EXPLICIT, Found
from implreg_book.evidence.rules import Outcome
from implreg_book.experiments.regularisation import best_line
from implreg_book.parameters.regularisation import Parameters

from implreg.errors import InputError

CHAPTER = "regularisation"
QUICK = {"dataset": "digits", "side": 0, "train": 40, "pairs": 4, "width": 8, "epochs": 30,
         "cap": 30, "heart_epochs": 10, "target_losses": [2.0, 1.8], "test_loss": 2.0,
         "mixup_losses": [2.0]}  # fmt: skip


def check(numbers):
    check_prose(CHAPTER, {f"reg-{name}": text for name, text in numbers.items()})


def test_the_prose_has_what_it_says():
    numbers = told(CHAPTER, found_with(CHAPTER, **QUICK))
    check(numbers)
    assert "The test is not there" in numbers["arrival"] and "1.8" in numbers["helps-last"]


def test_a_page_of_diverged_networks_tests_nothing():
    values = {"learning_rate": 100.0, "warmup_epochs": 0, "target_losses": [1e-3]}
    found = found_with(CHAPTER, **QUICK | values | {"test_loss": 1e-3, "mixup_losses": [1e-3]})
    numbers = told(CHAPTER, found)
    check(numbers)
    assert "reached by none of the 14 runs" in numbers["arrival"]
    assert "diverged" in numbers["arrival"] and numbers["orders"] == ""
    assert set(found.bends.values()) == {Outcome.NOT_TESTED}
    assert chapter.verdicts(found)["C6"].outcome is Outcome.NOT_TESTED
    assert numbers["kinds"].endswith("are not tested") and numbers["yet"] == ";"


def test_signals_are_shifted_along_their_axis_and_one_seed_decides_nothing():
    values = {"dataset": "mnist1d", "shifts": [1, 3], "seeds": 1, "random_labels": [0.5]}
    found = found_with(CHAPTER, **QUICK | values)
    numbers = chapter.numbers(found)
    check(numbers)
    assert numbers["move"].startswith("signal") and numbers["name-shifts"] == "shifts 3"
    assert numbers["first-row"].startswith("No network")
    assert "supported" not in {str(x) for x in numbers.values()}
    assert len(conditions.memory_table(found)) == len(EXPLICIT)


@pytest.mark.parametrize(
    "values", [{"test_loss": 0.2}, {"mixups": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}, {"shifts": [15]}]
)
def test_what_cannot_work_is_refused_at_once(values):
    with pytest.raises(InputError, match="of chapter regularisation must"):
        Parameters.of(values)


# Tables that are made up.


def made(deflection, error=None, *, train_error=0.0, margin=None, misplaced=1.0, fitted=0.0):
    """Networks of three seeds, their deflections and errors multiples of those of the reference."""
    p = Parameters(
        seeds=3, further_seeds=3, target_losses=(0.1,), mixup_losses=(0.1,), random_labels=(1.0,)
    )
    empty = pd.DataFrame()
    names = Found(p, empty, empty, empty, empty, 10).names
    rows = pd.DataFrame(
        [
            {"condition": name, "seed": seed, "target_loss": 0.1, "reached": True,
             "diverged": False, "epochs": 9, "train_loss": 0.1 - 1e-3 * seed,
             "train_error": train_error, "random_labels": 1.0 * name.startswith("random"),
             "deflection": deflection.get(name, 1.0) * (1 + 1e-3 * seed),
             "test_error": 0.2 * (error or {}).get(name, 1.0) * (1 + 2e-3 * seed),
             "edge_margin": (margin or {}).get(name, 1.0), "fluctuation": 0.1 + 1e-3 * seed,
             "distance": 1.0 + 1e-3 * seed}
            for name in ("reference", *names) for seed in range(3)
        ]
    )  # fmt: skip
    rows["normalized_deflection"] = rows.deflection
    rows["straightness"] = rows.fluctuation / rows.edge_margin
    paths = rows[rows.condition.str.startswith(("reference", "mixup"))]
    paths = paths.assign(misplaced=np.where(paths.condition == "reference", 1.0, misplaced))
    paths = paths.assign(mid_path_deflection=paths.deflection)
    between = pd.concat([paths.assign(kind=kind) for kind in ("same", "different")])
    memory = rows[rows.condition == "dropout 0.5"].assign(train_error=fitted)
    return Found(p, rows, between, empty, memory, 10)


def test_kinds_go_by_their_strongest_setting():
    found = made({"dropout 0.5": 0.5, "mixup 1": 1.5, "random labels 100 %": 3.0})
    numbers = chapter.numbers(found)
    assert numbers["kinds"].startswith("dropout straightens the paths; weight decay, mixup")
    assert numbers["labels"] == "Random labels bend the paths" and numbers["yet"] == ", and yet"
    assert "does tell true labels" in numbers["labels-tell"]
    assert numbers["h-mixup"] == "not supported" and numbers["h-outputs"] == "supported"
    assert numbers["mixup-shape"]


def test_mixup_may_straighten_most():
    numbers = chapter.numbers(made({"mixup 1": 0.5}, misplaced=0.5))
    assert numbers["h-mixup"] == "supported" and numbers["yet"] == ", and"
    assert numbers["labels"].startswith("Not all shares")
    assert numbers["h-probabilities"] == "supported" and numbers["h-outputs"] == "not supported"
    assert "come closer" in numbers["closer"] and numbers["mixup-shape"] == ""
    assert "go farther" in chapter.numbers(made({}, misplaced=2.0))["closer"]


def test_not_trained_is_not_refuted():
    found = made({"mixup 1": 1.5, "random labels 100 %": 0.5}, train_error=0.9)
    said = conditions.outcomes(found)
    assert said.pop("learning by heart is not prevented") is Outcome.SUPPORTED
    assert set(said.values()) == {Outcome.NOT_TESTED}
    assert "too little" in chapter.numbers(found)["reservation"]


def test_what_helps_may_help_by_straightening():
    names = made({}).explicit
    factors = {name: 0.5 + 0.05 * i for i, name in enumerate(names)}
    assert chapter.numbers(made(factors, factors))["helps"].endswith("lower")
    against = made(factors, {name: 1 / x for name, x in factors.items()})
    numbers = chapter.numbers(against)
    assert numbers["h-error"] == "not supported" and numbers["helps"] == "none lowers"


def test_a_margin_that_is_not_positive_has_no_ratio():
    found = made({}, margin={"random labels 100 %": -1.0})
    assert "as it refers to the true labels" in chapter.numbers(found)["wrong"]
    assert "as ends of pairs" in chapter.numbers(made({}, margin={"dropout 0.2": -1}))["wrong"]
    assert found.ratios["fluctuation / edge margin"]["random labels 100 %"].n == 0
    assert "random labels" not in chapter.verdicts(found)["C6"].details


def test_learning_by_heart_is_open_where_a_network_has_not_got_there():
    assert "lets all networks" in chapter.numbers(made({}))["fit"]
    stopped = made({}, fitted=0.5)
    numbers = chapter.numbers(stopped)
    assert numbers["h-heart"] == "undecided"
    assert numbers["fit"].endswith("dropout 0.5 does not by the loss 0.1, where training ends")
    stopped.memory["epochs"] = 600
    assert "does not within 600 epochs" in chapter.numbers(stopped)["fit"]


def test_outputs_that_mixup_asks_for_have_no_distance_from_it():
    t = (np.arange(100) + 0.5) / 100
    course = pd.DataFrame({"t": t, "difference": np.log((1 - t) / t), "probability": t})
    course = course.assign(target_loss=0.1, condition="mixup 1")
    found = made({})
    shape = mixup._shape(Found(found.p, *[found.table] * 2, course, found.memory, 10))
    line = best_line(1.0).steepness * (1 - 2 * t)
    assert f"0.00 and {np.abs(course.difference - line).mean():.2f} for mixup 1" in shape
