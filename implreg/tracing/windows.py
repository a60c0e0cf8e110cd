"""Where max pooling changes its mind: upper envelopes of lines.

On a piece the entries of a window are lines. Their maximum is convex, so a line that is the largest
at both ends of a piece is so all along it; else the envelope is walked from one winner to the next.

**Ties.** Entries that are equal along a piece (mostly zeros from a ReLU) are one winner: where a
tie ends or begins, the kink belongs to the unit that ends or begins it, and the pool does not
switch.
"""

import numpy as np
import torch
from torch import Tensor

from implreg.tracing.cuts import Cuts
from implreg.tracing.program import Windows
from implreg.tracing.state import Stretch


def find_wins(
    operation: Windows,
    stretch: Stretch,
    z: Tensor,
    tolerance: Tensor,
    carried: list[Tensor] | None,
) -> tuple[Cuts, list[Tensor]]:
    """Where another entry of a window becomes the largest.

    Args:
        operation: max pooling over n windows of w entries.
        stretch: pieces on which its input is linear.
        z: its input at the knots, (P, K + 1, inputs).
        tolerance: how far apart rounding may leave equal entries, (P, inputs).
        carried: the state at the end of the stretch before, if the path goes on.

    Returns:
        The cuts, with the winner at the start of each piece as their sides; and the state at the
        end: the winners (n,) and which entries tied with them on the last piece (n, w).
    """
    (value,) = operation.inputs
    index = operation.index
    windows, wide = index.shape
    paths, pieces = stretch.paths, stretch.pieces
    slopes = stretch.slopes(value)[:, :, index]  # (P, K, n, w)
    z = z[:, :, index]  # (P, K + 1, n, w)
    slack = tolerance[:, index].amax(dim=-1)[:, None, :, None]
    top = z >= z.amax(dim=-1, keepdim=True) - slack
    at_start, at_end = top[:, :-1], top[:, 1:]
    all_along = at_start & at_end
    first, last = _steepest(slopes, at_start), _steepest(-slopes, at_end)
    steepest = torch.where(all_along, slopes, -torch.inf).amax(dim=-1, keepdim=True)
    winner = (all_along & (slopes >= steepest - slack)).to(torch.int8).argmax(dim=-1)
    decided = all_along.any(dim=-1)
    first, last = torch.where(decided, winner, first), torch.where(decided, winner, last)

    def tied(path: Tensor, piece: Tensor, unit: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Whether two entries are equal along a piece."""
        apart = slopes[path, piece, unit, a] - slopes[path, piece, unit, b]
        near = apart.abs() <= slack[path, 0, unit, 0]
        return near & all_along[path, piece, unit, a] & all_along[path, piece, unit, b]

    found: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []

    def note(row: Tensor, t: Tensor, unit: Tensor, order: int, side: Tensor) -> None:
        found.append((row, t, unit, torch.full_like(unit, order), side))

    knots = torch.from_numpy(stretch.knots).to(z.device)
    base = first.clone()
    if carried is not None:
        winner_before, tied_before = carried
        unit = (winner_before != first[0, 0]).nonzero().flatten()
        now, was, zero = first[0, 0, unit], winner_before[unit], torch.zeros_like(unit)
        real = ~(tied_before[unit, now] | tied(zero, zero, unit, was, now))
        unit, now, was = unit[real], now[real], was[real]
        base[0, 0, unit] = was
        note(torch.zeros_like(unit), knots[0, 0].expand(unit.shape[0]), unit, 0, now)

    # Inside pieces: from winner to winner.
    path, piece, unit = (first != last).nonzero(as_tuple=True)
    now, goal = first[path, piece, unit], last[path, piece, unit]
    v, s = z[path, piece, unit], slopes[path, piece, unit]
    row, begin, stop = path * pieces + piece, knots[path, piece], knots[path, piece + 1]
    for order in range(1, wide):
        if not now.shape[0]:
            break
        own = now[:, None]
        lead, faster = v.gather(1, own) - v, s - s.gather(1, own)
        ahead = torch.where(faster > 0, (lead / faster).clamp(min=0), torch.inf)
        soonest = ahead.amin(dim=1, keepdim=True)
        following = torch.where(ahead <= soonest, s, -torch.inf).argmax(dim=1)
        t = begin + soonest[:, 0]
        # The winner at the end may tie with what was found; and rounding may hide its coming.
        at = torch.stack([following, goal], dim=1)
        apart = torch.maximum(_apart(v, at), _apart(s, at))
        there = (apart <= slack[row // pieces, 0, unit, 0]) | (t >= stop) | (order == wide - 1)
        following = torch.where(there, goal, following)
        note(row, torch.minimum(t, stop), unit, order, following)
        on = (following != goal).nonzero().flatten()
        row, unit, goal, v, s, begin, stop, now = (
            x[on] for x in (row, unit, goal, v, s, begin, stop, following)
        )

    # At knots: another winner behind than before, unless the two tie on either side.
    path, piece, unit = (last[:, :-1] != first[:, 1:]).nonzero(as_tuple=True)
    was, now = last[path, piece, unit], first[path, piece + 1, unit]
    real = ~(tied(path, piece, unit, was, now) | tied(path, piece + 1, unit, was, now))
    path, piece, unit, now = (x[real] for x in (path, piece, unit, now))
    note(path * pieces + piece, knots[path, piece + 1], unit, wide, now)

    row_, t_, unit_, order_, side_ = (torch.cat(x).cpu().numpy() for x in zip(*found, strict=True))
    sides = [base.reshape(paths * pieces, windows)]
    cuts = Cuts(row_, t_.astype(np.float64), unit_, np.zeros_like(unit_), order_, side_, sides)
    state = [last[0, -1].clone(), _tied_with_last(slopes, all_along, slack, last)]
    return cuts.sort(), state


def _tied_with_last(slopes: Tensor, all_along: Tensor, slack: Tensor, last: Tensor) -> Tensor:
    """Which entries equal the winner along the last piece, (n, w)."""
    winner = last[0, -1][:, None]
    near = (slopes[0, -1] - slopes[0, -1].gather(1, winner)).abs() <= slack[0, 0]
    return near & all_along[0, -1] & all_along[0, -1].gather(1, winner)


def _apart(lines: Tensor, pair: Tensor) -> Tensor:
    """How far apart two of the columns are in each row."""
    a, b = lines.gather(1, pair).unbind(dim=1)
    return (a - b).abs()


def _steepest(slopes: Tensor, among: Tensor) -> Tensor:
    """Which entry has the largest slope; the first of equal ones, (..., w) -> (...)."""
    return torch.where(among, slopes, -torch.inf).argmax(dim=-1)
