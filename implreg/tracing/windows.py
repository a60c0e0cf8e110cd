"""Where max pooling changes its mind: upper envelopes of lines.

On a piece the entries of a window are lines. Their maximum is convex, so a line that is the largest
at both ends of a piece is so all along it; else the envelope is walked from one winner to the next.

**Ties.** Entries that are equal along a piece (mostly zeros from a ReLU) are one winner: where a tie
ends or begins, the kink belongs to the unit that ends or begins it, and the pool does not switch.
"""

import torch
from torch import Tensor

from implreg.tracing.program import Windows
from implreg.tracing.state import Stretch


def find_wins(
    operation: Windows, stretch: Stretch, tolerance: Tensor, carried: list[Tensor] | None
) -> "tuple[Cuts, list[Tensor]]":
    """Where another entry of a window becomes the largest.

    Args:
        operation: max pooling over n windows of w entries.
        stretch: pieces on which its input is linear.
        tolerance: how far apart rounding may leave equal entries, (P, inputs).
        carried: the state at the end of the stretch before, if the path goes on: the winners (n,)
            and which entries tied with them on the last piece (n, w).

    Returns:
        The cuts, with the winner at the start of each piece as their sides; and the new state.
    """
    from implreg.tracing.refine import Cuts

    (value,) = operation.inputs
    index = operation.index
    windows, wide = index.shape
    paths, pieces = stretch.paths, stretch.pieces
    slopes = stretch.slopes(value)[:, :, index]  # (P, K, n, w)
    z = stretch.at_knots(value)[:, :, index]  # (P, K + 1, n, w)
    slack = tolerance[:, index].amax(dim=-1)[:, None, :, None]
    start, end = z[:, :-1], z[:, 1:]
    steep = slack / stretch.knots.diff(dim=1).clamp(min=torch.finfo(z.dtype).tiny)[:, :, None, None]

    starts_top = start >= start.amax(dim=-1, keepdim=True) - slack
    ends_top = end >= end.amax(dim=-1, keepdim=True) - slack
    both = starts_top & ends_top
    first = _steepest(slopes, starts_top)
    last = _steepest(-slopes, ends_top)
    # A line that is largest at both ends is the winner of the whole piece.
    all_along = both.any(dim=-1)
    winner_all = both.to(torch.int8).argmax(dim=-1)
    first = torch.where(all_along, winner_all, first)
    last = torch.where(all_along, winner_all, last)

    rows, times, units, orders, sides = [], [], [], [], []

    def note(path: Tensor, piece: Tensor, unit: Tensor, t: Tensor, order: int, side: Tensor) -> None:
        rows.append(path * pieces + piece)
        times.append(t)
        units.append(unit)
        orders.append(torch.full_like(unit, order))
        sides.append(side)

    # Inside pieces: from winner to winner.
    path, piece, unit = (first != last).nonzero(as_tuple=True)
    now, goal = first[path, piece, unit], last[path, piece, unit]
    v, s = start[path, piece, unit], slopes[path, piece, unit]
    begin, stop = stretch.knots[path, piece], stretch.knots[path, piece + 1]
    for order in range(wide):
        if not now.shape[0]:
            break
        own = now[:, None]
        lead, faster = v.gather(1, own) - v, s - s.gather(1, own)
        ahead = torch.where(faster > 0, (lead / faster).clamp(min=0), torch.inf)
        soonest = ahead.amin(dim=1, keepdim=True)
        tied = ahead <= soonest
        following = torch.where(tied, s, -torch.inf).argmax(dim=1)
        t = begin + soonest[:, 0]
        over = ~(t < stop) | (order == wide - 1)
        following = torch.where(over, goal, following)
        t = torch.minimum(t, stop)
        note(path, piece, unit, t, order, following)
        go_on = (following != goal).nonzero().flatten()
        path, piece, unit, goal, v, s, begin, stop = (
            x[go_on] for x in (path, piece, unit, goal, v, s, begin, stop)
        )
        now = following[go_on]

    # At knots: another winner behind than before, unless the two tie on either side.
    before, after = last[:, :-1], first[:, 1:]
    path, piece, unit = (before != after).nonzero(as_tuple=True)
    was, now = before[path, piece, unit], after[path, piece, unit]
    tie_before = both[path, piece, unit, was] & both[path, piece, unit, now]
    tie_after = both[path, piece + 1, unit, was] & both[path, piece + 1, unit, now]
    real = ~(tie_before | tie_after)
    path, piece, unit, now = (x[real] for x in (path, piece, unit, now))
    note(path, piece, unit, stretch.knots[path, piece + 1], wide, now)
    base = first.clone()
    if carried is not None:
        winner, tied_mask = carried
        changed = (winner != first[0, 0]).nonzero().flatten()
        now = first[0, 0, changed]
        was = winner[changed]
        tie_before = tied_mask[changed, now]
        tie_after = both[0, 0, changed, was] & both[0, 0, changed, now]
        real = ~(tie_before | tie_after)
        changed, now, was = changed[real], now[real], was[real]
        zero = torch.zeros_like(changed)
        base[0, 0, changed] = was
        # Comes before whatever else the window does on this piece.
        orders = [o + 1 for o in orders]
        note(zero, zero, changed, stretch.knots[0, 0].expand(len(changed)), 0, now)

    row, t, unit, order, side = (
        torch.cat(x) for x in (rows, times, units, orders, sides)
    )
    state_tie = both[0, -1] & both[0, -1].gather(1, last[0, -1][:, None])
    at_end = [last[0, -1].clone(), state_tie]
    cuts = Cuts(
        row, t, unit, torch.zeros_like(unit), order, side, [base.reshape(paths * pieces, windows)]
    )
    return cuts.sort(), at_end


def _steepest(slopes: Tensor, among: Tensor) -> Tensor:
    """Which entry has the largest slope; the first of equal ones, (..., w) -> (...)."""
    return torch.where(among, slopes, -torch.inf).argmax(dim=-1)
