r"""The first operations on maps, where a switch changes the slopes of a small patch alone.

Behind a unit that switches, slopes change inside its receptive cone only. As long as these cones
are small, a value of the program is held as its value and slope where a stretch of the path starts,
and what each switch changes: a patch of a map (`patches.Patches`). An affine operation acts on the
patches. At an operation that can switch, every place of the map has its own knots, the switches
whose patches cover it; so the places are like paths of their own, with as many units as the map has
channels, and switches are found on them as on any path (`cuts`, `windows`).

Where the cones fill the map, or an operation has no local form, the stretch is handed over with
slopes for whole values.

Time is cut into chunks that fit in memory; each starts anew with the values of the network.
"""

from collections.abc import Callable, Iterator
from math import inf

import numpy as np
import torch
from torch import Tensor

from implreg.tracing.chunks import portions
from implreg.tracing.patched import Chunk, Full, States
from implreg.tracing.program import Program
from implreg.tracing.state import Bools, Floats, Ints, Stretch, flat, on_device, padded

# Of the path, a chunk: what switches at one time, but for rounding, stays together.
_SHORTEST = 2.0**-30


class Local:
    """The stretches of some paths behind the operations of a plan.

    Args:
        program: what the network does.
        limit: how many entries the patches of one value may have.
        rows: how many rows a stretch may have that is handed over.
    """

    def __init__(self, program: Program, limit: float, rows: int) -> None:
        self._program, self._limit, self._rows = program, limit, rows
        self._lanes, self._share = 1, 1.0  # as much as fits into a chunk, as far as is known

    def stretches(
        self, first: int, x0: Tensor, x1: Tensor, tolerance: Callable[[int, int, int], Tensor]
    ) -> Iterator[Stretch]:
        """Paths as they are before the operation at `plan.position`.

        Args:
            first: number of the first of the paths.
            x0: starts, (P, *input_shape).
            x1: ends, (P, *input_shape).
            tolerance: of a value on some of the paths how far from zero rounding may leave it.
        """
        lane, begin = 0, 0.0
        carried: States = {}
        while lane < len(x0):
            whole = begin == 0 and self._share == 1
            lanes = slice(lane, min(len(x0), lane + (self._lanes if whole else 1)))
            end = min(1.0, begin + self._share)
            chunk = self._chunk(x0[lanes], x1[lanes], begin, end, first + lane, tolerance, carried)
            if chunk is None:
                continue
            yield from self._handed_over(chunk, first + lane, begin, end)
            room = min(4.0, 0.7 * self._limit / max(1, chunk.largest))
            if whole:
                self._lanes = max(1, int(chunk.lanes * room))
            self._share = min(1.0, max(_SHORTEST, (end - begin) * room)) if end - begin < 1 else 1.0
            begin, carried = end, chunk.states
            if end == 1:
                lane, begin, carried = lanes.stop, 0.0, {}

    def _chunk(
        self, x0: Tensor, x1: Tensor, begin: float, end: float, first: int,
        tolerance: Callable[[int, int, int], Tensor], carried: States,
    ) -> Chunk | None:  # fmt: skip
        """Some paths for some time; None if that was too much, and less is to be tried."""
        shortest = len(x0) == 1 and end - begin <= _SHORTEST
        limit = inf if shortest else self._limit
        try:
            return Chunk(
                self._program, torch.lerp(x0, x1, begin), x1 - x0, (begin, end),
                lambda value: tolerance(value, first, len(x0)), carried, limit,
            )  # fmt: skip
        except Full:
            if len(x0) > 1:
                self._lanes = len(x0) // 2
            else:
                self._lanes, self._share = 1, (end - begin) / 2
            return None

    def _handed_over(self, chunk: Chunk, first: int, begin: float, end: float) -> Iterator[Stretch]:
        """What a chunk has found, as stretches with slopes for whole values."""
        whole = _Whole(self._program, chunk, self._program.plan.position)
        for path, stop, since, until in portions(whole.count, self._rows):
            yield whole.stretch(path, stop, since, until, first, (begin, end))


class _Whole:
    """Values behind the last operation of a plan, and all switches by path and t.

    A path has one piece more than it has switches, the first of which begins where the chunk does.
    """

    def __init__(self, program: Program, chunk: Chunk, position: int) -> None:
        self._program = program
        self._flows = {v: chunk.flows[v] for v in program.before(position)}
        each = [*chunk.switches.items(), *chunk.silent]
        sites, found = zip(*each, strict=True)
        size = [len(x.t) for x in found]
        # Of the patch that a switch has, if it has one.
        number = np.concatenate([np.arange(n) for n in size])
        number[sum(size[: len(chunk.switches)]) :] = -1
        lane, t, unit = (
            np.concatenate([getattr(x, name) for x in found]) for name in ("lane", "t", "unit")
        )
        site = np.repeat(np.array(sites), size)
        by = np.lexsort((site, t, lane))
        self._t, self._site, self._unit, self._number = t[by], site[by], unit[by], number[by]
        switches = np.bincount(lane, minlength=chunk.lanes)
        self.count, self._first = switches + 1, switches.cumsum() - switches
        self._lanes = chunk.lanes
        self._reached: dict[int, Tensor] = {}

    def stretch(
        self, path: int, stop: int, since: int, until: int, first: int, times: tuple[float, float]
    ) -> Stretch:
        """Some paths, or some pieces of one; `first`: number of the first path of the chunk."""
        alone = stop == path + 1
        count = np.array([until - since]) if alone else self.count[path:stop]
        number = since + np.arange(padded(int(count.max()))) - 1
        real = (number >= 0) & (np.arange(number.size) < count[:, None])
        switch = np.where(real, self._first[path:stop, None] + number, 0)[real]
        end = not alone or until == int(self.count[path])
        stops = times[1] if end else self._t[self._first[path] + until - 1]
        knots = np.full((stop - path, number.size + 1), stops)
        knots[:, :-1][real] = self._t[switch]
        if since == 0:
            knots[:, 0] = times[0]
        site, unit = np.full((2, *real.shape), -1)
        site[real], unit[real] = self._site[switch], self._unit[switch]
        return Stretch(
            path=np.arange(first + path, first + stop),
            knots=knots,
            site=site,
            unit=unit,
            count=count,
            first=times[0] == 0 and since == 0,
            last=times[1] == 1 and end,
            rows=self._rows(slice(path, stop), since, np.diff(knots), real, switch),
        )

    def _rows(
        self, paths: slice, since: int, steps: Floats, real: Bools, switch: Ints
    ) -> dict[int, Tensor]:
        """Rows of all values on pieces of these lengths; `real`: those that a switch begins."""
        made, where = {}, np.nonzero(real)
        for value, flow in self._flows.items():
            start = flat(flow.start).unflatten(0, (2, self._lanes))[:, paths]
            if since:
                start = self._reached[value]
            slopes = start.new_zeros(*real.shape, start.shape[2])
            for site, patches in flow.patches.items():
                here = np.flatnonzero((self._site[switch] == site) & (self._number[switch] >= 0))
                some = patches.part(self._number[switch[here]])
                lane, piece = (on_device(x[here], slopes) for x in where)
                slopes[lane, piece] = some.maps(flow.layout[0], flow.layout[1:]).flatten(1)
            slopes[:, 0] += start[1]
            slopes.cumsum_(dim=1)
            end = torch.baddbmm(start[0][:, None], on_device(steps, slopes)[:, None], slopes)
            self._reached[value] = torch.stack([end[:, 0], slopes[:, -1]])
            rows = torch.cat([start[0], slopes.flatten(0, 1)])
            made[value] = rows.view(len(rows), *self._program.shape(value))
        return made
