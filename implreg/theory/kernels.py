r"""Covariances of pre-activations and outputs along a straight path, in the limit of wide layers.

In that limit the pre-activations of layer l along :math:`X_t` are independent Gaussian processes,
one per unit, with a covariance :math:`K_l(s, t)` that follows layer by layer (Cho and Saul 2009;
Lee et al. 2018):

.. math::
    K_1(s,t) = \frac{\sigma_w^2}{d} X_s \cdot X_t + \sigma_b^2, \qquad
    K_{l+1}(s,t) = \frac{\sigma_w^2}{2} \sqrt{K_l(s,s) K_l(t,t)} \, \kappa(\rho_l) + \sigma_b^2

with :math:`\rho_l = K_l(s,t) / \sqrt{K_l(s,s) K_l(t,t)} = \cos u` and
:math:`\kappa(\cos u) = (\sin u + (\pi - u) \cos u)/\pi`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implreg.networks import Initialisation


@dataclass(frozen=True)
class Point:
    """Variance of a process at one time with its time derivative, (P,) each.

    `var` is K(t, t), `cov` is the covariance of the process and its derivative at t.
    """

    var: Tensor
    cov: Tensor


@dataclass(frozen=True)
class Cross:
    """Covariance of a process between times s and t and its derivatives, (P,) each."""

    k: Tensor
    ds: Tensor
    dt: Tensor
    dsdt: Tensor


@dataclass(frozen=True)
class Covariance:
    """All second moments of a process and its derivative at two times s and t, for P paths."""

    at_s: Point
    at_t: Point
    cross: Cross


def input_covariance(
    x0: Tensor, x1: Tensor, s: Tensor, t: Tensor, initialisation: Initialisation
) -> Covariance:
    """First-layer pre-activations at times s and t, (P,) each, of P paths from x0 to x1, (P, d)."""
    weight = initialisation.sigma_w**2 / x0.shape[1]
    bias = initialisation.sigma_b**2
    way = x1 - x0
    x_s, x_t = x0 + s[:, None] * way, x0 + t[:, None] * way

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return weight * (a * b).sum(dim=1)

    return Covariance(
        Point(dot(x_s, x_s) + bias, dot(x_s, way)),
        Point(dot(x_t, x_t) + bias, dot(x_t, way)),
        Cross(dot(x_s, x_t) + bias, dot(way, x_t), dot(x_s, way), dot(way, way)),
    )


def relu_then_linear(below: Covariance, weight: float, bias: float) -> Covariance:
    """The next layer's pre-activations, or the outputs.

    Args:
        below: pre-activations of the layer below.
        weight: variance of the weights times the number of inputs of the layer.
        bias: variance of the biases.
    """
    half = weight / 2

    def point(p: Point) -> Point:
        return Point(half * p.var + bias, half * p.cov)

    a, b, c = below.at_s.var, below.at_t.var, below.cross
    size = (a * b).sqrt()
    rho = (c.k / size).clamp(-1, 1)
    sine = (1 - rho.square()).clamp(min=0).sqrt()
    angle = torch.atan2(sine, rho)
    share = (math.pi - angle) / math.pi  # arc-cosine kernel of order 0
    # Half the derivatives of log variance; what remains of each mixed term is divided by sin u.
    log_a, log_b = below.at_s.cov / a, below.at_t.cov / b
    turn_s, turn_t = c.ds - c.k * log_a, c.dt - c.k * log_b
    turning = torch.where(sine > 0, turn_s * turn_t / (sine * size), torch.zeros_like(sine))
    along = sine * size / math.pi
    cross = Cross(
        half * (along + share * c.k) + bias,
        half * (along * log_a + share * c.ds),
        half * (along * log_b + share * c.dt),
        half * (share * c.dsdt + turning / math.pi + along * log_a * log_b),
    )
    return Covariance(point(below.at_s), point(below.at_t), cross)


def output_covariance(
    x0: Tensor, x1: Tensor, s: Tensor, t: Tensor, depth: int, initialisation: Initialisation
) -> Covariance:
    """Outputs at times s and t of a network with `depth` wide hidden layers; see `Covariance`."""
    hidden = input_covariance(x0, x1, s, t, initialisation)
    for _ in range(depth - 1):
        hidden = relu_then_linear(hidden, initialisation.sigma_w**2, initialisation.sigma_b**2)
    return relu_then_linear(hidden, initialisation.sigma_o**2, 0.0)
