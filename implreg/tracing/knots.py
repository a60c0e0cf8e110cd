"""Values held as patches, and the knots of every place of a map."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from implreg.tracing.patches import Patches, Sizes
from implreg.tracing.state import Bools, Floats, Ints, on_device

_BLOCK = 2**17  # entries of all knots of some places that are computed with at once


@dataclass
class Switches:
    """Where units of one operation switch, (S,) each."""

    lane: Ints
    t: Floats
    unit: Ints

    def part(self, which: Bools) -> "Switches":
        """Some of them."""
        return Switches(self.lane[which], self.t[which], self.unit[which])


@dataclass
class Flow:
    """A value of the program on some paths: B starts and slopes there, and its patches.

    Attributes:
        start: (2 * B, *shape).
        layout: (C, *sizes) of the map that it is.
        patches: by the operation that switches.
        rows: the changes of all patches with all channels, one after another, and a row of zeros,
            (N + 1, C).
    """

    start: Tensor
    layout: Sizes
    patches: dict[int, Patches]
    rows: Tensor


class Knots:
    """The knots of every place of a map: the switches whose patches cover it, in order of time.

    Args:
        switches: by the operation that switches.
        covered: flat places of all patches, (S, R), of each of these.
        bases: the number of the first row of the patches of each.
        places: how many there are on one map.
        lanes: how many maps.
    """

    def __init__(
        self, switches: dict[int, Switches], covered: dict[int, Ints], bases: dict[int, int],
        places: int, lanes: int,
    ) -> None:  # fmt: skip
        sites = [switches[site] for site in covered]
        order = np.argsort(np.concatenate([[], *(s.t for s in sites)]), kind="stable")
        wide = [np.full(len(boxes), boxes.shape[1]) for boxes in covered.values()]
        each = np.concatenate([np.zeros(0, dtype=np.int64), *wide])
        first = np.empty_like(each)
        first[order] = each[order].cumsum() - each[order]
        total, begin = int(each.sum()), 0
        small = np.uint16 if places * lanes < 2**16 else np.int64  # which NumPy sorts faster
        place, t = np.empty(total, small), np.empty(total)
        row = np.empty(total, np.int64)
        for one, (site, boxes) in zip(sites, covered.items(), strict=True):
            at = first[begin : begin + len(boxes), None] + np.arange(boxes.shape[1])
            place[at], t[at] = boxes + places * one.lane[:, None], one.t[:, None]
            row[at] = bases[site] + np.arange(boxes.size).reshape(boxes.shape)
            begin += len(boxes)
        by = np.argsort(place, kind="stable")
        self.row, self.t = row[by], t[by]
        self.count = np.bincount(place, minlength=places * lanes)
        self.first = self.count.cumsum() - self.count

    @property
    def most(self) -> int:
        """The number of knots of the place that has most, ends included."""
        return int(self.count.max(initial=0)) + 2

    def blocks(self, entries: int) -> Iterator[Ints]:
        """Places with about as many knots, in blocks with at most so many entries at all knots."""
        by = np.argsort(-self.count, kind="stable")
        count, begin = self.count[by], 0
        while begin < len(by):
            most = int(count[begin])
            stop = begin + max(1, _BLOCK // ((most + 2) * entries))
            alike = int(np.searchsorted(-count, 4 - 0.75 * most, side="right"))
            yield by[begin : max(begin + 1, min(stop, alike))]
            begin = max(begin + 1, min(stop, alike))

    def of(self, places: Ints, begin: float, end: float) -> tuple[Ints, Floats]:
        """Patch rows at the knots of some places, -1 for filling, and all knots with both ends."""
        count = self.count[places]
        number = np.arange(count.max(initial=0))
        real = number < count[:, None]
        at = np.where(real, self.first[places][:, None] + number, 0)
        row = np.where(real, self.row[at], -1) if self.row.size else at
        t = np.full((len(places), number.size + 2), end)
        t[:, 0] = begin
        if self.row.size:
            t[:, 1:-1][real] = self.t[at[real]]
        return row, t


class Rows:
    """The rows of all patches of a flow, at knots: those with all channels, then the others.

    Args:
        flow: the flow.
        copy: leave the rows of the flow as they are.
    """

    def __init__(self, flow: Flow, *, copy: bool) -> None:
        self.full = flow.rows.clone() if copy else flow.rows
        self._patches, channels = flow.patches, self.full.shape[1]
        self._count = len(self.full) - 1
        self.bases, single, at = {}, [], len(self.full)
        for site, patches in flow.patches.items():
            if patches.channel is None:
                self.bases[site] = patches.rows.storage_offset() // channels
            else:
                self.bases[site], at = at, at + patches.rows[..., 0].numel()
                single.append(patches)
        self._single = torch.cat([x.rows.flatten() for x in single]) if single else flow.rows[:0, 0]
        each = [np.repeat(x.channel, x.rows.shape[1]) for x in single if x.channel is not None]
        self._channel = np.concatenate([np.zeros(0, dtype=np.int64), *each])

    def at(self, row: Ints) -> Tensor:
        """The changes at some knots, nothing where the number of the row is -1, (..., C)."""
        made = self.full.index_select(0, self._index(row)).view(*row.shape, self.full.shape[1])
        if len(self._single):
            where, single, channel = self._of_one(row)
            made[*where, channel] = self._single[single]
        return made

    def put(self, row: Ints, changes: Tensor) -> None:
        """Write changes to some knots."""
        self.full.index_copy_(0, self._index(row), changes.flatten(0, -2))
        self.full[-1] = 0
        if len(self._single):
            where, single, channel = self._of_one(row)
            self._single[single] = changes[*where, channel]

    def _index(self, row: Ints) -> Tensor:
        none = (row < 0) | (row >= self._count)
        return on_device(np.where(none, self._count, row).ravel(), self.full)

    def _of_one(self, row: Ints) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        where = np.nonzero(row > self._count)
        single = row[where] - self._count - 1
        return (
            tuple(on_device(x, self.full) for x in where),
            on_device(single, self.full),
            on_device(self._channel[single], self.full),
        )

    def patches(self) -> dict[int, Patches]:
        """The patches with what the rows are now."""
        made, at = {}, 0
        for site, x in self._patches.items():
            size = x.rows.shape[0] * x.rows.shape[1]
            if x.channel is None:
                rows = self.full[self.bases[site] :][:size]
            else:
                rows, at = self._single[at : at + size], at + size
            made[site] = replace(x, rows=rows.view(x.rows.shape))
        return made


def offsets(sizes: Sequence[int]) -> list[int]:
    """Where each of several parts begins that lie one after another."""
    return [0, *np.cumsum(sizes).tolist()][: len(sizes)]


def sources(
    patches: dict[int, Patches], covered: dict[int, Ints], entries: Ints, sizes: Sizes
) -> Ints:
    """For all patches of the result which row each entry of a window is, (N + 1, w).

    The last is for filling: nothing, as where an entry is not in the patch.
    """
    bases = offsets([x.rows.shape[0] * x.rows.shape[1] for x in patches.values()])
    none = sum(x.rows.shape[0] * x.rows.shape[1] for x in patches.values())
    found = []
    for base, (site, x) in zip(bases, patches.items(), strict=True):
        along = np.unravel_index(entries[covered[site]], sizes)  # (S, R, w) each
        slot, out = np.zeros((), dtype=np.int64), np.zeros((), dtype=bool)
        for place, low, wide in zip(along, x.low, x.wide, strict=True):
            step = place - low[:, None, None]
            slot, out = slot * wide + step, out | (step < 0) | (step >= wide)
        row = base + np.arange(len(x))[:, None, None] * x.rows.shape[1] + slot
        found.append(np.where(out, none, row).reshape(-1, entries.shape[1]))
    return np.concatenate([*found, np.full((1, entries.shape[1]), none)])
