"""Layers with weights: linear, convolutions, batch norm; and dropout, which does nothing."""

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.operations.linear import affine
from implreg.tracing.operations.table import (
    HANDLERS,
    Handler,
    constants_only,
    each,
    handles,
    scaling,
)
from implreg.tracing.program import Shape
from implreg.tracing.record import BATCH_STATISTICS, Recorded, Recorder, Refused, fixed, plain


@handles("linear")
def _linear(r: Recorder, input: Recorded, weight: Tensor, bias: Tensor | None = None) -> Recorded:
    constants_only(weight, bias)
    weight = fixed(weight)
    return r.affine(
        "linear",
        [input],
        lambda x: functional.linear(x, weight),
        bias=fixed(bias),
        columns=(lambda units: weight.T[units]) if input.ndim == 2 else None,
    )


@handles("matmul", "mm")
def _matmul(r: Recorder, input: Any, other: Any) -> Any:
    if isinstance(input, Recorded) and not isinstance(other, Recorded) and other.ndim == 2:
        return _linear(r, input, other.T)
    return affine(r, "matmul", torch.matmul, (input, other), {})


def _convolution(axes: int) -> Handler:
    function = getattr(functional, f"conv{axes}d")

    def handle(
        r: Recorder, input: Recorded, weight: Tensor, bias: Tensor | None = None,
        *args: Any, **kw: Any,
    ) -> Recorded:  # fmt: skip
        constants_only(weight, bias)
        weight, bias = fixed(weight), fixed(bias)
        if input.ndim != axes + 2:
            raise Refused(f"takes samples without a batch axis; pass {axes + 2} axes.")

        def linear(x: Tensor) -> Tensor:
            made: Tensor = function(x, weight, None, *args, **kw)
            return made

        bias = None if bias is None else bias.reshape(-1, *[1] * axes)
        after = tuple(linear(plain(input)).shape[1:])
        columns = _impulses(weight, tuple(input.shape[1:]), after, *args, **kw)
        return r.affine(f"conv{axes}d", [input], linear, bias=bias, columns=columns)

    return handle


for _n in (1, 2, 3):
    HANDLERS[f"conv{_n}d"] = _convolution(_n)


def _impulses(
    weight: Tensor, before: Shape, after: Shape, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Callable[[Tensor], Tensor]:  # fmt: skip
    """A convolution's answer to unit impulses: the kernel, put where it belongs."""
    kernel = weight.shape[2:]
    axes = len(kernel)
    dilation = each(dilation, axes)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    padding = (0,) * axes if padding == "valid" else each(padding, axes)
    channels_in, channels_out = weight.shape[1], weight.shape[0] // groups
    kernels = weight.reshape(groups, channels_out, channels_in, -1).transpose(1, 2)
    taps = torch.tensor([*product(*map(range, kernel))], device=weight.device)
    first, dilation, step, sizes = (
        torch.tensor(x, device=weight.device)
        for x in (padding, dilation, each(stride, axes), after[1:])
    )

    def columns(units: Tensor) -> Tensor:
        channel, *places = torch.unravel_index(units, before)
        group = channel // channels_in
        made = weight.new_zeros(len(units), groups, channels_out, prod(after[1:]))
        reach = torch.stack(places, dim=1)[:, None] + first - taps * dilation  # (units, taps, axes)
        at = reach // step
        inside = ((reach % step == 0) & (at >= 0) & (at < sizes)).all(dim=2)
        row, tap = inside.nonzero(as_tuple=True)
        target = torch.zeros_like(row)
        for size, along in zip(after[1:], at[row, tap].T, strict=True):
            target = target * size + along
        values = kernels[group[row], channel[row] % channels_in, :, tap]
        made[row, group[row], :, target] = values
        return made.reshape(len(units), *after)

    return columns


@handles("batch_norm")
def _batch_norm(
    r: Recorder, input: Recorded, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Recorded:  # fmt: skip
    if training or running_mean is None or running_var is None:
        raise Refused(BATCH_STATISTICS)
    axes = [1] * (input.ndim - 2)
    scale = (running_var + eps).rsqrt()
    scale = fixed(scale if weight is None else scale * weight)
    shift = -running_mean * scale
    shift = fixed(shift if bias is None else shift + bias)
    scale, shift = scale.reshape(-1, *axes), shift.reshape(-1, *axes)
    moves = scaling(scale, input)
    return r.affine("batch_norm", [input], lambda x: x * scale, bias=shift, moves=moves)


@handles(
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "feature_dropout",
)  # fmt: skip
def _dropout(
    r: Recorder, input: Recorded, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Recorded:
    if training and p:
        raise Refused("is dropout in training mode, which is random; call net.eval().")
    return input  # not another tensor: what is written into one, the other has too
