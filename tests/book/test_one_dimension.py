"""The experiment of the chapter on networks with one input."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from implreg_book.experiments.one_dimension import (
    Config,
    Networks,
    functions,
    knots,
    path,
    references,
    run,
    solve,
    start,
    train,
)

from implreg.errors import InputError
from implreg.theory.splines import Start

X = (-1.0, -0.5, 0.0, 0.5, 1.0)
Y = (0.0, 0.3, 0.1, 0.4, 0.2)
SMALL = Config(X, Y, Start("uniform", 1.5), "output", 200, 3, 5, scale=10.0, loss=1e-10)


def at(networks: Any, x: np.ndarray) -> np.ndarray:
    """Values of all networks, (networks, points), by the formula."""
    u, v = networks.hidden.numpy(), networks.output.numpy()
    units = np.maximum(u[..., :1] * x + u[..., 1:], 0)
    return np.einsum("kn,knx->kx", v, units)


@pytest.mark.parametrize("output", [0.0, 1.0])
def test_gradient_descent_ends_at_the_nearest_solution(output: float) -> None:
    """Least squares with the least distance from the initial weights, network by network."""
    config = replace(SMALL, output=output)
    before, after = start(config), train(config)
    assert torch.equal(before.hidden, after.hidden)
    for i in range(config.networks):
        units = np.maximum(before.hidden[i].numpy() @ np.stack([X, np.ones(5)]), 0).T
        first = before.output[i].numpy()
        moved = np.linalg.lstsq(units, Y - units @ first, rcond=None)[0]
        assert np.abs(after.output[i].numpy() - first - moved).max() < 1e-3 * np.abs(moved).max()
    solved, trained = solve(config), run(config)
    assert np.allclose(solved.to_limit, trained.to_limit, rtol=1e-3)
    assert solved.network.tolist() == [5, 6, 7] and set(solved.kind) == {"uniform"}


def test_solving_is_for_output_weights_alone() -> None:
    with pytest.raises(InputError, match="trained must be one of output, got 'all'"):
        solve(replace(SMALL, trained="all"))


def test_training_is_that_of_torch() -> None:
    """A few steps of all parameters against automatic differentiation, network by network."""
    config = replace(SMALL, trained="all", scale=2.0, output=0.5, steps=100)
    first, found = start(config), train(config)
    kernel = config.start.kernel(np.array(X)[:, None], X)
    rate = min(config.rate, 1 / (4 * np.linalg.eigvalsh(kernel)[-1]))
    x, y = torch.tensor(X, dtype=torch.float64)[:, None], torch.tensor(Y, dtype=torch.float64)
    for i in range(config.networks):
        net = first.module(i)
        optimiser = torch.optim.SGD(net.parameters(), lr=rate)
        for _ in range(100):
            optimiser.zero_grad()
            ((net(x)[:, 0] - y).square().sum() / 2).backward()
            optimiser.step()
        grid = torch.linspace(-1, 1, 41, dtype=torch.float64)[:, None]
        assert torch.allclose(net(grid), found.module(i)(grid), atol=1e-12)


def test_what_gradient_flow_conserves() -> None:
    config = replace(SMALL, trained="all", scale=1.0, rate=1e-2, steps=2000)
    before, after = start(config), train(config)
    assert (after.loss < before.loss / 2).all()

    def kept(networks: Networks) -> torch.Tensor:
        return networks.output.square() - networks.hidden.square().sum(dim=2)

    moved = (after.hidden - before.hidden).square().sum(dim=2)
    assert float((kept(after) - kept(before)).abs().max() / moved.max()) < 0.1


def test_measures_are_those_of_the_function() -> None:
    row = run(SMALL).iloc[1]
    after = train(SMALL)
    grid = np.linspace(-1, 1, 401)
    values = at(after, grid)[1]
    for name, line in references(SMALL, path(start(SMALL), 1, np.array(X))).items():
        assert row[f"to_{name}"] == pytest.approx(np.sqrt(np.mean((values - line) ** 2)))
    w, b = after.hidden[1].numpy().T
    gaps = np.abs(after.output[1].numpy() * w)[np.abs(b / w) < 1]
    assert row.switches == len(gaps)
    assert row.variation == pytest.approx(gaps.sum())
    assert row.quadratic_variation == pytest.approx((gaps**2).sum())
    assert row.gap_deviation == pytest.approx(np.sqrt((gaps**2).mean()))
    near = np.abs((-b / w)[np.abs(b / w) < 1][:, None] - X[1:-1]).min(axis=1) < 1 / 40
    assert row.near == pytest.approx(gaps[near].sum() / gaps.sum())
    assert row.from_chords >= np.abs(values - np.interp(grid, X, Y)).max() - 1e-12


def test_wide_networks_with_trained_outputs_reach_their_limit() -> None:
    for case in (SMALL, replace(SMALL, start=Start("gaussian", 1.0), output=1.0)):
        narrow, wide = (run(replace(case, width=n, loss=1e-8)).to_limit.mean() for n in (60, 3000))
        assert wide < narrow / 3 and wide < 0.01


def test_the_scale_moves_networks_from_one_spline_to_the_other() -> None:
    small = replace(SMALL, trained="all", scale=2.0)
    rich, lazy = run(small), run(replace(small, scale=100.0))
    assert rich.reached.all() and lazy.reached.all()
    assert (rich.to_linear < rich.to_limit / 10).all()
    assert (lazy.to_limit < lazy.to_linear / 2).all()
    assert (rich.variation_ratio < 1.02).all() and (lazy.variation_ratio > 1.2).all()
    assert (rich.near > 0.9).all() and (rich.knots == 3).all() and (lazy.knots > 15).all()


def test_a_network_depends_on_its_own_seed_alone() -> None:
    config = replace(SMALL, trained="all", scale=3.0, steps=2000)
    three, alone = run(config), run(replace(config, networks=1, seed=6))
    pd.testing.assert_frame_equal(three.iloc[1:2].reset_index(drop=True), alone, rtol=1e-6)


def test_runs_that_do_not_arrive_say_so() -> None:
    late = run(replace(SMALL, steps=100))
    assert not late.reached.any() and (late.steps == 100).all() and late.to_limit.notna().all()
    # One unit far larger than the average one makes the step too long.
    wild = replace(SMALL, start=Start("gaussian", 1.0), width=1, networks=8, steps=2000)
    lost = run(wild)
    infinite = ~np.isfinite(lost.loss)
    assert 0 < infinite.sum() < 8 and not lost.reached.any()
    assert (lost.steps[infinite] < 2000).all() and (lost.steps[~infinite] == 2000).all()
    assert (lost.variation.isna() == infinite).all()
    drawn = functions(wild, points=2).groupby("network").value.count()
    assert ((drawn == 0).to_numpy() == infinite.to_numpy()).all()


def test_functions_hold_networks_and_limits() -> None:
    table = functions(SMALL, points=21)
    assert len(table) == 3 * 21 and set(table.network) == {5, 6, 7} and table.reached.all()
    one = table[table.network == 6]
    assert np.allclose(one.value, at(train(SMALL), np.linspace(-1, 1, 21))[1])
    samples = one[np.isclose(one.x.to_numpy()[:, None] % 0.5, 0).any(axis=1)]
    for name in ("value", "limit", "natural", "linear"):
        assert np.allclose(samples[name], Y, atol=1e-4), name


def test_knots_are_counted_as_windows() -> None:
    even = np.linspace(0, 1, 1000)
    assert knots(even, np.ones(1000)) == pytest.approx(38, abs=1)
    assert knots(np.array([0.2, 0.21, 0.6, 0.9]), np.array([1.0, 1.0, 2.0, 0.01])) == 2
    assert knots(np.zeros(0), np.zeros(0)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trained": "hidden"}, "trained must be one of output, all"),
        ({"width": 0}, "width must be a whole number of at least 1"),
        ({"scale": 0.0}, "scale must be a finite number above 0"),
        ({"output": -1.0}, "output must be a finite number of at least 0"),
        ({"x": (1.0, 0.0)}, "with x rising"),
        ({"start": Start("uniform", 0.9)}, "x must lie inside the reach"),
    ],
)
def test_config_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **changes)
