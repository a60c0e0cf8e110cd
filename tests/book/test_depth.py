"""The experiment of the chapter on depth."""

import math
from typing import Any

import pytest
import torch
from implreg_book.experiments.depth import QUANTITIES, Config, run

from implreg import measures
from implreg.errors import InputError
from implreg.tracing import trace


def config(**changes: Any) -> Config:
    given = {
        "depth": 2, "width": 40, "angles": (0.7, 2.0), "norms": (1.0, 3.0), "networks": 3,
        "seed": 5, "inputs": 6, "outputs": 4,
    }  # fmt: skip
    return Config(**(given | changes))


def test_every_angle_is_taken_with_every_norm() -> None:
    setting = config()
    x0, x1 = setting.pairs
    assert setting.cases == [(0.7, 1.0), (0.7, 3.0), (2.0, 1.0), (2.0, 3.0)]
    for a, b, (angle, norm) in zip(x0, x1, setting.cases, strict=True):
        assert float(a.norm()) == pytest.approx(math.sqrt(6))
        assert float(b.norm() / a.norm()) == pytest.approx(norm)
        assert float(a @ b / a.norm() / b.norm()) == pytest.approx(math.cos(angle))


@pytest.mark.parametrize("changes", [{}, {"branch": 0.5, "sigma_b": 0.3}, {"leak": 0.2}])
def test_rows_hold_the_means_over_the_networks(changes: dict[str, float]) -> None:
    setting = config(**changes)
    table = run(setting)
    assert len(table) == len(QUANTITIES) * 4
    traces = [trace(setting.network(seed), setting.pairs) for seed in (5, 6, 7)]
    found = table.pivot(index=["angle", "norm"], columns="quantity", values="mean")
    for p, case in enumerate(setting.cases):
        row = found.loc[case]
        slopes = [
            measures.along(t, torch.tensor([0.0, 1.0]))[1][p].diff(dim=0).square().mean()
            for t in traces
        ]
        whole = row["quadratic variation"] + row["within layers"] + row["across layers"]
        assert whole == pytest.approx(float(torch.stack(slopes).mean()))
        switches = torch.stack([t.switches[p] for t in traces]).double()
        assert row["switches"] == pytest.approx(float(switches.mean()))
    sem = table[(table.quantity == "switches")]["sem"].iloc[-1]
    assert sem == pytest.approx(float(switches.std()) / math.sqrt(3))
    without = set(table[table.predicted.isna()].quantity)
    assert without == {"squared change", "within layers", "across layers"}


def test_one_layer_has_nothing_across_layers() -> None:
    table = run(config(depth=1))
    assert (table[table.quantity == "across layers"]["mean"].abs() < 1e-12).all()


def test_gaps_of_different_layers_cancel() -> None:
    table = run(config(depth=4, width=64, angles=(2.0,), norms=(1.0,), networks=40))
    means = table.set_index("quantity")["mean"]
    assert means["across layers"] < -0.4 * means["quadratic variation"]
    assert means["within layers"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"angles": (3.2,)}, r"angles must lie between 0 and pi"),
        ({"angles": (0.0,)}, r"angles must be a finite number above 0"),
        ({"norms": (-1.0,)}, r"norms must be a finite number above 0"),
        ({"networks": 1}, r"networks must be a whole number of at least 2"),
        ({"depth": 1, "branch": 0.5}, r"depth must be a whole number of at least 2"),
        ({"sigma_b": -1.0}, r"sigma_b must be a finite number of at least 0"),
    ],
)
def test_refuses_numbers_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(config(**changes))
