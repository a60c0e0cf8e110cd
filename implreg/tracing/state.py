"""Piecewise linear functions on stretches of paths, and their integrals."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

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
        count: number of real pieces of each path.
        first: the stretch begins where its path begins.
        last: the stretch ends where its path ends.
        rows: for each value of the program, P rows with its value at the start and then P * K rows
            with its slope on each piece, (P + P * K, *shape).
    """

    path: Tensor
    knots: Tensor
    site: Tensor
    unit: Tensor
    count: list[int]
    first: bool
    last: bool
    rows: dict[int, Tensor]

    @property
    def paths(self) -> int:
        """P."""
        return self.knots.shape[0]

    @property
    def pieces(self) -> int:
        """K."""
        return self.knots.shape[1] - 1

    def start(self, value: int) -> Tensor:
        """A value of the program where the stretch starts, (P, n)."""
        return self.rows[value][: self.paths].flatten(1)

    def slopes(self, value: int) -> Tensor:
        """Slope of a value on each piece, (P, K, n)."""
        rows = self.rows[value]
        return rows[self.paths :].view(self.paths, self.pieces, -1)

    def at_knots(self, value: int) -> Tensor:
        """A value of the program at every knot, (P, K + 1, n)."""
        return integrate(self.start(value), self.slopes(value), self.knots.diff(dim=1))

    def at(self, value: int, path: int, t: Tensor) -> Tensor:
        """A value of the program at one time of one of the paths, (1, n)."""
        elapsed = torch.minimum(self.knots[path, 1:], t) - self.knots[path, :-1]
        start = self.start(value)[path : path + 1]
        return torch.addmm(start, elapsed.clamp(min=0)[None], self.slopes(value)[path])

    def with_rows(self, rows: dict[int, Tensor]) -> "Stretch":
        """The same stretch with other values."""
        return replace(self, rows=rows)


def integrate(start: Tensor, slopes: Tensor, steps: Tensor) -> Tensor:
    """Values of piecewise linear functions at their knots.

    Args:
        start: value at the first knot, (P, n).
        slopes: on each piece, (P, K, n).
        steps: length of each piece, (P, K).

    Returns:
        Values at all knots, (P, K + 1, n). Long rows are summed as products with triangular matrices, a
        block of pieces at a time: a cumulative sum along so long a stride is several times slower.
    """
    paths, pieces, entries = slopes.shape
    values = slopes.new_empty(paths, pieces + 1, entries)
    values[:, 0] = start
    if pieces == 1:
        torch.addcmul(start, slopes[:, 0], steps, out=values[:, 1])
    elif entries < _LONG_ROW or pieces % _BLOCK:
        torch.cumsum(slopes * steps[..., None], dim=1, out=values[:, 1:])
        values[:, 1:] += start[:, None]
    else:
        blocks = pieces // _BLOCK
        slopes = slopes.reshape(paths * blocks, _BLOCK, entries)
        steps = steps.reshape(paths * blocks, _BLOCK)
        totals = torch.bmm(steps[:, None], slopes).view(paths, blocks, entries)
        carried = torch.cat([start[:, None], totals], dim=1).cumsum(dim=1)[:, :-1]
        triangle = steps[:, None, :].expand(-1, _BLOCK, -1).tril()
        inside = torch.baddbmm(carried.reshape(-1, 1, entries), triangle, slopes)
        values[:, 1:] = inside.view(paths, pieces, entries)
    return values


def padded(pieces: int) -> int:
    """The number of pieces, at least `pieces`, that `integrate` takes in whole blocks."""
    return pieces if pieces <= 2 * _BLOCK else -(-pieces // _BLOCK) * _BLOCK
