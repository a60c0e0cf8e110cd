"""Where pre-activations cross the kinks of their activation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from implreg.tracing.program import Hinges
from implreg.tracing.state import Stretch


@dataclass
class Cuts:
    """Where the pieces of a stretch must be cut, and what holds on them.

    S cuts, sorted by piece and t. `sides` says for every kink (or for the windows) what holds at the
    start of each piece, (P * K, n) each: above the kink or not, or which entry is the largest.

    Attributes:
        row: the piece that each cut lies on, path * K + piece, (S,).
        t: where, (S,).
        unit: which unit switches, (S,).
        which: index in `sides` of what changes, (S,).
        order: of several changes of one unit on one piece, which one, (S,).
        side: what holds afterwards, (S,).
        sides: see above.
    """

    row: Tensor
    t: Tensor
    unit: Tensor
    which: Tensor
    order: Tensor
    side: Tensor
    sides: list[Tensor]

    def sort(self) -> "Cuts":
        """The same cuts in order of piece and t; simultaneous ones by kink and unit."""
        order = self.t.argsort(stable=True)
        order = order[self.row[order].argsort(stable=True)]
        return Cuts(
            *(x[order] for x in (self.row, self.t, self.unit, self.which, self.order, self.side)),
            self.sides,
        )


def find_crossings(
    operation: Hinges, stretch: Stretch, tolerance: Tensor, carried: list[Tensor] | None
) -> tuple[Cuts, list[Tensor]]:
    """Where the pre-activation crosses a kink: compare its values at neighbouring knots."""
    (value,) = operation.inputs
    z = stretch.at_knots(value)
    paths, knots, units = z.shape
    pieces = knots - 1
    found, sides, at_end = [], [], []
    for which, (kink, _) in enumerate(operation.kinks):
        height = z if kink == 0 else z - kink
        slack = tolerance if kink == 0 else tolerance + abs(kink) * torch.finfo(z.dtype).eps
        before = None if carried is None else carried[2 * which : 2 * which + 2]
        above, state = _settle(height > slack[:, None], height < -slack[:, None], before)
        at_end += state
        place = _places(above[:, 1:] != above[:, :-1])
        row, unit = place // units, place % units
        knot = row if paths == 1 else row + row // pieces  # of the start, among all knots
        height, flat = height.view(-1, units), stretch.knots.reshape(-1)
        start, end = height[knot, unit], height[knot + 1, unit]
        span = end - start
        share = torch.where(start * end < 0, -start / span, (start * span > 0).to(span.dtype))
        begin = flat[knot]
        t = torch.addcmul(begin, flat[knot + 1] - begin, share)
        side = above.view(-1, units)[knot + 1, unit]
        found.append((row, t, unit, torch.full_like(row, which), side))
        sides.append(above[:, :-1].reshape(paths * pieces, units))
    if len(found) == 1:
        row, t, unit, which_, side = found[0]
    else:
        row, t, unit, which_, side = (torch.cat(x) for x in zip(*found, strict=True))
    return Cuts(row, t, unit, which_, which_, side, sides).sort(), at_end


def _settle(
    above: Tensor, below: Tensor, before: list[Tensor] | None
) -> tuple[Tensor, list[Tensor]]:
    """On which side of a kink every knot is, (P, K + 1, n), and the state at the last one.

    Knots that are neither above nor below are zeros. The state is a pair: the side of every unit, and
    whether it has had one.
    """
    known = above | below
    if before is not None:
        side, had = before
        above[0, 0] = torch.where(had, side, above[0, 0])
        known[0, 0] |= had
    if bool(known.all()):
        return above, [above[0, -1].clone(), known[0, -1].clone()]
    some = known.any(dim=1)
    mixed = some & ~known.all(dim=1)
    if bool(mixed.any()):
        path, unit = mixed.nonzero(as_tuple=True)
        known_here, above_here = known[path, :, unit], above[path, :, unit]
        knots = torch.arange(known.shape[1], device=known.device)
        last = torch.where(known_here, knots, -1).cummax(dim=1).values
        first = known_here.to(torch.int8).argmax(dim=1, keepdim=True)
        above[path, :, unit] = above_here.gather(1, torch.where(last < 0, first, last))
    return above, [above[0, -1].clone(), some[0].clone()]


def _places(mask: Tensor) -> Tensor:
    """Flat indices of the true entries."""
    if mask.device.type == "cpu":  # NumPy is several times faster at this
        return torch.from_numpy(mask.numpy().ravel().nonzero()[0])
    return mask.flatten().nonzero().flatten()
