"""Evenly spaced positions of paths, sent through a program with the direction on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from implreg.tracing.kinds import Affine, Hinges, Operation, Windows
from implreg.tracing.program import Program


def positions(points: int) -> Tensor:
    """Evenly spaced t from 0 to 1, both included, (points,) float64."""
    return torch.linspace(0, 1, points, dtype=torch.float64)


@dataclass(frozen=True)
class Moving:
    """A value of a program at N positions and what a direction becomes on the way to it.

    Attributes:
        at: the value itself, (N, *shape).
        way: the direction, sent through the layers without biases, (N, *shape).
        shifted: the direction, sent through the layers with their biases, (N, *shape); the same
            tensor as `way` in a network without.
    """

    at: Tensor
    way: Tensor
    shifted: Tensor


class Walk:
    """Positions of paths, by path and then along it, sent through a program a chunk at a time."""

    def __init__(
        self, program: Program, x0: Tensor, x1: Tensor, points: int, winners: bool
    ) -> None:
        self._program, self._x0, self._x1, self._points = program, x0, x1, points
        self._winners = winners
        self._t = positions(points).to(x0)
        # Up to the first operation that switches all is linear: the ends of the paths are enough.
        self._bent = min(program.sites, default=len(program.operations))
        self._plain = not any(map(_adds, program.operations))

    def chunk(self, rows: slice) -> tuple[Tensor, Moving]:
        """Units whose patterns differ between neighbouring rows, (N - 1,), and the output.

        Between the last row of a path and the first of the next one the number means nothing.
        """
        row = torch.arange(rows.start, rows.stop, device=self._x0.device)
        found = self._unbent(row // self._points, self._t[row % self._points])
        differ = torch.zeros(len(row) - 1, dtype=torch.int64, device=row.device)
        operations = self._program.operations
        for i in range(self._bent, len(operations)):
            operation = operations[i]
            taken = [found[v] for v in operation.inputs]
            if isinstance(operation, Affine):
                found[i + 1] = self._affine(operation, taken)
            elif isinstance(operation, Hinges):
                found[i + 1] = _hinges(operation, taken[0], differ)
            elif self._winners:
                found[i + 1] = _windows(operation, taken[0], differ)
            else:
                found[i + 1] = _largest(operation, taken[0])
            self._drop(found, i)
        return differ, found[self._program.output]

    def _unbent(self, path: Tensor, t: Tensor) -> dict[int, Moving]:
        """What the operations that switch and those behind them take, at positions of paths."""
        first, last = int(path[0]), int(path[-1]) + 1
        path = path - first
        x0, x1 = self._x0[first:last], self._x1[first:last]
        way = x1 - x0
        found = {0: Moving(torch.cat([x0, x1]), way, way)}  # two rows of values for each path
        for i, operation in enumerate(self._program.operations[: self._bent]):
            assert isinstance(operation, Affine)
            found[i + 1] = self._affine(operation, [found[v] for v in operation.inputs])
            self._drop(found, i)

        def spread(end: Moving) -> Moving:
            here = t.view(-1, *[1] * (end.at.ndim - 1))
            at = (1 - here) * end.at[path] + here * end.at[path + (last - first)]
            way = end.way[path]
            return Moving(at, way, way if self._plain else end.shifted[path])

        return {v: spread(end) for v, end in found.items()}

    def _affine(self, operation: Affine, taken: Sequence[Moving]) -> Moving:
        def shaped(made: Tensor) -> Tensor:
            return made.reshape(len(made), *operation.shape)

        way = shaped(operation.linear(*[x.way for x in taken]))
        return Moving(
            shaped(operation.value(*[x.at for x in taken])),
            way,
            way if self._plain else shaped(operation.value(*[x.shifted for x in taken])),
        )

    def _drop(self, found: dict[int, Moving], i: int) -> None:
        """Forget what no operation behind the i-th one reads."""
        for value in [v for v in found if self._program.last_use[v] <= i]:
            del found[value]


def _hinges(operation: Hinges, x: Moving, differ: Tensor) -> Moving:
    """Every entry on its side of the kinks; adds to `differ` the changes between neighbours."""
    on = [x.at > at for at, _ in operation.kinks]
    for above in on:
        differ += _count(above[1:] != above[:-1])
    way = x.way * operation.factor(on, x.way.dtype)
    shifted = way if x.shifted is x.way else operation.value(x.shifted, on)
    return Moving(operation.value(x.at, on), way, shifted)


def _windows(operation: Windows, x: Moving, differ: Tensor) -> Moving:
    """The winner of every window; adds to `differ` the windows whose neighbours share none."""
    index = operation.index
    entries = x.at.flatten(1)[:, index]  # (N, windows, w)
    largest, winner = entries.max(dim=-1)
    top = entries == largest[..., None]
    differ += _count(~(top[1:] & top[:-1]).any(dim=-1))
    entry = index[torch.arange(len(index), device=index.device), winner]  # (N, windows)

    def won(moving: Tensor) -> Tensor:
        return moving.flatten(1).gather(1, entry).view(-1, *operation.shape)

    way = won(x.way)
    shifted = way if x.shifted is x.way else won(x.shifted)
    return Moving(largest.view(-1, *operation.shape), way, shifted)


def _largest(operation: Windows, x: Moving) -> Moving:
    """Of value and direction alike the largest entry of every window (P16)."""

    def top(entries: Tensor) -> Tensor:
        return entries.flatten(1)[:, operation.index].amax(dim=-1).view(-1, *operation.shape)

    way = top(x.way)
    return Moving(top(x.at), way, way if x.shifted is x.way else top(x.shifted))


def _count(true: Tensor) -> Tensor:
    return true.flatten(1).sum(dim=1)


def _adds(operation: Operation) -> bool:
    """Whether an operation adds a constant to what it makes of a direction."""
    if isinstance(operation, Affine):
        return operation.bias is not None and bool((operation.bias != 0).any())
    if isinstance(operation, Hinges):
        return bool(operation.offset) or any(at for at, _ in operation.kinks)
    return False
