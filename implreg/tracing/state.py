"""Piecewise linear functions on stretches of paths, and their integrals.

What is computed with (values, slopes) lies in tensors on the device of the network. Where pieces
start and which unit switches there is bookkeeping: small integer arrays, in NumPy, whose calls
cost less.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_BLOCK = 16  # pieces that one triangular product integrates
_LONG_ROW = 256  # entries from which on that is the quicker way


@dataclass
class Stretch:
    """P paths, or one stretch of one path, cut into at most K pieces on which all is linear.

    Paths with fewer pieces are filled up with pieces of no length at the end.

    Attributes:
        path: which path each one is, (P,).
        knots: where the pieces start, and the end, (P, K + 1).
        site: the operation that switches at the start of each piece, -1 for none, (P, K).
        unit: which of its units does, (P, K).
        count: number of real pieces of each path, (P,).
        first: the stretch begins where its path begins.
        last: the stretch ends where its path ends.
        rows: for each value of the program, P rows with its value at the start and then P * K rows
            with its slope on each piece, (P + P * K, *shape).
    """

    path: Ints
    knots: Floats
    site: Ints
    unit: Ints
    count: Ints
    first: bool
    last: bool
    rows: dict[int, Tensor]

    @classmethod
    def whole(cls, first: int, x0: Tensor, x1: Tensor) -> "Stretch":
        """Paths from their starts to their ends, (P, *input_shape), the first with this number."""
        paths = len(x0)
        none = np.full((paths, 1), -1)
        return cls(
            path=np.arange(first, first + paths),
            knots=np.tile([0.0, 1.0], (paths, 1)),
            site=none,
            unit=none,
            count=np.ones(paths, dtype=np.int64),
            first=True,
            last=True,
            rows={0: torch.cat([x0, x1 - x0])},
        )

    @property
    def paths(self) -> int:
        """P."""
        return len(self.knots)

    @property
    def pieces(self) -> int:
        """K."""
        return len(self.knots[0]) - 1

    @property
    def real(self) -> Ints:
        """Rows path * K + piece of the real pieces, in order."""
        return np.flatnonzero(np.arange(self.pieces) < self.count[:, None])

    def start(self, value: int) -> Tensor:
        """A value of the program where the stretch starts, (P, n)."""
        return flat(self.rows[value][: self.paths])

    def slopes(self, value: int) -> Tensor:
        """Slope of a value on each piece, (P, K, n)."""
        rows = self.rows[value]
        slopes = flat(rows[self.paths :])
        return slopes.view(self.paths, self.pieces, slopes.shape[1])

    def at_knots(self, value: int) -> Tensor:
        """A value of the program at every knot, (P, K + 1, n)."""
        slopes = self.slopes(value)
        return integrate(self.start(value), slopes, on_device(np.diff(self.knots), slopes))

    def at(self, value: int, path: int, t: float) -> Tensor:
        """A value of the program at one time of one of the paths, (1, n)."""
        knots, slopes = self.knots[path], self.slopes(value)[path]
        elapsed = np.clip(np.minimum(knots[1:], t) - knots[:-1], 0, None)
        start = self.start(value)[path : path + 1]
        return torch.addmm(start, on_device(elapsed[None], slopes), slopes)


def flat(rows: Tensor) -> Tensor:
    """Rows with a single axis behind the first, also for samples without any."""
    return rows.reshape(len(rows), prod(rows.shape[1:]))


def on_device(array: NDArray[np.generic], like: Tensor) -> Tensor:
    """A bookkeeping array where `like` lies; floating numbers in its type."""
    tensor = torch.from_numpy(array)
    dtype = like.dtype if tensor.is_floating_point() and like.is_floating_point() else tensor.dtype
    return tensor.to(device=like.device, dtype=dtype)


def integrate(start: Tensor, slopes: Tensor, steps: Tensor) -> Tensor:
    """Values of piecewise linear functions at their knots.

    Args:
        start: value at the first knot, (P, n).
        slopes: on each piece, (P, K, n).
        steps: length of each piece, (P, K).

    Returns:
        Values at all knots, (P, K + 1, n). Long rows are summed as products with triangular
        matrices, a block of pieces at a time: a cumulative sum along so long a stride is several
        times slower.
    """
    paths, pieces, entries = slopes.shape
    values = slopes.new_empty(paths, pieces + 1, entries)
    values[:, 0] = start
    if pieces == 1:
        torch.addcmul(start, slopes[:, 0], steps, out=values[:, 1])
    elif entries < _LONG_ROW:
        torch.mul(slopes, steps[..., None], out=values[:, 1:])
        torch.cumsum(values, dim=1, out=values)
    elif pieces <= _BLOCK:
        values[:, 1:] = torch.baddbmm(start[:, None], _triangle(steps), slopes)
    else:
        blocks = pieces // _BLOCK
        whole = blocks * _BLOCK
        block = slopes[:, :whole].reshape(paths * blocks, _BLOCK, entries)
        step = steps[:, :whole].reshape(paths * blocks, _BLOCK)
        totals = torch.bmm(step[:, None], block).view(paths, blocks, entries)
        carried = torch.cat([start[:, None], totals], dim=1).cumsum(dim=1)[:, :-1]
        inside = torch.baddbmm(carried.reshape(-1, 1, entries), _triangle(step), block)
        values[:, 1 : whole + 1] = inside.view(paths, whole, entries)
        if whole < pieces:
            values[:, whole:] = integrate(values[:, whole], slopes[:, whole:], steps[:, whole:])
    return values


def _triangle(steps: Tensor) -> Tensor:
    """Rows that sum slopes times steps up to each piece, (P, K) -> (P, K, K)."""
    return steps[:, None, :].expand(-1, steps.shape[1], -1).tril()


def padded(pieces: int) -> int:
    """The number of pieces, at least `pieces`, that `integrate` takes in whole blocks."""
    return pieces if pieces <= 2 * _BLOCK else -(-pieces // _BLOCK) * _BLOCK
