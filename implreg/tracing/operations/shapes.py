"""Reshaping, joining, selecting, padding, resampling; and questions about shapes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.operations.table import (
    HANDLERS,
    Handler,
    axes_of,
    axis_of,
    constant,
    constants_only,
    filled,
    first_axis_moved,
    handles,
    spread,
)
from implreg.tracing.record import BATCH, Recorded, Recorder, Refused, plain


def _reshaped(name: str) -> Handler:
    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
        data = getattr(torch.Tensor, name)(plain(input), *plain(args), **plain(kw))
        if not isinstance(data, Tensor):
            raise Refused(f"calls {name} in a way that is not known; use reshape.")
        if data.dtype != input.dtype:
            raise Refused(f"reads the bits of its input as {data.dtype}; leave them as they are.")
        if data.ndim == 0 or len(data) != BATCH:
            first_axis_moved()
        shape = tuple(data.shape[1:])
        return r.affine(
            name, [input], lambda x: x.reshape(len(x), *shape), moves=lambda unit: (unit, None)
        )

    return handle


for _name in ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as",
              "reshape_as"):  # fmt: skip
    HANDLERS[_name] = _reshaped(_name)


@handles("permute")
def _permute(r: Recorder, input: Recorded, *dims: Any, **kw: Any) -> Recorded:
    order = [d % input.ndim for d in _given(dims, kw)]
    if order[0] != 0:
        first_axis_moved()
    return r.affine("permute", [input], lambda x: x.permute(order))


def _given(dims: Sequence[Any], kw: dict[str, Any]) -> Sequence[int]:
    """Axes given one by one or as one sequence."""
    one = len(dims) == 1 and isinstance(dims[0], Sequence)
    axes: Sequence[int] = kw["dims"] if "dims" in kw else dims[0] if one else dims
    return axes


@handles("transpose", "swapaxes", "swapdims")
def _transpose(r: Recorder, input: Recorded, dim0: int, dim1: int) -> Recorded:
    a, b = axis_of(dim0, input.ndim), axis_of(dim1, input.ndim)
    return r.affine("transpose", [input], lambda x: x.transpose(a, b))


@handles("movedim", "moveaxis")
def _movedim(r: Recorder, input: Recorded, source: Any, destination: Any) -> Recorded:
    a, b = axes_of(source, input.ndim), axes_of(destination, input.ndim)
    return r.affine("movedim", [input], lambda x: x.movedim(a, b))


@handles("flip")
def _flip(r: Recorder, input: Recorded, *dims: Any, **kw: Any) -> Recorded:
    axes = axes_of(_given(dims, kw), input.ndim)
    return r.affine("flip", [input], lambda x: x.flip(axes))


@handles("expand", "expand_as", "broadcast_to")
def _expand(r: Recorder, input: Recorded, *sizes: Any, **kw: Any) -> Recorded:
    data = plain(input).expand(*(plain(s) if not isinstance(s, Tensor) else s.shape for s in sizes))
    if data.ndim != input.ndim:
        first_axis_moved()
    shape = tuple(data.shape[1:])
    return r.affine("expand", [input], lambda x: spread(x, shape))


@handles("cat", "concat", "concatenate")
def _cat(r: Recorder, tensors: Sequence[Any], dim: int = 0) -> Recorded:
    along = axis_of(dim, tensors[0].ndim)
    recorded = [x for x in tensors if isinstance(x, Recorded)]
    like = plain(recorded[0])

    def fixed(x: Tensor) -> Tensor:
        shape = tuple(x.shape[1:])
        if isinstance(x, Recorded):
            return torch.zeros(shape, dtype=like.dtype, device=like.device)
        return filled(constant(x, x), shape, like).expand(shape)

    constants = [fixed(x) for x in tensors]
    own = [isinstance(x, Recorded) for x in tensors]

    def linear(*xs: Tensor) -> Tensor:
        left = iter(xs)
        return torch.cat(
            [next(left) if taken else c.new_zeros(len(xs[0]), *c.shape)
             for c, taken in zip(constants, own, strict=True)],
            along,
        )  # fmt: skip

    bias = None if all(own) else torch.cat(constants, along - 1)
    return r.affine("cat", recorded, linear, bias=bias)


@handles("stack")
def _stack(r: Recorder, tensors: Sequence[Any], dim: int = 0) -> Recorded:
    along = axis_of(dim, tensors[0].ndim + 1)
    return _cat(r, [torch.unsqueeze(x, along) for x in tensors], along)


def _parts(name: str) -> Handler:
    function = getattr(torch, name)

    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> tuple[Recorded, ...]:
        position = 0 if name == "unbind" else 1  # of the axis among the arguments
        axis_of(kw.get("dim", args[position] if len(args) > position else 0), input.ndim)
        pieces = function(plain(input), *args, **kw)

        def one(i: int) -> Recorded:
            return r.affine(name, [input], lambda x: function(x, *args, **kw)[i])

        return tuple(one(i) for i in range(len(pieces)))

    return handle


for _name in ("chunk", "split", "tensor_split", "unbind"):
    HANDLERS[_name] = _parts(_name)


@handles("getitem")
def _getitem(r: Recorder, input: Recorded, index: Any) -> Recorded:
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, Recorded) for p in parts):
        raise Refused("indexes by what it computes from its input; index by constants.")
    first = parts[0] if parts else slice(None)
    used = sum(p is not None and p is not Ellipsis for p in parts)
    whole = isinstance(first, slice) and first == slice(None)
    if not whole and not (first is Ellipsis and used < input.ndim):
        first_axis_moved()
    data = plain(input)[index]
    # Several index tensors with a slice between come first: the axis of the samples no longer is.
    if data.ndim == 0 or len(plain(input)[[0, 0, 1]][index]) != BATCH + 1:
        first_axis_moved()
    return r.affine("getitem", [input], lambda x: x[index])


def _selecting(name: str) -> Handler:
    function = getattr(torch, name)

    def handle(r: Recorder, input: Recorded, dim: int, *args: Any, **kw: Any) -> Recorded:
        along = axis_of(dim, input.ndim)
        constants_only(*args, *kw.values())
        return r.affine(name, [input], lambda x: function(x, along, *args, **kw))

    return handle


for _name in ("select", "narrow", "index_select"):
    HANDLERS[_name] = _selecting(_name)


@handles("pad")
def _pad(
    r: Recorder, input: Recorded, pad: Any, mode: str = "constant", value: float | None = None
) -> Recorded:
    if len(pad) >= 2 * input.ndim:
        first_axis_moved()
    bias = None
    if mode == "constant" and value:
        bias = functional.pad(torch.zeros_like(plain(input)[0]), pad, mode, value)
    if mode != "constant":
        return r.affine(f"pad ({mode})", [input], lambda x: functional.pad(x, pad, mode))
    return r.affine("pad", [input], lambda x: functional.pad(x, pad), bias=bias)


@handles("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def _interpolate(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
    mode = kw.get("mode", args[2] if len(args) > 2 else "nearest")
    return r.affine(
        f"interpolate ({mode})", [input], lambda x: functional.interpolate(x, *args, **kw)
    )


def _constant_like(name: str) -> Handler:
    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Tensor:
        function = getattr(torch if "_like" in name else Tensor, name)
        made: Tensor = function(plain(input), *plain(args), **plain(kw))
        return made

    return handle


for _name in ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full",
              "new_tensor"):  # fmt: skip
    HANDLERS[_name] = _constant_like(_name)


def _question(name: str) -> Handler:
    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Any:
        return getattr(plain(input), name)(*args, **kw)

    return handle


for _name in (
    "size", "dim", "numel", "ndimension", "nelement", "stride", "is_contiguous",
    "is_floating_point", "is_complex", "get_device", "__len__", "__hash__", "__repr__",
    "__format__", "__str__",
):  # fmt: skip
    HANDLERS[_name.strip("_")] = _question(_name)
