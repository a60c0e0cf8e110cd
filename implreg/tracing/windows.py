"""Where max pooling changes its mind: upper envelopes of lines.

On a piece the entries of a window are lines. Their maximum is convex, so a line that is the largest
at both ends of a piece is so all along it; else the envelope is walked from one winner to the next.

**Ties.** Entries that are equal along a piece (mostly zeros from a ReLU) are one winner: where a
tie ends or begins, the kink belongs to the unit that ends or begins it, and the pool does not
switch; it does where no entry is among the winners on both sides. Pieces of no length, where units
switch at once or where a stretch is filled up, and those too short for their lines to part, decide
nothing, as their slopes depend on the order of those units: the winner before them goes on. An
entry that gets ahead of the winners before and behind it by no more than rounding is no winner.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.cuts import Cuts
from implreg.tracing.state import Floats, on_device

_NO_LENGTH = 16  # units of rounding that may lie between switches at once
_CLOSE = 2.0**-30  # of a path, a piece on which lines may be too near to be told apart
_FLAT = 64  # units of rounding by which sums of changes may leave equal slopes apart

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
        self.flat = _FLAT * torch.finfo(z.dtype).eps * slopes.abs().amax(1)
        self.long = self._long(np.diff(knots))

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

    def _long(self, length: Floats) -> Tensor:
        """Which pieces decide, (P, K, 1), or (P, K, n) if windows differ.

        Not so short ones at both ends of which several entries are the largest, but not alike.
        """
        long = torch.from_numpy(length > self.short).to(self.slopes.device)[..., None]
        path, piece = np.nonzero((length > self.short) & (length < _CLOSE))
        if not path.size:
            return long
        slopes, slack = self.slopes[path, piece], 2 * self.slack.amax(1)[path]
        ends = (self.z[path, piece + k] for k in (0, 1))
        low, high = (z >= z.amax(1, keepdim=True) - slack[:, None] for z in ends)
        top = low & high
        apart = slopes.where(top, -torch.inf).amax(1) - slopes.where(top, torch.inf).amin(1)
        long = long.repeat(1, 1, slopes.shape[2])
        long[path, piece] = apart <= slack
        return long

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
        slacks = (self.slack + self.flat, self.slack, self.slack)
        own, near = winner[..., None], []
        for line, slack in zip(lines, slacks, strict=True):
            found, allowed = line[path, piece, :, unit], slack[path, :, unit]
            allowed = allowed + allowed.gather(-1, own)
            near.append((found - found.gather(-1, own)).abs() <= allowed)
        return near[0] & near[1] & near[2]

    def between(self, carried: list[Tensor] | None) -> tuple[Found, Tensor, list[Tensor]]:
        """Changes where pieces meet, winners at the start of each piece (P * K, n), the state."""
        paths, pieces, windows = self.first.shape
        number = torch.arange(pieces, device=self.first.device)[:, None]
        reached = torch.where(self.long, number, -1).cummax(1).values
        # For each piece the last one that decides before it; -1 if that is in another stretch.
        prior = functional.pad(reached[:, :-1], (0, 0, 1, 0), value=-1).expand_as(self.last)
        if carried is None:
            begin = self.long.to(torch.int8).argmax(dim=1).expand(paths, windows)
            start = self.first.gather(1, begin[:, None])[:, 0]
            carried = [start, torch.ones_like(self.z[:, 0], dtype=torch.bool)]
        else:
            start = carried[0]
        before = self.last.gather(1, prior.clamp(min=0))
        before = torch.where(prior < 0, start[:, None], before)
        winners = torch.where(self.long, self.first, before)

        path, piece, unit = (winners != before).nonzero(as_tuple=True)
        was, now, last = (x[path, piece, unit] for x in (before, winners, prior))
        tied = torch.where(
            last[:, None] < 0, carried[1][path, :, unit], self.tied(path, last, unit, was)
        )
        tied = (tied & self.tied(path, piece, unit, now)).any(dim=1)
        path, piece, unit, was, now = (x[~tied] for x in (path, piece, unit, was, now))
        winners[path, piece, unit] = was
        # One that is still among the largest leaves inside the piece, though it may be at once.
        z, slack = self.z[path, piece, :, unit], 2 * self.slack[path, :, unit].amax(1)
        left = z.gather(1, was[:, None])[:, 0] < z.amax(1) - slack
        self.first[path, piece, unit] = torch.where(left, now, was)
        path, piece, unit, now = (x[left] for x in (path, piece, unit, now))
        row, order = path * pieces + piece, torch.zeros_like(unit)
        found = (row, self.knots[path, piece], unit, order, now)

        end = reached[:, -1].expand(paths, windows)
        row = torch.arange(paths, device=end.device)[:, None]
        own = self.last.gather(1, end[:, None].clamp(min=0))[:, 0]
        winner = torch.where(end < 0, carried[0], own)
        tied = self.tied(row, end, torch.arange(windows, device=end.device), winner).transpose(1, 2)
        tied = torch.where(end[:, None] < 0, carried[1], tied)
        return found, winners.flatten(0, 1), [winner, tied]

    def inside(self) -> Iterator[Found]:
        """Changes inside pieces, from winner to winner."""
        wide, pieces = self.z.shape[2], self.first.shape[1]
        path, piece, unit = ((self.first != self.last) & self.long).nonzero(as_tuple=True)
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
            # It counts if it gets ahead of both its neighbours by more than rounding.
            at = torch.stack([now, following, goal], dim=1)
            (_, here, there), (before, slope, after) = (
                x.gather(1, at).unbind(dim=1) for x in (v + soonest * s, s)
            )
            over, allowed = here - there, 4 * slack.gather(1, at).amax(dim=1)
            near = (over <= allowed) | (over / (after - slope) * (slope - before) <= allowed)
            t = begin + torch.where(near, ahead.gather(1, goal[:, None])[:, 0], soonest[:, 0])
            following = torch.where(near | (t >= stop) | (order == wide - 1), goal, following)
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
