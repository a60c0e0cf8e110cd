"""Zeros up to rounding, whatever the size of a unit and of an output; constants out of reach."""

import copy
from collections.abc import Callable
from itertools import pairwise
from math import inf

import pytest
import torch
from _traces import drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from implreg.errors import InputError
from implreg.networks import Initialisation, mlp
from implreg.tracing import read, trace
from implreg.tracing.rounding import roughness

seeds = st.integers(0, 2**32 - 1)


def rescaled(net: nn.Sequential, seed: int, power: float) -> nn.Sequential:
    """The same function: each unit times 10^U(-power, power), and what reads it divided by that."""
    net = copy.deepcopy(net)
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    random = torch.Generator().manual_seed(seed)
    for one, other in pairwise(layers):
        exponents = power * (2 * torch.rand(one.out_features, generator=random).double() - 1)
        one.weight.data *= 10 ** exponents[:, None]
        one.bias.data *= 10**exponents
        other.weight.data /= 10**exponents
    return net


@settings(max_examples=30)
@given(seed=seeds, depth=st.integers(1, 4), biased=st.booleans(), power=st.floats(0, 10))
def test_the_scale_of_a_unit_changes_nothing_but_itself(
    seed: int, depth: int, biased: bool, power: float
) -> None:
    how = Initialisation(sigma_b=0.3 * biased)
    net = mlp(5, *[20] * depth, 2, seed=seed, initialisation=how, dtype=torch.float64)
    ends = drawn(seed, 2, 3, 5).unbind()
    one, other = trace(net, ends), trace(rescaled(net, seed, power), ends)
    assert one.t.shape == other.t.shape
    assert one.layer.tolist() == other.layer.tolist() and one.unit.tolist() == other.unit.tolist()
    torch.testing.assert_close(one.t, other.t, rtol=0, atol=1e-11)
    torch.testing.assert_close(one.gaps, other.gaps, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", [1e-140, 1e-100, 1e-16, 1e-8, 1.0, 1e8, 1e100])
def test_a_unit_may_be_as_small_or_large_as_it_likes(size: float) -> None:
    r""":math:`\max(1 + t, 0) + \max(s (t - 1/2), 0)` for any s."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    net[0].weight.data = torch.tensor([[1.0], [size]], dtype=torch.float64)
    net[0].bias.data = torch.tensor([1.0, -size / 2], dtype=torch.float64)
    traced = trace(net, (torch.zeros(1, 1), torch.ones(1, 1)))
    assert traced.t.tolist() == [0.5] and traced.unit.tolist() == [1]


@settings(max_examples=20)
@given(seed=seeds)
def test_outputs_may_be_zero_up_to_rounding(seed: int) -> None:
    """A network less itself: all switches are there, and all outputs are nearly zero."""

    class Less(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(4, 16, 16, 2, seed=seed, dtype=torch.float64)
            # The same function in another order of units, which rounds otherwise.
            self.same, order = copy.deepcopy(self.net), torch.arange(15, -1, -1)
            self.same[2].weight.data = self.net[2].weight.data[:, order]
            self.same[0].weight.data = self.net[0].weight.data[order]
            self.same[0].bias.data = self.net[0].bias.data[order]

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) - self.same(x)

    ends = drawn(seed, 2, 3, 4).unbind()
    net = Less()
    traced = trace(net, ends)
    assert len(traced.t) == 2 * len(trace(net.net, ends).t)
    assert traced.values.abs().max() < 1e-13


@settings(max_examples=30)
@given(seed=seeds, depth=st.integers(1, 6))
def test_roughness_is_that_of_single_precision_against_double(seed: int, depth: int) -> None:
    """Within a factor for all units together, as rounding is: typical, not a bound."""
    net = mlp(30, *[40] * depth, 4, seed=seed)
    x = drawn(seed, 20, 30).float()
    program, exact = read(net, x[0], dtype=torch.float32), read(net, x[0].double())
    told, single, double = roughness(program, x), program.values(x), exact.values(x.double())
    for value, typical in told.items():
        off = (single[value].double() - double[value]).square().mean().sqrt()
        assert off / 30 < typical.double().square().mean().sqrt() < 30 * off


def test_roughness_of_a_sum_does_not_depend_on_what_else_there_is() -> None:
    net = mlp(6, 8, 8, 2, seed=0, dtype=torch.float64)
    x, y = drawn(0, 2, 5, 6)
    program = read(net, x[0])
    both, alone = roughness(program, x, y), roughness(program, x[2:3], y[2:3])
    for value, off in both.items():
        torch.testing.assert_close(off[2:3], alone[value], rtol=1e-9, atol=0)


class Function(nn.Module):
    """A function of what a layer makes."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.function = nn.Linear(6, 16, dtype=torch.float64), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def _paths(length: float = 1.0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    x0, way = torch.randn(2, 4, 6, generator=random, dtype=torch.float64)
    return x0, x0 + length * way


MASK = torch.arange(16) % 3 == 0
RISING = torch.linspace(1, 2, 16, dtype=torch.float64)
FAR = [1e6, 1e9, 1e15, torch.finfo(torch.float32).max, torch.finfo(torch.float64).max / 2, inf]


def _with_rows(h: Tensor, value: float) -> Tensor:
    return torch.cat([h, torch.full((len(h), 3), value, dtype=h.dtype)], 1)


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize(
    ("function", "near"),
    [
        (
            lambda h, b: h - h.masked_fill(MASK, -b).amax(1, True),
            lambda h: h - _rest(h).amax(1, True),
        ),
        (
            lambda h, b: (h + torch.zeros(16).double().masked_fill(MASK, -b)).amax(1, True),
            lambda h: _rest(h).amax(1, True),
        ),
        (lambda h, b: _with_rows(h, -b).view(len(h), 1, -1).max(2)[0], lambda h: h.amax(1, True)),
        (lambda h, b: _with_rows(h, b).amin(1, True), lambda h: h.amin(1, True)),
        (
            lambda h, b: functional.max_pool1d(functional.pad(h[:, None], (2, 1), value=-b), 3, 2),
            lambda h: functional.max_pool1d(functional.pad(h[:, None], (2, 1), value=-9.0), 3, 2),
        ),
        (lambda h, b: h.clamp(-b, b).relu(), lambda h: h.relu()),
        (lambda h, b: functional.hardtanh(h, -0.5, b), lambda h: h.clamp(min=-0.5)),
        (
            lambda h, b: torch.maximum(h, torch.full((16,), -b, dtype=h.dtype)).relu(),
            lambda h: h.relu(),
        ),
        (lambda h, b: torch.maximum(-b * RISING, h).relu(), lambda h: h.relu()),
        (lambda h, b: torch.minimum(h, b * RISING).relu(), lambda h: h.relu()),
    ],
)
@pytest.mark.parametrize("length", [1.0, 1e-5])
def test_what_is_out_of_reach_changes_nothing(
    function: Callable[[Tensor, float], Tensor], near: Callable[[Tensor], Tensor], far: float,
    length: float,
) -> None:  # fmt: skip
    paths = _paths(length)
    found, expected = (trace(Function(f), paths) for f in (lambda h: function(h, far), near))
    assert torch.equal(found.switches, expected.switches)
    torch.testing.assert_close(found.t, expected.t, atol=1e-13 / length, rtol=0)
    torch.testing.assert_close(found.slopes, expected.slopes, atol=1e-13, rtol=1e-12)


def _rest(h: Tensor) -> Tensor:
    return h[:, ~MASK]


@pytest.mark.parametrize("power", [-250, -170, -100, 100, 160, 250])
def test_no_scale_is_too_small_or_too_large(power: int) -> None:
    paths, scale = _paths(), 10.0**power
    found = trace(Function(lambda h: (h * scale).relu() * (1 / scale)), paths)
    expected = trace(Function(lambda h: h.relu()), paths)
    assert torch.equal(found.unit, expected.unit)
    torch.testing.assert_close(found.t, expected.t, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda h: _with_rows(h, -inf).relu(), "computes with infinite numbers"),
        (lambda h: _with_rows(h, -inf), "must return finite numbers"),
        (lambda h: _with_rows(h, -inf)[:, 16:].amax(1, True), "minus infinity alone"),
        (lambda h: _with_rows(h, inf).amax(1, True), "must return finite numbers"),
    ],
)
def test_infinite_numbers_that_count_are_refused(
    function: Callable[[Tensor], Tensor], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        trace(Function(function), _paths())


@pytest.mark.parametrize("dead", [-1e3, -1e10, -1e15, -3e38])
def test_a_dead_unit_hides_nothing_however_far_below_zero(dead: float) -> None:
    net = mlp(6, 32, 32, 1, seed=0).double()
    with torch.no_grad():
        net[0].bias[:4] = -1e2
    expected = trace(net, _paths())
    with torch.no_grad():
        net[0].bias[:4] = dead
    found = trace(net, _paths())
    assert torch.equal(found.unit, expected.unit)
    torch.testing.assert_close(found.t, expected.t, atol=1e-12, rtol=0)


def test_digits_that_are_lost_are_told() -> None:
    """The tracer adds what cancels; the network takes the larger."""
    lost = Function(lambda h: (torch.maximum(h, 0 * h - 1e16) - 0.5).relu())
    with pytest.raises(ArithmeticError, match="away from the network's own"):
        trace(lost, _paths())


def test_choices_with_a_far_constant_and_of_entries_of_all_sizes() -> None:
    found = trace(Function(lambda h: (torch.where(h > -1e9, h, -1e9) - 0.5).relu()), _paths())
    expected = trace(Function(lambda h: (h - 0.5).relu()), _paths())
    assert torch.equal(found.unit, expected.unit)
    sizes = torch.ones(16).double().index_fill(0, torch.tensor([0]), 1e12)
    apart = torch.zeros(16).double().index_fill(0, torch.tensor([1]), 0.05)
    with pytest.raises(InputError, match="chooses between two branches"):
        trace(Function(lambda h: torch.where(h > 0, h * sizes + apart, 0)), _paths())
