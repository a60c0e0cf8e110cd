"""The sampled estimator against its definition in plain loops, and against exact traces."""

import dataclasses
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from implreg import measures
from implreg.errors import InputError
from implreg.networks import Initialisation, mlp, residual_mlp, resnet
from implreg.sampled import PLAIN, Sampled, Samples, Traits, sample, sampled
from implreg.tracing import Trace, polyline, read, trace
from implreg.tracing.paths import Pairs

seeds = st.integers(0, 2**31)
BIASED = Initialisation(sigma_b=0.5)
FOLDER = Path(__file__).parent
TRAITS = [
    Traits(merging=a, index=b, offsets=c, drift=d, seam=e, means=f, average_switches=f)
    for a, b, c, d, e, f in itertools.product(*[[True, False]] * 4, [None, 4], [True, False])
]


def ends(count: int, *shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, count, *shape, generator=random, dtype=torch.float64)
    return x0, x1


def biased(*sizes: int, seed: int) -> nn.Sequential:
    """An MLP with biases everywhere, in its output too."""
    net = mlp(*sizes, seed=seed, initialisation=BIASED, dtype=torch.float64)
    nn.init.normal_(net[-1].bias, generator=torch.Generator().manual_seed(seed))
    return net


def same(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def same_estimates(a: Sampled, b: Sampled) -> None:
    for name in ("switches", "intervals", "gap_deviation", "mid_path_deflection", "deflection"):
        same(getattr(a, name), getattr(b, name))


# --- the definition, in loops over plain numbers --------------------------------------------------


def by_definition(
    n: list[int], way: list[float], size: list[float], between: list[float], traits: Traits
) -> tuple[float, float]:
    """Gap deviation and mid-path deflection of one output on one path.

    Args:
        n: switches of each interval.
        way: the direction at each position, of the kind that the traits ask for.
        size: the normaliser at each position.
        between: the normaliser in the middle of each interval.
        traits: which are on.
    """
    last, total = len(way) - 1, sum(n)
    if traits.drift:
        s = [along / by for along, by in zip(way, size)]
        jumps = [s[k + 1] - s[k] for k in range(last)]
        if traits.seam:
            for k in range(traits.seam - 1, last, traits.seam):
                jumps[k] = way[k + 1] / size[k + 1] - way[k] / size[k] ** 2
            if size == [1.0] * len(size):
                assert jumps == [s[k + 1] - s[k] for k in range(last)]
    else:
        jumps = [(way[k + 1] - way[k]) / between[k] for k in range(last)]
        s = [way[0] / size[0] + sum(jumps[:k]) for k in range(last + 1)]
    bent = [k for k in range(last) if n[k]]
    if not bent:
        return math.nan, (s[0] - s[-1]) / 2
    if traits.merging:
        gap = math.sqrt(sum(jumps[k] ** 2 / n[k] for k in bent) / len(bent))
    else:
        gap = math.sqrt(sum(jumps[k] ** 2 for k in bent) / total)
    if traits.index:
        reached = list(itertools.accumulate((n[k] for k in bent), initial=0))  # c_0, c_1, ...
        q = next(j for j in range(len(reached)) if reached[j] > total / 2)
        sooner, later = total / 2 - reached[q - 1], reached[q] - total / 2
        middle = s[q - 2] if sooner < later else s[q - 1]
        if sooner == later:
            middle = (s[q - 2] + s[q - 1]) / 2
    else:
        done, k = 0, 0
        while done < total // 2:
            done, k = done + n[k], k + 1
        middle = s[k]
    return gap, middle - (s[0] + s[-1]) / 2


Walked = tuple[list[list[int]], list[list[float]], list[list[float]]]  # patterns, J D, with offsets


def check(
    found: Sampled, paths: list[Walked], traits: Traits, growth: list[list[float]] | None = None
) -> None:
    """`found` against the definition for every path and output, and the network's numbers."""
    hs, betas, totals = [], [], []
    for i, (patterns, plain, shifted) in enumerate(paths):
        points = len(patterns)
        n = [sum(a != b for a, b in zip(p, q)) for p, q in itertools.pairwise(patterns)]
        r0, r1 = growth[i] if growth else (1.0, 1.0)
        size = [(1 - k / (points - 1)) * r0 + k / (points - 1) * r1 for k in range(points)]
        between = [(size[k] + size[k + 1]) / 2 for k in range(points - 1)]
        totals.append(sum(n))
        assert found.switches[i].item() == sum(n)
        assert found.intervals[i].item() == sum(k > 0 for k in n)
        rows = shifted if traits.offsets else plain
        for c in range(len(rows[0])):
            gap, mid = by_definition(n, [row[c] for row in rows], size, between, traits)
            assert found.gap_deviation[i, c].item() == pytest.approx(gap, rel=1e-9, nan_ok=True)
            assert found.mid_path_deflection[i, c].item() == pytest.approx(mid, rel=1e-9, abs=1e-9)
            if sum(n):
                hs.append((gap, gap * math.sqrt(sum(n)) / 2))
                betas.append((mid / (math.sqrt(sum(n)) / 2), mid))
                assert found.bridge[i, c].item() == pytest.approx(betas[-1][0], rel=1e-9, abs=1e-9)
            else:
                hs.append((math.nan, 0.0))
    h = [gap for gap, _ in hs if not math.isnan(gap)]
    mean = sum(beta for beta, _ in betas) / len(betas)
    bridge = math.sqrt(sum((beta - mean) ** 2 for beta, _ in betas) / len(betas))
    sigma = sum(h) / len(h) if traits.means else math.sqrt(sum(x * x for x in h) / len(h))
    row, average = found.summary(), sum(totals) / len(totals)
    assert row["switches"] == pytest.approx(average)
    assert row["gap_deviation"] == pytest.approx(sigma, rel=1e-9)
    assert row["bridge_deviation"] == pytest.approx(bridge, rel=1e-9)
    if traits.average_switches:
        assert row["deflection"] == pytest.approx(sigma * math.sqrt(average) / 2)
        assert row["mid_path_deflection"] == pytest.approx(bridge * math.sqrt(average) / 2)
    else:
        assert row["deflection"] == pytest.approx(
            math.sqrt(sum(delta**2 for _, delta in hs) / len(hs))
        )


def by_hand(net: nn.Sequential, x: Tensor, way: Tensor) -> tuple[list[int], Tensor, Tensor, Tensor]:
    """Pattern, output, J D, and D sent through the layers with their biases, at one point."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    pattern: list[int] = []
    jacobian, shifted = torch.eye(len(x), dtype=torch.float64), way
    for i, layer in enumerate(layers):
        weight, bias = layer.weight.detach(), layer.bias.detach()
        x, shifted, jacobian = weight @ x + bias, weight @ shifted + bias, weight @ jacobian
        if i < len(layers) - 1:
            on = (x > 0).double()
            pattern += on.int().tolist()
            x, shifted, jacobian = on * x, on * shifted, torch.diag(on) @ jacobian
    return pattern, x, jacobian @ way, shifted


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("points", [3, 8, 25, 300])
def test_equals_its_definition(points: int, normalised: bool) -> None:
    net, (x0, x1) = biased(4, 7, 6, 2, seed=3), ends(5, 4, seed=1)
    reference = biased(4, 9, 3, seed=4) if normalised else None
    paths: list[Walked] = []
    growth = []
    for a, b in zip(x0, x1):
        if reference is not None:
            growth.append([(net(x).norm() / reference(x).norm()).item() for x in (a, b)])
        rows = []
        for k in range(points):
            t = k / (points - 1)
            x = (1 - t) * a + t * b
            pattern, y, plain, shifted = by_hand(net, x, b - a)
            same(y, net(x).detach())
            jacobian = torch.autograd.functional.jacobian(net, x)
            same(shifted, jacobian @ (b - a) + y - jacobian @ x)
            rows.append((pattern, plain.tolist(), shifted.tolist()))
        patterns, plains, shifts = ([*column] for column in zip(*rows))
        paths.append((patterns, plains, shifts))
    samples = sample(net, (x0, x1), points=points, reference=reference)
    for traits in TRAITS:
        check(samples.estimate(traits), paths, traits, growth or None)
    alone = sampled(net, (x0, x1), points=points, reference=reference, traits=PLAIN)
    same_estimates(alone, samples.estimate(PLAIN))


def pooled(seed: int) -> nn.Sequential:
    """Convolutions, batch norm with statistics of its own, max and average pooling."""
    random = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm2d(3)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), norm, nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(3, 4, 2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    for parameter in net.parameters():
        parameter.data = 0.7 * torch.randn(parameter.shape, generator=random)
    norm.running_mean = torch.randn(3, generator=random)
    norm.running_var = torch.rand(3, generator=random) + 0.5
    return net.double().eval()


@pytest.mark.parametrize("winners", [True, False])
def test_a_convolutional_network_equals_the_definition(winners: bool) -> None:
    net, (x0, x1) = pooled(0), ends(2, 1, 6, 6)
    paths: list[Walked] = []
    for a, b in zip(x0, x1):
        rows = []
        for k in range(40):
            x = a + k / 39 * (b - a)
            z = net[:2](x[None])
            top, winner = nn.functional.max_pool2d(z, 2, return_indices=True)
            second = net[4](top.relu())
            parts = (winner, top > 0, second > 0) if winners else (top > 0, second > 0)
            pattern = [int(entry) for part in parts for entry in part.flatten()]

            def masked(
                way: Tensor, shifts: bool, winner: Tensor, top: Tensor, second: Tensor
            ) -> Tensor:
                """The direction through the layers, with or without their constants."""
                for module in net:
                    zero = torch.zeros(1, *way.shape[1:], dtype=torch.float64)
                    if isinstance(module, nn.MaxPool2d) and winners:
                        way = way.flatten(2).gather(2, winner.flatten(2)).view(top.shape)
                    elif isinstance(module, nn.ReLU):
                        way = way * ((top if way.shape == top.shape else second) > 0)
                    elif shifts or isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.Flatten):
                        way = module(way)
                    else:
                        way = module(way) - module(zero)
                return way[0].detach()

            known = (winner, top, second)
            plain, shifted = (masked((b - a)[None], on, *known) for on in (False, True))
            if winners:
                jacobian = torch.func.jacrev(lambda x: net(x[None])[0])(x)
                same(plain, (jacobian * (b - a)).sum((1, 2, 3)))
            rows.append((pattern, plain.tolist(), shifted.tolist()))
        patterns, plains, shifts = ([*column] for column in zip(*rows))
        paths.append((patterns, plains, shifts))
    samples = sample(net, (x0, x1), points=40, winners=winners)
    for traits in TRAITS:
        check(samples.estimate(traits), paths, traits)


VALUES = np.load(FOLDER / "data" / "released-program-values.npz")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_what_the_program_itself_computed(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Linear(64, 1200), nn.ReLU(), nn.Linear(1200, 10)).to(dtype)
    for parameter, name in zip(net.parameters(), ("W0", "b0", "W1", "b1")):
        parameter.data = torch.tensor(VALUES[name]).to(dtype)
    x, r = torch.tensor(VALUES["X"]), torch.tensor(VALUES["l2"]).view(-1, 2).to(dtype)
    paths = (x[::2], x[1::2])
    norms = net(x.to(dtype)).norm(dim=1).view(-1, 2) / r
    samples = sample(net, paths, reference=norms, dtype=dtype)
    same(samples.growth, r, 1e-5)
    labels = torch.tensor(VALUES["labels"])[::2].long()

    def close(found: Tensor, name: str) -> None:
        np.testing.assert_allclose(
            found.detach(), VALUES[name], rtol=1e-5, atol=1e-5 * VALUES[name].std()
        )

    estimate, seam = (samples.estimate(Traits(seam=seam)) for seam in (None, 500))
    assert estimate.switches.tolist() == VALUES["switches"].tolist()
    close(estimate.per_unit_length().gap_deviation, "hess")
    close(seam.per_unit_length().gap_deviation, "hess_seam")
    for one in (estimate, seam):
        close(one.per_unit_length().bridge, "beta")
    close(samples.edge_margin(labels), "edge_margin")
    close(samples.fluctuation(labels), "fluctuation")
    # Each trait can be seen in these numbers: without it, they are others.
    for traits in (Traits(merging=False), Traits(offsets=False), Traits(drift=False)):
        other = samples.estimate(traits).gap_deviation
        assert not np.allclose(other, estimate.gap_deviation, rtol=1e-4)
    assert not np.allclose(samples.estimate(Traits(index=False)).bridge, estimate.bridge, rtol=0.01)


class Branches(nn.Module):
    """A kink from the start, an activation with two kinks, a maximum of branches, a shortcut."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        random = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(nn.functional.leaky_relu(x, 0.2))
        y = nn.functional.hardtanh(self.second(x), -1.5, 0.5)
        return self.out(torch.maximum(x + y, x.abs() - 0.3))


def trained_resnet() -> nn.Module:
    net = resnet(10, outputs=3, seed=0).double().eval()
    random = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data = 0.3 * torch.randn(module.bias.shape, generator=random).double()
            module.running_mean = 0.3 * torch.randn(module.bias.shape, generator=random).double()
            module.running_var = 0.5 + torch.rand(module.bias.shape, generator=random).double()
    return net


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (Branches(0), (5,)),
        (residual_mlp(6, 8, 3, 2, seed=0, initialisation=BIASED, dtype=torch.float64), (6,)),
        (trained_resnet(), (1, 28, 28)),
        (nn.Sequential(nn.Linear(3, 9, bias=False), nn.ReLU6(), nn.Hardtanh(0.3, 0.9)), (3,)),
        (nn.Linear(3, 2).double(), (3,)),
        (nn.ReLU(), (3,)),
        (nn.Identity(), (3,)),
    ],
    ids=["branches", "residual", "resnet", "kinks", "linear", "relu", "identity"],
)
def test_slopes_against_automatic_differentiation(net: nn.Module, shape: tuple[int, ...]) -> None:
    net, (x0, x1), points = net.double(), ends(2, *shape), 11
    samples = sample(net, (x0, x1), points=points)
    for i in range(2):
        x = torch.stack([torch.lerp(x0[i], x1[i], k / 10) for k in range(points)])
        y, plain = torch.func.jvp(net, (x,), ((x1[i] - x0[i]).expand_as(x),))
        _, at_x = torch.func.jvp(net, (x,), (x,))
        scale = plain.abs().max().item()
        same(samples.slopes[i] / scale, plain / scale)
        same(samples.slopes_with_offsets[i] / scale, (plain + y - at_x) / scale)


# --- against exact traces -------------------------------------------------------------------------


def occupied(traced: Trace, points: int) -> Tensor:
    """Exact switches in every interval, (P, points - 1)."""
    interval = (traced.t * (points - 1)).floor().long()
    flat = torch.bincount(
        traced.path * (points - 1) + interval, minlength=len(traced) * (points - 1)
    )
    return flat.view(len(traced), points - 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("points", [5, 17, 60])
def test_counts_are_the_odd_ones_among_the_switches_of_a_unit(seed: int, points: int) -> None:
    net, paths = biased(3, 20, 20, 1, seed=seed), ends(4, 3, seed=seed)
    traced = trace(net, paths)
    interval = (traced.t * (points - 1)).floor().long().tolist()
    tally: dict[tuple[int, ...], int] = {}
    for key in zip(traced.path.tolist(), interval, traced.layer.tolist(), traced.unit.tolist()):
        tally[key] = tally.get(key, 0) + 1
    expected = torch.zeros(4, points - 1, dtype=torch.int64)
    for (path, k, _, _), times in tally.items():
        expected[path, k] += times % 2
    counts = sample(net, paths, points=points).counts
    assert torch.equal(counts, expected)
    assert counts.sum() <= traced.switches.sum()


@pytest.mark.parametrize(
    ("net", "shape"),
    [(pooled(1), (1, 6, 6)), (Branches(1), (5,)), (biased(4, 9, 9, 2, seed=1), (4,))],
    ids=["pooled", "branches", "mlp"],
)
def test_equals_the_exact_measures_once_no_interval_has_two_switches(
    net: nn.Module, shape: tuple[int, ...]
) -> None:
    paths = ends(3, *shape, seed=2)
    traced = trace(net, paths)
    points = 101
    while occupied(traced, points).max() > 1:
        points = 2 * points - 1
    fine = sample(net, paths, points=points, winners=True)
    assert torch.equal(fine.counts, occupied(traced, points))
    plain = fine.estimate(PLAIN)
    for estimate, exact in [(plain, traced), (plain.per_unit_length(), traced.per_unit_length())]:
        assert torch.equal(estimate.switches, exact.switches)
        assert torch.equal(estimate.intervals, exact.switches)
        for name in ("gap_deviation", "deflection", "mid_path_deflection"):
            same(getattr(estimate, name), getattr(measures, name)(exact))
        expected = measures.summary(exact)
        found = estimate.summary()
        assert set(found) - set(expected) == {"intervals"}
        for name in set(found) & set(expected):
            assert found[name] == pytest.approx(expected[name], rel=1e-7)
        root = exact.switches.double().sqrt()[:, None]
        bridge = (measures.mid_path_deflection(exact) / (root / 2)).std(correction=0).item()
        assert found["bridge_deviation"] == pytest.approx(bridge, rel=1e-9)


def test_zeros_that_tie_in_a_pooling_window_are_one_winner() -> None:
    lines = nn.Linear(1, 2, dtype=torch.float64)
    lines.weight.data, lines.bias.data = (
        torch.tensor(x).double() for x in ([[2.0], [-2]], [-1.5, 0.5])
    )
    net = nn.Sequential(lines, nn.ReLU(), nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2), nn.Flatten())
    path = (torch.zeros(1, 1), torch.ones(1, 1))
    counts = sample(net, path, points=11, winners=True).counts
    assert counts.tolist() == [[0, 0, 1, 0, 0, 0, 0, 1, 0, 0]] and trace(net, path).switches == 2


def log_slope(x: list[int], y: Tensor) -> float:
    """Slope of a straight line through (log x, log y)."""
    a, b = torch.tensor(x).double().log(), y.log()
    return float(((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum())


def test_merging_goes_away_in_inverse_proportion_to_the_points() -> None:
    grids = [101, 201, 401, 801, 1601, 3201]
    merged, wrong = torch.zeros(2, len(grids), dtype=torch.float64)
    for seed in range(32):
        net, paths = biased(8, 32, 32, 2, seed=seed), ends(8, 8, seed=seed)
        traced = trace(net, paths)
        exact = measures.gap_deviation(traced)
        for i, points in enumerate(grids):
            found = sampled(net, paths, points=points, traits=PLAIN)
            merged[i] += (1 - found.intervals / traced.switches).mean() / 32
            wrong[i] += ((found.gap_deviation - exact).abs() / exact).mean() / 32
    assert (merged.diff() < 0).all() and wrong[-1] < wrong[0] / 8
    assert -1.15 < log_slope(grids, merged) < -0.85
    # On coarse grids several merged gaps of one path make up for each other in part.
    assert -1.2 < log_slope(grids, wrong) < -0.6
    # By chance M (M - 1) / 2T pairs of switches fall into one interval; crowding adds to that.
    per_point = (merged[-1] * grids[-1]).item()
    mean = float(traced.switches.double().mean())
    assert mean / 4 < per_point < 2 * mean


# --- traits ---------------------------------------------------------------------------------------


def test_without_biases_the_option_changes_nothing() -> None:
    net, paths = mlp(6, 20, 20, 3, seed=0, dtype=torch.float64), ends(4, 6)
    samples = sample(net, paths, points=50)
    assert torch.equal(samples.slopes, samples.slopes_with_offsets)
    with_zeros = sample(biased(6, 20, 20, 3, seed=0), paths, points=50)
    assert not torch.allclose(with_zeros.slopes, with_zeros.slopes_with_offsets)


def made_up(counts: list[int], slopes: list[float]) -> Samples:
    s = torch.tensor(slopes, dtype=torch.float64).view(1, -1, 1)
    return Samples(torch.tensor([counts]), s, s, s, torch.ones(1).double())


@pytest.mark.parametrize(
    ("counts", "program", "middle"),
    [
        ([1, 1, 1, 1], [1], 2),
        ([1, 2, 3, 4], [2], 3),  # M / 2 = 5 is reached behind the third
        ([2, 1, 1, 1], [0, 1], 1),  # half a switch before and behind
        ([0, 0, 1, 1], [0], 3),
        ([0, 3, 0, 0], [-1, 0], 2),  # one switch of three lies in the interval of all of them
        ([0, 1, 0, 2], [0], 2),  # an odd number is halved downwards
        ([0, 0, 0, 1], [-1, 0], 0),  # half of one switch is none
        ([0, 0, 0, 0], [0], 0),
        ([0, 0, 0, 2], [-1, 0], 4),
    ],
)
def test_where_the_slope_in_the_middle_is_looked_up(
    counts: list[int], program: list[int], middle: int
) -> None:
    slopes = [1.0, 20.0, 300.0, 4000.0, 50000.0]
    samples = made_up(counts, slopes)
    for index, positions in [(True, program), (False, [middle])]:
        found = samples.estimate(Traits(index=index)).mid_path_deflection.item()
        expected = sum(slopes[k] for k in positions) / len(positions)
        assert found == expected - (slopes[0] + slopes[-1]) / 2


@given(m=st.integers(1, 30), slopes=st.lists(st.floats(-5, 5), min_size=61, max_size=61))
def test_the_index_is_one_early_where_no_interval_is_empty(m: int, slopes: list[float]) -> None:
    samples = made_up([1] * 2 * m, slopes[: 2 * m + 1])
    found, middle = (samples.estimate(Traits(index=on)).mid_path_deflection for on in (True, False))
    assert (found - middle).item() == pytest.approx(slopes[m - 1] - slopes[m])


def test_the_seam_is_one_jump_of_the_normalised_slope() -> None:
    slopes = torch.tensor([1.0, 2.0, 4.0, 7.0, 7.0], dtype=torch.float64)
    samples = made_up([1, 1, 1, 1], slopes.tolist())
    seam = Traits(seam=2)
    same_estimates(samples.estimate(seam), samples.estimate())  # without normaliser
    tripled = dataclasses.replace(samples, growth=torch.full((1, 2), 3.0, dtype=torch.float64))
    jumps = slopes.diff() / 3
    same(tripled.estimate().gap_deviation[0, 0], jumps.square().mean().sqrt())
    jumps[1] = 4 / 3 - 2 / 9
    jumps[3] = 7 / 3 - 7 / 9
    same(tripled.estimate(seam).gap_deviation[0, 0], jumps.square().mean().sqrt())
    whole = tripled.estimate(Traits(seam=100))
    same_estimates(whole, tripled.estimate())


def test_a_path_without_a_switch_is_left_out() -> None:
    net = nn.Linear(3, 2).double()
    found = sampled(net, ends(2, 3), points=10)
    assert found.switches.tolist() == found.intervals.tolist() == [0, 0]
    assert found.gap_deviation.isnan().all() and (found.deflection == 0).all()
    assert math.isnan(found.bridge_deviation()) and len(found) == 2
    same(found.mid_path_deflection, torch.zeros(2, 2).double())


def test_defaults_are_the_released_program() -> None:
    net, paths = biased(4, 20, 2, seed=0), ends(3, 4)
    samples = sample(net, paths)
    assert len(samples) == 3 and samples.slopes.shape == (3, 1000, 2)
    assert samples.t[[0, 1, -1]].tolist() == [0, pytest.approx(1 / 999), 1]
    every = Traits(merging=True, index=True, offsets=True, drift=True, means=True,
                   average_switches=True)  # fmt: skip
    for found in (sampled(net, paths), samples.estimate()):
        same_estimates(found, samples.estimate(every))
        assert found.summary() == samples.estimate(every).summary()


def test_normalisation_can_be_left_out_afterwards() -> None:
    net, reference, paths = biased(4, 9, 2, seed=0), biased(4, 9, 2, seed=1), ends(3, 4)
    samples = sample(net, paths, points=60, reference=reference)
    same_estimates(samples.raw().estimate(), sampled(net, paths, points=60))
    once = sample(net, paths, points=60, reference=net)
    same_estimates(once.estimate(), once.raw().estimate())


def test_plain_estimates_of_fine_samples_are_the_normalised_measures() -> None:
    net, reference, paths = biased(4, 9, 9, 2, seed=0), biased(4, 5, 3, seed=1), ends(3, 4)
    traced = trace(net, paths)
    exact = measures.normalize(traced, trace(reference, paths))
    norms = torch.stack([reference(x).detach().norm(dim=1) for x in paths], dim=1)
    for name in ("gaps", "values", "slopes", "ends"):
        same(getattr(measures.normalize(traced, norms), name), getattr(exact, name))
    off = []
    for points in (10_001, 100_001):
        samples = sample(net, paths, points=points, reference=norms)
        found = samples.estimate(PLAIN)
        assert torch.equal(found.switches, traced.switches)
        off.append(
            [
                float((ours - theirs).abs().max() / theirs.abs().max())
                for ours, theirs in [
                    (found.gap_deviation, measures.gap_deviation(exact)),
                    (found.mid_path_deflection, measures.mid_path_deflection(exact)),
                ]
            ]
        )
    assert max(off[1]) < 1e-4 and max(off[0]) < 1e-3
    # With its drift the program's slope is another quantity, however fine the samples are.
    drifting = samples.estimate(dataclasses.replace(PLAIN, drift=True)).mid_path_deflection
    assert not torch.allclose(drifting, measures.mid_path_deflection(exact), rtol=0.01)


def test_fluctuation_and_margin_of_the_own_class() -> None:
    net, reference, paths = biased(4, 9, 9, 3, seed=0), biased(4, 5, 3, seed=1), ends(5, 4)
    labels = torch.tensor([0, 1, 2, 1, 0])
    samples = sample(net, paths, points=4001, reference=reference)
    traced = trace(net, paths)
    pairs = Pairs(*paths, labels, labels, "same")
    same(samples.raw().edge_margin(labels), measures.edge_margin(traced, pairs))
    exact = measures.fluctuation(traced)
    found = samples.raw().fluctuation()
    assert (found <= exact + 1e-12).all() and torch.allclose(found, exact, rtol=1e-2)
    own = samples.fluctuation(labels)
    for i, c in enumerate(labels.tolist()):
        assert own[i] == samples.fluctuation()[i, c]
        y = samples.values[i] / torch.lerp(*samples.growth[i], samples.t)[:, None]
        same(y[[0, -1]].norm(dim=1), torch.stack([reference(x[i]).norm() for x in paths]).detach())
        others = [k for k in range(3) if k != c]
        margin = (y[[0, -1], c] - y[[0, -1]][:, others].amax(1)).mean()
        same(samples.edge_margin(labels)[i], margin)
        same(own[i], (y[:, c] - torch.lerp(y[0, c], y[-1, c], samples.t)).abs().max())


# --- symmetries -----------------------------------------------------------------------------------

kinds = st.sampled_from(TRAITS)
grid = st.integers(3, 80)


@settings(max_examples=20)
@given(seed=seeds, points=grid, kind=kinds, scale=st.floats(0.1, 10))
def test_slopes_scale_with_the_outputs(seed: int, points: int, kind: Traits, scale: float) -> None:
    net, paths = biased(3, 8, 8, 2, seed=seed), ends(2, 3, seed=seed)
    a = sample(net, paths, points=points).estimate(kind)
    for parameter in net[-1].parameters():
        parameter.data *= scale
    b = sample(net, paths, points=points).estimate(kind)
    same(b.gap_deviation, scale * a.gap_deviation)
    same(b.mid_path_deflection, scale * a.mid_path_deflection)
    assert torch.equal(a.switches, b.switches) and torch.equal(a.intervals, b.intervals)


@settings(max_examples=20)
@given(seed=seeds, points=grid, kind=kinds)
def test_the_order_of_units_does_not_matter(seed: int, points: int, kind: Traits) -> None:
    net, paths = biased(3, 8, 2, seed=seed), ends(2, 3, seed=seed)
    a = sampled(net, paths, points=points, traits=kind)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    net[0].weight.data, net[0].bias.data = net[0].weight.data[order], net[0].bias.data[order]
    net[2].weight.data = net[2].weight.data[:, order]
    same_estimates(a, sampled(net, paths, points=points, traits=kind))


@settings(max_examples=20)
@given(seed=seeds, points=grid, kind=kinds)
def test_a_batch_is_its_paths(seed: int, points: int, kind: Traits) -> None:
    net, (x0, x1) = biased(3, 8, 8, 2, seed=seed), ends(4, 3, seed=seed)
    every = sampled(net, (x0, x1), points=points, traits=kind)
    for i in range(4):
        one = (x0[i : i + 1], x1[i : i + 1])
        found = sampled(net, one, points=points, traits=kind)
        for name in ("switches", "intervals", "gap_deviation", "mid_path_deflection", "lengths"):
            same(getattr(found, name), getattr(every, name)[i : i + 1])


@settings(max_examples=20)
@given(seed=seeds, points=grid)
def test_reversal(seed: int, points: int) -> None:
    net, (x0, x1) = biased(3, 8, 8, 2, seed=seed), ends(2, 3, seed=seed)
    forth, back = (sample(net, ways, points=points) for ways in ((x0, x1), (x1, x0)))
    assert torch.equal(forth.counts, back.counts.flip(1))
    same(forth.slopes, -back.slopes.flip(1))
    a, b = (x.estimate(PLAIN) for x in (forth, back))
    same(a.gap_deviation, b.gap_deviation)
    assert torch.equal(a.switches, b.switches) and torch.equal(a.intervals, b.intervals)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [pooled(0), Branches(0)], ids=["pooled", "branches"])
def test_memory_changes_nothing(net: nn.Module) -> None:
    paths = ends(3, *((1, 6, 6) if isinstance(net, nn.Sequential) else (5,)))
    whole = sample(net, paths, points=23, reference=net)
    with pytest.raises(InputError, match="memory must be at least") as refused:
        sample(net, paths, points=23, memory=1)
    least = 1000 * int(re.search(r"at least (\d+)kB", str(refused.value))[1])
    for memory in (least, 2 * least, f"{5 * least // 1000}kB"):
        parts = sample(net, paths, points=23, reference=net, memory=memory)
        assert torch.equal(whole.counts, parts.counts)
        for name in ("slopes", "slopes_with_offsets", "lengths", "growth"):
            same(getattr(whole, name), getattr(parts, name), 1e-12)


def test_pairs_programs_and_single_precision() -> None:
    net, (x0, x1) = biased(4, 9, 2, seed=0), ends(3, 4)
    label = torch.zeros(3, dtype=torch.int64)
    expected = sampled(net, (x0, x1), points=50)
    pairs = Pairs(
        **{f.name: {"x0": x0, "x1": x1}.get(f.name, label) for f in dataclasses.fields(Pairs)}
    )
    same_estimates(sampled(net, pairs, points=50), expected)
    same_estimates(sampled(read(net, x0[0]), (x0, x1), points=50), expected)
    single = sampled(net, (x0, x1), points=50, dtype=torch.float32)
    assert single.gap_deviation.dtype == torch.float32
    same(single.gap_deviation.double(), expected.gap_deviation, 1e-4)


@pytest.mark.parametrize("points", [2, 0, -1, 10.0, True, "9"])
def test_refuses_too_few_points(points: object) -> None:
    with pytest.raises(InputError, match="points must be a whole number of at least 3"):
        sampled(nn.Linear(3, 1), ends(1, 3), points=points)


def test_refuses_what_cannot_be_sampled() -> None:
    net, (x0, x1) = biased(3, 5, 2, seed=0), ends(2, 3)
    with pytest.raises(InputError, match="seam must be a whole number of at least 1, got 0"):
        sampled(net, (x0, x1), traits=Traits(seam=0))
    with pytest.raises(InputError, match="polylines of 2 segments"):
        sampled(net, polyline(torch.eye(3)))
    with pytest.raises(InputError, match="the ends are equal"):
        sampled(net, (x0, x0))
    with pytest.raises(InputError, match=r"net must be a torch\.nn\.Module"):
        sampled("net", (x0, x1))
    with pytest.raises(InputError, match="Tanh"):
        sampled(nn.Sequential(net, nn.Tanh()), (x0, x1))
    with pytest.raises(InputError, match="BatchNorm1d"):
        sampled(nn.Sequential(nn.BatchNorm1d(3), net), (x0, x1))
    with pytest.raises(InputError, match="dtype must be"):
        sampled(net, (x0, x1), dtype=torch.float16)
    with pytest.raises(InputError, match="memory must be a whole number of bytes"):
        sampled(net, (x0, x1), memory="much")


def test_refuses_what_cannot_be_normalised() -> None:
    net, paths = biased(3, 5, 2, seed=0), ends(2, 3)
    dead = biased(3, 5, 2, seed=0)
    for parameter in dead[-1].parameters():
        parameter.data.zero_()
    with pytest.raises(InputError, match="reference must hold the norm of an output vector"):
        sampled(net, paths, reference=dead)
    with pytest.raises(InputError, match="net must have outputs that are not zero"):
        sampled(dead, paths, reference=net)
    for norms in (torch.ones(3, 2), torch.tensor([[1.0, 2.0], [math.nan, 1.0]])):
        with pytest.raises(InputError, match=r"both ends of every path, \(2, 2\), all above 0"):
            sampled(net, paths, reference=norms)


@pytest.mark.parametrize(
    "labels",
    [torch.zeros(3).long(), torch.zeros(2), torch.tensor([0, 2]), torch.tensor([-1, 0]),
     torch.tensor([True, False]), torch.zeros(2, 1).long()],
    ids=["count", "float", "high", "low", "bool", "shape"],
)  # fmt: skip
def test_refuses_labels_that_are_none(labels: Tensor) -> None:
    samples = sample(biased(3, 5, 2, seed=0), ends(2, 3), points=9)
    for measure in (samples.fluctuation, samples.edge_margin):
        with pytest.raises(InputError, match="labels must hold one whole number from 0 to 1, a cl"):
            measure(labels)
    one = sample(biased(3, 5, 1, seed=0), ends(2, 3), points=9)
    with pytest.raises(InputError, match="net must have two or more outputs"):
        one.edge_margin(torch.zeros(2).long())
