r"""Covariances of a wide random network at two points, layer by layer.

In the limit of wide layers the pre-activations of a layer are independent Gaussian processes, one
per unit, whose covariance K follows from that of the layer below (Neal 1996; Cho and Saul 2009; Lee
et al. 2018). So does the tangent kernel :math:`\Theta` that governs training by gradient descent
(Jacot et al. 2018). A `Pair` holds both for two points and for their derivatives as the points
move; its methods take it through one operation of the network each.

**Angles.** With :math:`K(s,s) = a`, :math:`K(t,t) = b` and
:math:`K(s,t) = \sqrt{ab} \cos u` a ReLU does nothing but change the angle u, and adding
independent processes (biases, the branch of a residual block) averages. Therefore a `Pair` keeps
the angle, by the sine and cosine of its half, and the derivatives of u and of log a rather than
those of K. All steps add terms of one sign or use series where they would cancel, so that nothing
is lost for points that nearly coincide or lie nearly opposite.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from implreg.theory.pixels import Grid, Window

_COINCIDE = 1e-13  # sine of half the angle below which two points differ by rounding alone
_SERIES = 0.5  # below this angle sin x - x cos x is summed as a series
_TERMS = 9  # of the series; the next one is below 1e-20 of the first


@dataclass(frozen=True)
class Pair:
    r"""Second moments of a process at two points, which move with s and t.

    Tensors of one shape (...), some with one entry for each point, (2, ...).

    Attributes:
        variance: a and b, (2, ...).
        difference: a - b, kept as it cancels.
        sine: of half the angle u.
        cosine: of half the angle u.
        rho: cos u, the correlation.
        log: :math:`\partial_s \log \sqrt a` and :math:`\partial_t \log \sqrt b`, (2, ...).
        turn: :math:`\partial_s u` and :math:`\partial_t u`; where the points coincide, one-sided;
            (2, ...).
        twist: :math:`\sin u \; \partial_s \partial_t u`.
        tangent: the tangent kernel and its derivatives by s and t, (3, ...), if it is asked for.
    """

    variance: Tensor
    difference: Tensor
    sine: Tensor
    cosine: Tensor
    rho: Tensor
    log: Tensor
    turn: Tensor
    twist: Tensor
    tangent: Tensor | None = None

    @property
    def size(self) -> Tensor:
        r""":math:`\sqrt{ab}`."""
        return _product(self.variance).sqrt()

    @property
    def angle(self) -> Tensor:
        """u, in [0, pi]."""
        return 2 * torch.atan2(self.sine, self.cosine)

    @property
    def k(self) -> Tensor:
        """The covariance K(s, t)."""
        return self.size * self.rho

    @property
    def d(self) -> Tensor:
        r""":math:`\partial_s K` and :math:`\partial_t K`, (2, ...)."""
        return self.size * (self.rho * self.log - self._sin * self.turn)

    @property
    def moved(self) -> Tensor:
        r""":math:`K, \partial_s K` and :math:`\partial_t K`, (3, ...)."""
        return torch.cat([self.k[None], self.d])

    @property
    def dsdt(self) -> Tensor:
        r""":math:`\partial_s \partial_t K`, the covariance of the two slopes."""
        around = _product(self.turn) - _product(self.log)
        return -self.size * (self._sin * self.mixed + self.rho * around + self.twist)

    @property
    def mixed(self) -> Tensor:
        r""":math:`\partial_s u\, \lambda_t + \partial_t u\, \lambda_s`, with `log` as lambdas."""
        return self.turn[0] * self.log[1] + self.turn[1] * self.log[0]

    @property
    def _sin(self) -> Tensor:
        return 2 * self.sine * self.cosine

    def with_tangent(self) -> "Pair":
        """The same for a first layer, with its tangent kernel, which is its covariance."""
        return replace(self, tangent=self.moved)

    def scaled(self, factor: float) -> "Pair":
        """Second moments of the process times the root of `factor`."""
        variance, difference = factor * self.variance, factor * self.difference
        tangent = None if self.tangent is None else factor * self.tangent
        return replace(self, variance=variance, difference=difference, tangent=tangent)

    def weighted(self, weight: float, bias: float) -> "Pair":
        """Second moments behind a layer with random weights and biases.

        Args:
            weight: variance of the weights times their number per unit.
            bias: variance of the biases.

        Each parameter is taken to be its deviation times a unit Gaussian, which is what is trained,
        so that the layer's own share of the tangent kernel is its covariance.
        """
        made = self.scaled(weight)
        if bias:
            zeros, zero = torch.zeros_like(self.variance), torch.zeros_like(self.rho)
            still = zero.new_zeros(3, *zero.shape)
            made += Pair(zeros + bias, zero, zero, zero + 1, zero + 1, zeros, zeros, zero, still)
        return made if made.tangent is None else replace(made, tangent=made.tangent + made.moved)

    def averaged(self, window: Window, after: Grid) -> "Pair":
        """The same, as the window of a dense layer is one pixel."""
        return self

    pooled = averaged

    def rectified(self, leak: float) -> "Pair":
        r"""Second moments of leaky ReLUs, :math:`\max(z, 0) + \alpha \min(z, 0)`.

        With :math:`c(u)` the correlation of the activations of two unit Gaussians at angle u,

        .. math::
            c(u) = \frac{(1-\alpha)^2 \kappa(u) + 2 \alpha \cos u}{1 + \alpha^2}, \qquad
            \kappa(u) = \frac{\sin u + (\pi - u) \cos u}{\pi},

        K becomes :math:`\frac{1 + \alpha^2}{2} \sqrt{ab}\, c(u)`; the tangent kernel is multiplied
        by the covariance of the derivatives, :math:`(1-\alpha)^2 \frac{\pi - u}{2 \pi} + \alpha`.

        Source: Cho and Saul (2009), arc-cosine kernels of order 1 and 0.
        """
        norm = 1 + leak**2
        kink = (1 - leak) ** 2 / norm
        u, rest = self.angle, 2 * torch.atan2(self.cosine, self.sine)  # rest = pi - u
        # 1 - c = 2 sine^2 closer^2.
        lost = torch.where(self.sine > 0, _sin_minus_x_cos(u) / self.sine.square(), 0.0)
        closer = (1 - kink * lost / (2 * math.pi)).sqrt()
        rho = kink * _sin_minus_x_cos(rest) / math.pi + (2 * leak / norm) * self.rho
        sine = self.sine * closer
        cosine = ((1 + rho) / 2).sqrt()
        share = kink * rest / math.pi + 2 * leak / norm  # -c'(u) / sin u
        rate = share * self.cosine / (closer * cosine)  # of the new angle by the old one
        bend = self.rho * share - self._sin * kink / math.pi - rho * rate.square()
        kept, twist = self.scaled(norm / 2), bend * _product(self.turn) + share * self.twist
        tangent = kept.tangent
        if tangent is not None:
            step = kink / math.pi * self.turn * tangent[0]
            tangent = torch.cat([share * tangent[:1], share * tangent[1:] - step])
        return replace(
            kept, sine=sine, cosine=cosine, rho=rho, turn=rate * self.turn, twist=twist,
            tangent=tangent,
        )  # fmt: skip

    def __add__(self, other: "Pair") -> "Pair":
        """Second moments of the sum of two independent processes."""
        p, q, p_size, q_size = self, other, self.size, other.size
        variance, both = p.variance + q.variance, p.variance * q.variance
        size = _product(variance).sqrt()
        # sqrt(p.a q.b) - sqrt(q.a p.b), and what the size gains by it.
        skew = q.variance[0] * p.difference - p.variance[0] * q.difference
        skew = skew / (p.variance * q.variance.flip(0)).sqrt().sum(dim=0)
        gain = skew.square() / (size + p_size + q_size)
        less_p, less_q = 2 * p_size * p.sine.square(), 2 * q_size * q.sine.square()  # size - k
        sine = ((less_p + less_q + gain) / (2 * size)).sqrt()
        more = 2 * p_size * p.cosine.square() + 2 * q_size * q.cosine.square() + gain
        cosine = (more / (2 * size)).sqrt()
        sin, rho = 2 * sine * cosine, (p.k + q.k) / size
        log = (p.variance * p.log + q.variance * q.log) / variance
        apart = (q.log - p.log) / variance
        # p.k q.variance - q.k p.variance
        lean = both.sqrt() * torch.stack([-skew, skew]) - less_p * q.variance + less_q * p.variance
        along = p_size * p._sin * p.turn + q_size * q._sin * q.turn
        square = (p.variance * p.turn.square() + q.variance * q.turn.square()) / variance
        here = (square + both * apart.square()).sqrt().copysign(p.turn + q.turn)
        turn = torch.where(sine > 0, (apart * lean + along) / (size * sin), here)
        tangent = None if p.tangent is None or q.tangent is None else p.tangent + q.tangent
        made = Pair(
            variance, p.difference + q.difference, sine, cosine, rho, log, turn, 0 * rho, tangent
        )
        return replace(made, twist=(made.dsdt - p.dsdt - q.dsdt) / size)


def on_line(foot: Tensor, at_s: Tensor, at_t: Tensor, speed: Tensor) -> Pair:
    """Scalar products of a random vector with two points of a straight line.

    Args:
        foot: distance of the line from the origin.
        at_s: coordinate of the first point along the line, from the foot of the perpendicular.
        at_t: of the second point.
        speed: of both along the line.

    Shapes broadcast; the line must miss the origin.
    """
    foot, at_s, at_t, speed = torch.broadcast_tensors(foot, at_s, at_t, speed)
    at = torch.stack([at_s, at_t])
    variance = foot.square() + at.square()
    size, cross = _product(variance).sqrt(), foot * (at_t - at_s)
    inner = foot.square() + at_s * at_t
    larger = ((size + inner.abs()) / (2 * size)).sqrt()
    smaller = cross.abs() / (2 * size * larger)
    near = inner >= 0
    away = torch.where(at_t >= at_s, speed * foot, -speed * foot)
    return Pair(
        variance, difference=(at_s - at_t) * (at_s + at_t),
        sine=torch.where(near, smaller, larger), cosine=torch.where(near, larger, smaller),
        rho=inner / size, log=at * speed / variance, turn=torch.stack([-away, away]) / variance,
        twist=torch.zeros_like(size),
    )  # fmt: skip


def between_points(
    x: Tensor, way: Tensor, side: Tensor, y: Tensor, weight: float, bias: float
) -> Pair:
    r"""First-layer pre-activations at points that move against points that do not.

    Args:
        x: the moving points, (A, d).
        way: their directions, (A, d).
        side: +1 or -1, (A,): where points of x and y have one direction, which one-sided derivative
            of their angle is meant, the right or the left one.
        y: the points at rest, (B, d).
        weight: variance of the weights times d.
        bias: variance of the biases.

    Returns:
        Tensors of shape (A, B). Derivatives by t are 0.
    """

    def lifted(points: Tensor, last: float) -> Tensor:
        column = torch.full_like(points[:, :1], last)
        return torch.cat([points * math.sqrt(weight / x.shape[1]), column], dim=1)

    x, y, way = lifted(x, math.sqrt(bias)), lifted(y, math.sqrt(bias)), lifted(way, 0.0)
    long, wide = x.norm(dim=1, keepdim=True), y.norm(dim=1)
    unit, other = x / long, y / wide[:, None]
    exact = "donot_use_mm_for_euclid_dist"
    sine = torch.cdist(unit, other, compute_mode=exact) / 2
    cosine = torch.cdist(unit, -other, compute_mode=exact) / 2
    rho = unit @ other.T
    radial = (way * unit).sum(dim=1, keepdim=True)
    aside = (way - radial * unit).norm(dim=1, keepdim=True) * side[:, None]
    inward = (way @ other.T - rho * radial) / (2 * sine * cosine)
    zero = torch.zeros_like(rho)
    turn = torch.where(sine > _COINCIDE, -inward, aside) / long
    return Pair(
        variance=torch.stack([long.square() + zero, wide.square() + zero]),
        difference=(long - wide) * (long + wide), sine=sine, cosine=cosine, rho=rho,
        log=torch.stack([radial / long + zero, zero]), turn=torch.stack([turn, zero]), twist=zero,
    )  # fmt: skip


def _product(of_both: Tensor) -> Tensor:
    return of_both[0] * of_both[1]


def _sin_minus_x_cos(x: Tensor) -> Tensor:
    r""":math:`\sin x - x \cos x = \sum_{k \ge 1} (-1)^{k+1} \frac{2k}{(2k+1)!} x^{2k+1}`."""
    square, series = x.square(), torch.zeros_like(x)
    for k in range(_TERMS, 0, -1):
        series = series * square + (-1) ** (k + 1) * 2 * k / math.factorial(2 * k + 1)
    return torch.where(x < _SERIES, series * square * x, x.sin() - x * x.cos())
