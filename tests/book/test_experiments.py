"""The experiments on small settings: their tables hold what the chapters say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import implreg_book as bk
import numpy as np
import pandas as pd
import pytest
import torch
from implreg_book.experiments import (
    depth_at_initialisation,
    generalisation,
    program,
    released,
    sgd,
    width,
)
from implreg_book.experiments.families import Network
from implreg_book.runs.keys import origin_of
from implreg_book.runs.work import Failure, perform
from implreg_book.settings import CHECKPOINTS
from torch import nn

import implreg as ir
from implreg.errors import InputError

ORDINARY = ir.SGD(0.1, epochs=40, batch=20, warmup_epochs=2)


def test_a_grid_has_every_network_and_seed_once() -> None:
    networks = [Network("mlp", 8), Network("vgg", 3, 0.1), Network("mlp", 512)]
    settings = {"train": 100, "sgd": ORDINARY, "epochs": (0, 40)}
    configs = sgd.grid(networks, 3, dataset="digits", **settings)
    assert [config.network.size for config in configs] == sorted(
        (config.network.size for config in configs), reverse=True
    )
    found = [(config.network, seed) for config in configs for seed in config.seeds]
    assert len(found) == 9 and set(found) == {(n, seed) for n in networks for seed in range(3)}
    assert {config.train for config in configs} == {100}


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


@pytest.mark.parametrize(
    ("network", "dataset", "shape"),
    [
        (Network("mlp", 9), "digits", (64,)),
        (Network("vgg", 3, 0.1, 0.5), "digits", (1, 8, 8)),
        (Network("resnet", 10, 0.2), "mnist1d", (1, 40)),
    ],
)
def test_families_build_what_fits_the_data(
    network: Network, dataset: str, shape: tuple[int, ...]
) -> None:
    data = network.load(dataset, train=50)
    assert data.shape == shape
    net = network.build(data, seed=1)
    assert not net.training and net(data.x_train[:3].float()).shape == (3, 10)
    assert network.named() == {"family": network.family, "size": network.size}
    sided = Network("vgg", 3).load("fashion-mnist", train=50, side=8)
    assert sided.shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("dense", 3), "family must be one of mlp, vgg, resnet"),
        (("mlp", 0), "size must be a whole number of at least 1, got 0"),
        (("vgg", 3, 0.0), "width_factor must be a finite number above 0"),
        (("vgg", 3, 1.0, -0.1), "dropout must be a finite number of at least 0"),
        (("resnet", 10, 1.0, 0.5, "filled"), "statistics must be one of untouched, initialisation"),
    ],
)
def test_families_refuse(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Network(*values)


def config(**changes: object) -> sgd.Config:
    usual = {
        "dataset": "digits",
        "train": 100,
        "network": Network("mlp", 32),
        "seeds": (1,),
        "sgd": ORDINARY,
        "epochs": (0, 3, 40),
        "pairs": 8,
    }
    return sgd.Config(**(usual | changes))


def test_sgd_measures_at_the_epochs_asked_for() -> None:
    table = sgd.run(config())
    assert table.epoch.tolist() == [0, 3, 40]
    assert set(table.kind) == {"same"} and set(table.family) == {"mlp"} and set(table.seed) == {1}
    first, last = table.iloc[0], table.iloc[-1]
    assert last.train_loss < first.train_loss
    assert last.train_error < 0.1 < first.train_error
    assert first.normalized_deflection == pytest.approx(first.deflection)
    assert last.normalized_deflection < last.deflection
    assert last.edge_margin > first.edge_margin
    numbers = table.drop(columns=["running_loss"]).select_dtypes("number").to_numpy(float)
    assert np.isfinite(numbers).all()


def test_sgd_is_what_train_and_the_measures_make_of_one_network() -> None:
    """The same network trained by `train`, measured by hand, for every kind of pairs."""
    table = sgd.run(config(seeds=(4, 5), kinds=("same", "different", "train-test")))
    data = ir.load("digits", train=100)
    net = ir.mlp(64, 32, 10, seed=5)
    for _ in ir.train(net, data.x_train, data.y_train, ORDINARY, seed=5):
        pass
    last = table[(table.seed == 5) & (table.epoch == 40)].set_index("kind")
    for kind, split, name in (
        ("same", "train", "same"),
        ("different", "train", "different"),
        ("same", "train-test", "train-test"),
    ):
        drawn = ir.pairs(data, kind=kind, split=split, count=8, seed=5)
        traced = ir.trace(net, drawn)
        expected = ir.measures.summary(traced.per_unit_length(), drawn)
        for measure, value in expected.items():
            assert last.loc[name, measure] == pytest.approx(value, rel=1e-3), (name, measure)
    assert last.test_error.nunique() == 1
    assert last.test_error.iloc[0] == pytest.approx(ir.evaluate(net, data.x_test, data.y_test)[1])


@pytest.mark.parametrize(
    "network", [Network("mlp", 32), Network("vgg", 3, 0.1, 0.5), Network("resnet", 10, 0.2)]
)
def test_sgd_is_deterministic_per_seed(network: Network) -> None:
    small = config(network=network, epochs=(0, 2), pairs=2)
    assert sgd.run(small).equals(sgd.run(small))
    other = sgd.run(replace(small, seeds=(2,)))
    assert not sgd.run(small).train_loss.equals(other.train_loss)


def test_sgd_counts_what_diverges_and_goes_on() -> None:
    wild = config(sgd=replace(ORDINARY, learning_rate=1e9), seeds=(1, 2), kinds=("same",))
    table = sgd.run(wild)
    assert len(table) == 6 and table[table.epoch == 0].kind.eq("same").all()
    late = table[table.epoch == 40]
    assert late.diverged.all() and late.deflection.isna().all() and set(late.seed) == {1, 2}


def test_a_stopped_run_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers run it: the first try fails in the middle, the second ends bit for bit alike."""
    monkeypatch.setenv(CHECKPOINTS, str(tmp_path))
    wanted = sgd.run(config(kinds=("same", "different")))
    epochs: list[int] = []
    advance = ir.Ensemble.advance

    def stumble(ensemble: ir.Ensemble) -> None:
        epochs.append(ensemble.epoch)
        if len(epochs) == 20:
            raise OSError("the disk went away")
        advance(ensemble)

    monkeypatch.setattr(ir.Ensemble, "advance", stumble)
    origin = origin_of(sgd.run, None, keyed=True)
    one = config(kinds=("same", "different"))
    assert isinstance(perform(sgd.run, one, None, origin), Failure)
    (kept,) = tmp_path.glob("*.pt")
    content = perform(sgd.run, one, None, origin)
    assert isinstance(content, bytes) and not kept.exists()
    assert epochs[20] == 3, "it goes on from the last measurement"
    pd.testing.assert_frame_equal(bk.runs.tables.decode(content)[0], wanted, check_exact=True)


def test_first_path_follows_the_first_pair() -> None:
    small = config(epochs=(0, 5))
    table = sgd.first_path(small, points=11)
    assert len(table) == 2 * 11 * 10 and set(table.epoch) == {0, 5}
    data = small.data()
    drawn = small.drawn(data, 1)["same"]
    start = small.network.build(data, 1)
    values = table[(table.epoch == 0) & (table.t == 0)].sort_values("output").value
    assert np.allclose(values, start.double()(drawn.x0[:1]).detach()[0], atol=1e-6)
    line = table[(table.epoch == 5) & (table.output == 3)].sort_values("t")
    length = float((drawn.x1[0] - drawn.x0[0]).norm())
    steps = np.diff(line.value) / np.diff(line.t) / length
    assert line.slope.min() - 1e-9 <= steps.mean() <= line.slope.max() + 1e-9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": ()}, "epochs must rise"),
        ({"epochs": (0, 0)}, "epochs must rise"),
        ({"epochs": (0, 41)}, "to at most 40"),
        ({"seeds": ()}, "seeds must be one or more"),
        ({"seeds": (1, 1)}, "seeds must be one or more, none twice"),
        ({"seeds": (-1,)}, "seeds must be a whole number"),
        ({"kinds": ("equal",)}, "kinds must be one of same, different, train-test"),
        ({"pairs": "8"}, "pairs must be a whole number"),
        ({"side": -2}, "side must be a whole number"),
        ({"train": 0}, "train must be a whole number"),
    ],
)
def test_sgd_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_too_few_samples_of_a_class_are_told() -> None:
    """Ten samples, one of each class: no two of a class to pair."""
    with pytest.raises(InputError, match="'same' needs two different samples of every class"):
        sgd.run(config(train=10))


def test_depth_at_initialisation_measures_and_predicts() -> None:
    one = depth_at_initialisation.Config("digits", Network("vgg", 3, 0.5), seed=2, pairs=3)
    (row,) = depth_at_initialisation.run(one).to_dict("records")
    data, drawn = one.drawn()
    traced = ir.trace(one.network.build(data, 2), (drawn.x0, drawn.x1)).per_unit_length()
    for name, value in ir.measures.summary(traced).items():
        assert row[name] == pytest.approx(value), name
    assert row["variance_ratio_1"] == pytest.approx(1)
    assert row["variance_ratio_300"] > 0
    (theory,) = depth_at_initialisation.predict(one).to_dict("records")
    for name in ("switches", "gap_deviation", "deflection"):
        assert theory[name] == pytest.approx(row[name], rel=0.5), name


@pytest.mark.parametrize("network", [Network("mlp", 24), Network("resnet", 10, 0.2)])
def test_released_compares_both_ways_of_measuring(network: Network) -> None:
    training = config(network=network, epochs=(0, 3), pairs=2)
    other = Network(network.family, 10, 0.2)
    table = released.run(released.Config(training, other, (50, 2000)))
    index = ["epoch", "variant", "points", "estimator"]
    found = table.set_index(index).sort_index()
    kinds = len(released.ESTIMATORS)
    assert len(found) == 2 * (3 * (1 + 2 * kinds) - 2 * 3) and not found.index.has_duplicates
    columns = ["gap_deviation", "bridge_deviation", "deflection", "mid_path_deflection",
               "fluctuation", "own_fluctuation", "edge_margin"]  # fmt: skip
    for epoch in (0, 3):
        for variant in ("raw", "own", "reference"):
            exact = found.loc[epoch, variant, 0, "exact"]
            fine = found.loc[epoch, variant, 2000, "sampled"]
            assert fine.switches == pytest.approx(exact.switches, rel=0.01)
            for name in columns:
                # Between breakpoints a normalised output is not straight.
                loose = 0.15 if "fluctuation" in name and variant != "raw" else 0.05
                assert fine[name] == pytest.approx(exact[name], rel=loose), name
        own, raw = (found.loc[epoch, variant, 2000, "sampled"] for variant in ("own", "raw"))
        assert (own.gap_deviation == pytest.approx(raw.gap_deviation)) == (epoch == 0)
        for estimator in ("index", "means", "average switches", "single precision"):
            row = found.loc[epoch, "own", 2000, estimator]
            changed = [name for name in columns if row[name] != fine_of(found, epoch)[name]]
            assert (
                changed
                == {
                    "index": ["bridge_deviation", "mid_path_deflection"],
                    "means": ["gap_deviation"],
                    "average switches": ["deflection", "mid_path_deflection"],
                    "single precision": columns,
                }[estimator]
            ), estimator
    start = found.loc[0, "raw", 50].gap_deviation
    assert start["offsets"] == start["sampled"], "without biases that trait is none"
    late = found.loc[3, "reference", 50].gap_deviation
    for name in ("offsets", "drift", "merging"):
        assert late[name] != late["sampled"]
    program = found.loc[3, "reference", 2000, "program"]
    data = training.data()
    net = training.networks(data)[0]
    for _ in ir.train(net, data.x_train, data.y_train, replace(ORDINARY, epochs=3), seed=1):
        pass
    drawn = ir.pairs(data, count=2, seed=1)
    by_hand = ir.sampled.sampled(
        net, drawn, points=2000, reference=other.build(data, 10**6), dtype=torch.float32
    )
    for name, value in by_hand.per_unit_length().summary().items():
        assert program[name] == pytest.approx(value, rel=1e-3), name
    with pytest.raises(InputError, match="points must be one or more"):
        released.Config(training, other, ())
    with pytest.raises(InputError, match="points must be a whole number of at least 3"):
        released.Config(training, other, (2,))


def fine_of(found: pd.DataFrame, epoch: int) -> pd.Series:
    return found.loc[epoch, "own", 2000, "sampled"]


def test_statistics_are_filled_as_in_the_program() -> None:
    network = Network("resnet", 10, 0.2, dropout=0.5)
    data = network.load("digits", train=100)
    plain, filled = (
        replace(network, statistics=how).build(data, 3) for how in ("untouched", "training")
    )
    assert (plain.norm.running_var == 1).all() and filled.norm.num_batches_tracked == 79
    again = network.build(data, 3)
    ir.fill_statistics(
        again, data.x_train, data.y_train, batches=79, batch=128, learning_rate=1e-6, seed=3
    )
    for one, other in zip(again.state_dict().values(), filled.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not filled.training


def test_noise_replaces_its_share_of_labels_and_no_others() -> None:
    data = ir.load("digits", train=500)
    noisy = generalisation.noisy_labels(data, 0.4, seed=3)
    changed = (noisy.y_train != data.y_train).double().mean()
    assert 0.3 < changed < 0.4  # a tenth of random labels are right
    assert torch.equal(noisy.y_test, data.y_test)
    assert torch.equal(noisy.y_train, generalisation.noisy_labels(data, 0.4, seed=3).y_train)
    assert torch.equal(generalisation.noisy_labels(data, 0.0, seed=3).y_train, data.y_train)


def test_generalisation_trains_each_network_on_its_own_labels() -> None:
    one = generalisation.Config("digits", 100, Network("mlp", 40), (0, 1), ORDINARY, 0.3)
    table = generalisation.run(one)
    data = ir.load("digits", train=100)
    for seed in (0, 1):
        noisy = generalisation.noisy_labels(data, 0.3, seed)
        net: nn.Module = ir.mlp(64, 40, 10, seed=seed)
        for _ in ir.train(net, noisy.x_train, noisy.y_train, ORDINARY, seed=seed):
            pass
        row = table[table.seed == seed].iloc[0]
        loss, error = ir.evaluate(net, noisy.x_train, noisy.y_train)
        assert row.train_loss == pytest.approx(loss, rel=1e-3) and row.train_error == error
    with pytest.raises(InputError, match="noise must be a share of at most 1"):
        replace(one, noise=1.5)


def test_unknown_names_are_refused_by_the_data() -> None:
    with pytest.raises(InputError, match="name must be one of digits"):
        width.run(width.Config("svhn", 8, seed=0))
    with pytest.raises(InputError, match="kind must be one of same"):
        width.run(width.Config("digits", 8, seed=0, kind="equal"))


@pytest.mark.parametrize(
    ("network", "reference"),
    [
        (Network("mlp", 90), Network("mlp", 40)),
        (Network("resnet", 10, 0.2, 0.5, "initialisation"), Network("resnet", 10, 0.3)),
    ],
)
def test_a_figure_in_both_definitions(network: Network, reference: Network) -> None:
    one = program.Config("digits", network, 3, reference, "mnist-5000", 6, 4, side=8)
    table = program.run(one).set_index(["estimator", "variant"])
    assert set(table.index) == {(e, v) for e in ("program", "exact") for v in ("raw", "reference")}
    data, other = network.load("digits"), reference.load("mnist-5000", side=8)
    net, members = network.build(data, 3), ir.datasets.shared_members(data.y_train, count=6)
    untrained = reference.build(other, 10**6)
    norms = torch.stack(
        [untrained(other.x_train[column].float()).norm(dim=1) for column in members.unbind(1)], 1
    )
    ends = tuple(data.x_train[column] for column in members.unbind(1))
    seam = 500 if network.family == "resnet" else None
    by_hand = ir.sampled.sampled(
        net, ends, traits=ir.sampled.Traits(seam=seam), reference=norms, dtype=torch.float32
    )
    for name, value in by_hand.per_unit_length().summary().items():
        if name in program.MEASURES:
            assert table.loc[("program", "reference"), name] == pytest.approx(value, rel=1e-4)
    traced = ir.trace(net, tuple(x[:4] for x in ends)).per_unit_length()
    for variant, of in (("raw", traced), ("reference", ir.normalize(traced, norms[:4]))):
        for name in program.MEASURES:
            exact = ir.measures.summary(of)[name]
            assert table.loc[("exact", variant), name] == pytest.approx(exact)
    alone = program.run(replace(one, exact_pairs=0))
    assert set(alone.estimator) == {"program"}
