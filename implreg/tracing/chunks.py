"""The pieces of a stretch after it has been cut, handed out in chunks."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from implreg.tracing.cuts import Cuts, jumps
from implreg.tracing.kinds import Affine, Hinges, Windows
from implreg.tracing.program import Program
from implreg.tracing.state import Ints, Stretch, flat, integrate, on_device, padded

_LONGEST = 512  # pieces of one path in a chunk whose pieces need sides of their own, at most
_MANY = 16  # cuts of one piece from which on their columns are summed by `integrate`


class NewPieces:
    """The old pieces and the cuts of a stretch as one list of new pieces, by path and t.

    An old piece starts one new piece, and each of its cuts another one. What the operation makes of
    them is computed a chunk at a time: from the sides that hold on every new piece, or, if a single
    layer reads the result, from what that layer makes of the old pieces, plus the columns of its
    weights for the cuts.

    Chunks must be taken in order: what the cuts of one have changed is kept for the next.

    Args:
        program: what the network does.
        stretch: the old pieces.
        site: the operation that switches.
        cuts: where it does.
    """

    def __init__(self, program: Program, stretch: Stretch, site: int, cuts: Cuts) -> None:
        operation = program.operations[site]
        assert not isinstance(operation, Affine)
        self._program, self._stretch, self._site, self._cuts = program, stretch, site, cuts
        self._operation: Hinges | Windows = operation
        self._value = operation.inputs[0]
        follower = program.followers.get(site)
        self._follower = None if follower is None else follower[0]

        pieces = stretch.pieces
        old_row = stretch.real
        per_row = np.bincount(cuts.row, minlength=stretch.paths * pieces)
        number = np.empty_like(per_row)  # of each old piece among the real ones
        number[old_row] = np.arange(old_row.size)
        old_place = number[old_row] + (per_row.cumsum() - per_row)[old_row]
        cut = np.arange(cuts.row.size)
        cut_place = number[cuts.row] + 1 + cut
        total = old_row.size + cut.size

        # For every new piece: where it starts and what switches there, the old piece that it lies
        # on, where that one's first new piece stands, and which cut starts it (-1: none).
        self._start = np.empty(total)
        self._site_at, self._unit_at, self._row, self._head, self._cut = np.empty(
            (5, total), dtype=np.int64
        )
        self._start[old_place] = stretch.knots[:, :-1].ravel()[old_row]
        self._start[cut_place] = cuts.t
        self._site_at[old_place] = stretch.site.ravel()[old_row]
        self._site_at[cut_place] = site
        self._unit_at[old_place] = stretch.unit.ravel()[old_row]
        self._unit_at[cut_place] = cuts.unit
        self._row[old_place], self._row[cut_place] = old_row, cuts.row
        self._head[old_place], self._head[cut_place] = old_place, old_place[number[cuts.row]]
        self._cut[old_place], self._cut[cut_place] = -1, cut
        self._count = stretch.count + np.bincount(cuts.row // pieces, minlength=stretch.paths)
        if follower is not None:
            self._layer = follower[1]
            self._base, self._jump = self._behind_old_pieces()

    def chunks(self, limit: int) -> Iterator[Stretch]:
        """The new pieces: as many paths as fit into `limit` rows, or stretches of a single path."""
        longest = limit if self._follower is not None else min(limit, _LONGEST)
        first = self._count.cumsum() - self._count
        for path, stop, since, until in portions(self._count, limit, longest):
            begin = int(first[path])
            last = begin + int(self._count[path:stop].sum())
            end = begin + until if stop == path + 1 else last
            yield self._chunk(path, stop, begin + since, end, since == 0, last)

    def _chunk(self, path: int, stop: int, begin: int, end: int, fresh: bool, last: int) -> Stretch:
        """New pieces `begin` to `end`, which lie on the paths `path` to `stop`.

        `fresh`: the chunk starts where the old stretch does. `last`: where the pieces of these
        paths end.
        """
        old, paths = self._stretch, stop - path
        count = self._count[path:stop] if paths > 1 else np.array([end - begin])
        pieces = padded(int(count.max()))
        first = (begin + count.cumsum() - count)[:, None]
        number = np.arange(pieces)
        filling = number >= count[:, None]
        place = first + np.minimum(number, count[:, None] - 1)
        stops = old.knots[path:stop, -1:] if end == last else self._start[end : end + 1, None]
        start = np.where(filling, stops, self._start[place])

        row = self._row[place].ravel()
        rows = {}
        live = self._program.live(self._site)
        if live:
            source = np.concatenate([np.arange(path, stop), old.paths + row])
            index = on_device(source, old.rows[live[0]])
            for value in live:
                rows[value] = old.rows[value].index_select(0, index)
                if not fresh:
                    at_start = old.at(value, path, float(self._start[begin]))
                    rows[value][0] = at_start.view(self._program.shape(value))
        real = np.flatnonzero(~filling)
        if self._follower is None:
            z, sides = self._at_start(path, stop, begin, fresh)
            rows[self._site + 1] = self._through(z, sides, begin, end, row, real)
        else:
            behind = self._base[path:stop] if fresh else self._behind_start(path, begin)
            rows[self._follower + 1] = self._behind(behind, begin, end, row, real, paths)
        if end < last:
            self._remember(begin, end)
        return Stretch(
            path=old.path[path:stop],
            knots=np.concatenate([start, stops], axis=1),
            site=np.where(filling, -1, self._site_at[place]),
            unit=np.where(filling, -1, self._unit_at[place]),
            count=count,
            first=old.first and fresh,
            last=old.last and end == last,
            rows=rows,
        )

    def _at_start(
        self, path: int, stop: int, begin: int, fresh: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The operation's input where the chunk starts, (P, n), and what holds there."""
        cuts, pieces = self._cuts, self._stretch.pieces
        if fresh:
            rows = slice(path * pieces, stop * pieces, pieces)
            return self._stretch.start(self._value)[path:stop], [s[rows] for s in cuts.sides]
        row, cut = int(self._row[begin]), int(self._cut[begin])
        sides = [side[row : row + 1].clone() for side in cuts.sides]
        if cut >= 0:
            sides[cuts.which[cut]][0, int(cuts.unit[cut])] = cuts.side[cut].item()
        return self._stretch.at(self._value, path, float(self._start[begin])), sides

    def _through(
        self, z: Tensor, start_sides: list[Tensor], begin: int, end: int, row: Ints, real: Ints
    ) -> Tensor:
        """What the operation makes of new pieces, from the sides that hold on each of them."""
        operation, cuts, paths = self._operation, self._cuts, z.shape[0]
        index = on_device(row, z)
        sides = [side.index_select(0, index) for side in cuts.sides]
        # Pairs of a new piece and an earlier cut of the same old piece, within this chunk.
        since = np.maximum(self._head[begin:end] + 1, begin)
        many = np.arange(begin + 1, end + 1) - since
        piece = np.arange(end - begin).repeat(many)
        step = np.arange(piece.size) - (many.cumsum() - many)[piece]
        self._change(sides, real[piece], self._cut[since[piece] + step])
        # The first rows make room for values.
        rows = torch.cat([index.new_zeros(paths), self._stretch.paths + index])
        made = self._stretch.rows[self._value].index_select(0, rows)
        if isinstance(operation, Windows):
            winners = torch.cat([start_sides[0], sides[0]])
            window = torch.arange(operation.index.shape[0], device=z.device)
            entry = operation.index[window, winners]
            made = flat(made)
            made[:paths] = z
            return made.gather(1, entry).view(-1, *operation.shape)
        shaped = (-1, *operation.shape)
        made = made.view(shaped)
        made[:paths] = self._active(z, start_sides)
        made[paths:].mul_(operation.factor([s.view(shaped) for s in sides], z.dtype))
        return made

    def _change(self, sides: list[Tensor], where: Ints, cut: Ints) -> None:
        """Enter what holds behind the cuts in the given rows of `sides`, in order."""
        cuts = self._cuts
        if not cut.size:
            return
        order, which = cuts.order[cut], cuts.which[cut]
        for this in range(int(order.max()) + 1):
            for i, side in enumerate(sides):
                now = np.flatnonzero((order == this) & (which == i))
                chosen = cut[now]
                unit, value = cuts.unit[chosen], cuts.side[chosen]
                side[on_device(where[now], side), on_device(unit, side)] = on_device(value, side)

    def _behind_old_pieces(self) -> tuple[Tensor, Tensor]:
        """What the layer makes of the old stretch, and the activation's jumps at the cuts, (S,)."""
        operation, cuts, old, layer = self._operation, self._cuts, self._stretch, self._layer
        assert isinstance(operation, Hinges)
        taken, shaped = old.rows[self._value], (-1, *operation.shape)
        rows = torch.empty_like(taken).view(shaped)
        starts = [side[:: old.pieces] for side in cuts.sides]
        rows[: old.paths] = self._active(taken[: old.paths], starts)
        factor = operation.factor([side.view(shaped) for side in cuts.sides], rows.dtype)
        torch.mul(taken[old.paths :].view(shaped), factor, out=rows[old.paths :])
        behind = layer.linear(rows)
        if layer.bias is not None:
            behind[: old.paths] += layer.bias

        unit = on_device(cuts.unit, taken)
        changes = [
            change.expand(operation.shape).flatten()[unit] if isinstance(change, Tensor) else change
            for _, change in operation.kinks
        ]
        jump = jumps(cuts, flat(taken[old.paths :]), changes)
        return flat(behind), on_device(jump, taken)

    def _behind_start(self, path: int, begin: int) -> Tensor:
        """What the layer makes of a single time, where a chunk starts within a stretch, (1, m)."""
        z, sides = self._at_start(path, path + 1, begin, fresh=False)
        return flat(self._layer.value(self._active(z, sides)))

    def _active(self, z: Tensor, sides: list[Tensor]) -> Tensor:
        """The activation of pre-activations on given sides of its kinks, (P, *shape)."""
        operation = self._operation
        assert isinstance(operation, Hinges)
        shaped = (-1, *operation.shape)
        return operation.value(z.view(shaped), [side.view(shaped) for side in sides])

    def _behind(
        self, start: Tensor, begin: int, end: int, row: Ints, real: Ints, paths: int
    ) -> Tensor:
        """What the layer behind the operation makes of new pieces: old ones, plus columns.

        `start`: what it makes of the start of the chunk, (P, m).
        """
        layer = self._layer
        assert layer.columns is not None
        made = start.new_empty(paths + row.size, start.shape[1])
        made[:paths] = start
        behind = made[paths:]
        source = on_device(self._stretch.paths + row, start)
        torch.index_select(self._base, 0, source, out=behind)

        new = np.flatnonzero(self._cut[begin:end] >= 0)
        if new.size:
            cut = self._cut[begin:end][new]
            rank = new + begin - np.maximum(self._head[begin:end][new] + 1, begin)
            columns = flat(layer.columns(on_device(self._cuts.unit[cut], start)))
            columns = columns.mul_(self._jump[on_device(cut, start), None])
            columns = _sums_within(columns, rank)
            behind.index_add_(0, on_device(real[new], start), columns)
        self._last = behind[int(real[-1])]
        return made.view(len(made), *layer.shape)

    def _remember(self, begin: int, end: int) -> None:
        """Enter the cuts of this chunk in the old piece that the next chunk goes on with."""
        if self._cut[end] < 0:
            return
        row, since = int(self._row[end]), max(begin, int(self._head[end]) + 1)
        cut = self._cut[since:end]
        self._change(self._cuts.sides, np.full(cut.size, row), cut)
        if self._follower is not None and cut.size:
            self._base[self._stretch.paths + row] = self._last


def portions(
    counts: Ints, limit: int, longest: int | None = None
) -> Iterator[tuple[int, int, int, int]]:
    """Paths of so many pieces in portions: as many as fit into `limit` rows, or parts of one.

    Returns:
        The first path of each and the one behind the last; and, where it is only one, the first
        piece and the one behind the last, at most `longest` of them.
    """
    path = 0
    while path < len(counts):
        stop, widest = path + 1, padded(int(counts[path]))
        while stop < len(counts):
            wide = max(widest, padded(int(counts[stop])))
            if wide * (stop + 1 - path) > limit:
                break
            stop, widest = stop + 1, wide
        count = int(counts[path])
        step = (longest or limit) if stop == path + 1 else count
        for since in range(0, count, step):
            yield path, stop, since, min(since + step, count)
        path = stop


def _sums_within(rows: Tensor, rank: Ints) -> Tensor:
    """Running sums of rows, begun anew at every row of rank 0; ranks count up from there."""
    highest = int(rank.max())
    if highest < _MANY:
        order = rank.argsort(kind="stable")
        for now in np.split(order, np.bincount(rank).cumsum()[:-1])[1:]:
            rows.index_add_(0, on_device(now, rows), rows.index_select(0, on_device(now - 1, rows)))
        return rows
    zero = rows.new_zeros(1, rows.shape[1])
    sums = integrate(zero, rows[None], rows.new_ones(1, rows.shape[0]))[0]
    heads = np.arange(rank.size) - rank
    return sums[1:] - sums.index_select(0, on_device(heads, rows)) if heads.any() else sums[1:]
