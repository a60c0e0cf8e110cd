"""The pieces of a stretch after it has been cut, handed out in chunks."""

from collections.abc import Iterator

import torch
from torch import Tensor

from implreg.tracing.cuts import Cuts
from implreg.tracing.program import Affine, Hinges, Program, Windows
from implreg.tracing.state import Stretch, integrate, padded

_LONGEST = 512  # pieces of one path in a chunk whose pieces need sides of their own, at most
_MANY = 64  # cuts of one piece from which on their columns are summed by `integrate`


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
        self._follower = program.follower(site)

        device, pieces = stretch.knots.device, stretch.pieces
        self._device = device
        count = torch.tensor(stretch.count, device=device)
        real = torch.arange(pieces, device=device) < count[:, None]
        per_row = torch.bincount(cuts.row, minlength=stretch.paths * pieces)
        old_row = real.flatten().nonzero().flatten()
        old_place = torch.arange(old_row.shape[0], device=device)
        number_of_row = torch.empty_like(per_row)
        number_of_row[old_row] = old_place
        old_place = old_place + per_row.cumsum(0)[old_row] - per_row[old_row]
        cut = torch.arange(cuts.row.shape[0], device=device)
        old_of_cut = number_of_row[cuts.row]
        cut_place = old_of_cut + 1 + cut

        def merged(old: Tensor, new: Tensor) -> Tensor:
            both = old.new_empty(old_row.shape[0] + cut.shape[0])
            both[old_place], both[cut_place] = old, new
            return both

        # For every new piece: where it starts and what switches there, the old piece that it lies
        # on, where that one's first new piece stands, and which cut starts it (-1: none).
        self._start = merged(stretch.knots[:, :-1].flatten()[old_row], cuts.t)
        self._site_at = merged(stretch.site.flatten()[old_row], torch.full_like(cuts.row, site))
        self._unit_at = merged(stretch.unit.flatten()[old_row], cuts.unit)
        self._row = merged(old_row, cuts.row)
        self._head = merged(old_place, old_place[old_of_cut])
        self._cut = merged(torch.full_like(old_row, -1), cut)
        if cuts.row.shape[0]:
            count = count + torch.bincount(cuts.row // pieces, minlength=stretch.paths)
        self._count = count.tolist()
        if self._follower is not None:
            self._layer = program.operations[self._follower]
            self._base, self._jump = self._behind_old_pieces()

    def chunks(self, limit: int) -> Iterator[Stretch]:
        """The new pieces: as many paths as fit into `limit` rows, or stretches of a single path."""
        longest = limit if self._follower is not None else min(limit, _LONGEST)
        begin = path = 0
        while path < len(self._count):
            stop, widest = path + 1, padded(self._count[path])
            while stop < len(self._count):
                wide = max(widest, padded(self._count[stop]))
                if wide * (stop + 1 - path) > limit:
                    break
                stop, widest = stop + 1, wide
            end = begin + sum(self._count[path:stop])
            step = longest if stop == path + 1 else end - begin
            for at in range(begin, end, step):
                yield self._chunk(path, stop, at, min(at + step, end), at == begin, end)
            begin, path = end, stop

    def _chunk(
        self, path: int, stop: int, begin: int, end: int, fresh: bool, last: int
    ) -> Stretch:
        """New pieces `begin` to `end`, which lie on the paths `path` to `stop`.

        `fresh`: the chunk starts where the old stretch does. `last`: where the pieces of these paths
        end.
        """
        old, device = self._stretch, self._device
        paths = stop - path
        counts = self._count[path:stop] if paths > 1 else [end - begin]
        pieces = padded(max(counts))
        filled = paths * pieces > end - begin
        number = torch.arange(pieces, device=device)
        if filled:
            count = torch.tensor(counts, device=device)[:, None]
            first = begin + count.cumsum(0) - count
            place = first + torch.minimum(number, count - 1)
            filling = number >= count
        else:
            place = begin + torch.arange(paths * pieces, device=device).view(paths, pieces)
        stops = old.knots[path:stop, -1:] if end == last else self._start[end].reshape(1, 1)
        start, site, unit = self._start[place], self._site_at[place], self._unit_at[place]
        if filled:
            start = torch.where(filling, stops, start)
            site, unit = site.masked_fill(filling, -1), unit.masked_fill(filling, -1)

        row = self._row[place].flatten()
        source = torch.cat([torch.arange(path, stop, device=device), old.paths + row])
        rows = {}
        for value in self._program.live(self._site):
            rows[value] = old.rows[value][source]
            if not fresh:
                at_start = old.at(value, path, self._start[begin])
                rows[value][0] = at_start.view(self._program.shape(value))
        z, sides = self._at_start(path, stop, begin, fresh)
        if self._follower is None:
            real = ~filling.flatten() if filled else None
            rows[self._site + 1] = self._through(z, sides, begin, end, row, real)
        else:
            real = ~filling.flatten() if filled else None
            rows[self._follower + 1] = self._behind(z, sides, begin, end, row, real, paths)
        if end < last:
            self._remember(begin, end)
        return Stretch(
            path=old.path[path:stop],
            knots=torch.cat([start, stops], dim=1),
            site=site,
            unit=unit,
            count=counts,
            first=old.first and fresh,
            last=old.last and end == last,
            rows=rows,
        )

    def _at_start(
        self, path: int, stop: int, begin: int, fresh: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The operation's input where the chunk starts, (P, n), and what holds there."""
        cuts = self._cuts
        if fresh:
            rows = torch.arange(path, stop, device=self._device) * self._stretch.pieces
            return self._stretch.start(self._value)[path:stop], [s[rows] for s in cuts.sides]
        sides = [side[self._row[begin]][None].clone() for side in cuts.sides]
        cut = int(self._cut[begin])
        if cut >= 0:
            sides[int(cuts.which[cut])][0, cuts.unit[cut]] = cuts.side[cut]
        return self._stretch.at(self._value, path, self._start[begin]), sides

    def _through(
        self,
        z: Tensor,
        start_sides: list[Tensor],
        begin: int,
        end: int,
        row: Tensor,
        real: Tensor | None,
    ) -> Tensor:
        """What the operation makes of new pieces, from the sides that hold on each of them."""
        operation, cuts, paths = self._operation, self._cuts, z.shape[0]
        sides = [side[row] for side in cuts.sides]
        # Pairs of a new piece and an earlier cut of the same old piece, within this chunk.
        since = (self._head[begin:end] + 1).clamp(min=begin)
        many = torch.arange(begin + 1, end + 1, device=self._device) - since
        piece = torch.arange(end - begin, device=self._device).repeat_interleave(many)
        step = torch.arange(piece.shape[0], device=self._device)
        step -= (many.cumsum(0) - many)[piece]
        cut = self._cut[since[piece] + step]
        where = piece if real is None else real.nonzero().flatten()[piece]
        self._change(sides, where, cut)
        slopes = self._stretch.rows[self._value][self._stretch.paths :][row]
        if isinstance(operation, Windows):
            winners = torch.cat([start_sides[0], sides[0]])
            window = torch.arange(operation.index.shape[0], device=self._device)
            entry = operation.index[window, winners]
            both = torch.cat([z, slopes.flatten(1)])
            return both.gather(1, entry).view(-1, *operation.shape)
        shaped = (-1, *operation.shape)
        factor = operation.factor([s.view(shaped) for s in sides], slopes.dtype)
        made = slopes.new_empty(paths + row.shape[0], *operation.shape)
        made[:paths] = operation.value(z.view(shaped), [s.view(shaped) for s in start_sides])
        torch.mul(slopes.view(shaped), factor, out=made[paths:])
        return made

    def _change(self, sides: list[Tensor], where: Tensor, cut: Tensor) -> None:
        """Enter what holds behind the cuts in the given rows of `sides`."""
        cuts = self._cuts
        if not cut.shape[0]:
            return
        order = cuts.order[cut]
        for this in range(int(order.max()) + 1):
            now = (order == this).nonzero().flatten() if len(sides) > 1 or this else None
            if now is None:
                now = (order == this).nonzero().flatten()
            chosen = cut[now]
            for i, side in enumerate(sides):
                mine = cuts.which[chosen] == i
                side[where[now][mine], cuts.unit[chosen][mine]] = cuts.side[chosen][mine]

    def _behind_old_pieces(self) -> tuple[Tensor, Tensor]:
        """What the layer makes of the old pieces, and the activation's jumps at the cuts, (S,)."""
        operation, cuts, old, layer = self._operation, self._cuts, self._stretch, self._layer
        assert isinstance(operation, Hinges) and isinstance(layer, Affine)
        slopes = old.rows[self._value][old.paths :]
        shaped = (-1, *operation.shape)
        factor = operation.factor([s.view(shaped) for s in cuts.sides], slopes.dtype)
        base = layer.linear(factor.mul_(slopes)).flatten(1)
        jump = slopes.flatten(1)[cuts.row, cuts.unit]
        jump = torch.where(cuts.side, jump, -jump)
        for which, (_, change) in enumerate(operation.kinks):
            if isinstance(change, Tensor):
                change = change.expand(operation.shape).flatten()[cuts.unit]
            jump = torch.where(cuts.which == which, jump * change, jump)
        return base, jump

    def _behind(
        self,
        z: Tensor,
        start_sides: list[Tensor],
        begin: int,
        end: int,
        row: Tensor,
        real: Tensor | None,
        paths: int,
    ) -> Tensor:
        """What the layer behind the operation makes of new pieces: old ones, plus columns."""
        operation, layer = self._operation, self._layer
        assert isinstance(operation, Hinges) and isinstance(layer, Affine)
        assert layer.columns is not None
        shaped = (-1, *operation.shape)
        start = layer.linear(
            operation.value(z.view(shaped), [s.view(shaped) for s in start_sides])
        )
        if layer.bias is not None:
            start = start + layer.bias
        made = start.new_empty(paths + row.shape[0], self._base.shape[1])
        made[:paths] = start.flatten(1)
        behind = made[paths:]
        torch.index_select(self._base, 0, row, out=behind)

        cut = self._cut[begin:end]
        new = (cut >= 0).nonzero().flatten()
        if new.shape[0]:
            cut = cut[new]
            columns = layer.columns(self._cuts.unit[cut]).flatten(1)
            columns = columns.mul_(self._jump[cut, None])
            rank = new + begin - torch.clamp(self._head[begin:end][new] + 1, min=begin)
            columns = _sums_within(columns, rank)
            where = new if real is None else real.nonzero().flatten()[new]
            behind.index_add_(0, where, columns)
        self._last = behind[end - begin - 1 if paths == 1 else -1]
        return made.view(-1, *layer.shape)

    def _remember(self, begin: int, end: int) -> None:
        """Enter the cuts of this chunk in the old piece that the next chunk goes on with."""
        if self._cut[end] < 0:
            return
        since = max(begin, int(self._head[end]) + 1)
        cut = self._cut[since:end]
        row = self._row[end]
        self._change(self._cuts.sides, row.expand(cut.shape[0]), cut)
        if self._follower is not None and cut.shape[0]:
            self._base[row] = self._last


def _sums_within(rows: Tensor, rank: Tensor) -> Tensor:
    """Running sums of rows, begun anew at every row of rank 0; ranks count up from there."""
    highest = int(rank.max())
    if highest == 0:
        return rows
    if highest < _MANY:
        order = rank.argsort(stable=True)
        for now in order.split(torch.bincount(rank).tolist())[1:]:
            rows[now] += rows[now - 1]
        return rows
    zero = rows.new_zeros(1, rows.shape[1])
    sums = integrate(zero, rows[None], rows.new_ones(1, rows.shape[0]))[0]
    heads = torch.arange(rows.shape[0], device=rows.device) - rank
    return sums[1:] - sums[heads] if int(heads.max()) else sums[1:]
