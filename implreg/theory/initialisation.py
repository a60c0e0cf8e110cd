r"""Predictions at random initialisation, in the limit of wide layers, without a free parameter.

Along a straight path the first-layer pre-activation of a unit is the scalar product of a random
Gaussian vector with :math:`(\sigma_w X_t / \sqrt d, \sigma_b)`, a straight line in one more
dimension. A zero of the process is a moment at which that line is orthogonal to the random vector,
so that everything follows from angles: seen from the origin, the point at time t stands at the
angle :math:`\psi(t)` from the foot of the perpendicular on the line. A deeper layer sees the same
line with another last coordinate, since an activation keeps, up to a common factor, the variance of
a pre-activation and of its derivative (theorems T1 to T3 of the book). A residual block averages
such lines.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from implreg.checks import check_positions
from implreg.datasets import Pairs
from implreg.networks import HE, Initialisation
from implreg.theory.architecture import Architecture
from implreg.theory.lines import Lines, lines

_BISECTIONS = 60  # halves [0, 1] below the spacing of float64


@dataclass(frozen=True)
class Prediction:
    r"""What a wide network at initialisation does along P paths; float64 tensors.

    Slopes and gaps are per unit of t, of one output; see `per_unit_length`.

    Attributes:
        switches: :math:`E[M]` (T1), (P,).
        layer_switches: the same for each of the L hidden layers, (P, L).
        gap_deviation: :math:`\sqrt{E[V]/E[M]}` (T2), (P,).
        layer_gap_deviation: the same for the gaps made by each layer, (P, L).
        quadratic_variation: :math:`E[V]` (T3), (P,).
        deflection: :math:`\sqrt{E[V]}/2`, the gradient deflection, (P,).
        mid_path_deflection: standard deviation of the mid-path deflection (T4), (P,).
        lengths: of the paths, (P,).
    """

    switches: Tensor
    layer_switches: Tensor
    gap_deviation: Tensor
    layer_gap_deviation: Tensor
    quadratic_variation: Tensor
    deflection: Tensor
    mid_path_deflection: Tensor
    lengths: Tensor

    @classmethod
    def of_layers(
        cls,
        layer_switches: Tensor,
        layer_variation: Tensor,
        mid_path_square: Tensor,
        lengths: Tensor,
    ) -> "Prediction":
        """All predictions from those of each layer.

        Args:
            layer_switches: expected, (P, L).
            layer_variation: what each layer adds to E[V], (P, L).
            mid_path_square: mean square of the mid-path deflection, (P,).
            lengths: of the paths, (P,).
        """
        switches, variation = layer_switches.sum(dim=1), layer_variation.sum(dim=1)
        return cls(
            switches=switches,
            layer_switches=layer_switches,
            gap_deviation=(variation / switches).sqrt(),
            layer_gap_deviation=(layer_variation / layer_switches).sqrt(),
            quadratic_variation=variation,
            deflection=variation.sqrt() / 2,
            mid_path_deflection=mid_path_square.sqrt(),
            lengths=lengths,
        )

    @property
    def bridge_ratio(self) -> Tensor:
        r""":math:`\sigma_\mathrm{bridge}/\sigma_\mathrm{gap}`, 1 for one hidden layer, (P,)."""
        return self.mid_path_deflection / self.deflection

    def per_unit_length(self) -> "Prediction":
        """The same predictions for slopes per unit length."""
        length = self.lengths
        return replace(
            self,
            gap_deviation=self.gap_deviation / length,
            layer_gap_deviation=self.layer_gap_deviation / length[:, None],
            quadratic_variation=self.quadratic_variation / length**2,
            deflection=self.deflection / length,
            mid_path_deflection=self.mid_path_deflection / length,
        )

    def summary(self) -> dict[str, float]:
        """The predictions pooled over paths as `implreg.measures.summary` pools measurements."""

        def rms(x: Tensor) -> float:
            return float(x.square().mean().sqrt())

        means = {"switches", "quadratic_variation"}
        names = [f.name for f in fields(self) if f.name != "lengths" and "layer" not in f.name]
        row = {
            name: float(getattr(self, name).mean()) if name in means else rms(getattr(self, name))
            for name in names
        }
        bridge = self.mid_path_deflection / (self.switches.sqrt() / 2)
        return row | {"bridge_deviation": rms(bridge)}


def at_initialisation(
    net: nn.Module,
    paths: Pairs | tuple[Tensor, Tensor],
    initialisation: Initialisation = HE,
) -> Prediction:
    r"""Expected switches, gaps and deflections of a random network along straight paths.

    Layer l of :math:`n_l` activations has pre-activations of variance
    :math:`c_l \lVert X_t \rVert^2 / d + b_l`, the factors following from layer to layer;
    :math:`r_l` is the sum over its units of the mean squared derivative of an output by one, and
    :math:`\Delta` the jump of the activation's slope, 1 for a ReLU. With the angles
    :math:`\psi_l(0), \psi_l(1)` of the ends of the path, seen as the module's page says, and
    :math:`\theta_l = \psi_l(1) - \psi_l(0)`,

    .. math::
        E[M] = \frac1\pi \sum_l n_l \theta_l, \qquad
        E[V] = \frac{\Delta^2 \|D\|^2}{\pi d}
               \sum_l r_l c_l \bigl(\theta_l + \cos(\psi_l(0) + \psi_l(1)) \sin \theta_l\bigr).

    Without biases all :math:`\theta_l` are the angle between the two samples. E[M] and E[V] are
    exact at every width for one hidden layer, and up to a share of the order of n / 2^n for any
    number of ReLU layers of n units without biases and residual blocks; else they hold up to
    corrections of order 1/width.

    Args:
        net: gives the layers, see `implreg.theory.architecture`; its weights are not looked at.
        paths: as in `implreg.trace`.
        initialisation: the distribution that the weights were drawn from.

    Raises:
        InputError: as `implreg.trace`; layers that the theory does not know; or a path that runs
            through the origin without biases, where every unit of the first layer switches at the
            same moment.

    Source: theorems T1 to T4 and T8 of the book; Rice (1944), Cho and Saul (2009).

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> predicted = at_initialisation(ir.mlp(4, 100, 1, seed=0), (x0, x1)).per_unit_length()
    >>> round(float(predicted.switches), 9), round(float(predicted.bridge_ratio), 9)
    (50.0, 1.0)
    >>> theta = math.pi / 2
    >>> closed = 2 / (4 * 100) * (1 + math.sin(theta) / theta)
    >>> math.isclose(predicted.gap_deviation.item() ** 2, closed)
    True
    """
    seen, path = lines(net, paths, initialisation)
    widths = torch.tensor([site.width for site in seen.sites], dtype=torch.float64)
    height = path.heights(seen)
    start, end = path.at(torch.tensor(0.0)), path.at(torch.tensor(1.0))
    first, last = (torch.atan2(x[:, None], height) for x in (start, end))
    inner = height.square() + (start * end)[:, None]
    theta = torch.atan2(height * path.speed[:, None], inner)

    layer_switches = widths * theta / math.pi
    turns = theta + (first + last).cos() * theta.sin()
    strength = torch.tensor([site.strength for site in seen.sites], dtype=torch.float64)
    layer_variation = strength * path.speed[:, None].square() / math.pi * turns
    mid_path = _mid_path(seen, path, _middle(path, height, widths))
    lengths = (path.x1 - path.x0).norm(dim=1)
    return Prediction.of_layers(layer_switches, layer_variation, mid_path, lengths)


def _mid_path(seen: Architecture, path: Lines, middle: Tensor) -> Tensor:
    """Mean square of the slope at `middle` minus the mean of the slopes at the ends, (P,)."""
    zero, one = torch.zeros_like(middle), torch.ones_like(middle)
    s, t = torch.stack([zero, middle, zero]), torch.stack([middle, one, one])
    same = seen.gain * path.speed.square()  # E[phi'(t)^2] at every t
    early, late, whole = same - path.outputs(seen, s, t).dsdt
    square: Tensor = early + late - whole / 2
    return square.clamp(min=0)


def _middle(path: Lines, height: Tensor, widths: Tensor) -> Tensor:
    """Time at which half of the expected switches have happened, (P,)."""

    def passed(t: Tensor) -> Tensor:
        switches: Tensor = torch.atan2(path.at(t)[:, None], height) @ widths
        return switches

    return halfway(passed, path.foot)


def halfway(passed: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Time at which half of the expected switches have happened, (P,).

    Args:
        passed: expected switches before given times; both (P,).
        like: any numbers of the paths, for shape and dtype.
    """
    low, high = torch.zeros_like(like), torch.ones_like(like)
    half = (passed(low) + passed(high)) / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        early = passed(middle) < half
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return (low + high) / 2


def gap_variance(
    net: nn.Module,
    paths: Pairs | tuple[Tensor, Tensor],
    t: Tensor,
    initialisation: Initialisation = HE,
) -> Tensor:
    r"""Variance of a gradient gap that happens at time t, for each path and layer (T2).

    With the symbols of `at_initialisation`,

    .. math::
        E[g^2 \mid t, l] = \frac{2 \Delta^2 r_l c_l \|D\|^2}{d \, n_l} \cos^2 \psi_l(t)

    which without biases and for He initialisation is
    :math:`4 \sigma_o^2 A^2 / (d \, n_l \|X_t\|^2)`, :math:`A = \|X_0\| \|X_1\| \sin\theta`.

    Args:
        net: gives the layers.
        paths: as in `implreg.trace`.
        t: times in [0, 1], (T,).
        initialisation: the distribution that the weights were drawn from.

    Returns:
        (P, L, T), float64.

    Raises:
        InputError: as `at_initialisation`, or a time outside [0, 1].
    """
    seen, path = lines(net, paths, initialisation)
    height = path.heights(seen)[..., None]
    along = path.at(check_positions("t", t.double())[:, None]).T[:, None]
    strength = torch.tensor(
        [2 * site.strength / site.width for site in seen.sites], dtype=torch.float64
    )
    cosines = height.square() / (height.square() + along.square())
    return strength[:, None] * path.speed[:, None, None].square() * cosines
