"""Layers with weights: linear, convolutions, batch norm; and dropout, which does nothing."""

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.operations.table import (
    HANDLERS,
    Handler,
    constants_only,
    each,
    first_axis_moved,
    handles,
    scaling,
)
from implreg.tracing.program import Shape
from implreg.tracing.record import BATCH_STATISTICS, Recorded, Recorder, Refused, plain


@handles("linear")
def _linear(r: Recorder, input: Recorded, weight: Tensor, bias: Tensor | None = None) -> Recorded:
    constants_only(weight, bias)
    weight = weight.detach()

    def columns(units: Tensor) -> Tensor:
        return weight.T[units]

    return r.affine(
        "linear",
        [input],
        functional.linear(plain(input), weight, bias),
        lambda x: functional.linear(x, weight),
        bias=None if bias is None else bias.detach(),
        columns=columns if input.ndim == 2 else None,
    )


@handles("matmul", "mm")
def _matmul(r: Recorder, input: Any, other: Any) -> Recorded:
    left, right = input, other
    if isinstance(left, Recorded) and isinstance(right, Recorded):
        raise Refused("multiplies two branches, which is quadratic; use a product with a constant.")
    if isinstance(left, Recorded):
        right = right.detach()
        if right.ndim == 1 and left.ndim > 1:
            return r.affine("matmul", [left], plain(left) @ right, lambda x: x @ right)
        if right.ndim != 2:
            raise Refused("multiplies by a stack of matrices; use one matrix.")
        return _linear(r, left, right.T)
    left = left.detach()
    if right.ndim < 3 or left.ndim != 2:
        first_axis_moved()
    return r.affine("matmul", [right], left @ plain(right), lambda x: left @ x)


@handles("rmatmul")
def _rmatmul(r: Recorder, input: Any, other: Any) -> Recorded:
    return _matmul(r, other, input)


@handles("addmm")
def _addmm(
    r: Recorder, input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1
) -> Any:
    constants_only(input, mat2)
    return _linear(r, mat1, alpha * mat2.T, beta * input)


def _convolution(transposed: bool) -> Handler:
    def handle(
        r: Recorder,
        input: Recorded,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kw: Any,
    ) -> Recorded:
        constants_only(weight, bias)
        weight = weight.detach()
        axes = weight.ndim - 2
        if input.ndim != axes + 2:
            raise Refused(f"takes samples without a batch axis; pass {axes + 2} axes.")
        name = f"conv_transpose{axes}d" if transposed else f"conv{axes}d"
        function = getattr(functional, name)
        data = function(plain(input), weight, bias, *args, **kw)
        return r.affine(
            name,
            [input],
            data,
            lambda x: function(x, weight, None, *args, **kw),
            bias=None if bias is None else bias.detach().reshape(-1, *[1] * axes),
            columns=None
            if transposed
            else _impulses(weight, tuple(input.shape[1:]), tuple(data.shape[1:]), *args, **kw),
        )

    return handle


for _n in (1, 2, 3):
    HANDLERS[f"conv{_n}d"] = _convolution(transposed=False)
    HANDLERS[f"conv_transpose{_n}d"] = _convolution(transposed=True)


def _impulses(
    weight: Tensor,
    before: Shape,
    after: Shape,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Callable[[Tensor], Tensor]:
    """A convolution's answer to unit impulses: the kernel, put where it belongs."""
    kernel = weight.shape[2:]
    axes = len(kernel)
    stride, dilation = each(stride, axes), each(dilation, axes)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    padding = (0,) * axes if padding == "valid" else each(padding, axes)
    channels_in, channels_out = weight.shape[1], weight.shape[0] // groups

    def columns(units: Tensor) -> Tensor:
        places = list(torch.unravel_index(units, before))
        channel = places.pop(0)
        group = channel // channels_in
        made = weight.new_zeros(len(units), groups, channels_out, prod(after[1:]))
        kernels = weight.reshape(groups, channels_out, channels_in, *kernel)
        kernels = kernels.transpose(1, 2)[group, channel % channels_in]
        rows = torch.arange(units.shape[0], device=units.device)
        for tap, offset in enumerate(product(*map(range, kernel))):
            target = torch.zeros_like(units)
            inside = torch.ones_like(units, dtype=torch.bool)
            for a in range(axes):
                reach = places[a] + padding[a] - offset[a] * dilation[a]
                at = reach // stride[a]
                inside &= (reach % stride[a] == 0) & (at >= 0) & (at < after[1 + a])
                target = target * after[1 + a] + at
            keep = inside.nonzero().flatten()
            value = kernels.flatten(2)[keep, :, tap]
            made[rows[keep], group[keep], :, target[keep]] = value
        return made.reshape(len(units), *after)

    return columns


@handles("batch_norm")
def _batch_norm(
    r: Recorder,
    input: Recorded,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Recorded:
    if training or running_mean is None or running_var is None:
        raise Refused(BATCH_STATISTICS)
    axes = [1] * (input.ndim - 2)
    scale = (running_var.detach() + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    shift = -running_mean.detach() * scale
    shift = shift if bias is None else shift + bias.detach()
    scale, shift = scale.reshape(-1, *axes), shift.reshape(-1, *axes)
    data = plain(input) * scale + shift
    return r.affine(
        "batch_norm", [input], data, lambda x: x * scale, bias=shift, moves=scaling(scale, input)
    )


@handles(
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "feature_dropout",
)  # fmt: skip
def _dropout(
    r: Recorder, input: Recorded, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Recorded:
    if training:
        raise Refused("is dropout in training mode, which is random; call net.eval().")
    return input  # not another tensor: what is written into one, the other has too
