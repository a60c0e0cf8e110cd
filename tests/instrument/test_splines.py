"""The splines of networks with one input, against quadrature, sampling and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from implreg.errors import InputError
from implreg.theory.splines import (
    Start,
    kernel_spline,
    least_variation,
    variational_spline,
)

X = np.array([-1.0, -0.6, -0.2, 0.2, 0.6, 1.0])
Y = np.array([-0.1, 0.3, 0.0, 0.4, 0.2, 0.5])
GRID = np.linspace(-1, 1, 201)
STARTS = [Start("uniform", 1.5), Start("gaussian", 1.0), Start("gaussian", 0.4)]
starts = pytest.mark.parametrize("start", STARTS, ids=str)


@starts
def test_moments_and_kernel_are_integrals_of_the_density(start: Start) -> None:
    end = start.reach if start.kind == "uniform" else np.inf
    for k in range(3):
        for c in (-0.7, 0.3):
            expected = quad(lambda s, k=k: s**k * float(start.density(s)), -end, c)[0]
            assert start.moments(c)[k] == pytest.approx(expected, abs=1e-9)
    for x, y in ((-0.7, 0.4), (0.9, 0.9), (0.2, -1.0)):
        low, high = min(x, y), max(x, y)
        parts = [
            quad(lambda c, x=x, y=y: float(start.density(c)) * (x - c) * (y - c), *ends)[0]
            for ends in ((-end, low), (high, end))
        ]
        assert float(start.kernel(x, y)) == pytest.approx(sum(parts) / 2, abs=1e-9)


def test_the_gaussian_kernel_is_the_arc_cosine_kernel() -> None:
    """Cho and Saul (2009): the ReLU kernel of the samples with the bias as a further input."""
    reach = 0.7
    a, b = np.array([0.3, reach]), np.array([-1.1, reach])
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    angle = np.arccos(cosine)
    expected = np.linalg.norm(a) * np.linalg.norm(b) / (2 * np.pi)
    expected *= np.sin(angle) + (np.pi - angle) * cosine
    assert float(Start("gaussian", reach).kernel(0.3, -1.1)) == pytest.approx(expected)


@starts
def test_drawn_units_have_the_density_and_the_kernel(start: Start) -> None:
    w, b = start.draw(400_000, torch.Generator().manual_seed(0)).numpy().T
    inside = (-b / w > -0.5) & (-b / w < 0.3)
    expected = start.moments(0.3)[0] - start.moments(-0.5)[0]
    assert np.mean(w**2 * inside) == pytest.approx(expected, rel=0.02)
    products = np.maximum(w * 0.4 + b, 0) * np.maximum(-w * 0.7 + b, 0)
    assert products.mean() == pytest.approx(float(start.kernel(0.4, -0.7)), rel=0.02)


@starts
def test_the_kernel_gives_the_minimiser_of_the_functional(start: Start) -> None:
    """Two computations that share no formula but the density and the second moments."""
    spline = kernel_spline(start, X, Y)
    values, least = variational_spline(start, X, Y)
    assert np.abs(values - spline(GRID)).max() < 1e-5
    assert least == pytest.approx(spline.energy, rel=1e-5)


@starts
def test_the_second_derivative_is_that_of_the_values(start: Start) -> None:
    spline, h = kernel_spline(start, X, Y), 1e-4
    at = np.array([-0.83, -0.31, 0.05, 0.77])
    expected = (spline(at + h) - 2 * spline(at) + spline(at - h)) / h**2
    assert np.allclose(spline.second_derivative(at), expected, atol=1e-4)
    assert np.allclose(spline(X), Y)


def test_uniform_breakpoints_give_a_cubic_spline_and_from_afar_the_natural_one() -> None:
    spline = kernel_spline(Start("uniform", 1.5), X, Y)
    ends = spline.second_derivative(X[[0, -1]])
    cubic = CubicSpline(X, Y, bc_type=((2, ends[0]), (2, ends[1])))
    assert np.abs(spline(GRID) - cubic(GRID)).max() < 1e-10
    natural = CubicSpline(X, Y, bc_type="natural")(GRID)
    off = [np.abs(kernel_spline(Start("uniform", r), X, Y)(GRID) - natural).max() for r in (4, 16)]
    assert off[1] < off[0] / 4 < 1e-3


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.sampled_from(STARTS))
def test_no_other_interpolant_has_less_energy(y: list[float], start: Start) -> None:
    """A perturbation that vanishes at the samples is orthogonal to the minimiser."""
    found = kernel_spline(start, X, y)
    more = np.append(X, 1.2)
    other = kernel_spline(start, more, [*y, float(found(1.2)) + 0.1])
    assert other.energy > found.energy


def test_limits_of_wide_networks_are_least_squares_of_many_units() -> None:
    start = Start("gaussian", 1.0)
    w, b = start.draw(100_000, torch.Generator().manual_seed(1)).numpy().T

    def units(x: np.ndarray) -> np.ndarray:
        return np.maximum(w * x[:, None] + b, 0)

    least = np.linalg.lstsq(units(X), Y, rcond=None)[0]
    assert np.abs(units(GRID) @ least - kernel_spline(start, X, Y)(GRID)).max() < 0.01


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=8), st.floats(0.1, 0.9))
def test_no_interpolant_varies_less_than_the_chords(y: list[float], share: float) -> None:
    """Adding a point between two others, wherever it lies, never lowers the variation."""
    x = np.arange(len(y), dtype=float)
    height = (y[0] + y[1]) / 2 + share - 0.5
    more = least_variation([0.0, share, *x[1:]], [y[0], height, *y[1:]])
    assert more >= least_variation(x, y) - 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Start("normal", 1.0), "kind must be one of uniform, gaussian"),
        (lambda: Start("uniform", 0.0), "reach must be a finite number above 0"),
        (lambda: kernel_spline(Start("uniform", 1.0), X, Y), "x must lie inside the reach"),
        (lambda: least_variation([0, 0, 1], [1, 2, 3]), "with x rising"),
        (lambda: least_variation([0, 1], [1, 2, 3]), "give each x one y"),
        (lambda: least_variation([0, 1], [1, np.nan]), "finite points"),
        (lambda: variational_spline(STARTS[0], X, Y, cells=0), "cells must be a whole number"),
    ],
)
def test_refuses_what_it_cannot_use(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
