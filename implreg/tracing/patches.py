"""What switches change of a map: a patch of places each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from implreg.tracing.state import Bools, Ints, on_device

Sizes = tuple[int, ...]


@dataclass
class Patches:
    """What S switches change of the slopes of a map, each in a patch of its own.

    Attributes:
        low: the first place of each patch along each axis, (axes, S).
        wide: how many places it has along each axis.
        rows: the changes, (S, R, C) with R the product of `wide`; of one channel (S, R, 1).
        channel: if only one channel of each patch changes, which, (S,); else None.
    """

    low: Ints
    wide: Sizes
    rows: Tensor
    channel: Ints | None = None

    def __len__(self) -> int:
        """Return S."""
        return len(self.rows)

    def places(self, sizes: Sizes) -> Ints:
        """Flat places of each patch on a map of these sizes, (S, R)."""
        return flat_places(self.low, self.wide, sizes)

    def full(self, channels: int) -> Tensor:
        """The changes of all channels, (S, R, C)."""
        if self.channel is None:
            return self.rows
        made = self.rows.new_zeros(*self.rows.shape[:2], channels)
        index = on_device(self.channel, made)[:, None, None].expand_as(self.rows)
        return made.scatter_(2, index, self.rows)

    def maps(self, channels: int, sizes: Sizes) -> Tensor:
        """The changes as whole maps, (S, C, places)."""
        rows = self.full(channels)
        if self.wide == sizes:
            return rows.transpose(1, 2)
        made = rows.new_zeros(len(self), prod(sizes), channels)
        index = on_device(self.places(sizes), made)[:, :, None].expand_as(rows)
        return made.scatter_(1, index, rows).transpose(1, 2)

    def thinned(self, channel: Ints | None) -> "Patches":
        """The same, held as changes of that channel if there are no others."""
        if channel is None:
            return self
        index = on_device(channel, self.rows)[:, None, None].expand(*self.rows.shape[:2], 1)
        rows = self.rows.gather(2, index)
        others = int(self.rows.count_nonzero()) - int(rows.count_nonzero())
        return self if others else replace(self, rows=rows, channel=channel)

    def part(self, which: Ints | slice) -> "Patches":
        """Some of them."""
        rows = self.rows[which if isinstance(which, slice) else on_device(which, self.rows)]
        channel = None if self.channel is None else self.channel[which]
        return Patches(self.low[:, which], self.wide, rows, channel)


def flat_places(low: Ints, wide: Sizes, sizes: Sizes) -> Ints:
    """Flat places of boxes that begin at `low`, (axes, S), on a map of these sizes, (S, R)."""
    found = np.zeros((low.shape[1], 1), dtype=np.int64)
    for first, width, size in zip(low, wide, sizes, strict=True):
        along = first[:, None] + np.arange(width)
        found = (found[:, :, None] * size + along[:, None, :]).reshape(
            len(found), found.shape[1] * width
        )
    return found


def reach(taken: Sequence[tuple[tuple[Bools, ...], Patches]]) -> tuple[Ints, Sizes]:
    """Where the patches of a result begin, (axes, S), and how wide they are.

    Args:
        taken: for each input what the operation reads of it, see `Form.reads`, and its patches,
            of the same S switches.
    """
    lows, wides = [], []
    for axis, reads in enumerate(taken[0][0]):
        ends = [reached(own[axis], x.low[axis], x.wide[axis]) for own, x in taken]
        low = np.min([first for first, _ in ends], axis=0)
        wide = int((np.max([last for _, last in ends], axis=0) - low).max(initial=0)) + 1
        lows.append(np.minimum(low, len(reads) - wide))
        wides.append(wide)
    return np.array(lows).reshape(len(lows), len(taken[0][1])), tuple(wides)


def reached(reads: Bools, low: Ints, wide: int) -> tuple[Ints, Ints]:
    """The first and the last place that reads one of `wide` places from `low` on."""
    read, most = reads.any(0), len(reads) - 1
    first = np.where(read, reads.argmax(0), most)
    last = np.where(read, most - reads[::-1].argmax(0), 0)
    first, last = sliding_window_view(first, wide).min(1), sliding_window_view(last, wide).max(1)
    return np.minimum(first, last)[low], last[low]
