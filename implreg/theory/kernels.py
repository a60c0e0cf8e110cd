r"""Covariances of a wide random network at two points, layer by layer.

In the limit of wide layers the pre-activations of a layer are independent Gaussian processes, one
per unit, whose covariance K follows from that of the layer below (Neal 1996; Cho and Saul 2009; Lee
et al. 2018). So does the tangent kernel :math:`\Theta` that governs training by gradient descent
(Jacot et al. 2018). A `Pair` holds both for two points and for their derivatives as the points
move; each rule of this module takes a `Pair` through one operation of the network.

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

_COINCIDE = 1e-13  # sine of half the angle below which two points differ by rounding alone
_SERIES = 0.5  # below this angle sin x - x cos x is summed as a series
_TERMS = 9  # of the series; the next one is below 1e-20 of the first


@dataclass(frozen=True)
class Tangent:
    """The tangent kernel of two points and its derivatives as they move; any shape."""

    k: Tensor
    ds: Tensor
    dt: Tensor


@dataclass(frozen=True)
class Pair:
    r"""Second moments of a process at two points, which move with s and t; tensors of one shape.

    Attributes:
        a: variance at the first point.
        b: variance at the second.
        difference: a - b, kept as it cancels.
        sine: of half the angle u.
        cosine: of half the angle u.
        rho: cos u, the correlation.
        log_s: :math:`\partial_s \log \sqrt a`.
        log_t: :math:`\partial_t \log \sqrt b`.
        turn_s: :math:`\partial_s u`; where the points coincide, one-sided.
        turn_t: :math:`\partial_t u`.
        twist: :math:`\sin u \; \partial_s \partial_t u`.
        tangent: the tangent kernel, if it is asked for.
    """

    a: Tensor
    b: Tensor
    difference: Tensor
    sine: Tensor
    cosine: Tensor
    rho: Tensor
    log_s: Tensor
    log_t: Tensor
    turn_s: Tensor
    turn_t: Tensor
    twist: Tensor
    tangent: Tangent | None = None

    @property
    def size(self) -> Tensor:
        r""":math:`\sqrt{ab}`."""
        return (self.a * self.b).sqrt()

    @property
    def angle(self) -> Tensor:
        """u, in [0, pi]."""
        return 2 * torch.atan2(self.sine, self.cosine)

    @property
    def k(self) -> Tensor:
        """The covariance K(s, t)."""
        return self.size * self.rho

    @property
    def ds(self) -> Tensor:
        r""":math:`\partial_s K`."""
        return self.size * (self.rho * self.log_s - self._sin * self.turn_s)

    @property
    def dt(self) -> Tensor:
        r""":math:`\partial_t K`."""
        return self.size * (self.rho * self.log_t - self._sin * self.turn_t)

    @property
    def dsdt(self) -> Tensor:
        r""":math:`\partial_s \partial_t K`, the covariance of the two slopes."""
        mixed = self.turn_t * self.log_s + self.turn_s * self.log_t
        around = self.turn_s * self.turn_t - self.log_s * self.log_t
        return -self.size * (self._sin * mixed + self.rho * around + self.twist)

    @property
    def _sin(self) -> Tensor:
        return 2 * self.sine * self.cosine

    def with_tangent(self) -> "Pair":
        """The same for a first layer, with its tangent kernel, which is its covariance."""
        return replace(self, tangent=Tangent(self.k, self.ds, self.dt))


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
    a, b = foot.square() + at_s.square(), foot.square() + at_t.square()
    size = (a * b).sqrt()
    inner, cross = foot.square() + at_s * at_t, foot * (at_t - at_s).abs()
    larger = ((size + inner.abs()) / (2 * size)).sqrt()
    smaller = cross / (2 * size * larger)
    near = inner >= 0
    away = torch.where(at_t >= at_s, speed * foot, -speed * foot)
    return Pair(
        a=a,
        b=b,
        difference=(at_s - at_t) * (at_s + at_t),
        sine=torch.where(near, smaller, larger),
        cosine=torch.where(near, larger, smaller),
        rho=inner / size,
        log_s=at_s * speed / a,
        log_t=at_t * speed / b,
        turn_s=-away / a,
        turn_t=away / b,
        twist=torch.zeros_like(a),
    )


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
        return torch.cat([points * math.sqrt(weight / x.shape[1]), _column(points, last)], dim=1)

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
    return Pair(
        a=long.square() + zero,
        b=wide.square() + zero,
        difference=(long - wide) * (long + wide),
        sine=sine,
        cosine=cosine,
        rho=rho,
        log_s=radial / long + zero,
        log_t=zero,
        turn_s=torch.where(sine > _COINCIDE, -inward, aside) / long,
        turn_t=zero,
        twist=zero,
    )


def _column(points: Tensor, value: float) -> Tensor:
    return torch.full_like(points[:, :1], value)


def relu(pair: Pair, leak: float) -> Pair:
    r"""Second moments of leaky ReLUs, :math:`\max(z, 0) + \alpha \min(z, 0)`.

    With :math:`c(u)` the correlation of the activations of two unit Gaussians at angle u,

    .. math::
        c(u) = \frac{(1-\alpha)^2 \kappa(u) + 2 \alpha \cos u}{1 + \alpha^2}, \qquad
        \kappa(u) = \frac{\sin u + (\pi - u) \cos u}{\pi},

    K becomes :math:`\frac{1 + \alpha^2}{2} \sqrt{ab}\, c(u)`; the tangent kernel is multiplied by
    the covariance of the derivatives, :math:`(1-\alpha)^2 \frac{\pi - u}{2 \pi} + \alpha`.

    Source: Cho and Saul (2009), arc-cosine kernels of order 1 and 0.
    """
    norm = 1 + leak**2
    kink = (1 - leak) ** 2 / norm
    u, rest = pair.angle, 2 * torch.atan2(pair.cosine, pair.sine)  # rest = pi - u
    sin = 2 * pair.sine * pair.cosine
    # 1 - c = 2 sine^2 closer^2.
    lost = torch.where(pair.sine > 0, _sin_minus_x_cos(u) / pair.sine.square(), 0.0)
    closer = (1 - kink * lost / (2 * math.pi)).sqrt()
    rho = kink * _sin_minus_x_cos(rest) / math.pi + (2 * leak / norm) * pair.rho
    sine = pair.sine * closer
    cosine = ((1 + rho) / 2).sqrt()
    share = kink * rest / math.pi + 2 * leak / norm  # -c'(u) / sin u
    rate = share * pair.cosine / (closer * cosine)  # of the new angle by the old one
    bend = pair.rho * share - sin * kink / math.pi - rho * rate.square()
    tangent = pair.tangent
    if tangent is not None:
        passed, step = norm / 2 * share, norm * kink / (2 * math.pi)
        tangent = Tangent(
            passed * tangent.k,
            passed * tangent.ds - step * pair.turn_s * tangent.k,
            passed * tangent.dt - step * pair.turn_t * tangent.k,
        )
    return Pair(
        a=norm / 2 * pair.a,
        b=norm / 2 * pair.b,
        difference=norm / 2 * pair.difference,
        sine=sine,
        cosine=cosine,
        rho=rho,
        log_s=pair.log_s,
        log_t=pair.log_t,
        turn_s=rate * pair.turn_s,
        turn_t=rate * pair.turn_t,
        twist=bend * pair.turn_s * pair.turn_t + share * pair.twist,
        tangent=tangent,
    )


def dense(pair: Pair, weight: float, bias: float) -> Pair:
    """Second moments behind a layer with random weights and biases.

    Args:
        pair: the inputs of the layer.
        weight: variance of the weights times their number per unit.
        bias: variance of the biases.

    Each parameter is taken to be its deviation times a unit Gaussian, which is what is trained, so
    that the layer's own share of the tangent kernel is its covariance.
    """
    made = scaled(pair, weight)
    if bias:
        zero = torch.zeros_like(made.a)
        made = added(
            made,
            Pair(
                a=zero + bias,
                b=zero + bias,
                difference=zero,
                sine=zero,
                cosine=zero + 1,
                rho=zero + 1,
                log_s=zero,
                log_t=zero,
                turn_s=zero,
                turn_t=zero,
                twist=zero,
                tangent=None if made.tangent is None else Tangent(zero, zero, zero),
            ),
        )
    return made if made.tangent is None else replace(made, tangent=_plus_own(made, made.tangent))


def _plus_own(pair: Pair, below: Tangent) -> Tangent:
    return Tangent(below.k + pair.k, below.ds + pair.ds, below.dt + pair.dt)


def scaled(pair: Pair, factor: float) -> Pair:
    """Second moments of the process times the root of `factor`."""
    tangent = pair.tangent
    return replace(
        pair,
        a=factor * pair.a,
        b=factor * pair.b,
        difference=factor * pair.difference,
        tangent=None
        if tangent is None
        else Tangent(factor * tangent.k, factor * tangent.ds, factor * tangent.dt),
    )


def added(p: Pair, q: Pair) -> Pair:
    """Second moments of the sum of two independent processes."""
    a, b = p.a + q.a, p.b + q.b
    size = (a * b).sqrt()
    cross_p, cross_q = (p.a * q.b).sqrt(), (q.a * p.b).sqrt()
    # sqrt(p.a q.b) - sqrt(q.a p.b), and what the size gains by it.
    skew = (q.a * p.difference - p.a * q.difference) / (cross_p + cross_q)
    gain = skew.square() / (size + p.size + q.size)
    less_p, less_q = 2 * p.size * p.sine.square(), 2 * q.size * q.sine.square()  # size - k
    sine = ((less_p + less_q + gain) / (2 * size)).sqrt()
    more = 2 * p.size * p.cosine.square() + 2 * q.size * q.cosine.square() + gain
    cosine = (more / (2 * size)).sqrt()
    sin, rho = 2 * sine * cosine, (p.k + q.k) / size
    log_s, log_t = (p.a * p.log_s + q.a * q.log_s) / a, (p.b * p.log_t + q.b * q.log_t) / b

    def turn(
        p_log: Tensor, q_log: Tensor, p_turn: Tensor, q_turn: Tensor, lean: Tensor,
        p_var: Tensor, q_var: Tensor,
    ) -> Tensor:  # fmt: skip
        total, apart = p_var + q_var, q_log - p_log
        lean = lean - less_p * q_var + less_q * p_var  # p.k q_var - q.k p_var
        along = p.size * p._sin * p_turn + q.size * q._sin * q_turn
        here = (p_var * p_turn.square() + q_var * q_turn.square()) / total
        here = (here + p_var * q_var * (apart / total).square()).sqrt().copysign(p_turn + q_turn)
        return torch.where(sine > 0, (apart * lean / total + along) / (size * sin), here)

    turn_s = turn(p.log_s, q.log_s, p.turn_s, q.turn_s, -(p.a * q.a).sqrt() * skew, p.a, q.a)
    turn_t = turn(p.log_t, q.log_t, p.turn_t, q.turn_t, (p.b * q.b).sqrt() * skew, p.b, q.b)
    twist = (
        rho * (log_s * log_t - turn_s * turn_t)
        - sin * (turn_t * log_s + turn_s * log_t)
        - (p.dsdt + q.dsdt) / size
    )
    tangent = p.tangent
    if tangent is not None and q.tangent is not None:
        other = q.tangent
        tangent = Tangent(tangent.k + other.k, tangent.ds + other.ds, tangent.dt + other.dt)
    return Pair(
        a, b, p.difference + q.difference, sine, cosine, rho, log_s, log_t, turn_s, turn_t, twist,
        tangent,
    )  # fmt: skip


def _sin_minus_x_cos(x: Tensor) -> Tensor:
    r""":math:`\sin x - x \cos x = \sum_{k \ge 1} (-1)^{k+1} \frac{2k}{(2k+1)!} x^{2k+1}`."""
    square, series = x.square(), torch.zeros_like(x)
    for k in range(_TERMS, 0, -1):
        series = series * square + (-1) ** (k + 1) * 2 * k / math.factorial(2 * k + 1)
    return torch.where(x < _SERIES, series * square * x, x.sin() - x * x.cos())
