"""Predictions against closed forms, arithmetic of many digits, and simulation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import integrate
from torch import Tensor, nn

from implreg import measures
from implreg.errors import InputError
from implreg.networks import HE, Initialisation, Residual, mlp, residual_mlp, vgg
from implreg.theory import (
    after_training,
    architecture,
    at_initialisation,
    chord_deviation,
    fluctuation,
    gap_variance,
    output_covariance,
    pinned_deviation,
    process,
    slope_covariance,
    tangent_kernel,
    training,
)
from implreg.theory.kernels import Pair, between_points, on_line
from implreg.theory.layers import Architecture, Block, Relu, Scale, Weights, through
from implreg.theory.lines import Lines, lines
from implreg.tracing import trace

angles = st.floats(0.05, 3.0)
norms = st.floats(0.2, 5.0)
BIASED = Initialisation(1.3, 0.5, 0.8)


@dataclass(frozen=True)
class Kind:
    """A kind of network with 7 inputs; called, it draws one."""

    depth: int
    how: Initialisation = HE
    leak: float = 0.0
    residual: bool = False

    def __call__(self, width: int = 100, outputs: int = 1, seed: int = 0) -> nn.Sequential:
        more = {"seed": seed, "initialisation": self.how, "leak": self.leak}
        if self.residual:
            return residual_mlp(7, width, self.depth - 1, outputs, scale=0.7, **more)
        return mlp(7, *[width] * self.depth, outputs, **more)


KINDS = [
    Kind(1, BIASED),
    Kind(3),
    Kind(2, BIASED, leak=0.3),
    Kind(3, residual=True),
    Kind(3, BIASED, leak=0.1, residual=True),
]
NAMES = ["shallow", "deep", "leaky", "residual", "leaky-residual"]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=NAMES)
kinds = st.sampled_from(KINDS)


def pair(angle: float, norm: float = 1.0, d: int = 7) -> tuple[Tensor, Tensor]:
    x0, x1 = torch.zeros(2, 1, d, dtype=torch.float64)
    x0[0, 0] = math.sqrt(d)
    x1[0, 0], x1[0, 1] = (
        norm * math.sqrt(d) * math.cos(angle),
        norm * math.sqrt(d) * math.sin(angle),
    )
    return x0, x1


def three_pairs() -> tuple[Tensor, Tensor]:
    ends = [pair(0.8), pair(math.pi / 2, 2.0), pair(2.5)]
    return torch.cat([a for a, _ in ends]), torch.cat([b for _, b in ends])


def numbers(*values: float | tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def finite(record: object) -> bool:
    return all(bool(x.isfinite().all()) for x in vars(record).values() if isinstance(x, Tensor))


def close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether they agree, relative to the largest number."""
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


# Kernels


def moments(one: Pair | Tensor) -> dict[str, Tensor]:
    """Of a process, or of the tangent kernel."""
    found = dict(zip(("k", "ds", "dt"), one.moved if isinstance(one, Pair) else one))
    return found | ({"dsdt": one.dsdt} if isinstance(one, Pair) else {})


def with_tangent(seen: Architecture, path: Lines, s: Tensor, t: Tensor) -> Pair:
    return through(seen.layers[1:], path.first_layer(seen, s, t).with_tangent())


@pytest.mark.parametrize("leak", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("angle", [1e-8, 0.05, math.pi / 4, math.pi / 2, 3.0, math.pi - 1e-8])
def test_a_relu_makes_the_gaussian_integrals(leak: float, angle: float) -> None:
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] by quadrature over the angle of (u, v)."""
    foot, half = math.cos(angle / 2), math.sin(angle / 2)
    below = on_line(*numbers(foot, -half, half, 1.0))
    one = torch.ones_like(below.rho)
    above = replace(below, tangent=torch.stack([one, *below.turn])).rectified(leak)
    with mp.workdps(40):
        apart = 2 * mp.atan2(half, foot)

        def slope(z: mpf) -> mpf:
            return mpf(1) if z > 0 else mpf(leak)

        def slopes(turn: mpf) -> mpf:
            return slope(mp.cos(turn)) * slope(mp.cos(turn - apart))

        def values(turn: mpf) -> mpf:
            return slopes(turn) * mp.cos(turn) * mp.cos(turn - apart)

        kinks = [-mp.pi / 2, apart - mp.pi / 2, mp.pi / 2, apart + mp.pi / 2, 3 * mp.pi / 2]
        # The radial integrals of r^3 exp(-r^2 / 2) and r exp(-r^2 / 2) are 2 and 1.
        k = (foot**2 + half**2) * 2 * mp.quad(values, kinks) / (2 * mp.pi)
        passed = mp.quad(slopes, kinks) / (2 * mp.pi)
        assert abs(above.k.item() / k - 1) < 1e-10
        assert abs(above.tangent[0].item() / passed - 1) < 1e-10


# Distance of a line from the origin and places of two points on it: ordinary ones, some 1e-8
# apart, some nearly opposite.
PLACES = [
    (1.0, -0.5, 0.7), (0.5, 3.0, 10.0), (1.0, 0.2, 0.21), (1.0, 0.3, 0.3 + 1e-8),
    (1.0, 0.3, 0.3 - 1e-8), (1e-8, -0.9, 1.3), (1e-8, 0.9, -1.3),
]  # fmt: skip
DEPTHS = (1, 2, 3, 6)
SPEED = 1.25


def recursion(
    foot: mpf, s: mpf, t: mpf, weight: mpf, bias: mpf, leak: mpf, kept: mpf, scale: mpf
) -> list[tuple[mpf, mpf]]:
    """Covariance and tangent kernel behind each layer, written down plainly."""
    a, b, k = foot**2 + s**2, foot**2 + t**2, foot**2 + s * t
    tangent, found = k, []
    for _ in range(max(DEPTHS)):
        size = mp.sqrt(a * b)
        rho = k / size
        rest = mp.pi - mp.acos(rho)
        kappa = (mp.sqrt(1 - rho**2) + rest * rho) / mp.pi
        made = weight * size * ((1 - leak) ** 2 * kappa + 2 * leak * rho) / 2 + bias
        passed = weight * ((1 - leak) ** 2 * rest / (2 * mp.pi) + leak)
        tangent = kept * tangent + scale**2 * (passed * tangent + made)
        k = kept * k + scale**2 * made
        a, b = (kept * x + scale**2 * (weight * (1 + leak**2) / 2 * x + bias) for x in (a, b))
        found.append((k, tangent))
    return found


def by_differences(foot: float, s: float, t: float, *layer: float) -> list[list[dict[str, mpf]]]:
    """Behind each layer, the covariance and the tangent kernel with their derivatives."""
    foot, s, t, *layer = map(mpf, (foot, s, t, *layer))
    step = mpf(10) ** -22 * abs(t - s) * min(foot, 1)

    def moved(i: int, j: int) -> list[tuple[mpf, mpf]]:
        return recursion(foot, s + i * SPEED * step, t + j * SPEED * step, *layer)

    here, pp, pm, mp_, mm = moved(0, 0), moved(1, 1), moved(1, -1), moved(-1, 1), moved(-1, -1)
    return [
        [
            {
                "k": here[n][i],
                "ds": (pp[n][i] + pm[n][i] - mp_[n][i] - mm[n][i]) / (4 * step),
                "dt": (pp[n][i] - pm[n][i] + mp_[n][i] - mm[n][i]) / (4 * step),
                "dsdt": (pp[n][i] - pm[n][i] - mp_[n][i] + mm[n][i]) / (4 * step**2),
            }
            for i in range(2)
        ]
        for n in range(max(DEPTHS))
    ]


@pytest.mark.parametrize("kept", [0.0, 1.0], ids=["plain", "residual"])
@pytest.mark.parametrize(
    ("weight", "bias", "leak"),
    [(2.0, 0.0, 0.0), (1.7, 0.3, 0.0), (2.0, 0.0, 0.1), (1.5, 0.2, 0.5)],
)
def test_kernels_keep_their_digits(weight: float, bias: float, leak: float, kept: float) -> None:
    """All moments behind 1 to 6 layers against the plain recursion with 120 digits."""
    scale = 0.7 if kept else 1.0
    branch = (Relu(1, leak), Weights((1, 1), weight, bias))
    layers = (Block((*branch, Scale(scale**2)), ()),) if kept else branch
    pair = on_line(*numbers(*PLACES).T, numbers(SPEED)).with_tangent()
    found = []
    for _ in range(max(DEPTHS)):
        pair = through(layers, pair)
        found.append(pair)
    with mp.workdps(120):
        for i, place in enumerate(PLACES):
            expected = by_differences(*place, weight, bias, leak, kept, scale)
            opposite = place[0] < 1e-6
            for depth in DEPTHS:
                here = found[depth - 1]
                for one, values in zip((here, here.tangent), expected[depth - 1]):
                    for name, number in moments(one).items():
                        value = values[name]
                        # With biases the slopes at nearly opposite points are next to nothing.
                        slight = opposite and bias and name != "k"
                        size = here.size[i].item() if slight else abs(value)
                        error = abs(number[i].item() - value)
                        assert error <= (1e-11 if opposite else 1e-12) * size, (place, depth, name)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
def test_derivatives_of_the_kernel(depth: int, sigma_b: float) -> None:
    """T4: along a path, against automatic differentiation of the kernel itself."""
    how = Initialisation(1.3, sigma_b, 0.8)
    x0, x1 = pair(1.1, 1.7)

    def kernel(s: Tensor, t: Tensor) -> Tensor:
        """The output kernel written down plainly, angles by arccos."""

        def dot(a: Tensor, b: Tensor) -> Tensor:
            return (
                how.sigma_w**2 / 7 * ((x0 + a * (x1 - x0)) * (x0 + b * (x1 - x0))).sum()
                + sigma_b**2
            )

        a, b, c = dot(s, s), dot(t, t), dot(s, t)
        for layer in range(depth):
            last = layer == depth - 1
            weight = how.sigma_o**2 if last else how.sigma_w**2
            bias = 0.0 if last else sigma_b**2
            u = torch.arccos(c / (a * b).sqrt())
            c = weight / 2 * (a * b).sqrt() * (u.sin() + (math.pi - u) * u.cos()) / math.pi + bias
            a, b = weight / 2 * a + bias, weight / 2 * b + bias
        return c

    s, t = numbers(0.2).requires_grad_(), numbers(0.7).requires_grad_()
    k = kernel(s, t)
    (ds,) = torch.autograd.grad(k, s, create_graph=True)
    (dsdt,) = torch.autograd.grad(ds, t)
    how_seen = (mlp(7, *[9] * depth, 1, seed=0), (x0, x1), s.detach(), t.detach(), how)
    assert output_covariance(*how_seen).item() == pytest.approx(k.item(), rel=1e-12)
    assert slope_covariance(*how_seen).item() == pytest.approx(dsdt.item(), rel=1e-10)


@every_kind
@pytest.mark.parametrize("at", [0.0, 0.4, 1.0])
def test_coincident_points_are_the_limit_of_near_ones(kind: Kind, at: float) -> None:
    seen, path = lines(kind(), three_pairs(), kind.how)
    t, step = numbers(at), 1e-9
    here, near = (with_tangent(seen, path, t, t + by) for by in (0, step))
    assert close(here.dsdt, seen.received[1, -1] * path.speed.square(), 1e-13)
    for one, other in ((here, near), (here.tangent, near.tangent)):
        for found, limit in zip(moments(one).values(), moments(other).values()):
            assert close(found, limit, 1e-7)
    assert finite(here)
    early, late = (path.outputs(seen, t + by, t + by).k for by in (-1e-5, 1e-5))
    assert close(here.d[0], (late - early) / 4e-5, 1e-8) and close(here.d[1], here.d[0], 1e-13)


def between(kind: Kind, x: Tensor, way: Tensor, side: float, y: Tensor) -> Pair:
    """Outputs at points x that move along `way`, against those at points y."""
    seen = architecture(kind(), kind.how)
    ways, sides = way.expand_as(x), torch.full_like(x[:, 0], side)
    pair = between_points(x, ways, sides, y, seen.first.weight, seen.first.bias)
    return through(seen.layers[1:], pair.with_tangent())


@every_kind
def test_any_points_are_seen_as_those_of_one_line(kind: Kind) -> None:
    x0, x1 = pair(1.1, 1.7)
    s, t = numbers(0.1, 0.5, 0.9)[:, None], numbers(0.2, 0.3, 0.6, 1.0)[:, None]
    found = between(kind, x0 + s * (x1 - x0), x1 - x0, 1.0, x0 + t * (x1 - x0))
    seen, path = lines(kind(), (x0, x1), kind.how)
    expected = with_tangent(seen, path, s, t.T)
    assert close(found.k, expected.k, 1e-13) and close(found.d[0], expected.d[0], 1e-12)
    assert close(found.tangent[0], expected.tangent[0], 1e-13)
    assert close(found.tangent[1], expected.tangent[1], 1e-12)
    assert not found.d[1].any() and not found.tangent[2].any()


@every_kind
def test_where_points_coincide_the_slope_is_one_sided(kind: Kind) -> None:
    x0, x1 = pair(1.1, 1.7)
    y, way = x0 + numbers(0.2, 0.5, 0.9)[:, None] * (x1 - x0), x1 - x0
    slopes = []
    for side in (-1.0, 1.0):
        here = between(kind, y, way, side, y)
        near = between(kind, y + side * 1e-6 * way, way, side, y)
        assert close(here.d[0], near.d[0], 1e-5)
        assert close(here.tangent[1], near.tangent[1], 1e-5)
        slopes.append(here.tangent[1].diagonal())
    assert not close(slopes[0], slopes[1], 0.1)


# Networks


@pytest.mark.parametrize(
    "predict",
    [
        lambda net, x: gap_variance(net, (x[:1], x[1:2]), numbers(0.5)),
        lambda net, x: slope_covariance(net, (x[:1], x[1:2]), numbers(0.5), numbers(0.5)),
        lambda net, x: chord_deviation(net, (x[:1], x[1:2]), numbers(0.5)),
        lambda net, x: fluctuation(net, (x[:1], x[1:2])),
        lambda net, x: tangent_kernel(net, x),
        lambda net, x: after_training(net, x, numbers((0.0,), (1.0,)), (x[:1], x[1:2])),
    ],
)
def test_what_is_known_of_dense_networks_alone(predict: Callable) -> None:
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    with pytest.raises(InputError, match=r"begin with a Linear layer .* begins with Conv2d; ask"):
        predict(vgg(3, shape=(1, 8, 8), width_factor=0.1, seed=0), x)


def test_fresh_batch_norm_scales_the_weights_before_it() -> None:
    """Behind each hidden layer of a dense network, in all predictions."""
    eps, how = 0.5, Initialisation(1.3, 0.5, 0.8)
    scaled = Initialisation(1.3 / math.sqrt(1 + eps), 0.5 / math.sqrt(1 + eps), 0.8)
    plain, (x, y), ends = mlp(7, 30, 20, 2, seed=0), samples(), three_pairs()
    first, relu, second, _, last = plain
    norms = [nn.BatchNorm1d(n, eps=eps) for n in (30, 20)]
    net = nn.Sequential(first, norms[0], relu, second, norms[1], relu, last).eval()
    found, expected = at_initialisation(net, ends, how), at_initialisation(plain, ends, scaled)
    for field in fields(found):
        assert close(getattr(found, field.name), getattr(expected, field.name), 1e-7)
    assert close(tangent_kernel(net, x, how), tangent_kernel(plain, x, scaled), 1e-13)
    trained = [after_training(one, x, y, ends, h) for one, h in ((net, how), (plain, scaled))]
    assert close(trained[0].mean, trained[1].mean, 1e-10)
    assert close(trained[0].covariance, trained[1].covariance, 1e-10)
    net.train()
    with pytest.raises(InputError, match=r"layer '1' is not; call net.eval\(\)"):
        tangent_kernel(net, x, how)


def test_nested_networks_are_read_in_order() -> None:
    flat = mlp(7, 9, 8, 2, seed=0, leak=0.2)
    inner = nn.Sequential(flat[1], nn.Sequential(flat[2]), nn.Dropout().eval())
    nested = nn.Sequential(nn.Flatten(), flat[0], inner, nn.Identity(), flat[3], flat[4])
    seen = architecture(nested, HE)
    assert seen == architecture(flat, HE)
    assert [type(layer) for layer in seen.layers] == [Weights, Relu] * 2 + [Weights]
    assert seen.layers[1] == Relu(9, 0.2) and seen.inputs == 7
    assert [site.width for site in seen.sites] == [9, 8]


def test_what_a_layer_of_activations_receives_and_sends_on() -> None:
    seen = architecture(mlp(7, 30, 20, 2, seed=0, leak=0.5), Initialisation(1.5, 0.3, 0.7))
    (offset, offset2, _), (gain, gain2, at_output) = seen.received.tolist()
    onward = [4 * float(site.strength) for site in seen.sites]  # over the squared jump of 1 / 2
    kept = (1 + 0.5**2) / 2
    assert (gain, offset) == pytest.approx((2.25, 0.09))
    assert gain2 == pytest.approx(2.25**2 * kept)
    assert offset2 == pytest.approx(2.25 * kept * 0.09 + 0.09)
    assert onward == pytest.approx([2.25 * kept * 0.49, 0.49])
    assert at_output == pytest.approx(0.49 * kept * gain2)


def test_residual_blocks_are_read() -> None:
    how = Initialisation(1.5, 0.3, 0.7)
    seen = architecture(residual_mlp(7, 9, 2, 1, scale=0.7, seed=0, initialisation=how), how)
    branch = (Relu(9, 0.0), Weights((9, 9), 2.25, pytest.approx(0.09)))
    assert seen.layers[1:3] == (Block((*branch, Scale(0.7**2)), ()),) * 2
    kept, grown = 2.25 / 2, 1 + 0.49 * 2.25 / 2  # by the branch, by the block
    (first, second, third), gains = seen.received[:, :3].tolist()
    assert gains == pytest.approx([2.25 * grown**n for n in range(3)])
    assert first == pytest.approx(0.09)
    assert second == pytest.approx(0.09 + 0.49 * (kept * 0.09 + 0.09))
    assert third == pytest.approx(second + 0.49 * (kept * second + 0.09))
    first, second, third = (float(site.strength) for site in seen.sites)
    assert third == pytest.approx(0.49)
    assert second == pytest.approx(0.49 * 2.25 * 0.49 / 2)
    assert first == pytest.approx(second * grown)


def test_activations_may_be_used_again() -> None:
    relu, (first, _, second, _, last) = nn.ReLU(), mlp(7, 9, 8, 1, seed=0)
    net = nn.Sequential(first, relu, second, relu, last)
    assert architecture(net, HE) == architecture(mlp(7, 9, 8, 1, seed=0), HE)


Linear, ReLU, Chain = nn.Linear, nn.ReLU, nn.Sequential
SHARED = Linear(7, 7)


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (
            Chain(Linear(7, 9), Chain(nn.Tanh()), Linear(9, 1)),
            r"its layer '1.0' is Tanh\(\); replace",
        ),
        (
            Chain(Linear(7, 9), ReLU(), nn.Dropout(), Linear(9, 1)),
            r"its layer '2' is Dropout\(.*\) in training mode; call net.eval\(\)",
        ),
        (
            Chain(Linear(7, 9), Residual(Chain(nn.GELU(), Linear(9, 9)), 1.0), Linear(9, 1)),
            "its layer '1.branch.0' is GELU",
        ),
        (nn.Tanh(), "its layer 'net' is Tanh"),
        (Chain(Linear(7, 9), ReLU(), ReLU(), Linear(9, 1)), "none before its layer '2'"),
        (
            Chain(Linear(7, 9), ReLU(), Residual(Linear(9, 9), 1.0), Linear(9, 1)),
            "blocks that add what layers with weights make, .* but its layer '2' is another",
        ),
        (
            Chain(Linear(7, 9), Residual(Chain(Linear(9, 9), ReLU()), 1.0), Linear(9, 1)),
            "blocks that add what layers with weights make, .* but its layer '1' is another",
        ),
        (Chain(Linear(7, 9), ReLU()), "end with a Linear layer, but ends with its layer '1', ReLU"),
        (Chain(Linear(7, 9), Linear(9, 9), Linear(9, 1)), "must have a ReLU"),
        (Chain(), "end with a Linear layer, but ends with nothing"),
        (Chain(SHARED, ReLU(), SHARED, ReLU(), Linear(7, 1)), "use all weights once, but some are"),
        (lambda x: x, "net must be a torch.nn.Module, got function"),
    ],
)
def test_refuses_what_it_cannot_read(net: nn.Module, match: str) -> None:
    with pytest.raises(InputError, match=match):
        architecture(net, HE, (7,))


# At initialisation


@given(angle=angles, norm=norms, depth=st.integers(1, 8), width=st.integers(1, 300))
def test_switches_without_biases(angle: float, norm: float, depth: int, width: int) -> None:
    """T1: E[M] = (theta / pi) sum of widths, whatever the depth."""
    predicted = at_initialisation(mlp(7, *[width] * depth, 1, seed=0), pair(angle, norm))
    assert predicted.switches.item() == pytest.approx(angle / math.pi * depth * width, rel=1e-10)


@settings(max_examples=30)
@given(angle=angles, norm=norms, depth=st.integers(1, 4))
def test_quadratic_variation_is_the_integral(angle: float, norm: float, depth: int) -> None:
    """T3, with the integral of ||X_t||^-4 by quadrature."""
    x0, x1 = pair(angle, norm)
    area = float(x0.norm() * x1.norm()) * math.sin(angle)
    squared = [
        float((x0 * x0).sum()),
        float((x0 * (x1 - x0)).sum()),
        float((x1 - x0).square().sum()),
    ]
    lowest = -squared[1] / squared[2]

    def inverse_fourth(t: float) -> float:
        return (squared[0] + 2 * t * squared[1] + t * t * squared[2]) ** -2

    points = [lowest] if 0 < lowest < 1 else None
    integral = integrate.quad(
        inverse_fourth, 0, 1, points=points, epsabs=0, epsrel=1e-11, limit=500
    )
    expected = depth * 4 / (math.pi * 7) * area**3 * integral[0]
    predicted = at_initialisation(mlp(7, *[100] * depth, 1, seed=0), (x0, x1))
    assert predicted.quadratic_variation.item() == pytest.approx(expected, rel=1e-8)


@given(angle=angles, width=st.integers(1, 5000))
def test_closed_form_of_one_hidden_layer(angle: float, width: int) -> None:
    predicted = at_initialisation(mlp(7, width, 1, seed=0), pair(angle)).per_unit_length()
    squared = 2 / (7 * width) * (1 + math.sin(angle) / angle)
    assert predicted.gap_deviation.item() ** 2 == pytest.approx(squared, rel=1e-9)
    variation = 2 / (math.pi * 7) * (angle + math.sin(angle))
    assert predicted.quadratic_variation.item() == pytest.approx(variation, rel=1e-9)


@given(angle=angles, norm=norms, sigma_b=st.floats(0, 3), sigma_w=st.floats(0.5, 3))
def test_one_hidden_layer_is_a_random_walk_bridge(
    angle: float, norm: float, sigma_b: float, sigma_w: float
) -> None:
    """T6 for L = 1: the mid-path deflection from T4 equals sqrt(V) / 2, computed another way."""
    how = Initialisation(sigma_w, sigma_b)
    predicted = at_initialisation(mlp(7, 9, 1, seed=0), pair(angle, norm), how)
    assert predicted.bridge_ratio.item() == pytest.approx(1, abs=1e-6)


@settings(max_examples=30)
@given(kind=kinds, angle=st.floats(0.3, 2.8), norm=st.floats(0.5, 2))
def test_gap_variance_integrates_to_the_quadratic_variation(
    kind: Kind, angle: float, norm: float
) -> None:
    """T2 and T3: variance of a gap times density of breakpoints, integrated along the path."""
    net, ends = kind(), pair(angle, norm)
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    seen, path = lines(net, ends, kind.how)
    variances = gap_variance(net, ends, t, kind.how)[0]
    predicted = at_initialisation(net, ends, kind.how)
    for layer in range(len(seen.sites)):
        height = path.heights(seen)[:, layer]
        density = 100 / math.pi * height * path.speed / (height.square() + path.at(t).square())
        switches = torch.trapezoid(density, t)
        assert switches.item() == pytest.approx(predicted.layer_switches[0, layer].item(), rel=1e-6)
        variation = torch.trapezoid(density * variances[layer], t)
        expected = predicted.layer_gap_deviation[0, layer].square() * switches
        assert variation.item() == pytest.approx(expected.item(), rel=1e-6)


@settings(max_examples=30)
@given(kind=kinds, angle=angles, norm=norms, scale=st.floats(0.1, 10))
def test_variations_grow_with_the_square_of_the_output_weights(
    kind: Kind, angle: float, norm: float, scale: float
) -> None:
    net, ends, t = kind(), pair(angle, norm), numbers(0.0, 0.3)
    larger = replace(kind.how, sigma_o=scale * kind.how.sigma_o)
    before, after = (at_initialisation(net, ends, how) for how in (kind.how, larger))
    assert torch.equal(before.layer_switches, after.layer_switches)
    assert close(after.quadratic_variation, scale**2 * before.quadratic_variation, 1e-12)
    assert close(after.mid_path_deflection, scale * before.mid_path_deflection, 1e-6)
    gaps = [gap_variance(net, ends, t, how) for how in (kind.how, larger)]
    assert close(gaps[1], scale**2 * gaps[0], 1e-12)


@settings(max_examples=30)
@given(kind=kinds, angle=angles, norm=norms)
def test_a_path_is_the_same_backwards(kind: Kind, angle: float, norm: float) -> None:
    x0, x1 = pair(angle, norm)
    there, back = (at_initialisation(kind(), ends, kind.how) for ends in ((x0, x1), (x1, x0)))
    for field in fields(there):
        assert close(getattr(back, field.name), getattr(there, field.name), 1e-6)


@settings(max_examples=30)
@given(kind=kinds, angle=angles, norm=norms, at=st.floats(0.1, 0.9))
def test_parts_of_a_path_add_up(kind: Kind, angle: float, norm: float, at: float) -> None:
    x0, x1 = pair(angle, norm)
    between = x0 + at * (x1 - x0)
    whole, early, late = (
        at_initialisation(kind(), ends, kind.how)
        for ends in ((x0, x1), (x0, between), (between, x1))
    )
    assert close(early.layer_switches + late.layer_switches, whole.layer_switches, 1e-9)
    parts = early.quadratic_variation / at**2 + late.quadratic_variation / (1 - at) ** 2
    assert close(parts, whole.quadratic_variation, 1e-9)


def test_slopes_at_one_time_have_the_variance_of_the_closed_form() -> None:
    x0, x1 = pair(1.0)
    t = numbers(0.3)
    found = slope_covariance(mlp(7, 9, 9, 1, seed=0), (x0, x1), t, t)
    assert found.item() == pytest.approx(float((x1 - x0).square().sum()) / 7, rel=1e-9)


def test_refuses_a_path_through_the_origin_without_biases() -> None:
    x0, _ = pair(1.0)
    with pytest.raises(InputError, match="origin"):
        at_initialisation(mlp(7, 9, 1, seed=0), (x0, -x0))
    biased = at_initialisation(mlp(7, 9, 1, seed=0), (x0, -x0), Initialisation(sigma_b=1))
    assert torch.isfinite(biased.quadratic_variation).all()


# Simulation


def standard_errors(runs: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """How many of its standard errors the mean lies off, and the relative standard error."""
    error = runs.std(dim=0) / math.sqrt(len(runs))
    return (runs.mean(dim=0) - expected) / error, error / expected


@every_kind
def test_simulation(kind: Kind) -> None:
    """T1, T3, T4 and T7 against 200 random networks, all within four standard errors."""
    paths, width = three_pairs(), 256 if kind.depth == 1 else 128
    middle = numbers(0.0, 0.5, 1.0)
    first = 1000 * KINDS.index(kind)
    measured = []
    for seed in range(first, first + 200):
        traced = trace(kind(width, 16, seed), paths)
        start, half, end = measures.along(traced, middle)[0].unbind(dim=1)
        found = [
            measures.quadratic_variation(traced),
            measures.mid_path_deflection(traced).square(),
            (half - (start + end) / 2).square(),
            measures.fluctuation(traced),
        ]
        means = [one.mean(dim=1) for one in found]
        measured.append(torch.stack([traced.switches.double(), *means]))
    asked = (kind(width), paths)
    predicted = at_initialisation(*asked, kind.how)
    expected = torch.stack(
        [
            predicted.switches,
            predicted.quadratic_variation,
            predicted.mid_path_deflection.square(),
            chord_deviation(*asked, numbers(0.5), kind.how)[:, 0].square(),
            fluctuation(*asked, kind.how, points=65, draws=10_000).mean(dim=1),
        ]
    )
    off, error = standard_errors(torch.stack(measured), expected)
    assert off.abs().max() < 4
    assert error.max() < 0.05  # 10 % off would be seen


@pytest.mark.parametrize(
    ("widths", "leak", "sigma_b"),
    [((12, 12, 12), 0.0, 0.0), ((16, 8), 0.0, 0.0), ((8,), 0.3, 0.5)],
)
def test_exact_at_small_width(widths: tuple[int, ...], leak: float, sigma_b: float) -> None:
    """E[M] and E[V] of 400 networks, in seven orthogonal planes each.

    With several layers this holds up to the few paths on which the units of a layer fall silent.
    """
    how = Initialisation(sigma_b=sigma_b)
    paths = tuple(
        torch.cat([x.roll(2 * plane, dims=1) for plane in range(7)]) for x in pair(2.5, 1.5, 14)
    )
    measured = []
    for seed in range(400):
        net = mlp(14, *widths, 4, seed=seed, initialisation=how, leak=leak)
        traced = trace(net, paths)
        variation = measures.quadratic_variation(traced).mean()
        measured.append(torch.stack([traced.switches.double().mean(), variation]))
    predicted = at_initialisation(net, paths, how)
    expected = torch.stack([predicted.switches[0], predicted.quadratic_variation[0]])
    off, error = standard_errors(torch.stack(measured), expected)
    assert off.abs().max() < 4
    assert error[0] < 0.01 and error[1] < 0.05


def test_the_term_of_order_one_over_width() -> None:
    """Products of the end slopes of 2,000 networks with 24 units per layer, and the limit."""
    ends = (torch.tensor(0.0), torch.tensor(1.0))
    paths = three_pairs()
    points, ways = torch.cat(paths), (paths[1] - paths[0]).repeat(2, 1)
    nets = [mlp(7, 24, 24, 24, 8, seed=seed).double() for seed in range(2000)]
    net, (weights, _) = nets[0], torch.func.stack_module_state(nets)

    def slopes(own: dict[str, Tensor]) -> Tensor:
        called = partial(torch.func.functional_call, net, own)
        return torch.func.jvp(called, (points,), (ways,))[1]

    start, end = torch.func.vmap(slopes)(weights).detach().split(3, dim=1)
    measured = (start * end).mean(dim=2)
    limit = slope_covariance(net, paths, *ends)
    corrected = slope_covariance(net, paths, *ends, corrected=True)
    assert standard_errors(measured, corrected)[0].abs().max() < 4
    assert standard_errors(measured, limit)[0].abs().max() > 4


def moments_behind(m: Tensor) -> Tensor:
    """E of 2 phi(u)^2, 2 phi(v)^2 and 2 phi(u) phi(v), with those of u^2, v^2 and u v."""
    size = (m[0] * m[1]).sqrt()
    angle = (m[2] / size).arccos()
    kappa = (angle.sin() + (math.pi - angle) * angle.cos()) / math.pi
    return torch.stack([m[0], m[1], size * kappa])


def scatter(m: Tensor) -> Tensor:
    """Covariance of these three of one unit, (3, 3); Gauss-Legendre over the angle of (u, v)."""
    size = (m[0] * m[1]).sqrt()
    angle = float((m[2] / size).arccos())
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(40))
    half = (math.pi - angle) / 2  # both are positive from angle - pi/2 to pi/2
    turn = angle / 2 + half * nodes
    u, v = m[0].sqrt() * turn.cos(), m[1].sqrt() * (turn - angle).cos()
    dense = half * weights / (2 * math.pi) * 8 * 4  # E r^4 = 8; twice 2

    def fourth(power: int) -> Tensor:
        return (dense * u**power * v ** (4 - power)).sum()

    second = torch.stack([fourth(power) for power in (4, 2, 3, 2, 0, 1, 3, 1, 2)]).view(3, 3)
    second[0, 0], second[1, 1] = 6 * m[0] ** 2, 6 * m[1] ** 2  # with either sign of the other
    mean = moments_behind(m)
    return second - mean[:, None] * mean


@pytest.mark.parametrize("widths", [(9,), (9, 5), (5, 12, 8), (11, 4, 7, 6)])
@pytest.mark.parametrize("angle", [0.3, math.pi / 2, 2.7])
def test_the_term_is_that_of_the_delta_method(widths: tuple[int, ...], angle: float) -> None:
    """Means and covariances of second moments of layers, by derivatives that torch takes."""
    how = Initialisation(1.3, 0.0, 0.8)
    net, ends = mlp(7, *widths, 2, seed=0, initialisation=how), pair(angle, 1.7)
    m = numbers(1, 1, math.cos(angle))
    shift, spread = torch.zeros(3).double(), torch.zeros(3, 3).double()
    for width in widths:
        slope = torch.autograd.functional.jacobian(moments_behind, m)
        bend = torch.stack(
            [
                torch.autograd.functional.hessian(lambda x, i=i: moments_behind(x)[i], m)
                for i in range(3)
            ]
        )
        shift = slope @ shift + (bend * spread).sum(dim=(1, 2)) / 2
        spread = slope @ spread @ slope.T + scatter(m) / width
        m = moments_behind(m)
    asked = (net, ends, numbers(0), numbers(1), how)
    size = 1.7 * (1.3**2 / 2) ** len(widths) * 0.8**2
    assert output_covariance(*asked).item() == pytest.approx(size * m[2].item(), rel=1e-12)
    found = output_covariance(*asked, corrected=True) - output_covariance(*asked)
    assert found.item() == pytest.approx(size * shift[2].item(), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_the_term_is_the_derivative_of_that_of_the_outputs(layers: int) -> None:
    """Central differences of the corrected covariance of outputs; and 1/width, doubled."""
    net, paths, step = mlp(7, *[20] * layers, 1, seed=0), three_pairs(), 1e-4
    s, t = torch.tensor(0.3).double(), torch.tensor(0.8).double()

    def term(wide: nn.Module, *at: Tensor) -> Tensor:
        asked = (wide, paths, *at)
        return output_covariance(*asked, corrected=True) - output_covariance(*asked)

    mixed = term(net, s + step, t + step) - term(net, s + step, t - step)
    mixed = mixed - term(net, s - step, t + step) + term(net, s - step, t - step)
    slopes = slope_covariance(net, paths, s, t, corrected=True) - slope_covariance(net, paths, s, t)
    assert torch.allclose(slopes, mixed / (4 * step**2), rtol=1e-3, atol=1e-6)
    doubled = mlp(7, *[40] * layers, 1, seed=0)
    assert torch.allclose(term(net, s, t), 2 * term(doubled, s, t), rtol=1e-9, atol=1e-15)
    assert bool((term(net, s, t) == 0).all()) == (layers == 1)


@pytest.mark.parametrize("net", [mlp(7, 9, 9, 1, seed=0, leak=0.1), mlp(7, 9, 9, 1, seed=0)])
def test_refuses_a_term_that_is_not_known(net: nn.Module) -> None:
    how = Initialisation(sigma_b=0.1)
    with pytest.raises(InputError, match="net must have plain ReLU layers, and no biases"):
        slope_covariance(net, pair(1.0), numbers(0.2), numbers(0.4), how, corrected=True)


def test_refuses_a_term_behind_linear_layers_that_are_not_infinite() -> None:
    net = Chain(Linear(7, 9), Linear(9, 9), ReLU(), Linear(9, 1))
    with pytest.raises(InputError, match="net must have plain ReLU layers"):
        slope_covariance(net, pair(1.0), numbers(0.2), numbers(0.4), corrected=True)


def test_a_sample_on_the_ray_of_an_end_gives_a_one_sided_slope() -> None:
    x = torch.tensor([[0.31, 1.17, -0.73], [1.0, -0.2, 0.4]], dtype=torch.float64)
    y = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    trained = after_training(mlp(3, 9, 1, seed=0), x, y, (3.7 * x[:1], x[1:]), points=1001)
    values, slopes = trained.mean[0, :1001, 0], trained.mean[0, 1001:, 0]
    assert slopes[0].item() == pytest.approx((values[1] - values[0]).item() * 1000, rel=1e-3)


def test_fluctuations_are_drawn_from_their_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = KINDS[-1]
    x0, x1 = three_pairs()
    paths = (torch.cat([x0, x0[:1]]), torch.cat([x1, x1[:1]]))
    asked = (kind(), paths, kind.how)
    drawn = fluctuation(*asked, draws=50, seed=3)
    assert drawn.shape == (4, 50) and drawn.dtype == torch.float64
    assert close(drawn[0], drawn[3], 1e-6)
    assert torch.equal(fluctuation(*asked, draws=50, seed=3), drawn)
    assert not torch.equal(fluctuation(*asked, draws=50, seed=4), drawn)
    twice = replace(kind.how, sigma_o=2 * kind.how.sigma_o)
    assert close(fluctuation(kind(), paths, twice, draws=50, seed=3), 2 * drawn, 1e-6)
    monkeypatch.setattr(process, "_ENTRIES", 1)
    assert close(fluctuation(*asked, draws=50, seed=3), drawn, 1e-6)


@every_kind
def test_fluctuations_are_as_large_as_distances_from_the_chord(kind: Kind) -> None:
    asked = (kind(), three_pairs())
    mean = fluctuation(*asked, kind.how, draws=2000).mean(dim=1)
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    largest = chord_deviation(*asked, t, kind.how).amax(dim=1)
    assert (mean > math.sqrt(2 / math.pi) * largest).all() and (mean < 3 * largest).all()


@every_kind
def test_a_pinned_output_is_conditioned_on_its_ends(kind: Kind) -> None:
    asked, t, ends = (kind(), three_pairs()), torch.linspace(0, 1, 9).double(), [0, 8]
    k = output_covariance(*asked, t[:, None, None], t[:, None], kind.how).permute(2, 0, 1)
    known = k[:, :, ends] @ torch.linalg.solve(k[:, ends][:, :, ends], k[:, ends])
    found = pinned_deviation(*asked, t, kind.how)
    assert close(found.square(), (k - known).diagonal(dim1=1, dim2=2), 1e-10)
    assert (found <= chord_deviation(*asked, t, kind.how) + 1e-7).all()


def test_refuses_numbers_of_draws_and_points() -> None:
    asked = (mlp(7, 9, 1, seed=0), pair(1.0))
    with pytest.raises(InputError, match="points must be a whole number of at least 3"):
        fluctuation(*asked, points=2)
    with pytest.raises(InputError, match="draws must be a whole number of at least 1"):
        fluctuation(*asked, draws=0)


# After training


def samples(count: int = 4, outputs: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(count, 7, generator=random, dtype=torch.float64)
    return x, torch.randn(count, outputs, generator=random, dtype=torch.float64)


def variances(net: nn.Module, how: Initialisation) -> list[float]:
    """Of each parameter at initialisation, in order."""
    *hidden, last = (m for m in net.modules() if isinstance(m, nn.Linear))
    found = []
    for layer in hidden:
        found += [how.sigma_w**2 / layer.in_features, how.sigma_b**2]
    return [*found, how.sigma_o**2 / last.in_features, 0.0]


@pytest.mark.parametrize(
    ("name", "width"), [("shallow", 4000), ("leaky", 2000), ("residual", 2000)]
)
def test_tangent_kernel_is_that_of_a_wide_network(name: str, width: int) -> None:
    x, _ = samples()
    kind = KINDS[NAMES.index(name)]
    net = kind(width, outputs=4)
    parameters = list(net.parameters())
    weights = [math.sqrt(variance) for variance in variances(net, kind.how)]
    f = net(x.float())
    measured = torch.zeros(4, 4)
    for output in range(4):
        rows = []
        for one in f[:, output]:
            gradients = torch.autograd.grad(one, parameters, retain_graph=True)
            rows.append(torch.cat([w * g.flatten() for w, g in zip(weights, gradients)]))
        measured += torch.stack(rows) @ torch.stack(rows).T / 4
    found = tangent_kernel(net, x, kind.how)
    assert torch.equal(found, found.T)
    assert close(measured.double(), found, 0.05)


def test_a_wide_network_trains_as_predicted() -> None:
    kind, time, steps = KINDS[0], 2.0, 200
    x, y = samples()
    paths, t = (x[:2], x[1:3]), torch.linspace(0, 1, 9, dtype=torch.float64)
    net = kind(16_000, outputs=2, seed=1).double()

    def along() -> Tensor:
        return torch.cat(measures.along(trace(net, paths), t), dim=1)

    expected = after_training(net, x, y, paths, kind.how, time=time, points=9)
    before = along()
    predicted = expected.given(before, net(x).detach(), y)
    rates = [time / steps * variance for variance in variances(net, kind.how)]
    for _ in range(steps):
        loss = (net(x) - y).square().sum() / 2
        for parameter, rate, gradient in zip(
            net.parameters(), rates, torch.autograd.grad(loss, list(net.parameters()))
        ):
            parameter.data -= rate * gradient
    # Slopes converge only as width^(-1/4), as the breakpoints move.
    assert close((along() - before)[:, :9], (predicted - before)[:, :9], 0.03)


@every_kind
def test_training_for_ever_reaches_the_targets(kind: Kind) -> None:
    x, y = samples()
    net = kind()
    trained = after_training(net, x, y, (x[:1], x[1:2]), kind.how)
    ends = [0, len(trained.t) - 1]
    assert close(trained.mean[0, ends], y[:2], 1e-9)
    assert trained.covariance[0, ends].abs().max() < 1e-9
    anything = torch.randn(1, 66, 2, dtype=torch.float64)
    anything[0, ends] = y.flip(0)[:2]
    assert close(trained.given(anything, y.flip(0), y)[0, ends], y[:2], 1e-9)
    assert torch.equal(trained.given(anything, y, y), anything)


@every_kind
@pytest.mark.parametrize("time", [0.1, 1.0, 5.0])
def test_training_for_a_while_is_gradient_flow(kind: Kind, time: float) -> None:
    """At the two training samples themselves f - y decays as exp(-time times tangent kernel)."""
    (x, y), net, t = samples(2), kind(), numbers(0, 1)[:, None]
    trained = after_training(net, x, y, (x[:1], x[1:]), kind.how, time=time, points=3)
    decay = torch.linalg.matrix_exp(-time * tangent_kernel(net, x, kind.how))
    assert close(trained.mean[0, [0, 2]], y - decay @ y, 1e-9)
    before = output_covariance(net, (x[:1], x[1:]), t[:, None], t, kind.how)[..., 0]
    found = trained.covariance[0, [0, 2]][:, [0, 2]]
    assert (found - decay @ before @ decay).abs().max() < 1e-12 * before.abs().max()


@every_kind
def test_before_training_it_is_the_random_network(kind: Kind) -> None:
    x, y = samples()
    asked = (kind(), pair(1.2))
    trained = after_training(kind(), x, y, asked[1], kind.how, time=1e-12)
    t = trained.t
    values = output_covariance(*asked, t[:, None, None], t[:, None], kind.how)[..., 0]
    slopes = slope_covariance(*asked, t[:, None, None], t[:, None], kind.how)[..., 0]
    assert trained.mean.abs().max() < 1e-10
    assert close(trained.covariance[0, :33, :33], values, 1e-10)
    assert close(trained.covariance[0, 33:, 33:], slopes, 1e-10)
    assert close(trained.chord_deviation, chord_deviation(*asked, t, kind.how), 1e-6)
    predicted = at_initialisation(*asked, kind.how)
    assert close(trained.mid_path_deflection, predicted.mid_path_deflection, 1e-6)
    drawn = trained.fluctuation(draws=2000, seed=1).mean(dim=1)
    assert close(drawn, fluctuation(*asked, kind.how, draws=2000).mean(dim=1), 0.05)


@every_kind
@pytest.mark.parametrize("time", [1.0, math.inf])
def test_slopes_are_the_derivatives_of_values(kind: Kind, time: float) -> None:
    x, y = samples()
    trained = after_training(kind(), x, y, (x[:1], x[1:2]), kind.how, time=time, points=401)
    mean, covariance = trained.mean[0], trained.covariance[0]
    assert close((mean[2:401] - mean[:399]) * 200, mean[402:801], 1e-4)
    assert close((mean[1] - mean[0]) * 400, mean[401], 0.01)
    assert close((mean[400] - mean[399]) * 400, mean[801], 0.01)
    # The covariance of two slopes has a ridge where they are those of one point.
    assert close((covariance[2:401] - covariance[:399]) * 200, covariance[402:801], 0.02)


@every_kind
@pytest.mark.parametrize("time", [1.0, math.inf])
def test_covariances_after_training_are_positive(
    kind: Kind, time: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = samples()
    asked = (kind(), x, y, (x[:3], x[1:]), kind.how)
    trained = after_training(*asked, time=time)
    assert trained.response.shape == (3, 66, 4) and trained.mean.shape == (3, 66, 2)
    assert close(trained.covariance, trained.covariance.mT, 1e-12)
    values = torch.linalg.eigvalsh(trained.covariance)
    assert values.min() > -1e-12 * values.max()
    monkeypatch.setattr(training, "_ENTRIES", 1)
    assert close(after_training(*asked, time=time).covariance, trained.covariance, 1e-10)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"y": torch.ones(3, 1)}, r"y must be of shape \(4, outputs\), .* got \(3, 1\)"),
        ({"y": torch.ones(4)}, r"y must be of shape \(4, outputs\), .* got \(4,\)"),
        ({"y": torch.full((4, 1), math.nan)}, "y must be finite, but 4 of its 4"),
        ({"x": torch.ones(4, 6)}, r"samples of 7 entries, .* got shape \(4, 6\)"),
        ({"x": torch.full((4, 7), math.inf)}, "x must be finite, but 28 of its 28"),
        ({"x": torch.eye(7)[[0, 1, 2, 0]]}, "x must hold no sample twice"),
        ({"x": torch.cat([torch.eye(7)[:3], 2 * torch.eye(7)[:1]])}, "along one ray"),
        ({"points": 32}, "points must be odd, .* got 32; add one"),
        ({"points": 1}, "points must be a whole number of at least 3"),
        ({"time": -1.0}, "time must be a finite number above 0"),
        ({"time": math.nan}, "time must be a finite number above 0"),
        ({"net": nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 1))}, "is Tanh"),
    ],
)
def test_refuses_samples_that_do_not_fit(changes: dict[str, object], match: str) -> None:
    x, y = samples(outputs=1)
    asked = {"net": mlp(7, 9, 1, seed=0), "x": x, "y": y, "paths": pair(1.0)}
    with pytest.raises(InputError, match=match) as refusal:
        after_training(**asked | changes)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(".")


def test_the_same_sample_twice_may_be_trained_on_for_a_while() -> None:
    x, y = samples()
    x[1] = x[0]
    trained = after_training(mlp(7, 9, 1, seed=0), x, y, (x[:1], x[2:3]), time=100.0)
    assert finite(trained)


@pytest.mark.parametrize("layers", [1, 12])
def test_nearly_opposite_samples_keep_their_digits_in_the_middle(layers: int) -> None:
    """By the angles of the line's points, in 60 digits, from the same floating samples."""
    angle = math.pi - 1e-8
    x0 = torch.tensor([[2.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    x1 = 2 * torch.tensor([[math.cos(angle), math.sin(angle), 0.0, 0.0]], dtype=torch.float64)
    found = output_covariance(
        mlp(4, *[9] * layers, 1, seed=0), (x0, x1), numbers(0.5), numbers(0.0)
    )
    with mp.workdps(60):
        a, b = ([mpf(v) for v in x[0].tolist()] for x in (x0, x1))
        middle = [(u + v) / 2 for u, v in zip(a, b, strict=True)]
        dot = mp.fdot(middle, a)
        size = mp.sqrt(mp.fdot(a, a) * mp.fdot(middle, middle))
        u = mp.acos(dot / size)
        for _ in range(layers):
            rho = (mp.sin(u) + (mp.pi - u) * mp.cos(u)) / mp.pi
            u = mp.acos(rho)
        expected = float(size * rho / 4)
    assert found.item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("angle", [1e-3, 1e-2, math.pi - 1e-3])
def test_fluctuations_of_near_and_opposite_samples_are_not_rounding(angle: float) -> None:
    net, paths = mlp(7, 9, 9, 1, seed=0), pair(angle)
    mean = fluctuation(net, paths, draws=4000).mean()
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    largest = chord_deviation(net, paths, t).max()
    assert math.sqrt(2 / math.pi) * largest * 0.95 < mean < 2 * largest


@pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan])
def test_refuses_times_off_the_path(wrong: float) -> None:
    net, paths, t, good = mlp(7, 9, 1, seed=0), pair(1.0), numbers(0.5, wrong), numbers(0.5)
    told = rf"must be between 0 and 1, got \[{wrong}\]; choose positions on the path"
    for predict in (gap_variance, chord_deviation, pinned_deviation):
        with pytest.raises(InputError, match=f"t {told}"):
            predict(net, paths, t)
    for covariance in (slope_covariance, output_covariance):
        with pytest.raises(InputError, match=f"s {told}"):
            covariance(net, paths, t[:, None], good)
        with pytest.raises(InputError, match=f"t {told}"):
            covariance(net, paths, good, numbers(wrong))
