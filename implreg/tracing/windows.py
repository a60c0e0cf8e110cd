"""Where max pooling changes its mind: upper envelopes of lines.

On a piece the entries of a window are lines. Their maximum is convex, so a line that is the largest
at both ends of a piece is so all along it; else the envelope is walked from one winner to the next.

**Ties.** Entries that are equal along a piece (mostly zeros from a ReLU) are one winner: where a
tie ends or begins, the kink belongs to the unit that ends or begins it, and the pool does not
switch; it does where no entry is among the winners on both sides. Pieces of no length, where units
switch at once or where a stretch is filled up, decide nothing, as their slopes depend on the order
of those units: the winner before them goes on. Where three lines meet but for rounding, the pool
switches once, to the one that stays.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from implreg.tracing.cuts import Cuts
from implreg.tracing.state import Floats, on_device

_NO_LENGTH = 16  # units of rounding that may lie between switches at once

Found = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # row, t, unit, order and side of `Cuts`


def find_wins(
    slopes: Tensor, z: Tensor, tolerance: Tensor, knots: Floats, carried: list[Tensor] | None
) -> tuple[Cuts, list[Tensor]]:
    """Where another entry of a window becomes the largest, for n windows of w entries.

    Args:
        slopes: of the entries on each piece, (P, K, w, n).
        z: the entries at the knots, (P, K + 1, w, n).
        tolerance: how far apart rounding may leave equal entries, (P, w, n).
        knots: where the pieces start, and the end, (P, K + 1).
        carried: the state at the end of the stretch before, if the paths go on.

    Returns:
        The cuts, with the winner at the start of each piece as their sides; and the state at the
        end: the winners (P, n) and which entries tied with them on the last piece (P, w, n).
    """
    envelopes = _Envelopes(slopes, z, tolerance, knots)
    at_knots, winners, state = envelopes.between(carried)
    found = [at_knots, *envelopes.inside()]
    row, t, unit, order, side = (torch.cat(x).cpu().numpy() for x in zip(*found, strict=True))
    return Cuts(row, t, unit, np.zeros_like(unit), order, side, [winners]).sort(), state


class _Envelopes:
    """The n windows of w lines on each of P paths of K pieces; see `find_wins`."""

    def __init__(self, slopes: Tensor, z: Tensor, tolerance: Tensor, knots: Floats) -> None:
        self.slopes, self.z, self.slack = slopes, z, tolerance
        self.knots = on_device(knots, z)
        self.short = _NO_LENGTH * torch.finfo(z.dtype).eps
        self.long = np.diff(knots) > self.short  # (P, K)

        # At a knot where one entry is above all others, it is the winner there.
        most, near = z.amax(2, keepdim=True), 2 * tolerance.amax(1)[:, None, None]
        top = (z >= most - near).to(torch.int16).unbind(2)
        count, which = sum(top), sum(k * entry for k, entry in enumerate(top))
        assert isinstance(count, Tensor) and isinstance(which, Tensor)
        alone = count == 1
        # The winners at the start and at the end of each piece, (P, K, n).
        self.first, self.last = which[:, :-1].long(), which[:, 1:].long()
        # Where all entries are the same, as zeros are, any is.
        same = z.amin(2) == most[:, :, 0]
        same = same[:, :-1] & same[:, 1:]
        self.first[same] = self.last[same] = 0
        open_ = (~(alone[:, :-1] & alone[:, 1:] | same)).nonzero(as_tuple=True)
        self.first[open_], self.last[open_] = self._settled(*open_)

    def _settled(self, path: Tensor, piece: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """The winners at both ends of pieces on which entries may tie."""
        slopes, slack = self.slopes[path, piece, :, unit], self.slack[path, :, unit]
        start, end = (_largest(self.z[path, piece + k, :, unit], slack) for k in (0, 1))
        all_along = start & end
        steepest = _largest(torch.where(all_along, slopes, -torch.inf), slack)
        winner = (all_along & steepest).to(torch.int8).argmax(dim=-1)
        decided = all_along.any(dim=-1)
        first = torch.where(decided, winner, _steepest(slopes, start))
        return first, torch.where(decided, winner, _steepest(-slopes, end))

    def tied(self, path: Tensor, piece: Tensor, unit: Tensor, winner: Tensor) -> Tensor:
        """Which entries equal the winner along a piece, itself among them, (..., w)."""
        lines = (self.slopes, self.z[:, :-1], self.z[:, 1:])
        own, slack = winner[..., None], self.slack[path, :, unit]
        slack = slack + slack.gather(-1, own)
        found = [line[path, piece, :, unit] for line in lines]
        near = [(line - line.gather(-1, own)).abs() <= slack for line in found]
        return near[0] & near[1] & near[2]

    def between(self, carried: list[Tensor] | None) -> tuple[Found, Tensor, list[Tensor]]:
        """Changes where pieces meet, winners at the start of each piece (P * K, n), the state."""
        paths, pieces, windows = self.first.shape
        zero = self.first.new_zeros(1)
        reached = np.maximum.accumulate(np.where(self.long, np.arange(pieces), -1), axis=1)
        # For each piece the last one of some length before it; -1 if that is in another stretch.
        prior = on_device(np.insert(reached[:, :-1], 0, -1, axis=1), zero)
        if carried is None:
            begin = on_device(self.long.argmax(axis=1), zero)
            start = self.first[torch.arange(paths, device=zero.device), begin]
            carried = [start, torch.ones_like(self.z[:, 0], dtype=torch.bool)]
        else:
            start = carried[0]
        before = self.last.gather(1, prior.clamp(min=0)[..., None].expand_as(self.last))
        before = torch.where(prior[..., None] < 0, start[:, None], before)
        long = on_device(self.long, zero)[..., None]
        winners = torch.where(long, self.first, before)

        path, piece, unit = (winners != before).nonzero(as_tuple=True)
        was, now, last = before[path, piece, unit], winners[path, piece, unit], prior[path, piece]
        tied = torch.where(
            last[:, None] < 0, carried[1][path, :, unit], self.tied(path, last, unit, was)
        )
        tied = (tied & self.tied(path, piece, unit, now)).any(dim=1)
        path, piece, unit, was, now = (x[~tied] for x in (path, piece, unit, was, now))
        winners[path, piece, unit] = was
        row, order = path * pieces + piece, torch.zeros_like(unit)
        found = (row, self.knots[path, piece], unit, order, now)

        end = on_device(reached[:, -1], zero)
        row = torch.arange(paths, device=zero.device)
        winner = torch.where(end[:, None] < 0, carried[0], self.last[row, end])
        each = (row[:, None], end[:, None], torch.arange(windows, device=zero.device))
        tied = self.tied(*each, winner).transpose(1, 2)
        tied = torch.where(end[:, None, None] < 0, carried[1], tied)
        return found, winners.flatten(0, 1), [winner, tied]

    def inside(self) -> Iterator[Found]:
        """Changes inside pieces, from winner to winner."""
        wide, pieces = self.z.shape[2], self.first.shape[1]
        long = on_device(self.long, self.first)[..., None]
        path, piece, unit = ((self.first != self.last) & long).nonzero(as_tuple=True)
        now, goal = self.first[path, piece, unit], self.last[path, piece, unit]
        v, s = self.z[path, piece, :, unit], self.slopes[path, piece, :, unit]
        begin, stop = self.knots[path, piece], self.knots[path, piece + 1]
        row, slack = path * pieces + piece, self.slack[path, :, unit]
        for order in range(1, wide):
            own = now[:, None]
            lead, faster = v.gather(1, own) - v, s - s.gather(1, own)
            ahead = torch.where(faster > 0, (lead / faster).clamp(min=0), torch.inf)
            soonest = ahead.amin(dim=1, keepdim=True)
            following = torch.where(ahead <= soonest + self.short, s, -torch.inf).argmax(dim=1)
            t = begin + soonest[:, 0]
            # The winner at the end may be up there already; and rounding may hide its coming.
            at = torch.stack([following, goal], dim=1)
            lead = (v + soonest * s).gather(1, at).diff(dim=1)[:, 0].neg()
            allowed = 2 * slack.gather(1, at).sum(dim=1)
            there = (lead <= allowed) | (t >= stop) | (order == wide - 1)
            following = torch.where(there, goal, following)
            yield row, torch.minimum(t, stop), unit, torch.full_like(unit, order), following
            on = (following != goal).nonzero().flatten()
            row, unit, goal, v, s, begin, stop, slack, now = (
                x[on] for x in (row, unit, goal, v, s, begin, stop, slack, following)
            )


def _largest(entries: Tensor, slack: Tensor) -> Tensor:
    """Which entries are the largest, but for rounding, (..., w)."""
    most, which = entries.max(dim=-1, keepdim=True)
    return entries >= most - slack - slack.expand_as(entries).gather(-1, which)


def _steepest(slopes: Tensor, among: Tensor) -> Tensor:
    """Which entry has the largest slope; the first of equal ones, (..., w) -> (...)."""
    return torch.where(among, slopes, -torch.inf).argmax(dim=-1)
