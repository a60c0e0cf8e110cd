"""Activations, and the larger or smaller of two branches."""

from typing import Any

from torch import Tensor

from implreg.tracing.operations.arithmetic import add, sub
from implreg.tracing.operations.table import constants_only, handles
from implreg.tracing.record import Recorded, Recorder, Refused, fixed


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
        raise Refused(
            f"calls threshold with the value {value:g} below {threshold:g}, which is not "
            f"continuous; give both the same number."
        )
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
    low, high = float(min_val), float(max_val)
    return _between(r, "relu6" if (low, high) == (0, 6) else "hardtanh", input, low, high)


def _between(r: Recorder, text: str, x: Recorded, low: float, high: float) -> Recorded:
    if low >= high:
        raise Refused(f"has the bounds {low:g} and {high:g}; the first must be below the second.")
    return r.hinges(text, x, offset=low, kinks=[(low, 1.0), (high, -1.0)])


@handles("clamp", "clip", "clamp_min")
def _clamp(r: Recorder, input: Recorded, min: Any = None, max: Any = None) -> Recorded:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        low = input if min is None else maximum(r, input, min)
        return low if max is None else minimum(r, low, max)
    if min is not None and max is not None:
        return _between(r, "clamp", input, float(min), float(max))
    if min is not None:
        return r.hinges("clamp", input, offset=float(min), kinks=[(float(min), 1.0)])
    return r.hinges("clamp", input, slope=1.0, kinks=[(float(max), -1.0)])


@handles("clamp_max")
def _clamp_max(r: Recorder, input: Recorded, max: Any) -> Recorded:
    return _clamp(r, input, max=max)


@handles("maximum", "fmax")
def maximum(r: Recorder, input: Any, other: Any) -> Recorded:
    """The larger of two branches, or of a branch and a constant."""
    return add(r, other, r.hinges("maximum", sub(r, input, other), kinks=[(0.0, 1.0)]))


@handles("minimum", "fmin")
def minimum(r: Recorder, input: Any, other: Any) -> Recorded:
    """The smaller, likewise."""
    return sub(r, input, r.hinges("minimum", sub(r, input, other), kinks=[(0.0, 1.0)]))
