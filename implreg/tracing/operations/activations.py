"""Activations, and the larger or smaller of two branches."""

from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from implreg.tracing.operations.arithmetic import add, neg, sub
from implreg.tracing.operations.table import HANDLERS, constant, constants_only, handles
from implreg.tracing.record import Recorded, Recorder, Refused, fixed, plain


@handles("relu")
def _relu(r: Recorder, input: Recorded, inplace: bool = False) -> Recorded:
    return r.hinges("relu", input, kinks=[(0.0, 1.0)])


@handles("leaky_relu")
def _leaky_relu(
    r: Recorder, input: Recorded, negative_slope: float = 0.01, inplace: bool = False
) -> Recorded:
    slope = float(negative_slope)
    return r.hinges(f"leaky_relu({slope:g})", input, slope=slope, kinks=[(0.0, 1.0 - slope)])


@handles("rrelu")
def _rrelu(
    r: Recorder, input: Recorded, lower: float = 1 / 8, upper: float = 1 / 3,
    training: bool = False, inplace: bool = False,
) -> Recorded:  # fmt: skip
    if training:
        raise Refused("is rrelu in training mode, which is random; call net.eval().")
    return _leaky_relu(r, input, (lower + upper) / 2)


@handles("threshold")
def _threshold(
    r: Recorder, input: Recorded, threshold: float, value: float, inplace: bool = False
) -> Recorded:
    if value != threshold:
        raise Refused("has a value other than its threshold, which is not continuous; give it one.")
    return _clamp(r, input, min=threshold)


@handles("softshrink")
def _softshrink(r: Recorder, input: Recorded, lambd: float = 0.5) -> Recorded:
    return r.hinges(
        "softshrink", input, slope=1.0, offset=lambd, kinks=[(-lambd, -1.0), (lambd, 1.0)]
    )


@handles("hardsigmoid")
def _hardsigmoid(r: Recorder, input: Recorded, inplace: bool = False) -> Recorded:
    return r.hinges("hardsigmoid", input, kinks=[(-3.0, 1 / 6), (3.0, -1 / 6)])


@handles("prelu")
def _prelu(r: Recorder, input: Recorded, weight: Tensor) -> Recorded:
    constants_only(weight)
    slope = fixed(weight).reshape(-1, *[1] * max(0, input.ndim - 2))
    return r.hinges("prelu", input, slope=slope, kinks=[(0.0, 1.0 - slope)])


@handles("abs", "absolute")
def absolute(r: Recorder, input: Recorded) -> Recorded:
    """The size of every entry."""
    return r.hinges("abs", input, slope=-1.0, kinks=[(0.0, 2.0)])


@handles("relu6")
def _relu6(r: Recorder, input: Recorded, inplace: bool = False) -> Recorded:
    return _between(r, "relu6", input, 0.0, 6.0)


@handles("hardtanh")
def _hardtanh(
    r: Recorder, input: Recorded, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Recorded:
    text = "relu6" if (min_val, max_val) == (0, 6) else "hardtanh"
    return _between(r, text, input, float(min_val), float(max_val))


def _between(r: Recorder, text: str, x: Recorded, low: float, high: float) -> Recorded:
    if low >= high:
        raise Refused(f"has the bounds {low:g} and {high:g}; the first must be below the second.")
    kinks = [(at, change) for at, change in ((low, 1.0), (high, -1.0)) if isfinite(at)]
    if low > -inf:
        return r.hinges(text, x, offset=low, kinks=kinks)
    return r.hinges(text, x, slope=1.0, kinks=kinks) if kinks else r.wrap(plain(x).clone(), x.value)


@handles("clamp", "clip", "clamp_min")
def _clamp(r: Recorder, input: Recorded, min: Any = None, max: Any = None) -> Recorded:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        low = input if min is None else maximum(r, input, min)
        return low if max is None else minimum(r, low, max)
    least, most = -inf if min is None else float(min), inf if max is None else float(max)
    return _between(r, "clamp", input, least, most)


HANDLERS["clamp_max"] = lambda r, input, max: _clamp(r, input, max=max)


@handles("maximum", "fmax")
def maximum(r: Recorder, input: Any, other: Any) -> Recorded:
    """The larger of two branches, or of a branch and a constant."""
    x, bound = (input, other) if isinstance(input, Recorded) else (other, input)
    if isinstance(bound, Recorded):
        return add(r, bound, r.hinges("maximum", sub(r, x, bound), kinks=[(0.0, 1.0)]))
    least = constant(bound, x, finite=False)
    if not isinstance(least, Tensor):
        return _between(r, "maximum", x, least, inf)
    shape = torch.broadcast_shapes(x.shape[1:], least.shape)
    least = least.expand(shape)

    def beside(x: Tensor) -> Tensor:
        x = x.expand(len(x), *shape)
        return torch.stack([x, torch.zeros_like(x)], 1)

    pair = r.affine("stack", [x], beside, bias=torch.stack([torch.zeros_like(least), least]))
    index = torch.arange(2 * least.numel(), device=x.device).view(2, -1).T
    return r.windows("maximum", pair, plain(pair).amax(1), index)


@handles("minimum", "fmin")
def minimum(r: Recorder, input: Any, other: Any) -> Recorded:
    """The smaller, likewise."""
    if isinstance(input, Recorded) and isinstance(other, Recorded):
        return sub(r, input, r.hinges("minimum", sub(r, input, other), kinks=[(0.0, 1.0)]))
    opposite = (neg(r, x) if isinstance(x, Recorded) else -x for x in (input, other))
    return neg(r, maximum(r, *opposite))
