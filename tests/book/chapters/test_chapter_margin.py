"""The chapter "Margin and fluctuation" under other parameters: words follow numbers."""

from dataclasses import replace

import numpy as np
import pytest
from _chapters import check_prose, found_with, told
from _families import trained_networks
from implreg_book.chapters.margin import Found, epochs_figure, numbers, table, verdicts
from implreg_book.evidence.rules import Outcome
from implreg_book.parameters.margin import Parameters

CHAPTER = "margin"
TINY = {"pairs": 2, "conv_train": 20, "conv_pairs": 1, "conv_measure_at": [0, 1], "kinds": ["same"]}
P = Parameters(
    widths=(64, 256), seeds=3, measure_at=(0, 9), convolutions=(3,), depths=(10,),
    conv_measure_at=(0, 9),
)  # fmt: skip


def test_networks_that_have_not_learned():
    found = found_with(CHAPTER, **TINY, measure_at=[0, 1])
    said = told(CHAPTER, found)
    check_prose(CHAPTER, said)
    assert said["untested"].count("still miss") == 3
    assert said["mlp-ratio"] == "(unknown)"  # margins are negative
    assert {verdict.outcome for verdict in verdicts(found).values()} == {Outcome.NOT_TESTED}
    assert said["unfitted"] == said["across"] == ""


@pytest.mark.parametrize("values", [{"learning_rate": 100, "seeds": 1}, {"kinds": ["different"]}])
def test_other_parameters_tell_no_untruth(values):
    found = found_with(
        CHAPTER, **TINY | {"batch": 10, "measure_at": [0, 4], "train": 40} | values,
        warmup_epochs=0, dataset="digits", side=0, widths=[32, 64],
    )  # fmt: skip
    said = numbers(found)
    if "kinds" in values:
        assert said["kind"] == said["kinds"] == "of different classes"
        assert "cross a decision boundary" in said["across"]
    else:
        assert said["diverged"] == 2 and said["mlp-leaves"] == "(unknown)"
        assert said["seeds"] == "one seed"
        assert "no seed is left" in verdicts(found)["mlp"].details
        assert "(unknown)" in table(found).loc["perceptrons, same"].to_list()


def found_of(p=P, **measures):
    return Found(p, trained_networks(p, **measures))


@pytest.mark.parametrize(
    ("fluctuation", "margin", "grow", "lead", "multiple", "outcome"),
    [
        (2.0, 8.0, "all 3", "all 3", "larger", Outcome.SUPPORTED),
        (0.5, 8.0, "none of the 3", "all 3", "larger", Outcome.SUPPORTED),
        (4.0, 2.0, "all 3", "none of the 3", "smaller", Outcome.NOT_SUPPORTED),
    ],
)
def test_growth_is_counted(fluctuation, margin, grow, lead, multiple, outcome):
    found = found_of(
        fluctuation=lambda family, size, kind, end: fluctuation if end else 1.0,
        edge_margin=lambda family, size, kind, end: margin if end else 1.0,
    )
    said = numbers(found)
    assert f"fluctuation clearly grows in {grow} families" in said["growth"]
    assert said["growth"].endswith(f"by more in {lead} families")
    assert f"as a {multiple} multiple" in said["multiple"]
    assert found.relative("vgg").value == pytest.approx(fluctuation / margin)
    assert found.rise("mlp", "lead").value == pytest.approx(margin - fluctuation, rel=1e-2)
    assert {verdict.outcome for verdict in verdicts(found).values()} == {outcome}
    assert ("not what keeps" in said["unfitted"]) == ("although" in said["across"])
    assert ("although" in said["across"]) == (outcome is Outcome.SUPPORTED)


@pytest.mark.parametrize(("share", "word"), [(0.5, "rises"), (0.1, "falls"), (0.25, "may rise")])
def test_the_share_of_paths_that_leave(share, word):
    found = found_of(leaves_prediction=lambda family, size, kind, end: share if end else 0.25)
    assert word in numbers(found)["leaves"]
    assert found.leaving("mlp").startswith(f"{100 * share:.1f} [")


def test_paths_to_test_samples_are_compared_by_seed():
    def fluctuation(family, size, kind, end):
        return 0.5 if kind == "train-test" else 0.25

    found = found_of(fluctuation=fluctuation)
    assert "at 0.50 [" in numbers(found)["unfitted"] and "2.00 [" in numbers(found)["unfitted"]
    untrained = replace(found, table=found.table.assign(train_error=0.5))
    assert "keeps the path straight" not in numbers(untrained)["unfitted"]


def test_a_margin_that_is_not_positive_has_no_ratio():
    found = found_of(edge_margin=lambda family, size, kind, end: -1.0 if family == "vgg" else 2.0)
    assert numbers(found)["vgg-ratio"] == "(unknown)"
    assert "not positive" in verdicts(found)["vgg"].details
    assert (
        table(found)
        .loc["VGG-like networks, same", "fluctuation over margin"]
        .startswith("margin not")
    )
    assert verdicts(found)["mlp"].outcome is Outcome.SUPPORTED


def test_nothing_left_is_drawn_as_such():
    found = found_of()
    found.table["gap_deviation"] = np.nan  # no path bends
    assert epochs_figure(found).alt == "No network is left to draw."
