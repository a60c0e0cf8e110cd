r"""Exact breakpoints of a Linear/ReLU stack along straight paths.

Along a path a hidden layer is a continuous piecewise linear function of t: it is known by its value
and slope at t = 0 and by its *kinks*, the times at which its slope jumps, each with the jump. The
two kinds of layer act on kinks alone:

* *Linear*: the jump of a kink is multiplied by the weight matrix;
* *ReLU*: a kink passes through the units that are on at its time, and each unit whose
  pre-activation :math:`z_j` changes sign adds a kink of its own, whose jump is
  :math:`|\mathrm{d}z_j/\mathrm{d}t|` in that unit and 0 elsewhere.

After the last layer the kinks of the output are the breakpoints, and their jumps the gradient gaps.
A new kink has a single nonzero entry, so the layer that follows costs one column of its weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ZERO = 32 * torch.finfo(torch.float64).eps  # of a unit's largest value: what rounding can leave


@dataclass
class Kinks:
    """P piecewise linear functions on [0, 1] with n outputs, each with K kinks.

    Times are sorted along the second axis; paths with fewer kinks are filled up with kinks at
    t = 1 that have no jump and unit -1.
    """

    value: Tensor  # (P, n) at t = 0
    slope: Tensor  # (P, n) just after t = 0
    t: Tensor  # (P, K)
    jump: Tensor  # (P, K, n)
    layer: Tensor  # (P, K) which ReLU layer made the kink
    unit: Tensor  # (P, K) which of its units; -1 marks filling

    def slopes(self) -> Tensor:
        """Slope on each of the K + 1 pieces, (P, K + 1, n)."""
        return torch.cat([self.slope[:, None], self.jump], dim=1).cumsum(dim=1)

    def knots(self) -> Tensor:
        """0, the kinks and 1, (P, K + 2)."""
        ends = self.t.new_zeros(len(self.t), 1)
        return torch.cat([ends, self.t, ends + 1], dim=1)

    def values(self, slopes: Tensor) -> Tensor:
        """Value at every knot, (P, K + 2, n), given `slopes`."""
        steps = slopes * self.knots().diff(dim=1)[..., None]
        return torch.cat([self.value[:, None], steps], dim=1).cumsum(dim=1)


def push(
    weights: Sequence[Tensor], biases: Sequence[Tensor | None], x0: Tensor, direction: Tensor
) -> Kinks:
    """Push the P straight paths `x0 + t * direction` through the whole stack.

    Args:
        weights: of the linear layers in order, (n_out, n_in) each; a ReLU stands between two.
        biases: (n_out,) each, or None.
        x0: starts, (P, d).
        direction: end minus start, (P, d).

    Returns:
        The outputs as functions of t; their kinks are the breakpoints.
    """
    paths = len(x0)
    none = x0.new_zeros(paths, 0)
    kinks = Kinks(
        value=_affine(x0, weights[0], biases[0]),
        slope=direction @ weights[0].T,
        t=none,
        jump=x0.new_zeros(paths, 0, len(weights[0])),
        layer=none.long(),
        unit=none.long(),
    )
    for layer, (weight, bias) in enumerate(zip(weights[1:], biases[1:], strict=True)):
        kinks = _relu_then_linear(kinks, layer, weight, bias)
    return kinks


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.nn.functional.linear(x, weight, bias)


def _relu_then_linear(z: Kinks, layer: int, weight: Tensor, bias: Tensor | None) -> Kinks:
    slopes = z.slopes()
    values = z.values(slopes)
    on = _signs(values, z.slope)

    # A pre-activation is linear between knots, so comparing the knots finds every crossing.
    path, piece, unit = (on[:, 1:] != on[:, :-1]).nonzero(as_tuple=True)
    before, after = values[path, piece, unit], values[path, piece + 1, unit]
    start, end = z.knots()[path, piece], z.knots()[path, piece + 1]
    span = before - after
    share = torch.where(span == 0, torch.zeros_like(span), before / span)
    t = torch.maximum(torch.minimum(start + (end - start) * share, end), start)
    size = slopes[path, piece, unit].abs()

    old_jumps = (z.jump * on[:, 1:-1]) @ weight.T
    new_jumps = weight.T[unit] * size[:, None]
    merged = _merge(z, old_jumps, path, t, new_jumps, layer, unit)
    value0, slope0 = z.value.clamp(min=0), torch.where(on[:, 0], z.slope, 0.0)
    return Kinks(_affine(value0, weight, bias), slope0 @ weight.T, *merged)


def _signs(values: Tensor, slope: Tensor) -> Tensor:
    """Which units are on at each knot, (P, K + 2, n).

    A zero, up to rounding, takes the sign from before it, so that touching zero is no change of
    sign; at t = 0 it takes the sign just after.
    """
    on = values > 0
    size = values.abs()
    zero = size <= _ZERO * size.amax(dim=1, keepdim=True)
    if zero.any():
        on[:, 0] = torch.where(zero[:, 0], slope > 0, on[:, 0])
        knots = torch.arange(values.shape[1], device=values.device)[:, None]
        last_nonzero = torch.where(zero, 0, knots).cummax(dim=1).values
        on = on.gather(1, last_nonzero)
    return on


def _merge(
    z: Kinks,
    old_jumps: Tensor,
    path: Tensor,
    t: Tensor,
    new_jumps: Tensor,
    layer: int,
    unit: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Times, jumps, layers and units of old and new kinks together, sorted by time in each path."""
    paths, old = z.t.shape
    counts = torch.bincount(path, minlength=paths)
    first = counts.cumsum(0) - counts
    slot = old + torch.arange(len(path), device=path.device) - first[path]
    size = old + (int(counts.max()) if len(path) else 0)

    def widened(tensor: Tensor, fill: float) -> Tensor:
        wide = tensor.new_full((paths, size, *tensor.shape[2:]), fill)
        wide[:, :old] = tensor
        return wide

    times, jumps = widened(z.t, 1.0), widened(old_jumps, 0.0)
    layers, units = widened(z.layer, -1), widened(z.unit, -1)
    times[path, slot], jumps[path, slot] = t, new_jumps
    layers[path, slot], units[path, slot] = layer, unit

    times, order = times.sort(dim=1, stable=True)
    rows = torch.arange(paths, device=order.device)[:, None]
    return times, jumps[rows, order], layers[rows, order], units[rows, order]
