"""The experiment of the chapter on one hidden layer."""

import math

import pandas as pd
import pytest
import torch
from implreg_book.evidence.statistics import mean_interval
from implreg_book.experiments.one_hidden_layer import Config, Walk, run, walk

from implreg import theory
from implreg.errors import InputError
from implreg.networks import mlp


def walks(**changes: object) -> Walk:
    given = {"depth": 1, "width": 400, "angle": 1.5, "norm": 2.0, "pairs": 16, "seed": 0}
    return Walk(**(given | changes))  # type: ignore[arg-type]


def test_the_pair_has_the_angle_and_norms_that_were_asked_for() -> None:
    x0, x1 = Config(1, 9, angle=0.7, norm=3.0, networks=2, seed=0, inputs=5).pair
    assert x0.shape == x1.shape == (1, 5)
    assert float(x0.norm()) == pytest.approx(math.sqrt(5))
    assert float(x1.norm()) == pytest.approx(3 * math.sqrt(5))
    cosine = float((x0 * x1).sum() / (x0.norm() * x1.norm()))
    assert cosine == pytest.approx(math.cos(0.7))


def test_one_row_per_network_and_quantity() -> None:
    table = run(Config(2, 30, 1.5, 1.0, networks=5, seed=7, sigma_b=0.5))
    assert sorted(table.seed.unique()) == [7, 8, 9, 10, 11]
    assert table.groupby("quantity").size().tolist() == [5, 5, 5]
    assert (table.groupby("quantity").predicted.nunique() == 1).all()


def test_a_wrong_prediction_would_be_seen() -> None:
    """200 networks tell the number of switches from one that is 5 % off, and agree with theory."""
    table = run(Config(1, 256, 1.5, 2.0, networks=200, seed=0, sigma_b=0.5))
    rows = table[table.quantity == "switches"]
    found = mean_interval(rows.measured)
    assert abs(found.value / rows.predicted.iloc[0] - 1) < 0.03
    assert found.high / found.low < 1.05


def test_gaps_of_one_hidden_layer_are_a_random_walk() -> None:
    table = pd.concat([walk(walks(seed=seed)).assign(seed=seed) for seed in range(8)])
    means = table.groupby(["quantity", "at"]).measured.mean()
    assert means["bridge curve"][0.5] == pytest.approx(1, abs=0.1)
    assert means["gap correlation"].abs().max() < 0.02
    assert means["variance ratio"][1] == pytest.approx(1)
    squared = means["squared gap"]
    net = mlp(20, 400, 1, seed=0)
    pair = Config(1, 400, 1.5, 2.0, networks=2, seed=0).pair
    t = torch.tensor(squared.index.to_numpy())
    predicted = theory.gap_variance(net, pair, t)[0, 0].numpy()
    assert (squared / predicted).mean() == pytest.approx(1, abs=0.05)
    assert squared.iloc[3] > 3 * squared.iloc[-1]  # and the curve is no constant


def test_deeper_gaps_are_anti_correlated() -> None:
    table = pd.concat([walk(walks(depth=3, width=96, seed=seed)) for seed in range(8)])
    curve = table[table.quantity == "bridge curve"].groupby("at").measured.mean()
    assert curve[1.0] < 0.85


def test_bins_and_lags_without_a_gap_have_no_row() -> None:
    table = walk(walks(width=3, pairs=1, bins=50, lags=(1, 100)))
    assert not table.isna().any().any()
    assert 100 not in table[table.quantity == "gap correlation"]["at"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"angle": 3.2}, "angle must lie between 0 and pi"),
        ({"angle": 0.0}, "angle"),
        ({"norm": -1.0}, "norm"),
        ({"depth": 0}, "depth"),
        ({"inputs": 1}, "inputs"),
        ({"bins": 0}, "bins"),
        ({"pairs": 0}, "pairs"),
    ],
)
def test_refuses_numbers_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        walks(**change)
    if change.keys() <= {"angle", "norm", "depth", "inputs"}:
        given = {"depth": 1, "width": 9, "angle": 1.0, "norm": 1.0, "networks": 2, "seed": 0}
        with pytest.raises(InputError, match=message):
            Config(**(given | change))  # type: ignore[arg-type]
