"""The experiment of the ablations: one change at a time, at common training losses."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from implreg_book.experiments import conditions
from implreg_book.experiments.ablations import REFERENCE, Config, changed, grid, run
from implreg_book.experiments.sgd import learning
from implreg_book.experiments.variants import Variant

from implreg.complexity import sharpness
from implreg.errors import InputError
from implreg.networks import mlp
from implreg.training import SGD, Recipe, train

TINY = Config(
    REFERENCE, "digits", 60, 0, Variant(widths=(16,)), Recipe(0.2, 400, 16, 2), 0, (1.0, 0.3),
    pairs=4, probes=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    return run(TINY)


def test_it_measures_at_every_target(reference):
    assert reference.target_loss.tolist() == [1.0, 0.3]
    assert reference.reached.all()
    assert not reference.diverged.any()
    assert (reference.train_loss <= reference.target_loss).all()
    assert reference.epochs.is_monotonic_increasing
    assert reference.drop(columns="reached").notna().all(axis=None)
    assert (reference.distance.diff().dropna() > 0).all()


def test_the_row_is_of_the_network_at_that_epoch(reference):
    """The same network by plain SGD on flat samples, measured by other code."""
    data = TINY.data()
    net = TINY.network.build(data.shape, data.classes, 0)
    last = reference.iloc[-1]
    for epoch in train(net, data.x_train, data.y_train, SGD(0.2, 400, 16, 2), seed=0):
        if epoch == last.epochs:
            break
    for name, value in learning(net, data).items():
        assert last[name] == pytest.approx(value, rel=1e-5), name
    assert last.sharpness == pytest.approx(sharpness(net, data.x_train, data.y_train), rel=1e-4)
    norm = math.sqrt(sum(float(p.detach().square().sum()) for p in net.parameters()))
    assert last.parameter_norm == pytest.approx(norm, rel=1e-6)


def test_a_target_that_is_not_reached_shows_the_last_epoch():
    table = run(replace(TINY, target_losses=(1.0, 1e-9), recipe=Recipe(0.2, 30, 16, 2)))
    assert table.reached.tolist() == [True, False]
    assert not table.diverged.any()
    assert table.epochs[1] == 30
    assert table.deflection.notna().all()


def test_a_diverging_run_is_told_and_has_no_measures():
    table = run(changed(TINY, {"recipe": {"learning_rate": 1e6}}))
    assert table.diverged.all()
    assert not table.reached.any()
    assert "deflection" not in table or table.deflection.isna().all()


def test_normalised_measures_refer_to_the_usual_start():
    """Three times the outputs: raw deflection three times larger at the start, by one yardstick."""
    config = replace(TINY, target_losses=(1e3,))
    usual = run(config).iloc[0]
    large = run(changed(config, {"start": {"output_scale": 3.0}})).iloc[0]
    assert usual.normalized_deflection == pytest.approx(usual.deflection, rel=1e-6)
    assert large.deflection == pytest.approx(3 * usual.deflection, rel=1e-5)
    assert large.normalized_deflection == pytest.approx(usual.deflection, rel=1e-5)


def test_a_network_that_is_zero_at_a_sample_has_no_normalised_measures():
    table = run(changed(TINY, {"network": {"widths": (1,)}, "recipe": {"epochs": 3}}))
    assert table.deflection.notna().all()
    assert not [c for c in table if c.startswith("normalized_") and table[c].notna().any()]


def test_random_labels_are_learnt_and_pairs_keep_their_true_class():
    table = run(replace(TINY, random_labels=1.0, recipe=Recipe(0.2, 1500, 16, 2)))
    assert table.reached.all()
    assert table.test_error.min() > 0.6  # they tell nothing


def test_the_grid_has_the_reference_and_every_condition_for_every_seed():
    configs = grid(TINY, {"wide": {"network": {"widths": (32,)}}, "half": {"train": 30}}, 3)
    assert [c.condition for c in configs] == [REFERENCE] * 3 + ["wide"] * 3 + ["half"] * 3
    assert [c.seed for c in configs] == [0, 1, 2] * 3
    assert configs[3].network.widths == (32,)
    assert configs[-1].train == 30
    assert configs[0] == TINY


def test_an_unknown_change_is_refused():
    with pytest.raises(InputError, match="conditions must name fields"):
        changed(TINY, {"recipe": {"speed": 1}})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"train": 0}, "train must be"),
        ({"pairs": 0}, "pairs must be"),
        ({"probes": 0}, "probes must be"),
        ({"radius": 0.0}, "radius must be"),
        ({"seed": -1}, "seed must be"),
        ({"side": -1}, "side must be"),
        ({"random_labels": 1.5}, "random_labels must be a share of at most 1"),
        ({"target_losses": ()}, "target_losses must be one or more falling"),
        ({"target_losses": (0.1, 0.3)}, "target_losses must be one or more falling"),
        ({"target_losses": (0.0,)}, "target_losses must be"),
    ],
)
def test_bad_configurations_are_refused(what, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **what)


@pytest.mark.parametrize(
    "of", [conditions.starts, conditions.optimisers, conditions.architectures,
           conditions.regularisers],
)  # fmt: skip
def test_every_condition_differs_from_the_reference(of):
    found = of(TINY)
    configs = [changed(TINY, what) for what in found.values()]
    assert len(set(configs)) == len(configs)
    assert TINY not in configs


def test_an_output_scale_goes_with_its_learning_rate():
    """The first step moves the outputs as far, to first order, whatever the scale."""
    found = conditions.starts(TINY, output_scales=(0.1, 10.0))
    for scale in (0.1, 10.0):
        config = changed(TINY, found[f"output scale {scale:g}"])
        assert config.recipe.learning_rate * scale**2 == pytest.approx(0.2)


def test_architectures_have_about_as_many_parameters():
    data = TINY.data()
    usual = sum(p.numel() for p in TINY.network.build(data.shape, data.classes, 0).parameters())
    for name, what in conditions.architectures(TINY, depths=(2, 4)).items():
        network = changed(TINY, what).network
        if network.family == "mlp" and not network.batch_norm:
            net = network.build(data.shape, data.classes, 0)
            assert 0.8 * usual <= sum(p.numel() for p in net.parameters()) <= usual, name


def test_gradient_descent_takes_one_step_an_epoch():
    config = changed(TINY, conditions.optimisers(TINY)["descent, step 0.5"])
    data = config.data()
    net = mlp(64, 8, 10, seed=0)
    before = [p.clone() for p in net.parameters()]
    loss = torch.nn.functional.cross_entropy(net(data.x_train.float().flatten(1)), data.y_train)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    recipe = replace(config.recipe, epochs=1, warmup_epochs=0)
    list(train(net, data.x_train.flatten(1), data.y_train, recipe, seed=0))
    for new, old, gradient in zip(net.parameters(), before, gradients):
        torch.testing.assert_close(new, old - 0.5 * gradient)
