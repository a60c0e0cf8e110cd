"""Pooling by averages and maxima."""

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.kinds import Shape
from implreg.tracing.operations.orders import INDICES
from implreg.tracing.operations.table import HANDLERS, Handler, each
from implreg.tracing.record import Recorded, Recorder, Refused, plain


def _average_pooling(name: str, axes: int) -> Handler:
    function = getattr(functional, name)

    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
        return r.affine(name, [_batched(input, axes)], lambda x: function(x, *args, **kw))

    return handle


def _max_pooling(name: str, axes: int) -> Handler:
    function = getattr(functional, name)
    reaches = _adaptive_reaches if name.startswith("adaptive") else _reaches

    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
        data = function(plain(_batched(input, axes)), *args, **kw)
        windows = reaches(tuple(input.shape[2:]), tuple(data.shape[2:]), *args, **kw)
        index = _window_index(tuple(input.shape[1:]), windows).to(input.device)
        return r.windows(name, input, data, index)

    return handle


def _with_indices(name: str) -> Handler:
    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> tuple[Any, Any]:
        kw["return_indices"] = False
        values = HANDLERS[name](r, input, *args, **kw)
        indices = getattr(functional, f"{name}_with_indices")(plain(input), *args, **kw)[1]
        return values, r.forbidden(r.why(INDICES), [input], indices)

    return handle


def _reaches(
    before: Shape,
    after: Shape,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> list[list[range]]:
    """Along each axis the places of every window, those in the padding too."""
    given = (stride or kernel_size, padding, kernel_size, dilation)
    return [
        [range(o * s - p, o * s - p + k * d, d) for o in range(size)]
        for size, s, p, k, d in zip(after, *(each(x, len(after)) for x in given), strict=True)
    ]


def _adaptive_reaches(
    before: Shape, after: Shape, output_size: Any, return_indices: bool = False
) -> list[list[range]]:
    """The same for windows that share the places evenly."""
    return [
        [range(o * n // made, -(-(o + 1) * n // made)) for o in range(made)]
        for n, made in zip(before, after, strict=True)
    ]


def _batched(input: Recorded, axes: int) -> Recorded:
    if input.ndim != axes + 2:
        raise Refused(f"takes samples without a batch axis; pass {axes + 2} axes.")
    return input


def _window_index(shape: Shape, reaches: list[list[range]]) -> Tensor:
    """Flat indices of the entries of every window; places outside repeat an entry inside."""
    channels, *sizes = shape
    index = torch.zeros(1, 1, dtype=torch.int64)  # windows so far, entries
    for size, windows in zip(sizes, reaches, strict=True):
        inside = [[p for p in places if 0 <= p < size] for places in windows]
        wide = max(map(len, inside))
        if not all(inside):
            raise Refused("has a window of padding alone, whose maximum is -inf; pad less.")
        along = torch.tensor([places + places[:1] * (wide - len(places)) for places in inside])
        index = (index[:, None, :, None] * size + along[None, :, None, :]).flatten(0, 1).flatten(1)
    offset = torch.arange(channels)[:, None, None] * prod(sizes)
    return (offset + index).flatten(0, 1)


for _n in (1, 2, 3):
    for _name in (f"max_pool{_n}d", f"adaptive_max_pool{_n}d"):
        HANDLERS[_name] = _max_pooling(_name, _n)
        HANDLERS[f"{_name}_with_indices"] = _with_indices(_name)
    HANDLERS[f"avg_pool{_n}d"] = _average_pooling(f"avg_pool{_n}d", _n)
