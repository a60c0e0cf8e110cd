"""Layers with weights: linear, convolutions, batch norm; and dropout, which does nothing."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.kinds import Shape
from implreg.tracing.maps import Mixing
from implreg.tracing.operations.linear import affine
from implreg.tracing.operations.table import (
    HANDLERS,
    Handler,
    constants_only,
    handles,
)
from implreg.tracing.record import BATCH_STATISTICS, Recorded, Recorder, Refused, fixed


@handles("linear")
def _linear(r: Recorder, input: Recorded, weight: Tensor, bias: Tensor | None = None) -> Recorded:
    constants_only(weight, bias)
    weight = fixed(weight)
    form = Mixing((), (), weight.T[None]) if input.ndim == 2 else None
    return r.affine(
        "linear", [input], lambda x: functional.linear(x, weight), bias=fixed(bias), form=form
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
        stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Recorded:  # fmt: skip
        def run(x: Tensor, weight: Tensor, groups: int) -> Tensor:
            made: Tensor = function(x, weight, None, stride, padding, dilation, groups)
            return made

        def kernels(weight: Tensor) -> Tensor:
            return weight.flatten(2).permute(2, 1, 0)

        return _convolved(r, f"conv{axes}d", input, weight, bias, groups, run, kernels, (-1, 1))

    return handle


def _transposed(axes: int) -> Handler:
    function = getattr(functional, f"conv_transpose{axes}d")

    def handle(
        r: Recorder, input: Recorded, weight: Tensor, bias: Tensor | None = None,
        stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
        dilation: Any = 1,
    ) -> Recorded:  # fmt: skip
        def run(x: Tensor, weight: Tensor, groups: int) -> Tensor:
            made: Tensor = function(
                x, weight, None, stride, padding, output_padding, groups, dilation
            )
            return made

        def kernels(weight: Tensor) -> Tensor:
            made: Tensor = weight.unflatten(0, (groups, -1)).flatten(3)
            return made.permute(3, 1, 0, 2).flatten(2)

        name = f"conv_transpose{axes}d"
        return _convolved(r, name, input, weight, bias, groups, run, kernels, (1, -1))

    return handle


for _n in (1, 2, 3):
    HANDLERS[f"conv{_n}d"] = _convolution(_n)
    HANDLERS[f"conv_transpose{_n}d"] = _transposed(_n)


def _convolved(
    r: Recorder, name: str, input: Recorded, weight: Tensor, bias: Tensor | None, groups: int,
    run: Callable[[Tensor, Tensor, int], Tensor], kernels: Callable[[Tensor], Tensor],
    one: tuple[int, int],
) -> Recorded:  # fmt: skip
    """Append a convolution.

    `run` convolves maps with a weight in so many groups; `kernels` makes of a weight (taps,
    channels of the input in a group, channels of the result); `one` is how the first two axes begin
    of a weight that shows each tap of a single channel by itself.
    """
    constants_only(weight, bias)
    weight, bias = fixed(weight), fixed(bias)
    taps = weight.shape[2:]
    axes = len(taps)
    if input.ndim != axes + 2:
        raise Refused(f"takes samples without a batch axis; pass {axes + 2} axes.")
    each = torch.eye(prod(taps), dtype=weight.dtype, device=weight.device).view(*one, *taps)
    form = _mixing(kernels(weight), tuple(input.shape[2:]), taps, groups, lambda x: run(x, each, 1))
    bias = None if bias is None else bias.reshape(-1, *[1] * axes)
    slow = weight.dtype == torch.float64 and weight.device.type == "cpu"
    alone = groups == 1 or form.weight.ndim == 2
    linear = form.whole if slow and alone and form.small else lambda x: run(x, weight, groups)
    return r.affine(name, [input], linear, bias=bias, form=form)


def _mixing(
    weight: Tensor, before: Shape, taps: Shape, groups: int, shifts: Callable[[Tensor], Tensor]
) -> Mixing:
    """The form of a convolution.

    Args:
        weight: kernels (taps, channels of the input in a group, channels of the result).
        before: sizes of the map.
        taps: of the kernel along each axis.
        groups: into which the channels are divided.
        shifts: what each tap reads of a map with a single channel, (1, 1, *before) -> (1, taps, *).
    """
    places = torch.meshgrid(*(torch.arange(1.0, n + 1).to(weight) for n in before), indexing="ij")
    sources = []
    for axis, place in enumerate(places):
        read = shifts(place[None, None])[0].unflatten(0, taps).long()
        others = [k for k in range(read.ndim) if k % len(before) != axis]
        along = read.amax(others) if others else read
        sources.append(along.T.cpu().numpy() - 1)
    inside, outside = weight.shape[1], weight.shape[2] // groups
    if inside == outside == 1:
        return Mixing(before, tuple(sources), weight[:, 0])
    if groups > 1:  # in blocks
        own = weight.unflatten(2, (groups, outside)).transpose(1, 2)
        weight = weight.new_zeros(len(weight), groups, inside, groups, outside)
        every = torch.arange(groups, device=weight.device)
        weight[:, every, :, every] = own.transpose(0, 1)
        weight = weight.flatten(3).flatten(1, 2)
    return Mixing(before, tuple(sources), weight.contiguous())


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
    return r.affine("batch_norm", [input], lambda x: x * scale, bias=shift)


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
