"""Predictions against closed forms, quadrature and simulation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor

from implreg import measures
from implreg.checks import InputError
from implreg.networks import Initialisation, mlp
from implreg.statistics import mean_interval
from implreg.theory import at_initialisation, gap_variance, slope_covariance
from implreg.theory.kernels import input_covariance, output_covariance, relu_then_linear
from implreg.tracing import trace

angles = st.floats(0.05, 3.0)
norms = st.floats(0.2, 5.0)


def pair(angle: float, norm: float = 1.0, d: int = 7) -> tuple[Tensor, Tensor]:
    x0, x1 = torch.zeros(2, 1, d, dtype=torch.float64)
    x0[0, 0] = math.sqrt(d)
    x1[0, 0], x1[0, 1] = (
        norm * math.sqrt(d) * math.cos(angle),
        norm * math.sqrt(d) * math.sin(angle),
    )
    return x0, x1


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
    predicted = at_initialisation(mlp(7, *[9] * depth, 1, seed=0), (x0, x1))
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
@given(angle=st.floats(0.3, 2.8), norm=st.floats(0.5, 2), depth=st.integers(1, 5))
def test_gap_variance_integrates_to_the_quadratic_variation(
    angle: float, norm: float, depth: int
) -> None:
    """T2 and T3: variance of a gap times density of breakpoints, integrated along the path."""
    x0, x1 = pair(angle, norm)
    net = mlp(7, *[11] * depth, 1, seed=0)
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    points = x0 + t[:, None] * (x1 - x0)
    area = float(x0.norm() * x1.norm()) * math.sin(angle)
    density = area / (math.pi * points.square().sum(dim=1))
    total = torch.trapezoid((11 * density * gap_variance(net, (x0, x1), t)).sum(dim=1), t)
    expected = at_initialisation(net, (x0, x1)).quadratic_variation
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
def test_derivatives_of_the_kernel(depth: int, sigma_b: float) -> None:
    """T4: the closed forms against automatic differentiation of the kernel itself."""
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

    s = torch.tensor([0.2], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    k = kernel(s, t)
    (ds,) = torch.autograd.grad(k, s, create_graph=True)
    (dt,) = torch.autograd.grad(k, t, create_graph=True)
    (dsdt,) = torch.autograd.grad(ds, t)
    found = output_covariance(x0, x1, s.detach(), t.detach(), depth, how).cross
    for name, expected in {"k": k, "ds": ds, "dt": dt, "dsdt": dsdt}.items():
        assert getattr(found, name).item() == pytest.approx(expected.item(), rel=1e-10)


def test_kernel_is_the_gaussian_integral() -> None:
    """One ReLU step against E[relu(u) relu(v)] by quadrature."""
    x0, x1 = pair(0.9, 1.4)
    s, t = torch.tensor([0.1], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64)
    below = input_covariance(x0, x1, s, t, Initialisation())
    a, b, c = below.at_s.var.item(), below.at_t.var.item(), below.cross.k.item()
    root = math.sqrt(b - c * c / a)

    def density(v: float, u: float) -> float:
        z = (v - c / a * u) / root
        return u * v * math.exp(-u * u / (2 * a) - z * z / 2) / (2 * math.pi * math.sqrt(a) * root)

    integral, _ = integrate.dblquad(density, 0, 12 * math.sqrt(a), 0, 12 * math.sqrt(b))
    above = relu_then_linear(below, weight=2.0, bias=0.3)
    assert above.cross.k.item() == pytest.approx(2 * integral + 0.3, rel=1e-7)
    assert above.at_s.var.item() == pytest.approx(a + 0.3)


def test_slopes_at_one_time_have_the_variance_of_the_closed_form() -> None:
    x0, x1 = pair(1.0)
    t = torch.tensor([0.3], dtype=torch.float64)
    found = slope_covariance(mlp(7, 9, 9, 1, seed=0), (x0, x1), t, t)
    assert found.item() == pytest.approx(float((x1 - x0).square().sum()) / 7, rel=1e-9)


@pytest.mark.parametrize(("depth", "sigma_b"), [(1, 0.0), (1, 0.5), (2, 0.0), (2, 0.5), (3, 0.0)])
def test_simulation(depth: int, sigma_b: float) -> None:
    """T1, T3 and T4 against 200 random networks, all within four standard errors."""
    how = Initialisation(sigma_b=sigma_b)
    ends = [pair(0.8), pair(math.pi / 2, 2.0), pair(2.5)]
    paths = (torch.cat([a for a, _ in ends]), torch.cat([b for _, b in ends]))
    measured = []
    for seed in range(200):
        traced = trace(mlp(7, *[256] * depth, 4, seed=seed, initialisation=how), paths)
        bend = measures.mid_path_deflection(traced).square().mean(dim=1)
        variation = measures.quadratic_variation(traced).mean(dim=1)
        measured.append(torch.stack([traced.switches.double(), variation, bend]))
    predicted = at_initialisation(mlp(7, *[256] * depth, 4, seed=0), paths, how)
    expected = torch.stack(
        [predicted.switches, predicted.quadratic_variation, predicted.mid_path_deflection.square()]
    )
    runs = torch.stack(measured)
    z = (runs.mean(dim=0) - expected) / (runs.std(dim=0) / math.sqrt(200))
    assert z.abs().max() < 4
    interval = mean_interval(runs[:, 0, 0].numpy())
    assert interval.high - interval.low < 0.05 * interval.value  # the test can tell


def test_refuses_a_path_through_the_origin_without_biases() -> None:
    x0, _ = pair(1.0)
    with pytest.raises(InputError, match="origin"):
        at_initialisation(mlp(7, 9, 1, seed=0), (x0, -x0))
    biased = at_initialisation(mlp(7, 9, 1, seed=0), (x0, -x0), Initialisation(sigma_b=1))
    assert torch.isfinite(biased.quadratic_variation).all()
