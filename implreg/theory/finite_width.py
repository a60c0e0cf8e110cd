r"""How the covariance of outputs differs from its limit in layers of finite width, to first order.

For ReLU layers without biases the mean covariance of an output at two points is
:math:`\frac{\sigma_o^2}{2} \sqrt{ab}\, G(u)` at every width, a function of the angle between the
points alone. In the limit G is the correlation :math:`\kappa_L = \kappa \circ \dots \circ \kappa`.
In a layer of n units the second moments of the activations scatter about their means, with a
covariance :math:`\Gamma / n`, and the next layer, which is not linear in them, turns scatter into a
shift:

.. math::
    \delta_{l+1} = F_k\, \delta_l + \tfrac12 \operatorname{tr}(F''\, C_l), \qquad
    C_{l+1} = F' C_l F'^\top + \Gamma_l / n_{l+1},

with :math:`F(a, b, k) = \sqrt{ab}\, \kappa(k / \sqrt{ab})` and :math:`G = \kappa_L + \delta_L`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from implreg.errors import InputError
from implreg.theory.kernels import Pair
from implreg.theory.layers import Architecture, Relu, Weights

_NEAR = 1e-3  # radians within which of 0 or pi the term is left out: it vanishes there


def correction(seen: Architecture, first: Pair, size: Tensor) -> tuple[Tensor, Tensor]:
    """Terms of order 1/width of the covariances of an output and of its slope.

    Args:
        seen: the network.
        first: a pre-activation of its first layer.
        size: root of the product of the variances of an output at the two points.

    Raises:
        InputError: layers other than dense ones without biases and ReLUs.
    """
    weights, activations = seen.layers[::2], seen.layers[1::2]
    plain = all(isinstance(layer, Weights) and not layer.bias for layer in weights)
    plain &= all(isinstance(layer, Relu) and not layer.leak for layer in activations)
    if not plain:
        raise InputError(
            "net must have plain ReLU layers, and no biases, for the term of order 1/width, got "
            "others; leave out corrected=True."
        )
    widths = [site.width for site in seen.sites]
    with torch.enable_grad():
        angle = first.angle.detach().clamp(_NEAR, math.pi - _NEAR).requires_grad_()
        value = shift(angle, widths)
        (rate,) = torch.autograd.grad(value.sum(), angle, create_graph=True)
        (bend,) = torch.autograd.grad(rate.sum(), angle)
    value, rate = value.detach(), rate.detach()
    log, turn = (both[0] * both[1] for both in (first.log, first.turn))
    slopes = value * log + rate * first.mixed + bend * turn
    inside = (first.angle > _NEAR) & (first.angle < math.pi - _NEAR)
    return torch.where(inside, size * value, 0.0), torch.where(inside, size * slopes, 0.0)


def shift(angle: Tensor, widths: Sequence[int]) -> Tensor:
    r"""The term :math:`\delta_L` of order 1/width, for points at the given angles.

    Args:
        angle: between the two points, in (0, pi), any shape.
        widths: of the hidden layers.

    >>> float(shift(torch.tensor(1.0), [100]))  # one hidden layer: the limit is exact
    0.0
    """
    rho, delta = angle.cos(), torch.zeros_like(angle)
    # Covariances of a with itself, of a with b, of a or b with k, and of k with itself.
    own, both, mixed, cross = 0.0, delta, delta, delta
    for width in widths:
        sine = (1 - rho.square()).clamp(min=0).sqrt()
        rest = math.pi - torch.atan2(sine, rho)
        kappa, first, second = (sine + rest * rho) / math.pi, rest / math.pi, 1 / (math.pi * sine)
        # F_a = F_b at a = b = 1; F_k and F_kk are `first` and `second`.
        by_a = (kappa - rho * first) / 2
        trace = second * (rho.square() * (own + both) / 2 - 2 * rho * mixed + cross)
        delta = first * delta + (trace + by_a * (both - own)) / 2
        # Of 2 phi(s)^2, 2 phi(t)^2, 2 phi(s) phi(t), phi the ReLU of unit Gaussians.
        squares = 2 / math.pi * (rest * (1 + 2 * rho.square()) + 3 * sine * rho)
        cubes = 2 / math.pi * (3 * rest * rho + sine * (2 + rho.square()))
        along = by_a * (own + both) + first * mixed
        cross = 2 * by_a * along + first * (2 * by_a * mixed + first * cross)
        cross, mixed = cross + (squares - kappa.square()) / width, along + (cubes - kappa) / width
        own, both, rho = own + 5 / width, both + (squares - 1) / width, kappa
    return delta
