"""Chapter "Where it fails": pairs, paths off the data, coordinates, smooth activations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from implreg_book.experiments import coordinates, limits, smooth
from scipy import integrate
from torch import nn

import implreg as ir
from implreg.errors import InputError

SMALL = limits.Config("digits", 200, 24, (3, 4), ir.SGD(0.1, 30, 20, 2), pairs=6)
DATA = SMALL.data()


# ------------------------------------------------------------ pairs and paths of digits


def test_kinds_of_pairs_are_what_they_are_called():
    drawn = limits.Drawing(DATA, 40, seed=1).kinds()
    assert {len(pairs) for pairs in drawn.values()} == {40}
    assert (drawn["different"].y0 != drawn["different"].y1).all()
    x, y = DATA.x_train, DATA.y_train
    for kind, best in (("nearest", min), ("farthest", max)):
        pairs = drawn[kind]
        assert (pairs.y0 == pairs.y1).all()
        for x0, x1, label in zip(pairs.x0, pairs.x1, pairs.y0, strict=True):
            others = [float(x0 @ o) for o in x[y == label] if not torch.equal(o, x0)]
            nearer = max if best is min else min
            assert float(x0 @ x1) == pytest.approx(nearer(others), abs=1e-9)


def test_pairs_of_an_angle_have_it_and_none_comes_twice():
    draw = limits.Drawing(DATA, 30, seed=0)
    found = list(draw.by_angle((1.0, 1.4, 1.5, 3.14)))
    assert {name for name, _, _ in found} == {"same", "different"}
    for name, low, pairs in found:
        cosine = (pairs.x0 * pairs.x1).sum(dim=1) / 64
        high = {1.0: 1.4, 1.4: 1.5, 1.5: 3.14}[low]
        assert ((cosine <= math.cos(low)) & (cosine > math.cos(high))).all()
        assert ((pairs.y0 == pairs.y1) == (name == "same")).all()
        assert len(torch.unique(torch.cat([pairs.x0, pairs.x1], dim=1), dim=0)) == 30


def test_an_angle_without_enough_pairs_is_left_out():
    assert not list(limits.Drawing(DATA, 30, seed=0).by_angle((3.0, 3.1)))


def test_a_seed_draws_the_same_pairs_again():
    one, other = (limits.Drawing(DATA, 9, seed=5).kinds()["same"] for _ in range(2))
    assert torch.equal(one.x0, other.x0) and torch.equal(one.x1, other.x1)
    assert not torch.equal(one.x0, limits.Drawing(DATA, 9, seed=6).kinds()["same"].x0)


def test_paths_off_the_data_go_where_they_should():
    off = limits.Drawing(DATA, 12, seed=2).off()
    x0, x1 = off["between"]
    start, end = off["beyond"]
    assert torch.equal(start, x1) and torch.allclose(end, 3 * x1 - 2 * x0)
    for kind in ("to noise", "noise"):
        assert torch.allclose(off[kind][1].norm(dim=1), torch.full((12,), 8.0, dtype=torch.float64))
    assert torch.equal(off["to noise"][0], x0)
    assert torch.allclose(off["to the mean"][1][3], DATA.x_train.mean(dim=0))
    assert set(off) == {"between", *limits.OFF}


@pytest.fixture(scope="module")
def table():
    return limits.run(SMALL)


def test_run_measures_each_network_before_and_after(table):
    assert set(table.phase) == {"before", "after"} and set(table.seed) == {3, 4}
    near = table[table.group == "boundary"]
    assert set(near.phase) == {"after"} and near.steepness.notna().all()
    shaped = table[table.residual_ratio.notna()]
    assert set(shaped.paths) == {"different"} and len(shaped) == 4
    kinds = table[table.group == "kind"].set_index(["phase", "seed", "paths"])
    assert not kinds.index.has_duplicates and len(kinds) == 2 * 2 * 4
    net = ir.mlp(64, 24, 10, seed=4)
    drawn = limits.Drawing(DATA, 6, seed=4).kinds()["farthest"]
    for phase in ("before", "after"):
        traced = ir.trace(net, drawn).per_unit_length()
        expected = ir.measures.summary(traced, drawn)
        row = kinds.loc[(phase, 4, "farthest")]
        for name in ("switches", "fluctuation", "edge_margin"):
            assert row[name] == pytest.approx(expected[name], rel=1e-3), (phase, name)
        length = (drawn.x1 - drawn.x0).norm(dim=1)[:, None]
        curvature = (ir.quadratic_variation(traced) / length).mean()
        assert row.curvature == pytest.approx(float(curvature), rel=1e-3)
        ratio = expected["bridge_deviation"] / expected["gap_deviation"]
        assert row.bridge_ratio == pytest.approx(ratio, rel=1e-3)
        with torch.no_grad():
            change = (net.double()(drawn.x1) - net(drawn.x0)).square().mean().sqrt()
        assert row.output_change == pytest.approx(float(change), rel=1e-3)
        net = net.float()
        for _ in ir.train(net, DATA.x_train, DATA.y_train, SMALL.sgd, seed=4):
            pass


def test_paths_to_the_mean_are_nearly_rays(table):
    """A bias-free network is linear along a ray, and the mean is nearly zero."""
    before = table[(table.phase == "before") & (table.group == "off")]
    straight = (before.fluctuation / before.output_change).groupby(before.paths).mean()
    assert straight["to the mean"] < 0.3 * straight["between"]


def test_a_network_that_diverges_has_no_row_after():
    wild = replace(SMALL, sgd=replace(SMALL.sgd, learning_rate=1e9))
    assert set(limits.run(wild).phase) == {"before"}


def test_shape_splits_the_bridge_ratio_into_means_and_the_rest():
    net = ir.mlp(64, 24, 10, seed=3)
    drawn = limits.Drawing(DATA, 200, seed=0).kinds()["different"]
    found = limits.shape(net, drawn)
    traced = ir.trace(net, drawn).per_unit_length()
    whole = ir.bridge_deviation(traced) / ir.pool(ir.gap_deviation(traced))
    # One output of ten is the start's, one the end's: the squares of a variance add up.
    means = np.array([found["start_mean"], found["end_mean"], found["other_mean"]])
    share = np.array([0.1, 0.1, 0.8])
    spread = share @ means**2 - (share @ means) ** 2
    assert whole**2 == pytest.approx(found["residual_ratio"] ** 2 + spread, rel=1e-9)


def test_a_straight_network_is_as_steep_as_its_chord_everywhere():
    net = nn.Linear(64, 10).double()
    pairs = limits.Drawing(DATA, 400, seed=0).kinds()["different"]
    found = limits.steepness(net, pairs)
    assert found.place.tolist() == np.linspace(-0.5, 2.5, 13).tolist()
    np.testing.assert_allclose(found.steepness, 1, rtol=1e-9)
    assert found.crossings.eq(1).all() and found.used.gt(0).all()


def test_a_network_that_is_steep_in_the_middle_is_found_to_be():
    """m(t) = 1.25 - t, less a ramp from 0 to 1 between t = 0.48 and 0.52: the chord falls by 2."""
    net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    weights = (
        [[1.0]] * 3,
        [10.0, -0.48, -0.52],
        [[-1.0, -25.0, 25.0], [0.0, 0.0, 0.0]],
        [11.25, 0.0],
    )
    for values, numbers in zip(net.parameters(), weights, strict=True):
        values.data.copy_(torch.tensor(numbers, dtype=torch.float64))
    x0, label = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0])
    drawn = ir.Pairs(x0, x0 + 1, label, label + 1, kind="different")
    found = limits.steepness(net, drawn).set_index("place").steepness
    # Windows of length 0.1: without the ramp it falls by 0.1 in them, with all of it by 1.1.
    assert found[0.0] == pytest.approx(0.5) and found[2.0] == pytest.approx(0.5)
    assert found[1.0] == pytest.approx(5.5)


def test_difference_takes_positions_of_each_path():
    drawn = limits.Drawing(DATA, 5, seed=0).kinds()["different"]
    net = ir.mlp(64, 24, 10, seed=0, dtype=torch.float64)
    t = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = limits.difference(ir.trace(net, drawn), drawn, t)
    for i in range(5):
        x = torch.lerp(drawn.x0[i], drawn.x1[i], t[i, :, None])
        expected = net(x)[:, drawn.y0[i]] - net(x)[:, drawn.y1[i]]
        assert torch.allclose(found[i], expected, atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": -1}, "train must be"),
        ({"width": 0}, "width must be"),
        ({"pairs": 0}, "pairs must be"),
        ({"seeds": ()}, "seeds must be one or more"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"seeds": (-1,)}, "seeds must be a whole number"),
        ({"angles": (1.0,)}, "angles must be two or more"),
        ({"angles": (1.0, 0.5)}, "rising"),
        ({"angles": (-1.0, 0.5)}, "angles must be a finite number of at least 0"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        replace(SMALL, **changes)


def test_more_pairs_than_there_are_is_told():
    with pytest.raises(InputError, match=r"pairs must be at most \d+, the number of pairs"):
        limits.Drawing(ir.load("digits", train=20), 100, seed=0).kinds()


# ------------------------------------------------------------ coordinates

TINY = coordinates.Config("relu", 0.0, (0, 1), points=5, steps=4000, target_loss=0.01, width=32,
                          features=8, samples=20)  # fmt: skip


@pytest.mark.parametrize(("kind", "bandwidth"), [("relu", 0.0), ("fourier", 2.0), ("sine", 5.0)])
def test_networks_reach_the_loss_each_as_if_alone(kind, bandwidth):
    config = replace(TINY, network=kind, bandwidth=bandwidth)
    table = coordinates.run(config)
    assert table.reached.all() and not table.diverged.any()
    assert (table.fluctuation > 0).all() and (table.error > 0).all()
    fitted = coordinates.fit(config)
    for seed, net, steps in zip((0, 1), fitted.nets, fitted.steps.tolist(), strict=True):
        x, y = config.known[:, None], coordinates.signal(config, seed)(config.known)
        loss = (net(x)[:, 0] - y).detach().square().mean()
        assert float(loss) <= 0.01 * (1 + 1e-4)
        # Plain gradient descent, written out.
        alone = coordinates.network(config, seed).float()
        for _ in range(steps):
            alone.zero_grad()
            (alone(x.float())[:, 0] - y.float()).square().mean().backward()
            with torch.no_grad():
                for p in alone.parameters():
                    p -= config.rate * p.grad
        assert torch.allclose(alone.double()(x), net(x), atol=0.02)


def test_grid_fluctuation_of_a_relu_network_is_the_exact_one_from_below():
    config = replace(TINY, samples=400)
    table = coordinates.run(config)
    for i, net in enumerate(coordinates.fit(config).nets):
        x = config.known[:, None]
        exact = float(ir.fluctuation(ir.trace(net, (x[:-1], x[1:]))).mean())
        assert table.exact_fluctuation[i] == pytest.approx(exact)
        assert table.coarse_fluctuation[i] <= table.fluctuation[i] <= exact + 1e-12
        assert table.fluctuation[i] == pytest.approx(exact, rel=0.01)


def test_signals_have_mean_square_one_and_the_frequencies_asked_for():
    config = replace(TINY, frequencies=4)
    x = torch.linspace(-1, 1, 257, dtype=torch.float64)[:-1]
    for seed in range(3):
        power = torch.fft.rfft(coordinates.signal(config, seed)(x)).abs().square()
        assert float(power[1:5].sum() * 2 / 256**2) == pytest.approx(1)
        assert float(power[5:].max()) < 1e-18 and float(power[0]) < 1e-18


def test_waves_make_as_many_cycles_as_they_say():
    x = torch.linspace(-1, 1, 65, dtype=torch.float64)[:-1, None]
    made = coordinates.Waves(torch.tensor([3.0, 5.0], dtype=torch.float64))(x)
    assert torch.allclose(made.square().sum(dim=1), torch.tensor(4.0, dtype=torch.float64))
    peaks = torch.fft.rfft(made.T).abs().argmax(dim=1)
    assert peaks.tolist() == [3, 5, 3, 5]


def test_sine_networks_start_as_in_their_paper():
    net = coordinates.network(replace(TINY, network="sine", bandwidth=30.0, width=1000), 0)
    first, hidden = net[0].weight.detach(), net[2].weight.detach()
    assert float(first.abs().max()) <= 1
    assert float(hidden.abs().max()) <= math.sqrt(6 / 1000) / 30
    # Pre-activations of the second layer, times the factor, are normal with variance 1.
    x = torch.linspace(-1, 1, 500, dtype=torch.float64)[:, None]
    assert float((30 * (net[:3](x) - net[2].bias)).detach().std()) == pytest.approx(1, rel=0.1)


def test_runs_that_do_not_arrive_or_diverge_are_told():
    short = coordinates.run(replace(TINY, steps=1))
    assert not short.reached.any() and not short.diverged.any() and short.error.notna().all()
    wild = coordinates.run(replace(TINY, rate=1e9, steps=50))
    assert wild.diverged.all() and not wild.reached.any()
    assert "error" not in wild or wild.error.isna().all()


def test_a_curve_goes_through_the_known_points():
    config = replace(TINY, network="fourier", bandwidth=2.0, target_loss=1e-4)
    table = coordinates.curve(config)
    known = table[table.known]
    assert len(table) == 4 * 21 and len(known) == 2 * 4
    assert (known.value - known.signal).abs().max() < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "gelu"}, "network must be one of relu, fourier, sine"),
        ({"optimiser": "sgd"}, "optimiser must be one of"),
        ({"bandwidth": 1.0}, "bandwidth must be above 0 for a network of sines and 0 for 'relu'"),
        ({"network": "sine"}, "bandwidth must be above 0"),
        ({"bandwidth": -1.0}, "bandwidth must be a finite number of at least 0"),
        ({"rate": 0.0}, "rate must be"),
        ({"target_loss": 0.0}, "target_loss must be"),
        ({"steps": 0}, "steps must be"),
        ({"points": 1}, "points must be a whole number of at least 2"),
        ({"samples": 3}, "samples must be even"),
        ({"seeds": ()}, "seeds must be one or more"),
        ({"seeds": (-1,)}, "seeds must be a whole number"),
    ],
)
def test_coordinates_refuse(changes, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **changes)


# ------------------------------------------------------------ smooth activations


def test_slopes_are_derivatives():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    random = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 3, dtype=torch.float64, generator=random)
    first, second = smooth.slopes(net, x0, x1, 600)
    t = torch.linspace(0, 1, 601, dtype=torch.float64)
    values = net(torch.lerp(x0, x1, t[:, None])).detach()
    assert torch.allclose((values[2:] - values[:-2]) * 300, first[1:-1], atol=1e-4)
    assert torch.allclose((first[2:] - first[:-2]) * 300, second[1:-1], atol=1e-3)


def unit(rate, offset, beta):
    """One softplus unit v sp(w t + b) with v = -2, along t from 0 to 1."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    for values, number in zip(net.parameters(), (rate, offset, -2.0, 0.0), strict=True):
        values.data.fill_(number)
    return smooth.softened(net, beta)


@given(rate=st.floats(0.5, 5), at=st.floats(0.1, 0.9), beta=st.floats(1, 50))
def test_one_softplus_unit_has_closed_forms(rate, at, beta):
    """The second derivative is v w² beta s (1 - s) with s the logistic of beta z."""
    first, second = smooth.slopes(
        unit(rate, -rate * at, beta),
        torch.zeros(1, dtype=torch.float64),
        torch.ones(1, dtype=torch.float64),
        1000,
    )
    low, high = (1 / (1 + math.exp(-beta * z)) for z in (-rate * at, rate * (1 - at)))
    bend = 2 * rate * (high - low)
    square = 4 * rate**3 * beta * ((high**2 / 2 - high**3 / 3) - (low**2 / 2 - low**3 / 3))
    assert float(torch.trapezoid(second.abs(), dx=1 / 1000, dim=0)) == pytest.approx(bend, rel=1e-3)
    assert float(torch.trapezoid(second**2, dx=1 / 1000, dim=0)) == pytest.approx(square, rel=1e-3)
    gaps = first.diff(dim=0)
    assert float(gaps.abs().sum()) == pytest.approx(bend, rel=1e-9)  # convex: no sign changes
    assert 1000 * float(gaps.square().sum()) == pytest.approx(square, rel=1e-3)


def test_a_sharp_unit_bends_as_much_as_its_kink():
    _, second = smooth.slopes(
        unit(3.0, -1.5, 2000.0),
        torch.zeros(1, dtype=torch.float64),
        torch.ones(1, dtype=torch.float64),
        100_000,
    )
    assert float(torch.trapezoid(second.abs(), dx=1e-5, dim=0)) == pytest.approx(2 * 3.0, rel=1e-3)
    # beta g² |dz/dt| / 6, the exercise's closed form
    square = float(torch.trapezoid(second**2, dx=1e-5, dim=0))
    assert square == pytest.approx(2000 * 6.0**2 * 3.0 / 6, rel=1e-3)


def test_smooth_run_agrees_with_quadrature_and_with_the_theorem():
    config = smooth.Config("digits", 12, 0, (4.0, 200.0), (8, 64, 4096), pairs=2)
    table = smooth.run(config)
    soft, sharp = (table[table.sharpness == beta].set_index("samples") for beta in (4.0, 200.0))
    relu = table[table.activation == "ReLU"].set_index("samples")
    assert len(table) == 9
    for rows in (soft, sharp):
        assert (rows.largest_bend_ratio <= 1 + 1e-4).all()
        assert (rows.largest_square_ratio <= 1 + 1e-4).all()
        assert rows.total_variation[4096] == pytest.approx(rows.bend[4096], rel=1e-3)
        assert 4096 * rows.quadratic_variation[4096] == pytest.approx(rows.square[4096], rel=0.02)
    assert sharp.bend[8] == pytest.approx(relu.bend[8], rel=0.1)
    net = ir.mlp(64, 12, 10, seed=0, dtype=torch.float64)
    drawn = ir.pairs(ir.load("digits"), kind="random", count=2, seed=0)
    traced = ir.trace(net, drawn)
    exact = float(ir.quadratic_variation(traced).mean())
    assert relu.quadratic_variation[4096] == pytest.approx(exact, rel=0.05)
    assert relu.bend[8] == pytest.approx(float(ir.total_variation(traced).mean()))
    # scipy's adaptive quadrature of the second derivative, written out
    z0, z1 = net[0](drawn.x0[0]).detach(), net[0](drawn.x1[0]).detach()
    size = (net[2].weight.detach() * (z1 - z0) ** 2)[3].numpy()

    def bend(t):
        s = 1 / (1 + np.exp(-4.0 * (z0 + t * (z1 - z0)).numpy()))
        return abs(float((size * 4.0 * s * (1 - s)).sum()))

    _, second = smooth.slopes(smooth.softened(net, 4.0), drawn.x0[0], drawn.x1[0], 4096)
    found = float(torch.trapezoid(second[:, 3].abs(), dx=1 / 4096))
    assert found == pytest.approx(integrate.quad(bend, 0, 1, limit=500)[0], rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width must be"),
        ({"pairs": 0}, "pairs must be"),
        ({"seed": -1}, "seed must be"),
        ({"sharpness": (0.0,)}, "sharpness must be"),
        ({"samples": (0, 4)}, "samples must be"),
        ({"samples": (8, 4)}, "samples must be one or more, rise and divide"),
        ({"samples": (3, 4)}, "samples must be one or more, rise and divide"),
        ({"samples": ()}, "samples must be one or more"),
    ],
)
def test_smooth_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        replace(smooth.Config("digits", 9, 0, (1.0,), (2, 4)), **changes)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.Tanh(), nn.Softplus(), coordinates.Sine(2.0)])
def test_smooth_networks_are_refused_in_one_sentence(activation):
    net = nn.Sequential(nn.Linear(2, 3), activation, nn.Linear(3, 1))
    with pytest.raises(InputError, match=r"^net must be piecewise linear, [^.]*\.$"):
        ir.trace(net, (torch.zeros(1, 2), torch.ones(1, 2)))
