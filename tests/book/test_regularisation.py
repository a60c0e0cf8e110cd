"""Chapter "Labels and explicit regularisation": other pairs, and the straight path under mixup."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from implreg_book.experiments import ablations
from implreg_book.experiments.regularisation import Config, best_line, misplaced, profile, run
from scipy import integrate, optimize, stats

import implreg as ir
from implreg.errors import InputError
from implreg.tracing.paths import Pairs

TINY = ablations.Config(
    ablations.REFERENCE, "digits", 60, 0, ablations.Variant(widths=(16,)),
    ablations.Recipe(0.2, 400, 16, 2), 0, (1.0, 0.3), pairs=6, probes=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return run(Config(TINY))


@pytest.mark.parametrize(
    "what", [{}, {"recipe": {"mixup": 1.0}}, {"random_labels": 0.5, "network": {"dropout": 0.2}}]
)
def test_same_class_pairs_are_those_of_the_ablations(what):
    config = ablations.changed(TINY, what)
    expected = ablations.run(config)
    found = run(Config(config, kinds=("same",)))
    assert expected.reached.all()
    assert found.reached.all()
    assert found.columns.isin([*expected.columns, "misplaced", "kind", "condition", "seed"]).all()
    for name in found.columns.intersection(expected.columns):
        assert found[name].tolist() == pytest.approx(expected[name].tolist(), rel=1e-6), name


def test_every_target_has_a_row_of_each_kind(table):
    assert table.target_loss.tolist() == [1.0, 1.0, 0.3, 0.3]
    assert table.kind.tolist() == ["same", "different"] * 2
    assert (table.train_loss <= table.target_loss).all()
    assert table.notna().all(axis=None)
    # One epoch may pass several targets.
    both = run(Config(replace(TINY, target_losses=(100.0, 99.0))))
    assert both.epochs.tolist() == [0] * 4


def test_targets_that_are_not_reached_have_rows_without_measures():
    some = run(
        Config(replace(TINY, target_losses=(1.0, 1e-9), recipe=ablations.Recipe(0.2, 30, 16, 2)))
    )
    assert some.reached.tolist() == [True, True, False, False]
    assert some.epochs.tolist()[2:] == [30, 30]
    assert some.deflection.notna().tolist() == some.reached.tolist()
    wild = run(Config(replace(TINY, recipe=ablations.Recipe(1e6, 9))))
    assert len(wild) == 4
    assert not wild.reached.any()


def test_the_profile_is_that_of_the_networks_measured(table):
    """Its ends are the margin of the true classes; values by a forward pass of such a network."""
    course = profile(Config(TINY, points=400))
    assert course.groupby("target_loss", sort=False).size().to_dict() == {1.0: 400, 0.3: 400}
    assert course.t.iloc[:400].tolist() == pytest.approx(((np.arange(400) + 0.5) / 400).tolist())
    last = course[course.target_loss == 0.3]
    row = table[(table.target_loss == 0.3) & (table.kind == "different")].iloc[0]
    assert last.difference.iloc[0] > row.edge_margin * 0.9  # of one other class, not the largest
    assert last.probability.iloc[0] < 0.2
    assert last.probability.iloc[-1] > 0.6
    data = TINY.data()
    net = TINY.network.build(data.shape, data.classes, 0)
    ends = ir.pairs(data, kind="different", count=6, seed=0)
    start = profile(Config(replace(TINY, target_losses=(100.0,)), points=3))  # before training
    for at, row in start.set_index("t").iterrows():
        out = net.double()((1 - at) * ends.x0 + at * ends.x1).detach()
        own, other = (out.gather(1, y[:, None]) for y in (ends.y0, ends.y1))
        assert row.difference == pytest.approx(float((own - other).mean()), abs=1e-6)
        likely = out.softmax(1).gather(1, ends.y1[:, None])
        assert row.probability == pytest.approx(float(likely.mean()), abs=1e-6)
    assert profile(Config(replace(TINY, recipe=ablations.Recipe(1e6, 9)))).empty


def test_misplaced_probability_of_a_network_that_is_affine():
    """Against an integral of scipy, for three classes, along one path and its reverse."""
    torch.manual_seed(3)
    x0, x1 = torch.randn(2, 1, 4, dtype=torch.float64)
    net = torch.nn.Linear(4, 3).double()
    ends = Pairs(torch.cat([x0, x1]), torch.cat([x1, x0]), torch.tensor([2, 0]),
                 torch.tensor([0, 2]), kind="different")  # fmt: skip

    def distance(t: float) -> float:
        p = net((1 - t) * x0 + t * x1)[0].softmax(0).detach().numpy()
        return float(np.abs(p - [t, 0, 1 - t]).sum() / 2)

    expected = integrate.quad(distance, 0, 1, limit=200)[0]
    found = misplaced(ir.trace(net, ends), ends, 2000)
    assert found.tolist() == pytest.approx([expected] * 2, rel=1e-5)


@pytest.mark.parametrize(("label", "expected"), [((0, 1), 0.25), ((1, 0), 0.75), ((0, 0), 0.5)])
def test_misplaced_probability_of_a_hard_decision_in_the_middle(label, expected):
    net = torch.nn.Linear(1, 2).double()
    net.weight.data = torch.tensor([[-1e6], [1e6]], dtype=torch.float64)
    net.bias.data.zero_()
    ends = Pairs(-torch.ones(1, 1), torch.ones(1, 1), *torch.tensor(label).split(1), kind="random")
    assert misplaced(ir.trace(net, ends), ends).item() == pytest.approx(expected)


@settings(max_examples=20)
@given(st.floats(0.2, 5))
def test_the_best_line_is_what_a_minimiser_finds(alpha):
    """Minimum over all lines u + v t, by adaptive integrals over the distribution function."""
    line = best_line(alpha)
    shares = stats.beta(alpha, alpha).ppf((np.arange(1000) + 0.5) / 1000)

    def loss(values):
        z = values[0] + values[1] * shares
        return np.mean((1 - shares) * np.logaddexp(0, -z) + shares * np.logaddexp(0, z))

    found = optimize.minimize(loss, [0.0, 0.0], tol=1e-9)
    assert found.x == pytest.approx([line.steepness, -2 * line.steepness], rel=0.02)
    assert line.end_loss == pytest.approx(math.log1p(math.exp(-line.steepness)))
    assert line.mixup_loss == pytest.approx(found.fun, rel=5e-3)
    assert line.least_loss < line.mixup_loss


def test_of_a_uniform_share_the_least_loss_is_one_half():
    """The integral of -(1-t) log(1-t) - t log t."""
    assert best_line(1.0).least_loss == pytest.approx(0.5, abs=1e-8)


def test_the_larger_alpha_the_flatter_the_line():
    steep = [best_line(alpha).steepness for alpha in (0.1, 0.3, 1.0, 3.0, 30.0)]
    assert steep == sorted(steep, reverse=True)
    assert steep[-1] > 2  # the slope of log((1 - t) / t) in the middle is -4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": 0}, "points must be"),
        ({"kinds": ()}, "kinds must be one or more"),
        ({"kinds": ("same", "same")}, "kinds must be one or more, none twice"),
        ({"kinds": ("random",)}, "kinds must be one of same, different"),
    ],
)
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Config(TINY, **changes)


def test_a_tiny_alpha_is_refused():
    with pytest.raises(InputError, match=r"alpha must be at least 0\.1, got 0\.05"):
        best_line(0.05)
