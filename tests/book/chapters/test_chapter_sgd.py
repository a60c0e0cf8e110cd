"""The chapter "During SGD" under other parameters: words follow numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from _families import trained_networks
from implreg_book.chapters import label_noise, sgd, single_runs
from implreg_book.chapters.sgd import Found, numbers, verdicts
from implreg_book.evidence.rules import Outcome
from implreg_book.parameters.sgd import Parameters

from implreg.errors import InputError

CHAPTER = "sgd"
TINY = {"pairs": 2, "conv_train": 20, "conv_pairs": 1, "conv_measure_at": [0, 1], "kinds": ["same"]}
P = Parameters(
    widths=(64, 256), seeds=3, measure_at=(0, 9), kinds=("same", "different"), convolutions=(3,),
    depths=(10,), conv_measure_at=(0, 9), noise_widths=(8, 16, 32),
)  # fmt: skip


@pytest.fixture(scope="module")
def untrained():
    return found_with(CHAPTER, **TINY, measure_at=[0, 1], noise_epochs=3)


def test_the_prose_of_networks_that_have_not_learned_says_so(untrained, monkeypatch):
    kinds = ("deflection", "vgg", "path", "error")  # one function draws all but the last two
    monkeypatch.setattr(sgd, "FIGURES", {name: sgd.FIGURES[name] for name in kinds})
    said = told(CHAPTER, untrained)
    check_prose(CHAPTER, said)
    assert said["answer"].startswith("Not tested here: after 1 epoch the perceptrons of 32 to 128")
    assert "at none of the 2 widths" in said["learned"] and "not tested" in said["order"]
    assert "not tested" in said["vgg-trained"] and "not tested" in said["resnet-trained"]
    judged = verdicts(untrained)
    assert {verdict.outcome for verdict in judged.values()} == {Outcome.NOT_TESTED}
    assert [v.figure for v in judged.values()] == ["", "3", "3", "3", "4 d–f", "5 d–f"]


def test_what_is_lost_is_unknown_and_told():
    found = found_with(
        CHAPTER, **TINY | {"kinds": ["different"]}, dataset="digits", side=0, seeds=1, train=40,
        learning_rate=100, warmup_epochs=0, batch=10, measure_at=[0, 4], widths=[32, 64],
        noise_rate=100, noise_widths=[8, 16], noise_train=20,
    )  # fmt: skip
    said = numbers(found)
    assert said["diverged"] == 2 and said["noise-diverged"] == 4
    assert said["raw-change"] == said["exponent"] == said["train-error"] == "(unknown)"
    assert said["kind"] == "of different classes"
    assert said["seeds"] == "one seed" and "do not say" in said["noise-cost"]
    assert verdicts(found)["C3"].details.startswith("no seed is left of the perceptrons")
    assert label_noise.figure(found.noisy).alt == "No network is left to draw."


def noisy(errors, tests=None, seeds=3):
    """Networks with noise in the labels; `errors` by (width, noise), tests alike or 0.2."""
    rows = [
        {"size": width, "noise": noise, "seed": seed, "diverged": False, "train_error": error,
         "test_error": (tests or {}).get((width, noise), 0.2) * (1 + 1e-3 * seed)}
        for (width, noise), error in errors.items() for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


FITTED = {(n, noise): 0.0 if n > 8 else 0.3 for n in (8, 16, 32) for noise in (0.0, 0.2)}


def found_of(error=0.0, p=P, fits=FITTED, tests=None, **measures):
    paths = pd.DataFrame(
        {"epoch": 0, "diverged": False, "t": [0.0, 0.5, 1.0], "output": 1, "value": [0.0, 3.0, 2.0],
         "slope": [6.0, -2.0, -2.0], "label": 1}
    )  # fmt: skip
    gone = pd.DataFrame({"epoch": [9], "diverged": True, "output": np.nan, "value": np.nan})
    table = trained_networks(p, error, **measures)
    record = single_runs.recorded()
    return Found(p, table, pd.concat([paths, gone]), noisy(fits, tests), record)


@pytest.mark.parametrize(
    ("raw", "normalized", "answer"),
    [
        (2.0, 0.5, "Both yes and no"),
        (2.0, 2.0, "As the outputs come, yes; relative to their growth, yes."),
        (0.5, 1.0, "As the outputs come, no, less; relative to their growth, no."),
    ],
)
def test_the_answer_follows_both_deflections(raw, normalized, answer):
    found = found_of(
        deflection=lambda family, size, kind, end: raw**end,
        normalized_deflection=lambda family, size, kind, end: normalized**end,
    )
    said = numbers(found)
    assert said["answer"].startswith(answer)
    assert found.change("deflection", 256).value == pytest.approx(raw)
    assert ("grow" in said["growth"]) == (raw > normalized)
    assert said["raw-course"] == ("rises" if raw > 1 else "falls")


@pytest.mark.parametrize(
    ("before", "after", "course", "order", "outcome"),
    [
        (-0.5, -0.5, "still falls", "survives", Outcome.SUPPORTED),
        (-0.5, -0.7, "still falls", "survives", Outcome.CORRECTED),
        (-0.5, 0.3, "rises", "turns", Outcome.NOT_SUPPORTED),
        (0.3, -0.5, "falls", "is open", Outcome.SUPPORTED),
    ],
)
def test_the_order_of_widths_follows_the_exponents(before, after, course, order, outcome):
    def gap(family, size, kind, end):
        return size ** (after if end else before)

    found = found_of(gap_deviation=gap)
    # A seed more or less changes nothing where all follow one law; -1/2 shall be inside.
    found.table["gap_deviation"] *= found.table["size"] ** (1e-3 * (found.table.seed - 1))
    said = numbers(found)
    assert said["course"] == course and order in said["order"]
    assert found.exponent(9).value == pytest.approx(after, abs=1e-6)
    assert verdicts(found)["C3"].outcome is outcome
    untrained = verdicts(replace(found, table=found.table.assign(train_error=0.3)))
    assert untrained["C3"].outcome is Outcome.NOT_TESTED


def test_a_bend_between_classes_is_not_typed():
    for factor, word in ((1.5, "is larger"), (0.5, "is smaller"), (1.0, "the same")):

        def bridge(family, size, kind, end, factor=factor):
            return factor if kind == "different" else 1.0

        said = numbers(found_of(bridge_deviation=bridge))
        assert word in said["between"] and said["other-bridges"].startswith(f"{factor:.2f}")
    alone = found_of(p=replace(P, kinds=("different",)))
    assert numbers(alone)["between"] == "" and "not measured" in numbers(alone)["other-bridges"]


def test_networks_are_lost_from_then_on():
    p = replace(P, measure_at=(0, 5, 9))
    found = found_of(p=p)
    rows = (found.table.family == "mlp") & (found.table["size"] == 256) & (found.table.seed == 1)
    found.table.loc[rows & (found.table.epoch == 5), "train_loss"] = 1e6  # and back again
    assert found.lost == 1
    assert list(found.end("mlp", 256).index) == [0, 2] and len(found.start("mlp", 256)) == 3
    assert found.exponent(9).n == 2 and found.exponent(0).n == 3
    found = found_of(p=p)
    found.table.loc[found.table.epoch == 5, "gap_deviation"] = np.nan  # no path bends
    assert found.lost == 4 * 3 - 6 and found.untested("mlp", [64]).startswith("no seed")


def test_a_peak_is_told_if_there_is_one():
    p = replace(P, conv_measure_at=(0, 4, 9))
    found = found_of(p=p)
    peak = (found.table.family == "vgg") & (found.table.epoch == 4)
    assert "highest" not in numbers(found)["vgg-gaps"]
    found.table.loc[peak, ["normalized_gap_deviation", "normalized_deflection"]] *= 3
    said = numbers(replace(found))["vgg-gaps"]
    assert (
        "highest at epoch 4, when the outputs, which they are divided by, have shrunk: 3.0" in said
    )


def test_gaps_of_resnets_are_judged_before_and_after():
    def bridge(family, size, kind, end):
        return 1.0 if family != "resnet" or not end else 0.5

    found = found_of(bridge_deviation=bridge)
    assert numbers(found)["resnet-steps"].endswith("and at the end they do not act like them")
    judged = verdicts(found)
    assert judged["resnet"].outcome is Outcome.NOT_SUPPORTED
    assert judged["vgg"].outcome is judged["C5"].outcome is Outcome.SUPPORTED


def test_the_path_of_a_network_that_diverged_ends_before():
    said = single_runs.path_numbers(found_of().paths)
    assert said["path-before"] == "2" and said["path-before-steps"] == 1
    assert said["path-after"] == said["path-after-steps"] == "(unknown)"
    assert "at epoch 0" in single_runs.path_figure(found_of().paths).alt


def test_where_fitting_begins():
    fits = FITTED | {(16, 0.2): 0.5}
    assert label_noise.fits_from(P, noisy(fits), 0.0) == 16
    assert label_noise.fits_from(P, noisy(fits), 0.2) == 32
    assert label_noise.fits_from(P, noisy(fits, seeds=2), 0.0) is None  # one seed has diverged
    said = label_noise.numbers(P, noisy(fits | {(32, 0.2): 0.5}))
    assert said["fits"] == (
        "From 16 units (0 %) on, all seeds fit their samples. With 20 % random labels not all of "
        "the widest fit their samples."
    )


def test_one_share_of_noise_that_nothing_fits_does_not_hide_a_growth_of_errors():
    missing = FITTED | {(32, 0.2): 0.5}
    assert label_noise.verdict(P, noisy(FITTED)).outcome is Outcome.SUPPORTED
    assert label_noise.verdict(P, noisy(missing)).outcome is Outcome.NOT_TESTED
    worse = {(32, 0.0): 0.4}
    assert label_noise.verdict(P, noisy(missing, worse)).outcome is Outcome.NOT_SUPPORTED
    assert label_noise.error_ratio(P, noisy(FITTED, worse), 0.0).value == pytest.approx(2)


@pytest.mark.parametrize(
    ("wide", "more"), [(0.3, "does not add"), (0.6, "width adds"), (0.4, "is open")]
)
def test_what_noise_costs(wide, more):
    tests = {(n, 0.2): wide if n == 32 else 0.4 for n in (8, 16, 32)}
    table = noisy(FITTED, tests)
    if more == "is open":
        table.loc[(table["size"] == 32) & (table.seed == 0), "test_error"] += 0.1
        table.loc[(table["size"] == 32) & (table.noise == 0), "test_error"] = 0.2
    said = label_noise.cost(P, table)
    assert "at all 3 widths" in said or more == "is open"
    assert more in said
    assert label_noise.cost(replace(P, noises=(0.2,)), table) == ""


@pytest.mark.parametrize(
    "values", [{"measure_at": [1, 2]}, {"widths": [16, 64]}, {"vgg_rate": 2.0}]
)
def test_what_would_fail_after_training_is_refused_before(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Parameters.of(values)
