r"""One input, one hidden layer: the splines that wide networks converge to.

A start is a distribution of the hidden weight and bias :math:`(w, b)` of one unit
:math:`\mathrm{relu}(w x + b)`, unchanged when both change their sign. Its *density of bends*
:math:`\zeta(c)` is the density of the breakpoint :math:`c = -b/w` times the mean of :math:`w^2`
given :math:`c`. It decides what a wide network whose output weights alone are trained learns.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from implreg.checks import check_choice, check_count, check_number
from implreg.errors import InputError

Floats = NDArray[np.float64]
STARTS = ("uniform", "gaussian")


@dataclass(frozen=True)
class Start:
    r"""How hidden weights and biases are drawn, and the closed forms that follow.

    "uniform": w is 1 or -1, and the breakpoint is uniform between -reach and reach,
    :math:`\zeta = 1 / 2r` there. "gaussian": w ~ N(0, 1) and b ~ N(0, reach²),
    :math:`\zeta(c) = \frac{2}{\pi} r^3 / (r^2 + c^2)^2`.

    Args:
        kind: one of `STARTS`.
        reach: r, above 0.

    Raises:
        InputError: an unknown kind, or a reach that is not positive.

    >>> float(Start("uniform", 2.0).density(0.5))
    0.25
    """

    kind: str
    reach: float

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, STARTS)
        check_number("reach", self.reach, above=0)

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        """Weights and biases of independent units, (count, 2), float64."""
        check_count("count", count)
        if self.kind == "gaussian":
            drawn = torch.randn(count, 2, generator=random, dtype=torch.float64)
            return drawn * torch.tensor([1.0, self.reach], dtype=torch.float64)
        sign = 2.0 * torch.randint(2, (count,), generator=random, dtype=torch.float64) - 1
        breakpoint_ = torch.rand(count, generator=random, dtype=torch.float64)
        return torch.stack([sign, -sign * self.reach * (2 * breakpoint_ - 1)], dim=1)

    def density(self, c: ArrayLike) -> Floats:
        r"""The density of bends :math:`\zeta` at positions c, of their shape."""
        c, r = np.asarray(c, dtype=float), self.reach
        if self.kind == "gaussian":
            return 2 / np.pi * r**3 / (r**2 + c**2) ** 2
        return np.where(np.abs(c) <= r, 1 / (2 * r), 0.0)

    def moments(self, c: ArrayLike) -> Floats:
        r""":math:`\int_{-\infty}^c s^k \zeta(s)\, ds` for k = 0, 1, 2, of shape (3, ...).

        >>> Start("gaussian", 3.0).moments(np.inf) + 0.0  # E w², -E wb, E b²
        array([1., 0., 9.])
        """
        c, r = np.asarray(c, dtype=float), self.reach
        if self.kind == "gaussian":
            angle = np.arctan(c / r) / np.pi + 0.5
            with np.errstate(invalid="ignore"):
                across = np.where(np.isinf(c), 0.0, r * c / (r**2 + c**2)) / np.pi
            return np.stack(
                [angle + across, -(r**3) / (np.pi * (r**2 + c**2)), r**2 * (angle - across)]
            )
        inside: Floats = np.clip(c, -r, r)
        powers = [(inside**k - (-r) ** k) / (2 * k * r) for k in (1, 2, 3)]
        return np.stack(powers)

    def kernel(self, x: ArrayLike, y: ArrayLike) -> Floats:
        r"""Mean of :math:`\mathrm{relu}(wx+b)\,\mathrm{relu}(wy+b)`; x and y broadcast.

        .. math:: \tfrac12 \int \zeta(c) \bigl[ (x-c)_+ (y-c)_+ + (c-x)_+ (c-y)_+ \bigr] dc

        >>> float(Start("uniform", 1.0).kernel(0.0, 0.0))  # the mean of relu(b)²
        0.16666...
        """
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        low, high = np.minimum(x, y), np.maximum(x, y)
        total = self.moments(np.inf).reshape(3, *[1] * low.ndim)
        outside = self.moments(low) + total - self.moments(high)
        mean: Floats = (low * high * outside[0] - (low + high) * outside[1] + outside[2]) / 2
        return mean


@dataclass(frozen=True)
class Spline:
    r"""The function that wide networks learn beyond the one that they start from.

    .. math:: h(x) = \sum_j a_j\, k(x, x_j), \qquad h''(x) = \tfrac12 \zeta(x) \sum_j a_j |x - x_j|

    Attributes:
        start: of the hidden weights.
        x: data points, rising, (N,).
        coefficients: a, (N,).
    """

    start: Start
    x: Floats
    coefficients: Floats

    def __call__(self, x: ArrayLike) -> Floats:
        """Values at positions x, of their shape."""
        values: Floats = self.start.kernel(np.asarray(x)[..., None], self.x) @ self.coefficients
        return values

    def second_derivative(self, x: ArrayLike) -> Floats:
        """The second derivative at positions x, of their shape."""
        distances = np.abs(np.asarray(x, dtype=float)[..., None] - self.x)
        bends: Floats = self.start.density(x) * (distances @ self.coefficients) / 2
        return bends

    @property
    def energy(self) -> float:
        """The functional that the spline minimises (theorem "Weighted spline" of the book)."""
        return float(self.coefficients @ self(self.x))


def kernel_spline(start: Start, x: ArrayLike, y: ArrayLike) -> Spline:
    """What networks of infinite width learn from data when their output weights alone are trained.

    Args:
        start: of the hidden weights.
        x: data points, rising, at least two, (N,); inside (-reach, reach) if uniform.
        y: what is to be learnt, less the function at the start, (N,).

    Raises:
        InputError: fewer than two points, points that do not rise, or points out of reach.

    Source: Heiss et al. (2019), Jin and Montúfar (2023).

    >>> spline = kernel_spline(Start("gaussian", 1.0), [-1, 0, 1], [1, 0, 1])
    >>> spline(np.array([-1.0, 0.0, 1.0])).round(12) + 0.0
    array([1., 0., 1.])
    """
    x, y = check_points(x, y)
    if start.kind == "uniform" and max(-x[0], x[-1]) >= start.reach:
        raise InputError(
            f"x must lie inside the reach of the breakpoints, {start.reach:g} on either side of 0, "
            f"got {x[0]:g} to {x[-1]:g}; raise reach."
        )
    coefficients = np.linalg.solve(start.kernel(x[:, None], x), y)
    return Spline(start, x, np.asarray(coefficients, dtype=float))


def variational_spline(
    start: Start, x: ArrayLike, y: ArrayLike, cells: int = 4000
) -> tuple[Floats, float]:
    r"""The same function without any kernel: the functional itself, minimised numerically.

    The second derivative is constant, :math:`q_k`, in each of many cells, which are narrower where
    breakpoints are denser. With :math:`h(x) = \beta_0 + \beta_1 x + \frac12 \int h''(c) |x - c| dc`
    the functional :math:`\int h''^2 / \zeta + 4 \beta^\mathsf{T} M^{-1} \beta` is a sum of squares.

    Args:
        start: of the hidden weights.
        x: data points, rising, (N,).
        y: values, (N,).
        cells: their number.

    Returns:
        The minimiser at 201 positions evenly spaced from the first to the last data point, and the
        least value of the functional.

    Raises:
        InputError: as `kernel_spline`, or no cell.
    """
    x, y = check_points(x, y)
    check_count("cells", cells)
    at = np.linspace(x[0], x[-1], 201)
    if start.kind == "uniform":
        edges = np.linspace(-start.reach, start.reach, cells + 1)
    else:  # the outermost cells end where all but a millionth of the bends lie inside
        end = np.arctan(1e6)
        edges = start.reach * np.tan(np.linspace(-end, end, cells + 1))
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    weight = width / start.density(middle)  # of the square of q
    rest = start.moments(np.inf)  # of (w, b): E w², -E wb, E b²
    moment = np.array([[rest[0], -rest[1]], [-rest[1], rest[2]]])

    def design(points: Floats) -> Floats:
        # Columns: each cell, beta_1, beta_0, in units in which the functional is a plain sum.
        bent = width * np.abs(points[:, None] - middle) / 2
        plain = np.stack([points, np.ones_like(points)], axis=1) @ np.linalg.cholesky(moment) / 2
        return np.concatenate([bent / np.sqrt(weight), plain], axis=1)

    least = np.linalg.lstsq(design(x), y, rcond=None)[0]
    return design(at) @ least, float(least @ least)


def least_variation(x: ArrayLike, y: ArrayLike) -> float:
    r"""The least total variation of the slope of any function through the points.

    .. math:: \sum_j |s_j - s_{j-1}|, \qquad s_j = (y_{j+1} - y_j) / (x_{j+1} - x_j)

    Raises:
        InputError: as `check_points`.

    >>> least_variation([0, 1, 2, 4], [0, 1, 0, 0])
    3.0
    """
    x, y = check_points(x, y)
    return float(np.abs(np.diff(np.diff(y) / np.diff(x))).sum())


def check_points(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Data as float64 arrays, at least two points in rising order, else `InputError`."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    rising = x.ndim == 1 and len(x) > 1 and bool((np.diff(x) > 0).all())
    if not rising or x.shape != y.shape or not np.isfinite([x, y]).all():
        raise InputError(
            f"x and y must be two or more finite points with x rising, got x = {x.tolist()} and "
            f"y = {y.tolist()}; sort the points and give each x one y."
        )
    return x, y
