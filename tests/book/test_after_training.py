"""The experiment of the chapter on wide networks after training."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from implreg_book.experiments.after_training import (
    Config,
    Stable,
    curves,
    gradient_descent,
    run,
    stable,
    task,
)

from implreg import theory
from implreg.errors import InputError


def config(**changes: Any) -> Config:
    given = {
        "dataset": "digits", "train": 20, "pairs": 4, "width": 64, "depth": 1, "networks": 2,
        "seed": 0, "steps": 60,
    }  # fmt: skip
    return Config(**(given | changes))


def test_the_prediction_does_not_depend_on_the_width() -> None:
    narrow, wide = (task(config(width=width)).predicted for width in (8, 800))
    assert torch.equal(narrow.mean, wide.mean)
    assert torch.equal(narrow.covariance, wide.covariance)


def test_a_step_moves_outputs_by_the_tangent_kernel() -> None:
    small = config(width=4000, depth=2, steps=1, step=1e-4)
    known = task(small)
    x, net = known.data.x_train, small.network(64, 10, seed=3)
    before = net(x).detach()
    gradient_descent(net, known, small)
    moved = (net(x).detach() - before) / known.rate
    kernel = theory.tangent_kernel(net, x, small.initialisation)
    expected = -kernel @ (before - known.y)
    assert float((moved - expected).norm() / expected.norm()) < 0.1


def test_wider_networks_are_nearer_to_the_theory() -> None:
    errors = {}
    for width in (32, 512):
        table = run(config(width=width))
        assert table.phase.tolist() == ["before", "after"] * 2
        after = table[table.phase == "after"]
        assert (after.loss < table[table.phase == "before"].loss.min() / 3).all()
        errors[width] = after[["error", "deflection_error"]].mean()
    assert (errors[512] < 0.8 * errors[32]).all()
    assert errors[512]["error"] < 0.3


def test_curves_are_the_outputs_of_the_networks_that_run_measures() -> None:
    small = config(networks=2, seed=5)
    known, table = task(small), curves(small, points=3)
    label = int(known.paths.y0[0])
    at = torch.stack([known.paths.x0[0], known.paths.x0[0] / 2 + known.paths.x1[0] / 2,
                      known.paths.x1[0]])  # fmt: skip
    for seed in (5, 6):
        net = small.network(64, 10, seed)
        for phase in ("before", "after"):
            part = table[(table.phase == phase) & (table.network == seed)]
            assert part.t.tolist() == [0.0, 0.5, 1.0]
            expected = net(at)[:, label].detach()
            torch.testing.assert_close(torch.tensor(part.value.to_numpy()), expected)
            gradient_descent(net, known, small)
    assert len(table) == 2 * 2 * 3


@pytest.mark.parametrize("step", [0.5, 1.5])
def test_gaps_are_bounded_by_kernel_and_step(step: float) -> None:
    row = stable(Stable("digits", 20, 8, 64, seed=1, steps=1500, step=step)).iloc[0]
    assert row.loss < 1e-4
    assert row.sharpness < 1
    assert 0 < row.weighted_variation < row.kernel_bound < row.step_bound
    assert row.kernel_bound < 20 * row.weighted_variation  # the bound is not empty


def test_a_run_that_diverges_says_so() -> None:
    row = stable(Stable("digits", 20, 4, 64, seed=0, steps=500, step=20.0)).iloc[0]
    assert row.loss == math.inf
    assert row.drop("loss").isna().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 1.0}, "step must lie between 0 and 1"),
        ({"width": 0}, "width must be a whole number of at least 1"),
        ({"points": 4}, "points must be odd"),
        ({"sigma_b": -0.1}, "sigma_b must be a finite number of at least 0"),
    ],
)
def test_refuses_numbers_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(config(**changes))
    with pytest.raises(InputError, match="step must be a finite number above 0"):
        replace(Stable("digits", 20, 4, 64, 0, 5, 1.0), step=0.0)
