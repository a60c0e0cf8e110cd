"""Derivatives of paths in the weights: against finite differences of traces."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from _traces import drawn
from torch import Tensor, nn

import implreg
from implreg.errors import InputError
from implreg.networks import mlp, residual_mlp
from implreg.tracing import Trace, polyline, trace

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: mlp(4, 14, 12, 2, seed=0),
    "residual": lambda: residual_mlp(4, 8, 8, 2, seed=0),
    "kinds": lambda: nn.Sequential(
        nn.Linear(4, 12), nn.PReLU(12), nn.BatchNorm1d(12), nn.Linear(12, 10), nn.Hardtanh(),
        nn.Unflatten(1, (2, 5)), nn.Conv1d(2, 3, 2), nn.MaxPool1d(2), nn.Flatten(),
        nn.Linear(6, 2),
    ),
    "weight-norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 9)), nn.LeakyReLU(), nn.Linear(9, 2)),
    "scaled": lambda: Scaled(),
    "bounds": lambda: Bounds(),
}  # fmt: skip


class Scaled(nn.Module):
    """Numbers of its own, outside layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 9), nn.Linear(9, 2)
        self.scale, self.level = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.rand(9))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.where(self.layer(x) > 0, self.layer(x), self.scale * self.layer(x))
        return self.out(torch.maximum(h, self.level) + torch.einsum("bi,i->bi", h, self.level))


class Bounds(nn.Module):
    """Parameters among the bounds of clamp and maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 9), nn.Linear(9, 2)
        self.low, self.high = nn.Parameter(torch.tensor(-0.3)), nn.Parameter(torch.tensor([0.6]))

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return self.out(h.clamp(min=self.low) + torch.minimum(h, self.high))


MEASURES: dict[str, Callable[[Trace], Tensor]] = {
    "t": lambda trace: (trace.t * torch.linspace(1, 2, len(trace.t))).sum(),
    "slopes": lambda trace: trace.slopes.pow(3).sum(),
    "values": lambda trace: trace.values.square().sum() + trace.ends.sin().sum(),
    "at": lambda trace: trace.at(torch.tensor([0.2, 0.8])).square().sum(),
    "deflection": lambda trace: implreg.deflection(trace).sum(),
    "gap_deviation": lambda trace: implreg.gap_deviation(trace).sum(),
    "total_variation": lambda trace: implreg.total_variation(trace).sum(),
    "mid_path_deflection": lambda trace: implreg.mid_path_deflection(trace).square().sum(),
    "fluctuation": lambda trace: implreg.fluctuation(trace).sum(),
}


ENDS = 2 * drawn(0, 3, 4), -drawn(1, 3, 4)


def prepared(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().double().eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_replay_is_the_trace(name: str) -> None:
    net = prepared(name)
    traced = trace(net, ENDS)
    again = traced.replay(net)
    for column in ("t", "gaps", "piece_start", "slopes", "values", "ends"):
        one, other = getattr(again, column), getattr(traced, column)
        assert one.requires_grad
        torch.testing.assert_close(one.detach(), other, atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize("seed", [2, 4])
@pytest.mark.parametrize("pools", [
    [nn.MaxPool2d(2, 1)], [nn.MaxPool2d(2, 1)] * 2, [nn.MaxPool2d(3, 2, 1)],
    [nn.MaxPool2d(2, 1, dilation=2)],
])  # fmt: skip
def test_windows_that_share_entries(pools: list[nn.Module], seed: int) -> None:
    """Some switch at once, with pieces of no length between."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), *pools, nn.Flatten(), nn.LazyLinear(2)
    net, ends = nn.Sequential(*layers).double(), drawn(seed, 2, 1, 1, 8, 8)
    net(ends[0])
    traced = trace(net, (ends[0], ends[1]))
    again = traced.replay(net)
    assert (traced.layer > 0).sum() > 5
    torch.testing.assert_close(again.t.detach(), traced.t, atol=1e-12, rtol=0)
    torch.testing.assert_close(again.gaps.detach(), traced.gaps, atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_are_those_of_finite_differences(name: str, measure: str) -> None:
    net = prepared(name)
    MEASURES[measure](trace(net, ENDS).replay(net)).backward()
    for k, (key, parameter) in enumerate(net.named_parameters()):
        way = drawn(k, 1, *parameter.shape)[0]
        found = []
        for step in (1e-6, -1e-6):
            other = copy.deepcopy(net)
            dict(other.named_parameters())[key].data.add_(way, alpha=step)
            found.append(float(MEASURES[measure](trace(other, ENDS))))
        expected = (found[0] - found[1]) / 2e-6
        grad = 0.0 if parameter.grad is None else float((parameter.grad * way).sum())
        assert grad == pytest.approx(expected, rel=1e-5, abs=1e-6), key


def test_other_numbers_with_the_same_pattern() -> None:
    """A replay of a neighbour is the neighbour's own trace."""
    net = prepared("dense")
    other = copy.deepcopy(net)
    for k, parameter in enumerate(other.parameters()):
        parameter.data.add_(drawn(k, *parameter.shape), alpha=1e-5)
    again, own = trace(net, ENDS).replay(other), trace(other, ENDS)
    assert torch.equal(again.unit, own.unit)
    torch.testing.assert_close(again.t.detach(), own.t, atol=1e-12, rtol=1e-11)
    torch.testing.assert_close(again.gaps.detach(), own.gaps, atol=1e-12, rtol=1e-11)


def test_float32_networks_and_polylines_have_gradients() -> None:
    net = mlp(4, 14, 2, seed=0)
    traced = trace(net, polyline([drawn(0, 4, 4), drawn(1, 4, 4)]))
    again = traced.replay(net)
    torch.testing.assert_close(again.t.detach(), traced.t, atol=1e-12, rtol=0)
    torch.testing.assert_close(again.ends.detach(), traced.ends)
    implreg.total_variation(again).sum().backward()
    assert all(
        x.dtype == x.grad.dtype == torch.float32 for x in net.parameters() if x.grad is not None
    )
    assert net[0].weight.grad.abs().sum() > 0


def test_switches_at_one_place_keep_their_order() -> None:
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2)).double()
    x = drawn(0, 1, 4)
    traced = trace(net, (x, -2 * x))
    again = traced.replay(net)
    torch.testing.assert_close(again.gaps.detach(), traced.gaps)
    torch.testing.assert_close(again.t.detach(), traced.t)


def test_an_output_of_several() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(4, 14, 2, seed=0)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.net(x), x.exp()

    net = Two()
    again = trace(net, ENDS, output=0).replay(net, output=0)
    assert again.slopes.requires_grad


def test_a_penalty_on_the_deflection_lowers_it() -> None:
    net = mlp(4, 30, 1, seed=0).double()
    before = float(implreg.deflection(trace(net, ENDS)).mean())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(20):
        optimiser.zero_grad()
        implreg.deflection(trace(net, ENDS).replay(net)).mean().backward()
        optimiser.step()
    assert float(implreg.deflection(trace(net, ENDS)).mean()) < 0.5 * before


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    net = mlp(4, 8, 2, seed=0).double()
    traced = trace(net, ENDS)
    with pytest.raises(InputError, match="net must be of the make of the network that was traced"):
        traced.replay(mlp(4, 9, 2, seed=0))
    with pytest.raises(InputError, match=r"net must be a torch\.nn\.Module, got str"):
        traced.replay("net")  # type: ignore[arg-type]
    traced.save(tmp_path / "trace.npz")
    with pytest.raises(InputError, match="trace must know its network and its paths"):
        Trace.load(tmp_path / "trace.npz").replay(net)
    with torch.no_grad():
        net[0].bias.add_(1)
    with pytest.raises(InputError, match="have changed since; trace again"):
        traced.replay(net)


def test_a_unit_that_switches_twice_at_once() -> None:
    """Between the kinks of a steep activation is no room for a middle."""
    weight = nn.Parameter(torch.tensor(2.0**31, dtype=torch.float64))

    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.hardtanh(self.weight * (x - 0.25))

    ends = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    traced = trace(Steep(), ends)
    again = traced.replay(Steep())
    torch.testing.assert_close(again.slopes.detach(), traced.slopes)
    found = [torch.autograd.grad(t, weight, retain_graph=True)[0] * 2.0**62 for t in again.t]
    assert [float(x) for x in found] == [1.0, -1.0]  # 1/4 -+ 1/w


def test_float32_arithmetic_has_the_states_of_the_trace() -> None:
    net = mlp(4, 200, 200, 2, seed=0)
    traced = trace(net, ENDS, dtype=torch.float32)
    again = traced.replay(net)
    scale = float(traced.slopes.abs().max())
    torch.testing.assert_close(again.slopes.detach(), traced.slopes, atol=1e-4 * scale, rtol=0)


def test_networks_of_another_make_are_refused() -> None:
    class Largest(nn.Module):
        def __init__(self, axis: int) -> None:
            super().__init__()
            self.layer, self.axis = nn.Linear(4, 9), axis

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).view(-1, 3, 3).amax(self.axis)

    traced = trace(Largest(1), ENDS)
    with pytest.raises(InputError, match="net must be of the make"):
        traced.replay(Largest(2))
    clipped = [nn.Sequential(nn.Linear(4, 9), nn.Hardtanh(-x, x)) for x in (1.0, 0.1)]
    with pytest.raises(InputError, match="net must be of the make"):
        trace(clipped[0], ENDS).replay(clipped[1])
    with pytest.raises(InputError, match="trace must know its network"):
        traced.per_unit_length().replay(Largest(1))
