"""The chapter "Optimiser" under other parameters: words follow numbers."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from _chapters import check_prose, found_with, told
from implreg_book.chapters import compared
from implreg_book.chapters import optimiser as chapter
from implreg_book.chapters.squared_loss import Squared
from implreg_book.evidence.rules import Outcome
from implreg_book.experiments import ablations
from implreg_book.parameters.optimiser import Parameters

from implreg.errors import InputError

CHAPTER = "optimiser"
TINY = {
    "train": 40,
    "pairs": 3,
    "width": 8,
    "epochs": 3,
    "steps": [1.0],
    "batches": [8],
    "descent_steps": [0.5],
    "adam_steps": [0.01],
    "squared_width": 8,
    "squared_steps": 20,
    "shares": [0.5, 1.5],
}


def test_the_prose_has_what_it_says():
    found = found_with(CHAPTER, **TINY | {"epochs": 60, "squared_steps": 200})
    check_prose(CHAPTER, {f"opt-{name}": text for name, text in told(CHAPTER, found).items()})
    left, right = found.doubt
    assert 0 < left <= right * (1 + 1e-9)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 0.1},
        {"learning_rate": 100.0, "momentum": 0.5, "shares": [9.0], "squared_seeds": 1},
        {"seeds": 1, "epochs": 1, "target_losses": [100.0, 50.0], "width": 1, "squared_width": 1},
    ],
)
def test_networks_that_learn_nothing_test_nothing(values):
    found = found_with(CHAPTER, **TINY | values)
    numbers = told(CHAPTER, found) if "shares" in values else chapter.numbers(found)
    assert [numbers[h] for h in ("h1", "h2", "h3")] == ["not tested"] * 3
    assert numbers["answer"].startswith("Not tested: ") and numbers["verdict"] == "not tested"


def test_the_bound_on_sharpness_is_that_of_the_whole_matrix():
    """The theorem's left side, from all second derivatives of the output layer."""
    p = Parameters(dataset="digits", train=30, side=0, width=4, epochs=2, warmup_epochs=0,
                   batch=16, batches=(8,), pairs=2)  # fmt: skip
    config = compared.reference_of(p)
    left, right = chapter.doubt_of(config)
    data = config.data()
    *_, moment = ablations.moments(config, data)
    net = moment.net.double()
    hidden = net[:-1](data.x_train.double()).detach()

    def loss(flat):
        weight, bias = flat[:-10].view(10, 4), flat[-10:]
        return torch.nn.functional.cross_entropy(hidden @ weight.T + bias, data.y_train)

    flat = torch.cat([net[-1].weight.detach().flatten(), net[-1].bias.detach()])
    top = float(torch.linalg.eigvalsh(torch.func.hessian(loss)(flat))[-1])
    assert left == pytest.approx(top, rel=1e-4) and top <= right


P = Parameters(
    target_losses=(0.5, 0.1), steps=(0.02, 1.0), batches=(8, 32), descent_steps=(0.5,),
    adam_steps=(0.01,), seeds=4, squared_seeds=3, shares=(0.5, 1.0, 2.0),
)  # fmt: skip


def made(descent=1.0, small=1.0, *, sharp=1.0, gaps=(1.0, 1.0, 0.5), middle=1.0, **more):
    """Networks of which two ways bend as given, and the sum of gaps at each step."""
    ways = {"reference": 1.0, "step 0.02": 1.0, "batch 8": small, "batch 32": 1.0,
            "descent, step 0.1": descent, "descent, step 0.5": 1.0,
            "momentum 0.9, step 0.1": 1.0, "label noise 5 %": 1.0}  # fmt: skip
    noise = np.random.default_rng(0)
    rows = [
        {"condition": name, "seed": s, "target_loss": loss, "reached": True, "diverged": False,
         "deflection": x * (middle if loss > 0.1 and name == "batch 8" else 1)
         * math.exp(1e-3 * noise.standard_normal()),
         "fluctuation": 0.1, "edge_margin": 1.0, "sharpness": (1 + i) ** sharp, "epochs": 9,
         "test_error": 0.2, "train_error": 0.01, "train_loss": loss} | more
        for i, (name, x) in enumerate(ways.items()) for s in range(4) for loss in P.target_losses
    ]  # fmt: skip
    squared = [
        {"step": share, "seed": s, "loss": 0.0 if x else math.inf, "sharpness": 0.5,
         "weighted_variation": x * (1 + 1e-3 * s) or math.nan, "kernel_bound": 2.0,
         "step_bound": 10.0}
        for share, x in zip(P.shares, gaps, strict=True) for s in range(3)
    ]  # fmt: skip
    table = compared.completed(pd.DataFrame(rows), chapter.Found.quantities)
    return chapter.Found(P, table, Squared(P, pd.DataFrame(squared)), (1.0, 2.0))


@pytest.mark.parametrize(
    ("descent", "small", "outcome", "answer"),
    [
        (1.5, 0.7, "supported", "Yes."),
        (1.01, 1.02, "not supported", "Hardly."),
        (1.01, 0.7, "undecided", "These networks do not decide."),
    ],
)
def test_noise_is_judged_by_both_ratios(descent, small, outcome, answer):
    numbers = chapter.numbers(made(descent, small))
    assert (numbers["h1"], numbers["answer"]) == (outcome, answer)
    assert f"{descent:.2f} [" in numbers["descent"]
    same = sum(1 / 1.1 < x < 1.1 for x in (descent, small)) + 5
    assert (numbers["arrived"], numbers["same"], numbers["error-same"]) == (7, same, 7)


@pytest.mark.parametrize(
    ("gaps", "outcome", "answer"),
    [
        ((1.0, 1.0, 0.5), "supported", "Large steps do straighten"),
        ((1.0, 1.0, 2.0), "not supported", "Large steps make paths more bent"),
        ((1.0, 1.0, 0.0), "not tested", "no step beyond the stable one"),
        ((0.0, 0.0, 0.0), "not tested", "no two steps"),
    ],
)
def test_the_step_is_judged_where_networks_converge(gaps, outcome, answer):
    found = made(gaps=gaps)
    numbers = chapter.numbers(found)
    assert numbers["h2"] == outcome and answer in numbers["squared-answer"]
    if gaps[2]:
        assert f"{gaps[2]:.2f} [" in numbers["squared-beyond"]
        assert "the same within 10 %" in numbers["squared-below"]
    assert list(chapter.squared_table(found)["converged"])[2] == f"{3 * bool(gaps[2])} of 3"


def test_flat_is_straight_if_ranks_say_so():
    found = made(descent=1.5, small=0.7)
    flat = found.flat()
    ranks = found.reached[["sharpness", "deflection"]].corr("spearman").iloc[0, 1]
    assert flat.value == pytest.approx(ranks)
    constant = made(sharp=0.0)
    assert constant.hypotheses()[2] is Outcome.NOT_TESTED


def test_the_way_is_told_by_its_ratios():
    assert (
        "batches of 8 made paths clearly more bent" in chapter.numbers(made(middle=1.5))["losses"]
    )
    assert "more bent" not in chapter.numbers(made(middle=0.8))["losses"]


def test_a_margin_that_is_not_positive_is_no_verdict():
    assert chapter.verdicts(made())["C6"].outcome is Outcome.SUPPORTED
    assert chapter.verdicts(made(edge_margin=-1.0))["C6"].outcome is Outcome.NOT_TESTED
    assert chapter.numbers(made(edge_margin=-1.0))["straight"] == "0 of 0"


@pytest.mark.parametrize(
    "values",
    [{"steps": ()}, {"batch": 1000}, {"batches": (200,)}, {"squared_train": 2001}, {"shares": ()},
     {"adam_steps": tuple(0.1 * n for n in range(1, 9))}],
)  # fmt: skip
def test_what_leaves_nothing_to_compare_is_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Parameters(**{"squared_dataset": "mnist1d"} | values)
