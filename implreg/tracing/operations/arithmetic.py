"""Sums, differences, products with constants, sums and means over axes."""

from typing import Any

import torch
from torch import Tensor

from implreg.tracing.operations.table import (
    HANDLERS,
    Handler,
    constant,
    filled,
    handles,
    spread,
)
from implreg.tracing.record import Recorded, Recorder, Refused, plain


@handles("add")
def add(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Recorded:
    """Sum of two branches, or of a branch and a constant; `other` times alpha."""
    if isinstance(input, Recorded) and isinstance(other, Recorded):
        if input.ndim != other.ndim:
            raise Refused(
                "adds branches with different numbers of axes, so that the samples of one meet "
                "another axis of the other; give both as many, with unsqueeze(1) for example."
            )
        return r.affine("add", [input, other], lambda x, y: torch.add(x, y, alpha=alpha))
    if not isinstance(input, Recorded):
        return add(r, _scaled(r, other, alpha), input)
    return _shifted(r, "add", input, constant(other, input, finite=False), alpha)


def _shifted(
    r: Recorder, text: str, x: Recorded, constant: float | Tensor, scale: float
) -> Recorded:
    bias = filled(constant, tuple(x.shape[1:]), plain(x)) * scale
    shape = tuple(torch.broadcast_shapes(x.shape[1:], bias.shape))
    return r.affine(text, [x], lambda x: spread(x, shape), bias=bias)


@handles("sub", "subtract")
def sub(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Recorded:
    """Difference, likewise."""
    return add(r, input, other, alpha=-alpha)


@handles("neg", "negative")
def neg(r: Recorder, input: Recorded) -> Recorded:
    """The branch times -1."""
    return _scaled(r, input, -1.0, "neg")


@handles("positive", "detach", "requires_grad")
def _same(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
    return input  # not another tensor: what is written into one, the other has too


@handles("clone")
def _clone(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
    return r.wrap(input, input.value)


@handles("copy")
def _copy(r: Recorder, input: Any, src: Any, non_blocking: bool = False) -> Any:
    if not isinstance(src, Recorded):
        return src.expand_as(input)
    shape = tuple(input.shape[1:])
    return r.affine("copy", [src], lambda x: x.expand(len(x), *shape).clone())


@handles("contiguous")
def _contiguous(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
    data = plain(input).contiguous(*args, **kw)
    again = data.data_ptr() != plain(input).data_ptr()
    return r.wrap(data, input.value) if again else input


def _cast(name: str) -> Handler:
    def handle(r: Recorder, input: Any, *args: Any, **kw: Any) -> Any:
        data = getattr(torch.Tensor, name)(plain(input), *plain(args), **kw)
        if not isinstance(data, Tensor):
            return data
        if not isinstance(input, Recorded):  # a constant, made like what it computes
            return data
        if input.above is not None:
            return r.says(input.above, input, data)
        if data.dtype != input.dtype or data.device != input.device:
            raise Refused(
                f"moves what it computes from {input.dtype} on {input.device} to {data.dtype} on "
                f"{data.device}; leave it as it is."
            )
        return input

    return handle


for _name in ("to", "double", "float", "half", "bfloat16", "type", "type_as", "cpu"):
    HANDLERS[_name] = _cast(_name)


def mul(r: Recorder, input: Any, other: Any) -> Recorded:
    """Product of a branch and a constant."""
    if isinstance(input, Recorded) and isinstance(other, Recorded):
        raise Refused(
            "multiplies two branches (or one by itself), which is quadratic, not piecewise linear; "
            "use a sum, or a product with a constant."
        )
    x, factor = (input, other) if isinstance(input, Recorded) else (other, input)
    return _scaled(r, x, factor)


def _scaled(r: Recorder, x: Recorded, factor: Any, text: str = "mul") -> Recorded:
    scale = constant(factor, x)
    return r.affine(text, [x], lambda x: x * scale)


@handles("div", "divide", "true_divide", "truediv")
def _div(r: Recorder, input: Any, other: Any) -> Recorded:
    if isinstance(other, Recorded):
        raise Refused("divides by what it computes from its input; divide by a constant.")
    divisor = constant(other, input)
    if not bool(torch.as_tensor(divisor, dtype=torch.float64).all()):
        raise Refused("divides by zero; divide by another constant.")
    return _scaled(r, input, 1.0 / divisor, "div")
