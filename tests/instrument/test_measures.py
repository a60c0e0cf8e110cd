"""Measures against their definitions, written out in plain loops, and against closed forms."""

import math
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from implreg import measures
from implreg.errors import InputError
from implreg.networks import Initialisation, mlp
from implreg.tracing import Trace, polyline, stream, trace
from implreg.tracing.paths import Pairs

seeds = st.integers(0, 2**31)


def traced(seed: int, paths: int = 3, outputs: int = 2, width: int = 9) -> Trace:
    random = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, paths, 4, generator=random)
    how = Initialisation(sigma_b=0.5)
    return trace(mlp(4, width, width, outputs, seed=seed, initialisation=how), (x0, x1))


@settings(max_examples=30)
@given(seed=seeds)
def test_measures_follow_their_definitions(seed: int) -> None:
    several = traced(seed)
    found = {
        name: getattr(measures, name)(several)
        for name in ("quadratic_variation", "total_variation", "gap_deviation", "deflection",
                     "mid_path_deflection", "fluctuation")
    }  # fmt: skip
    for i in range(3):
        one = several[i]
        count = len(one.t)
        for c in range(2):
            g, s = one.gaps[:, c].tolist(), one.slopes[:, c].tolist()
            v = sum(x * x for x in g)
            knots = [0.0, *one.t.tolist()]
            start, end = one.values[0, c].item(), one.ends[0, c].item()
            far = [abs(y - start - t * (end - start))
                   for t, y in zip(knots, one.values[:, c].tolist(), strict=True)]  # fmt: skip
            expected = {
                "quadratic_variation": v,
                "total_variation": sum(abs(x) for x in g),
                "gap_deviation": math.sqrt(v / count) if count else math.nan,
                "deflection": math.sqrt(v) / 2,
                "mid_path_deflection": s[count // 2] - (s[0] + s[-1]) / 2,
                "fluctuation": max(far),
            }
            for name, value in expected.items():
                assert found[name][i, c].item() == pytest.approx(value, rel=1e-9, nan_ok=True)


@settings(max_examples=20)
@given(seed=seeds, scale=st.floats(0.1, 10))
def test_measures_scale_with_the_outputs(seed: int, scale: float) -> None:
    plain = traced(seed)
    scaled = replace(plain, gaps=scale * plain.gaps, slopes=scale * plain.slopes,
                     values=scale * plain.values, ends=scale * plain.ends)  # fmt: skip
    a, b = measures.summary(plain), measures.summary(scaled)
    powers = {"switches": 0, "quadratic_variation": 2}
    for name, value in a.items():
        assert b[name] == pytest.approx(value * scale ** powers.get(name, 1), nan_ok=True)


def random_walk(paths: int, steps: int, correlation: float = 0.0) -> Trace:
    """A made-up trace whose gaps are Gaussian with deviation 3, neighbours correlated."""
    noise = torch.randn(paths, steps + 1, generator=torch.Generator().manual_seed(0)).double()
    # A moving average of order one with this lag-1 correlation.
    root = math.sqrt(1 - 4 * correlation**2)
    b = 0.0 if correlation == 0 else (1 - root) / (2 * correlation)
    gaps = 3 * (noise[:, 1:] + b * noise[:, :-1]) / math.sqrt(1 + b * b)
    slopes = torch.cat([torch.zeros(paths, 1), gaps.cumsum(dim=1)], dim=1)
    t = torch.linspace(0, 1, steps + 2, dtype=torch.float64)[1:-1].repeat(paths)
    return Trace(
        t=t,
        path=torch.arange(paths).repeat_interleave(steps),
        segment=torch.zeros(len(t), dtype=torch.int64),
        layer=torch.zeros(len(t), dtype=torch.int64),
        unit=torch.zeros(len(t), dtype=torch.int64),
        gaps=gaps.reshape(-1, 1),
        piece_start=torch.linspace(0, 1, steps + 2, dtype=torch.float64)[:-1].repeat(paths),
        slopes=slopes.reshape(-1, 1),
        values=torch.zeros(paths * (steps + 1), 1, dtype=torch.float64),
        ends=torch.zeros(paths, 1, dtype=torch.float64),
        lengths=torch.ones(paths, dtype=torch.float64),
        layers=("0",),
    )


def test_a_random_walk_bridge_has_every_estimate_equal() -> None:
    walk = random_walk(paths=4000, steps=40)
    error = 4 / math.sqrt(2 * 4000)  # four standard errors of a deviation
    assert measures.pool(measures.gap_deviation(walk)) == pytest.approx(3, rel=error)
    assert measures.bridge_deviation(walk) == pytest.approx(3, rel=error)
    assert torch.allclose(measures.bridge_curve(walk, 5), torch.tensor(3.0).double(), rtol=error)
    ratios = measures.variance_ratio(walk, [1, 2, 10])
    assert torch.allclose(ratios, torch.ones(3).double(), rtol=2 * error)
    assert measures.gap_correlation(walk, [1, 5]).abs().max() < 4 / math.sqrt(4000 * 35)


def test_correlated_gaps_are_seen() -> None:
    walk = random_walk(paths=4000, steps=40, correlation=-0.4)
    assert measures.gap_correlation(walk, [1, 2]).tolist() == pytest.approx([-0.4, 0], abs=0.02)
    # Var(s_{i+2} - s_i) = 2 (1 + rho) sigma^2
    assert measures.variance_ratio(walk, [2]).item() == pytest.approx(0.6, abs=0.02)
    assert measures.bridge_deviation(walk) < 0.6 * 3


def test_correlation_between_layers() -> None:
    walk = random_walk(paths=500, steps=40, correlation=-0.4)
    alternating = replace(walk, layer=torch.arange(len(walk.t)) % 2, layers=("0", "2"))
    across = measures.gap_correlation(alternating, [1], layers=(0, 1))
    assert across.item() == pytest.approx(-0.4, abs=0.05)
    assert measures.gap_correlation(alternating, [1], layers=(0, 0)).isnan()
    with pytest.raises(InputError, match="layers must be two of the 2"):
        measures.gap_correlation(alternating, [1], layers=(0, 2))


def test_normalize_divides_by_the_growth_of_the_outputs() -> None:
    plain = traced(5)
    tripled = replace(plain, gaps=3 * plain.gaps, slopes=3 * plain.slopes, values=3 * plain.values,
                      ends=3 * plain.ends)  # fmt: skip
    back = measures.normalize(tripled, plain)
    for name in ("gaps", "slopes", "values", "ends"):
        assert torch.allclose(getattr(back, name), getattr(plain, name))


def test_normalize_interpolates_the_growth() -> None:
    trained, initial = traced(5, paths=1), traced(6, paths=1)
    trained = replace(trained, lengths=initial.lengths)
    done = measures.normalize(trained, initial)
    r0 = trained.values[0].norm() / initial.values[0].norm()
    r1 = trained.ends[0].norm() / initial.ends[0].norm()
    growth = (1 - trained.t) * r0 + trained.t * r1
    assert torch.allclose(done.gaps * growth[:, None], trained.gaps)
    with pytest.raises(InputError, match="same paths"):
        measures.normalize(traced(5, paths=2), initial)
    dead = replace(initial, ends=0 * initial.ends)
    with pytest.raises(InputError, match="reference must hold the norm of an output vector"):
        measures.normalize(trained, dead)
    with pytest.raises(InputError, match="outputs that are not zero"):
        measures.normalize(replace(trained, ends=0 * trained.ends), initial)


def labelled(x0: Tensor, x1: Tensor, y0: list[int], y1: list[int]) -> Pairs:
    return Pairs(x0, x1, torch.tensor(y0), torch.tensor(y1), "random")


def test_edge_margin() -> None:
    random = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 2, 4, generator=random)
    net = mlp(4, 9, 3, seed=0)
    found = measures.edge_margin(trace(net, (x0, x1)), labelled(x0, x1, [0, 2], [1, 2]))
    a, b = net(x0).double(), net(x1).double()
    first = (a[0, 0] - a[0, 1:].max() + b[0, 1] - torch.max(b[0, 0], b[0, 2])) / 2
    second = (a[1, 2] - a[1, :2].max() + b[1, 2] - b[1, :2].max()) / 2
    assert torch.allclose(found, torch.stack([first, second]).detach(), atol=1e-5)
    with pytest.raises(InputError, match="pairs must be the 2 pairs"):
        measures.edge_margin(trace(net, (x0, x1)), labelled(x0[:1], x1[:1], [0], [0]))
    with pytest.raises(InputError, match="labels below its 3"):
        measures.edge_margin(trace(net, (x0, x1)), labelled(x0, x1, [0, 3], [1, 2]))
    with pytest.raises(InputError, match=r"all outputs of the network, .* got those of outputs="):
        measures.edge_margin(trace(net, (x0, x1), outputs=[2, 0]), labelled(x0, x1, [0, 0], [1, 1]))


def test_a_path_without_a_switch() -> None:
    straight = trace(mlp(3, 8, 2, seed=0), (torch.ones(1, 3), 2 * torch.ones(1, 3)))
    assert measures.gap_deviation(straight).isnan().all()
    assert math.isnan(measures.bridge_deviation(straight))
    assert measures.deflection(straight).tolist() == [[0.0, 0.0]]
    assert measures.fluctuation(straight).max() < 1e-12


def test_refuses_lags_and_points() -> None:
    with pytest.raises(InputError, match="lags must be a whole number of at least 1, got 0"):
        measures.variance_ratio(traced(0), [0])
    with pytest.raises(InputError, match="points must be a whole number of at least 2"):
        measures.bridge_curve(traced(0), 1)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), chunk=st.sampled_from([2**8, 2**12, 2**22]))
def test_measures_add_up_while_streaming(seed: int, chunk: int) -> None:
    random = torch.Generator().manual_seed(seed)
    ends = tuple(torch.randn(2, 5, 4, generator=random, dtype=torch.float64))
    net = mlp(4, 12, 12, 3, seed=seed, initialisation=Initialisation(sigma_b=0.5))
    traced = trace(net, ends)
    with mock.patch.dict("implreg.tracing.memory._CHUNK", {"cpu": chunk}):
        totals = measures.streamed(stream(net, ends))
    assert torch.equal(totals.switches, traced.switches)
    for found, expected in (
        (totals.quadratic_variation, measures.quadratic_variation(traced)),
        (totals.total_variation, measures.total_variation(traced)),
        (totals.deflection, measures.deflection(traced)),
        (totals.gap_deviation, measures.gap_deviation(traced)),
        (totals.ends, traced.ends),
    ):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_polylines_are_measured_by_their_gaps_alone() -> None:
    net, points = mlp(4, 30, 30, 3, seed=0), torch.randn(5, 4, dtype=torch.float64)
    whole = trace(net, polyline(points))
    parts = trace(net, (points[:-1], points[1:]))
    assert torch.allclose(
        measures.quadratic_variation(whole)[0], measures.quadratic_variation(parts).sum(0)
    )
    for measure in (
        measures.mid_path_deflection,
        measures.bridge_deviation,
        measures.bridge_curve,
        measures.fluctuation,
    ):
        with pytest.raises(InputError, match="straight paths for this measure, got polylines of 4"):
            measure(whole)


def test_along_gives_values_and_slopes_of_every_path() -> None:
    net = mlp(5, 30, 20, 3, seed=0, dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 4, 5, generator=random, dtype=torch.float64)
    traced, t = trace(net, (x0, x1)), torch.tensor([0.0, 0.21, 0.5, 0.83, 1.0])
    values, slopes = measures.along(traced, t)
    assert values.shape == slopes.shape == (4, 5, 3)

    def at(shift: float) -> torch.Tensor:
        where = (t.double() + shift)[:, None]
        return net((x0[:, None] + where * (x1 - x0)[:, None]).flatten(0, 1)).view(4, 5, 3)

    assert torch.allclose(values, at(0.0))
    inner = slice(1, 4)
    assert torch.allclose(slopes[:, inner], ((at(1e-7) - at(-1e-7)) / 2e-7)[:, inner], atol=1e-6)
    assert torch.equal(slopes[:, 0], traced.slopes[traced.first_pieces])
    assert torch.equal(slopes[:, -1], traced.slopes[traced.first_pieces + traced.switches])
    with pytest.raises(InputError, match="t must be between 0 and 1"):
        measures.along(traced, torch.tensor([1.5]))


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_leaving_the_predicted_classes_is_seen_on_a_fine_grid(kind: str) -> None:
    """Against the largest output at 20,001 positions: none that the grid sees is missed."""
    random = torch.Generator().manual_seed(1)
    x0, x1 = torch.randn(2, 90, 6, generator=random, dtype=torch.float64)
    sizes = (6, 40, 40, 12) if kind == "wide" else (6, 5, 4)
    net = mlp(*sizes, seed=2, dtype=torch.float64, initialisation=Initialisation(sigma_b=0.5))
    with torch.no_grad():  # where all units are off, no output is to equal another
        net[-1].bias.normal_(std=0.1, generator=random)
    left = measures.leaves_prediction(trace(net, (x0, x1)))
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    seen = torch.stack(
        [net(torch.lerp(a, b, t[:, None])).argmax(1) for a, b in zip(x0, x1, strict=True)]
    )
    ends = torch.stack([seen[:, 0], seen[:, -1]], dim=1)
    grid = (seen[:, :, None] != ends[:, None]).all(dim=2).any(dim=1)
    assert not (grid & ~left).any()
    assert 0 < grid.sum() < 90 and (left & ~grid).sum() <= 1


def test_leaving_between_two_breakpoints_is_seen() -> None:
    """Outputs 1 - 2t, 2t - 1 and a little: a third class leads inside of a single piece."""
    net = nn.Sequential(nn.Linear(1, 3)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.0], [-2.0], [2.0]]))
        net[0].bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    ends = (torch.zeros(1, 1), torch.ones(1, 1))
    assert not measures.leaves_prediction(trace(net, ends)).any()  # a tie at the crossing
    with torch.no_grad():
        net[0].bias[0] = 1e-9
    assert measures.leaves_prediction(trace(net, ends)).all()
    with pytest.raises(InputError, match="two or more outputs"):
        measures.leaves_prediction(trace(nn.Linear(1, 1), ends))
