"""Where pre-activations cross the kinks of their activation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from implreg.tracing.kinds import Hinges
from implreg.tracing.state import Bools, Floats, Ints, on_device


@dataclass
class Cuts:
    """Where the pieces of a stretch must be cut, and what holds on them.

    S cuts, sorted by piece and t. `sides` says for every kink (or for the windows) what holds at
    the start of each piece, (P * K, n) each: above the kink or not, or which entry is the largest.

    Attributes:
        row: the piece that each cut lies on, path * K + piece, (S,).
        t: where, (S,).
        unit: which unit switches, (S,).
        which: index in `sides` of what changes, (S,).
        order: of several changes of one unit on one piece, which one, (S,).
        side: what holds afterwards, (S,).
        sides: see above.
    """

    row: Ints
    t: Floats
    unit: Ints
    which: Ints
    order: Ints
    side: Bools | Ints
    sides: list[Tensor]

    def sort(self) -> "Cuts":
        """The same cuts in order of piece and t; simultaneous ones by order, kink and unit."""
        keys = (self.order, self.t, self.row) if self.order.any() else (self.t, self.row)
        at = np.lexsort(keys)
        names = ("row", "t", "unit", "which", "order", "side")
        return replace(self, **{name: getattr(self, name)[at] for name in names})


def find_crossings(
    operation: Hinges,
    times: Floats,
    z: Tensor,
    tolerance: Tensor,
    carried: list[Tensor] | None,
) -> tuple[Cuts, list[Tensor]]:
    """Where the pre-activation crosses a kink: compare its values at neighbouring knots.

    Args:
        operation: the activation.
        times: the knots between which its input is linear, (P, K + 1).
        z: its input at the knots, (P, K + 1, n).
        tolerance: how far from zero rounding may leave a zero, (P, n).
        carried: the state at the end of the stretch before, if the path goes on.

    Returns:
        The cuts, and the state at the end of the stretch: for every kink, the side of each unit,
        and whether the unit has had one.
    """
    paths, knots, units = z.shape
    pieces = knots - 1
    times = times.ravel()
    found, sides, at_end = [], [], []
    for which, (kink, _) in enumerate(operation.kinks):
        height = z if kink == 0 else z - kink
        slack = tolerance if kink == 0 else tolerance + abs(kink) * torch.finfo(z.dtype).eps
        before = None if carried is None else carried[2 * which : 2 * which + 2]
        above, state = _settle(height > slack[:, None], height < -slack[:, None], before)
        at_end += state
        row, unit = np.divmod(places(above[:, 1:] != above[:, :-1]), units)
        knot = row if paths == 1 else row + row // pieces  # of the start, among all knots
        start = pick(height, knot, unit).astype(np.float64)
        end = pick(height, knot + 1, unit).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            opposite, falling = np.sign(end) * np.sign(start), np.sign(end - start) * np.sign(start)
            share = np.where(opposite < 0, start / (start - end), falling < 0)
        begin = times[knot]
        t = begin + (times[knot + 1] - begin) * share
        side = pick(above, knot + 1, unit)
        found.append((row, t, unit, np.full_like(row, which), side))
        sides.append(above[:, :-1].reshape(paths * pieces, units))
    row, t, unit, kinks, side = (np.concatenate(x) for x in zip(*found, strict=True))
    return Cuts(row, t, unit, kinks, kinks, side, sides).sort(), at_end


def _settle(
    above: Tensor, below: Tensor, before: list[Tensor] | None
) -> tuple[Tensor, list[Tensor]]:
    """On which side of a kink every knot is, (P, K + 1, n), and the state at the last one.

    Knots that are neither above nor below are zeros: they have the side from before, or else the
    one that comes next.
    """
    known = below.logical_or_(above)
    if before is not None:
        side, had = before
        above[:, 0] = torch.where(had, side, above[:, 0])
        known[:, 0] |= had
    if _all(known):
        return above, [above[:, -1].clone(), known[:, -1].clone()]
    some = known.any(dim=1)
    mixed = some & ~known.all(dim=1)
    if bool(mixed.any()):
        path, unit = mixed.nonzero(as_tuple=True)
        known_here, above_here = known[path, :, unit], above[path, :, unit]
        knots = torch.arange(known.shape[1], device=known.device)
        last = torch.where(known_here, knots, -1).cummax(dim=1).values
        first = known_here.to(torch.int8).argmax(dim=1, keepdim=True)
        above[path, :, unit] = above_here.gather(1, torch.where(last < 0, first, last))
    return above, [above[:, -1].clone(), some.clone()]


def _all(mask: Tensor) -> bool:
    return bool(mask.numpy().all() if mask.device.type == "cpu" else mask.all())


def places(mask: Tensor) -> Ints:
    """Flat indices of the true entries."""
    if mask.device.type == "cpu":  # NumPy is several times faster at this
        return np.flatnonzero(mask.numpy())
    return mask.flatten().nonzero().flatten().cpu().numpy()


def pick(values: Tensor, row: Ints, column: Ints) -> np.ndarray:
    """Single entries of a tensor whose last axis is the columns, as an array."""
    table = values.reshape(-1, values.shape[-1])
    if table.device.type == "cpu":
        picked: np.ndarray = table.numpy()[row, column]
        return picked
    return table[on_device(row, table), on_device(column, table)].cpu().numpy()


def jumps(cuts: Cuts, slopes: Tensor, changes: Sequence[float | Tensor]) -> np.ndarray:
    """By how much the slope of an activation jumps at each cut.

    Args:
        cuts: crossings of its kinks.
        slopes: of its input on each piece, (P * K, n).
        changes: by how much its own slope changes at each kink, for all cuts or for each one.
    """
    jump = pick(slopes, cuts.row, cuts.unit)
    jump = np.where(cuts.side, jump, -jump)
    for which, change in enumerate(changes):
        sizes = change.cpu().numpy() if isinstance(change, Tensor) else change
        jump = np.where(cuts.which == which, jump * sizes, jump)
    return jump
