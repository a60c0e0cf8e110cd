"""The experiments on small settings: their tables hold what the chapters say."""

import pytest
import torch

import implreg as ir
from implreg.errors import InputError
from implreg.experiments import sgd, width


def test_width_measures_one_network_and_predicts_it() -> None:
    (row,) = width.run(width.Config("digits", 200, seed=3, pairs=16)).to_dict("records")
    data = ir.load("digits")
    drawn = ir.pairs(data, count=16, seed=3)
    traced = ir.trace(ir.mlp(64, 200, 10, seed=3), drawn).per_unit_length()
    assert row["gap_deviation"] == pytest.approx(ir.pool(ir.gap_deviation(traced)))
    assert row["switches"] == pytest.approx(traced.switches.double().mean().item())
    for name in ("switches", "gap_deviation", "deflection"):
        assert row[f"theory_{name}"] == pytest.approx(row[name], rel=0.25)
    assert row["theory_bridge_deviation"] == pytest.approx(row["theory_gap_deviation"])


def config(**changes: object) -> sgd.Config:
    usual = {
        "dataset": "digits",
        "train": 100,
        "width": 32,
        "seed": 1,
        "sgd": ir.SGD(0.1, epochs=40, batch=20, warmup_epochs=2),
        "epochs": (0, 3, 40),
        "pairs": 8,
    }
    return sgd.Config(**(usual | changes))


def test_sgd_measures_at_the_epochs_asked_for() -> None:
    table = sgd.run(config())
    assert table.epoch.tolist() == [0, 3, 40]
    first, last = table.iloc[0], table.iloc[-1]
    assert last.train_loss < first.train_loss
    assert last.train_error < 0.1 < first.train_error
    assert first.normalized_deflection == pytest.approx(first.deflection)
    assert last.normalized_deflection < last.deflection
    assert last.edge_margin > first.edge_margin
    assert torch.isfinite(torch.tensor(table.to_numpy(float))).all()


def test_sgd_is_deterministic_per_seed() -> None:
    assert sgd.run(config()).equals(sgd.run(config()))
    assert not sgd.run(config()).equals(sgd.run(config(seed=2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": ()}, "epochs must rise"),
        ({"epochs": (0, 0)}, "epochs must rise"),
        ({"epochs": (0, 41)}, "to at most 40"),
        ({"width": -5}, "width must be a whole number of at least 1, got -5"),
        ({"pairs": "8"}, "pairs must be a whole number"),
    ],
)
def test_sgd_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_unknown_names_are_refused_by_the_data() -> None:
    with pytest.raises(InputError, match="name must be one of digits"):
        width.run(width.Config("mnist", 8, seed=0))
    with pytest.raises(InputError, match="kind must be one of same"):
        width.run(width.Config("digits", 8, seed=0, kind="equal"))
