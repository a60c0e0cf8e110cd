r"""Exact breakpoints: pieces of paths go through a program, operation by operation.

Along a straight path every value of the network is a continuous piecewise linear function of t,
known by its value at the start and its slope on each piece. The operations act on these:

* an affine operation maps slopes by its linear part, so that one product per operation does it,
  on the pieces that are known before it;
* a hinge (ReLU and its kin) is linear on a piece unless the pre-activation crosses a kink, and a
  linear function crosses where its values at two neighbouring knots lie on different sides: such a
  piece is cut there. Where a single layer reads the result, slopes behind a new cut follow by
  adding the column of its weights that belongs to the unit, so that cuts cost no product at all;
* max pooling likewise, where another entry of a window becomes the largest (`windows`).

Pieces are taken depth first in chunks that fit in a cache (or in the memory that is allowed): the
pieces of one chunk go through all remaining operations before the next chunk is begun.

**Zeros.** A pre-activation that is zero up to rounding keeps the side that it had before; at the
start of a path it has the side that comes next. So touching zero, being zero on a whole piece, or
zero at an end is no switch, and passing through zero along several knots is one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from implreg.tracing.chunks import NewPieces
from implreg.tracing.cuts import find_crossings
from implreg.tracing.kinds import Affine, Hinges, Windows
from implreg.tracing.local import Local
from implreg.tracing.memory import Bounds
from implreg.tracing.program import Program
from implreg.tracing.rounding import roughness
from implreg.tracing.state import Stretch, flat, on_device
from implreg.tracing.windows import find_wins

_LOOKED_AT = (0.0, 0.23, 0.5, 0.71, 1.0)  # where on a path the sizes of its values are looked at
_ROUNDING = 64  # times as far as it typically is from the true one, a zero may be


@dataclass
class Part:
    """Consecutive pieces as they come out of the program: of whole paths, or of one.

    N pieces, sorted by path and t; C outputs.

    Attributes:
        path: which path each piece lies on, (N,).
        start: where it starts, (N,).
        site: operation that switches at its start, -1 at the start of a path, (N,).
        unit: unit of that operation, (N,).
        slopes: slope of the outputs, (N, C).
        gaps: by how much it jumps at the start; 0 at the start of a path, (N, C).
        values: outputs at its start, (N, C).
        finished: the paths that end with this part, (F,).
        ends: outputs at the ends of these, (F, C).
    """

    path: Tensor
    start: Tensor
    site: Tensor
    unit: Tensor
    slopes: Tensor
    gaps: Tensor
    values: Tensor
    finished: Tensor
    ends: Tensor


class Refiner:
    """Sends stretches of paths through a program and yields the pieces of its output.

    Args:
        program: what the network does.
        x0: starts, (P, *input_shape).
        x1: ends, (P, *input_shape).
        bounds: how much to compute with at once.
    """

    def __init__(self, program: Program, x0: Tensor, x1: Tensor, bounds: Bounds) -> None:
        self._program = program
        self._x0, self._x1 = x0, x1
        self._bounds = bounds
        self._tolerances: dict[int, Tensor] = {}
        self._carried: dict[int, list[Tensor]] = {}
        self._group = (0, x0, x1)
        self._last_slope = x0.new_empty(0)
        self._local = Local(program, bounds.entries, bounds.rows[-1])

    def parts(self) -> Iterator[Part]:
        """The pieces of all paths, in order."""
        group, position = self._bounds.paths, self._program.plan.position
        for begin in range(0, self._x0.shape[0], group):
            x0, x1 = self._x0[begin : begin + group], self._x1[begin : begin + group]
            self._group, self._tolerances = (begin, x0, x1), {}
            if position:
                for stretch in self._local.stretches(begin, x0, x1, self._tolerance):
                    yield from self._follow(stretch, position)
            else:
                yield from self._follow(Stretch.whole(begin, x0, x1), 0)

    def _tolerance(self, value: int, path: int, paths: int) -> Tensor:
        """How far from zero rounding may leave a value of some paths where it is zero, (P, n).

        It goes by what the value is the sum of, at some points of the path.
        """
        begin, x0, x1 = self._group
        if not self._tolerances:  # of the whole group, as a stretch does not know its ends
            points = (torch.lerp(x0, x1, t) for t in _LOOKED_AT)
            for known, off in roughness(self._program, *points).items():
                self._tolerances[known] = _ROUNDING * flat(off)
        return self._tolerances[value][path - begin : path - begin + paths]

    def _follow(self, whole: Stretch, position: int) -> Iterator[Part]:
        """Send a stretch through all operations, and each of its chunks before the next."""
        waiting = [
            (position, iter([whole]))
        ]  # the operation that comes next, and stretches before it
        while waiting:
            position, stretches = waiting[-1]
            stretch = next(stretches, None)
            if stretch is None:
                waiting.pop()
                continue
            stretch, site = self._advance(stretch, position)
            if site is None:
                part = self._output(stretch)
                if len(part.path) or len(part.finished):
                    yield part
            else:
                waiting.append((site + 1, self._cut(stretch, site)))

    def _advance(self, stretch: Stretch, position: int) -> tuple[Stretch, int | None]:
        """Send a stretch through affine operations from `position` on, up to one that can switch.

        Returns the stretch there, and the index of that operation; None at the output.
        """
        operations = self._program.operations
        rows = dict(stretch.rows)
        for i in range(position, len(operations)):
            operation = operations[i]
            if not isinstance(operation, Affine):
                return replace(stretch, rows=rows), i
            # Else it was made along with the hinge before it.
            if i + 1 not in rows and all(value in rows for value in operation.inputs):
                taken = [rows[value] for value in operation.inputs]
                rows[i + 1] = operation.of_rows(taken, stretch.paths)
            for value in operation.inputs:
                if self._program.last_use[value] <= i:
                    rows.pop(value, None)
        return replace(stretch, rows=rows), None

    def _output(self, stretch: Stretch) -> Part:
        value = self._program.output
        slopes, values = stretch.slopes(value), stretch.at_knots(value)
        before = slopes[:, :1] if stretch.first else self._last_slope
        gaps = slopes.diff(dim=1, prepend=before)
        site, real = stretch.site.ravel(), stretch.real
        if not stretch.first:  # a piece that no switch begins is the rest of one from before
            real = real[site[real] >= 0]
        rows = on_device(real, slopes)
        if stretch.paths == 1:
            self._last_slope = slopes[:, int(stretch.count[0]) - 1][:, None]
        finished = stretch.path if stretch.last else stretch.path[:0]
        return Part(
            path=on_device(stretch.path[real // stretch.pieces], rows),
            start=on_device(stretch.knots[:, :-1].ravel()[real], slopes),
            site=on_device(site[real], rows),
            unit=on_device(stretch.unit.ravel()[real], rows),
            slopes=slopes.flatten(0, 1).index_select(0, rows),
            gaps=gaps.flatten(0, 1).index_select(0, rows),
            values=values[:, :-1].flatten(0, 1).index_select(0, rows),
            finished=on_device(finished, rows),
            ends=values[: finished.size, -1],
        )

    def _cut(self, stretch: Stretch, site: int) -> Iterator[Stretch]:
        """Cut the pieces where operation `site` switches, into chunks behind it."""
        operation = self._program.operations[site]
        carried = None if stretch.first else self._carried[site]
        z = stretch.at_knots(operation.inputs[0])
        tolerance = self._tolerance(operation.inputs[0], int(stretch.path[0]), stretch.paths)
        if isinstance(operation, Hinges):
            cuts, at_end = find_crossings(operation, stretch.knots, z, tolerance, carried)
        else:
            assert isinstance(operation, Windows)
            index = operation.index.T
            lines = stretch.slopes(operation.inputs[0])[:, :, index]
            cuts, at_end = find_wins(
                lines, z[:, :, index], tolerance[:, index], stretch.knots, carried
            )
        if stretch.paths == 1:
            self._carried[site] = at_end
        yield from NewPieces(self._program, stretch, site, cuts).chunks(self._bounds.rows[site])
