"""The largest entries along axes, sorted entries, and norms that are sums or maxima of sizes."""

from collections.abc import Iterable
from math import inf, prod
from typing import Any

import torch
from torch import Tensor

from implreg.tracing.operations.activations import absolute, maximum, minimum
from implreg.tracing.operations.arithmetic import neg
from implreg.tracing.operations.table import HANDLERS, Handler, axes_of, axis_of, handles
from implreg.tracing.record import Recorded, Recorder, Refused, plain

INDICES = "uses indices that depend on values, which is not continuous; use the values."


@handles("amax")
def _amax(r: Recorder, input: Recorded, dim: Any = None, keepdim: bool = False) -> Recorded:
    axes = axes_of(dim, input.ndim)
    shape = tuple(input.shape[1:])
    index = torch.arange(prod(shape), device=input.device).reshape(shape)
    kept = [a - 1 for a in range(1, input.ndim) if a not in axes]
    index = index.permute(*kept, *(a - 1 for a in axes)).reshape(prod(shape[a] for a in kept), -1)
    return r.windows("amax", input, plain(input).amax(axes, keepdim), index)


@handles("amin")
def _amin(r: Recorder, input: Recorded, dim: Any = None, keepdim: bool = False) -> Recorded:
    return neg(r, _amax(r, neg(r, input), dim, keepdim))


def _extreme(name: str, over_axes: Handler, of_two: Handler) -> Handler:
    def handle(
        r: Recorder, input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None
    ) -> Any:
        if isinstance(dim, Tensor) or other is not None:
            return of_two(r, input, dim if other is None else other)
        values = over_axes(r, input, dim, keepdim)
        return _pair(r, name, input, values, getattr(plain(input), name)(dim, keepdim).indices)

    return handle


HANDLERS["max"] = _extreme("max", _amax, maximum)
HANDLERS["min"] = _extreme("min", _amin, minimum)


def _pair(r: Recorder, name: str, input: Recorded, values: Recorded, indices: Tensor) -> Any:
    """Values with their indices, which no output may depend on."""
    pair = (values, r.forbidden(r.why(INDICES), [input], indices))
    return getattr(torch.return_types, name)(pair)


@handles("sort")
def _sort(
    r: Recorder, input: Recorded, dim: int = -1, descending: bool = False, *, stable: Any = None
) -> Any:
    axis = axis_of(dim, input.ndim)
    values = _sorted(r, input, axis, descending, range(input.shape[axis]))
    return _pair(r, "sort", input, values, plain(input).sort(dim, descending).indices)


@handles("topk")
def _topk(
    r: Recorder, input: Recorded, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Any:
    if not sorted:
        raise Refused("calls topk for values in no particular order; use sorted=True.")
    axis = axis_of(dim, input.ndim)
    every = _sorted(r, input, axis, largest, range(k))
    values = r.affine("topk", [every], lambda x: x.narrow(axis, 0, k))
    return _pair(r, "topk", input, values, plain(input).topk(k, dim, largest).indices)


@handles("kthvalue")
def _kthvalue(r: Recorder, input: Recorded, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    axis = axis_of(dim, input.ndim)
    every = _sorted(r, input, axis, False, [k - 1])
    values = r.affine(
        "kthvalue", [every],
        lambda x: x.narrow(axis, k - 1, 1) if keepdim else x.select(axis, k - 1),
    )  # fmt: skip
    return _pair(r, "kthvalue", input, values, plain(input).kthvalue(k, dim, keepdim).indices)


@handles("median")
def _median(r: Recorder, input: Recorded, dim: Any = None, keepdim: bool = False) -> Any:
    (axis,) = axes_of(dim, input.ndim)
    values, _ = _kthvalue(r, input, (input.shape[axis] + 1) // 2, axis, keepdim)
    return _pair(r, "median", input, values, plain(input).median(axis, keepdim).indices)


def _sorted(
    r: Recorder, x: Recorded, axis: int, descending: bool, wanted: Iterable[int]
) -> Recorded:
    """Entries along an axis by size, those in the places that are `wanted`.

    Batcher's merge exchange sort, all pairs of a round at once. A comparison of entries neither of
    which comes to be in such a place switches with a gap of zero, like what loses a max pool.
    """
    x = r.wrap(plain(x).clone(), x.value)  # another tensor, even of a single entry
    rounds, used = [], set(wanted)
    for pairs in reversed(_exchanges(x.shape[axis])):
        rounds.append([pair for pair in pairs if not used.isdisjoint(pair)])
        used.update(*rounds[-1])
    for pairs in filter(None, reversed(rounds)):
        low, high = torch.tensor(pairs, device=x.device).T
        if descending:
            low, high = high, low

        def excess(x: Tensor, low: Tensor = low, high: Tensor = high) -> Tensor:
            return x.index_select(axis, low) - x.index_select(axis, high)

        def exchanged(x: Tensor, d: Tensor, low: Tensor = low, high: Tensor = high) -> Tensor:
            return x.index_add(axis, low, -d).index_add(axis, high, d)

        moved = r.hinges("sort", r.affine("sort", [x], excess), kinks=[(0.0, 1.0)])
        x = r.affine("sort", [x, moved], exchanged)
    return x


def _exchanges(count: int) -> list[list[tuple[int, int]]]:
    """Pairs to compare, all of one list at once.

    Source: Knuth, The Art of Computer Programming, volume 3, 5.2.2, algorithm M.
    """
    rounds = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, rest, apart = top, 0, p
        while True:
            pairs = [(i, i + apart) for i in range(count - apart) if i & p == rest]
            rounds.append(pairs)
            if q == p:
                break
            apart, q, rest = q - p, q >> 1, p
        p >>= 1
    return rounds


@handles("linalg_norm")
def _linalg_norm(
    r: Recorder, input: Recorded, ord: Any = None, dim: Any = None, keepdim: bool = False
) -> Recorded:
    if not isinstance(dim, int):
        raise Refused("calls linalg.norm for matrices; use linalg.vector_norm.")
    return _norm(r, input, 2 if ord is None else ord, dim, keepdim)


@handles("norm", "linalg_vector_norm")
def _norm(
    r: Recorder, input: Recorded, p: Any = 2, dim: Any = None, keepdim: bool = False,
    *, ord: Any = None,
) -> Recorded:  # fmt: skip
    degree = float(p if ord is None else ord) if not isinstance(p, str) else 2.0
    if degree not in (1, inf, -inf):
        raise Refused("calls norm, which is not piecewise linear unless p is 1 or inf; use these.")
    axes = axes_of(dim, input.ndim)
    sizes = absolute(r, input)
    if degree == 1:
        return r.affine("norm", [sizes], lambda x: x.sum(axes, keepdim))
    return (_amax if degree > 0 else _amin)(r, sizes, axes, keepdim)
