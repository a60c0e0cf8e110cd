"""Chapter "Architecture": networks before training, and what batch norm divides by."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from implreg_book.experiments import ablations, conditions
from implreg_book.experiments.ablations import REFERENCE, Config
from implreg_book.experiments.architecture import (
    Networks,
    before,
    normalisations,
    usual_size,
    with_statistics,
)
from implreg_book.experiments.variants import Start, Variant

import implreg as ir
from implreg.errors import InputError
from implreg.training import Recipe

TINY = Config(
    REFERENCE, "digits", 60, 0, Variant(widths=(16,)), Recipe(0.2, 400, 16, 2), 0, (1.0, 0.3),
    pairs=4, probes=10,
)  # fmt: skip
NORMED = replace(TINY, network=Variant(widths=(16, 16), batch_norm=True))


def of(network: Variant) -> pd.Series:
    return before(Networks(replace(TINY, network=network), seeds=1)).iloc[0].dropna()


def test_before_is_the_network_of_the_run_at_its_first_step():
    network = Variant(widths=(12, 12))
    ours = of(network)
    config = replace(TINY, network=network, target_losses=(1e3,))
    start = ablations.run(config).iloc[0]
    for name in ("switches", "deflection", "mid_path_deflection", "fluctuation", "edge_margin"):
        assert ours[name] == pytest.approx(start[name], rel=1e-9), name
    assert ours.units == 24
    assert ours.parameters == 64 * 12 + 12 + 12 * 12 + 12 + 12 * 10 + 10


@pytest.mark.parametrize(
    "network",
    [
        Variant(widths=(400,), leak=0.5),
        Variant(widths=(300, 300, 300), skip=True),
        Variant(widths=(300, 300), start=Start(scale=0.7, sigma_b=0.3, output_scale=2.0)),
        Variant(widths=(300, 300), batch_norm=True),
    ],
    ids=str,
)
def test_wide_perceptrons_are_what_theory_predicts(network):
    row = of(network)
    for name in ("switches", "gap_deviation", "deflection", "mid_path_deflection"):
        assert row[f"theory_{name}"] == pytest.approx(row[name], rel=0.2), name


def test_what_theory_does_not_know_has_no_prediction():
    for network in (Variant("conv", (2, 3)), Variant(start=Start("orthogonal"))):
        assert not [name for name in of(network).index if name.startswith("theory")]
    assert of(Variant("conv", (2, 3))).units == 2 * 64 + 3 * 16


def test_a_leak_scales_every_gap_of_one_hidden_layer():
    """Same weights: each gap is 1 - leak times what it was, exactly."""
    plain, leaky = of(Variant(widths=(64,))), of(Variant(widths=(64,), leak=0.4))
    assert leaky.switches == plain.switches
    assert leaky.deflection == pytest.approx(0.6 * plain.deflection, rel=1e-5)
    assert leaky.theory_deflection == pytest.approx(0.6 * plain.theory_deflection, rel=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("leak", [0.1, 0.5])
def test_the_law_of_the_leak_at_any_depth(depth, leak):
    """E[V] times (1 - leak)^2 (1 + leak^2)^(L - 1), output variance times (1 + leak^2)^L."""
    shape = (64, *[20] * depth, 3)
    data = ir.load("digits", train=60)
    drawn = ir.pairs(data, count=4, seed=0)
    half = torch.tensor(0.5)
    nets = [ir.mlp(*shape, seed=0, leak=a) for a in (leak, 0.0)]
    v, plain = (ir.theory.at_initialisation(net, drawn).quadratic_variation for net in nets)
    factor = (1 - leak) ** 2 * (1 + leak**2) ** (depth - 1)
    torch.testing.assert_close(v, factor * plain)
    k, usual = (ir.theory.output_covariance(net, drawn, half, half) for net in nets)
    torch.testing.assert_close(k, (1 + leak**2) ** depth * usual)


@pytest.mark.parametrize("layers", [2, 3, 6])
@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_the_law_of_skip_connections(layers, scale):
    """E[V] is s^2 (1 + s^2)^(L - 2) (1 + L s^2) times that of one hidden layer."""
    drawn = ir.pairs(ir.load("digits", train=60), count=4, seed=0)
    net = Variant(widths=(9,) * layers, skip=True).build((1, 8, 8), 3, seed=0)
    how = ir.Initialisation(sigma_w=math.sqrt(2) * scale)
    v = ir.theory.at_initialisation(net, drawn, how).quadratic_variation
    one = ir.theory.at_initialisation(ir.mlp(64, 9, 3, seed=0), drawn).quadratic_variation
    s = scale**2
    torch.testing.assert_close(v, s * (1 + s) ** (layers - 2) * (1 + layers * s) * one)


@pytest.mark.parametrize("layers", [2, 3, 6])
def test_the_small_start_has_outputs_of_the_usual_size(layers):
    skip = Variant(widths=(300,) * layers, skip=True)
    small = usual_size(skip)
    s = small.start.scale**2
    assert s * (1 + s) ** (layers - 1) == pytest.approx(1, rel=1e-12)
    data = TINY.data()
    drawn = ir.pairs(data, count=4, seed=0)
    how = ir.Initialisation(sigma_w=math.sqrt(2) * small.start.scale)
    half = torch.tensor(0.5)
    sizes = [
        ir.theory.output_covariance(v.build(data.shape, 10, 0), drawn, half, half, initialisation)
        for v, initialisation in (
            (small, how),
            (Variant(widths=(9,)), ir.HE),
        )
    ]
    torch.testing.assert_close(*sizes)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (Variant(widths=(9, 9), batch_norm=True), (1, 8, 8)),
        (Variant("conv", (3, 5), batch_norm=True), (1, 8, 8)),
        (Variant("conv", (3, 3), batch_norm=True, skip=True), (2, 12)),
    ],
    ids=str,
)
def test_frozen_statistics_are_those_of_training_mode(network, shape):
    net = network.build(shape, 4, seed=0, dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(20, *shape, generator=random, dtype=torch.float64)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    frozen = with_statistics(net, x)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not frozen.training
    assert not torch.allclose(frozen(x), net(x))
    torch.testing.assert_close(frozen(x), net.train()(x))


def test_normalisations_compare_the_trained_network():
    table = normalisations(Networks(NORMED, seeds=1))
    running = table[table.statistics == "running"].iloc[0]
    last = ablations.run(NORMED).iloc[-1]
    assert running.loss == pytest.approx(last.train_loss, rel=1e-6)
    for name in ("deflection", "switches", "test_error"):
        assert running[name] == pytest.approx(last[name], rel=1e-6), name
    assert table.reached.all()
    assert table.statistics.value_counts().to_dict() == {
        "running": 1,
        "all samples": 1,
        "one batch": 3,  # of 16 samples in 60
    }
    numbers = table.drop(columns=["statistics", "condition"]).astype(float)
    assert numbers.notna().all(axis=None)
    assert numbers.loss.nunique() == len(numbers)


def test_a_network_without_batch_norm_has_none_to_compare():
    with pytest.raises(InputError, match="must have a batch norm"):
        normalisations(Networks(TINY, seeds=1))


def test_a_target_that_is_not_reached_is_told():
    short = replace(NORMED, target_losses=(1e-9,), recipe=Recipe(0.2, 2, 16, 1))
    assert not normalisations(Networks(short, seeds=1)).reached.any()
    wild = normalisations(Networks(replace(NORMED, recipe=Recipe(1e30, 9, 16, 0)), seeds=1))
    assert wild.reached.tolist() == [False] and "loss" not in wild


def test_the_conditions_of_the_chapter_know_theory_where_they_should():
    found = conditions.architectures(TINY, depths=(2,), deep=3, channels=(2, 3))
    known = {
        name: "theory_deflection" in before(Networks(ablations.changed(TINY, what), seeds=1))
        for name, what in found.items()
    }
    assert {name for name, it in known.items() if not it} == {"convolutions"}


def test_every_seed_has_its_row():
    table = before(Networks(replace(TINY, seed=7), seeds=3))
    assert table.seed.tolist() == [0, 1, 2]
    assert set(table.condition) == {REFERENCE}
    assert table.deflection.nunique() == 3
    one = before(Networks(TINY, seeds=1)).iloc[0]
    assert table.deflection[0] == one.deflection
    with pytest.raises(InputError, match="seeds must be"):
        Networks(TINY, seeds=0)
