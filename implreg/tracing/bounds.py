"""Programs in bounds: what the numbers of a network may be around positions of a path.

In floating-point numbers of 64 bits or more with all rounding (but no underflow) within the bounds,
or in rational numbers, which have none.

Source: Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.5.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from implreg.tracing.kinds import Affine, Hinges, Windows
from implreg.tracing.program import Program

Values = NDArray[Any]  # numbers of one of these kinds, Fraction as objects
KINDS = (np.float64, np.longdouble, Fraction)  # each more exact, and slower
_ENTRIES = 2**22  # of one array of values
_SMALLEST = 1e-280  # below which digits may be lost
_fractions = np.vectorize(Fraction, otypes=[object])


class States(NamedTuple):
    """What is known of an operation that switches, in N columns.

    Attributes:
        at: index of the operation.
        least: lower bound of its input, (n, N).
        certain: whether a state holds for all values within bounds, (units, states, N).
        possible: whether it holds for some, likewise.
    """

    at: int
    least: Values
    certain: Values
    possible: Values


class Arithmetic:
    """A program on columns of bounds, in numbers of one of `KINDS`."""

    def __init__(self, program: Program, kind: type[Any]) -> None:
        self.program, self._kind = program, kind
        self._rounding = 0 if kind is Fraction else np.finfo(kind).eps  # twice the unit roundoff
        operations = enumerate(program.operations)
        self._maps = {i: self._map(one) for i, one in operations if isinstance(one, Affine)}
        widest = max(program.size(v) for v in range(len(program.operations) + 1))
        self.columns = max(1, _ENTRIES // widest)

    def underflows(self) -> bool:
        """Whether products of the smallest numbers of all layers may be too small to be held."""
        sizes = (np.r_[size.ravel(), abs(bias).ravel()] for _, size, bias in self._maps.values())
        return prod(float(x[x > 0].min(initial=1)) for x in sizes) <= _SMALLEST

    def number(self, x: Any) -> Any:
        """An array of floats in this arithmetic."""
        x = np.asarray(x, dtype=np.float64)
        return _fractions(x) if self._kind is Fraction and x.size else x.astype(self._kind)

    def _map(self, operation: Affine) -> tuple[Values, Values, Values]:
        """The matrix of an operation, all inputs side by side; its size; its constant, a column."""
        program, blocks = self.program, []
        shapes = [program.shape(v) for v in operation.inputs]
        for k, shape in enumerate(shapes):
            units = torch.eye(prod(shape), dtype=torch.float64, device=program.device)
            taken = [units.new_zeros(len(units), *other) for other in shapes]
            taken[k] = units.view(-1, *shape)
            blocks.append(operation.linear(*taken).detach().reshape(len(units), -1).T)
        bias = torch.zeros(operation.shape, dtype=torch.float64, device=program.device)
        if operation.bias is not None:  # infinite ones are never read
            bias = bias + operation.bias.detach().nan_to_num(posinf=0, neginf=0)
        matrix = self.number(torch.cat(blocks, 1).cpu())
        return matrix, abs(matrix), self.number(bias.reshape(-1, 1).cpu())

    def states(self, ends: tuple[Values, Values], t: Values, radius: Values) -> Iterator[States]:
        """What is known at positions t of a segment and up to `radius` around them, (N,) each."""
        x0, x1, t, radius = map(self.number, (*ends, t, radius))
        start, way = x0[:, None], (x1 - x0)[:, None]
        lost = 8 * self._rounding
        size = abs(start) + abs(way) + 0 * t
        known = {0: _Near(start + way * t, way + 0 * t, lost * size)}
        for i, operation in enumerate(self.program.operations):
            taken = zip(*(known[v] for v in operation.inputs), strict=True)
            x = _Near(*(np.concatenate(part) for part in taken))
            if isinstance(operation, Affine):
                known[i + 1] = self._affine(i, x, radius)
            else:
                low, high = self._bounds(x, radius)
                if isinstance(operation, Hinges):
                    certain, possible, known[i + 1] = self._hinges(operation, x, low, high, radius)
                else:
                    certain, possible, known[i + 1] = self._windows(operation, x, low, high)
                yield States(i, low, certain, possible)
            for v in {*operation.inputs}:
                if self.program.last_use[v] <= i:
                    del known[v]

    def _affine(self, at: int, x: "_Near", radius: Values) -> "_Near":
        matrix, size, bias = self._maps[at]
        lost = (matrix.shape[1] + 8) * self._rounding
        terms = abs(x.middle) + abs(x.slope) * radius
        off = size @ (x.off + lost * terms) + lost * abs(bias)
        return _Near(matrix @ x.middle + bias, matrix @ x.slope, off * (1 + lost))

    def _bounds(self, x: "_Near", radius: Values) -> tuple[Values, Values]:
        """Below and above what a value may be; without rounding where it is known to be none."""
        apart = abs(x.slope) * radius
        both = []
        for sign in (-1, 1):
            bound = x.middle + sign * apart + sign * x.off
            more = abs(bound) + (abs(bound) + x.off) * (apart != 0)
            both.append(bound + sign * 4 * self._rounding * more)
        return both[0], both[1]

    def _hinges(
        self, operation: Hinges, z: "_Near", low: Values, high: Values, radius: Values
    ) -> tuple[Values, Values, "_Near"]:
        every = np.ones((1, *low.shape), dtype=bool)
        kinks = [self.number(at) for at, _ in operation.kinks]
        above = [low >= at for at in kinks]
        certain = np.concatenate([every, above])
        certain &= np.concatenate([[high <= at for at in kinks], every])
        possible = np.concatenate([every, [high >= at for at in kinks]])
        possible &= np.concatenate([[low <= at for at in kinks], every])
        slope = self._column(operation, operation.slope) + 0 * low
        for on, (_, change) in zip(above, operation.kinks, strict=True):
            slope = np.where(on, slope + self._column(operation, change), slope)
        value, error = self._at(operation, z.middle)
        off = abs(slope) * z.off + error + 8 * self._rounding * abs(slope * z.slope) * radius
        one = _Near(value, slope * z.slope, off * (1 + 8 * self._rounding))
        # A piecewise linear function is largest, and smallest, at an end or at a kink.
        ends = [self._at(operation, x) for x in (low, high)]
        least = np.minimum(*(value - error for value, error in ends))
        most = np.maximum(*(value + error for value, error in ends))
        for at in kinks:
            inside = (low < at) & (at < high)
            value, error = self._at(operation, at + 0 * low)
            least = np.where(inside, np.minimum(least, value - error), least)
            most = np.where(inside, np.maximum(most, value + error), most)
        made = _chosen(certain.any(0), one, least, most)
        return certain.swapaxes(0, 1), possible.swapaxes(0, 1), made

    def _column(self, operation: Hinges, x: float | torch.Tensor) -> Any:
        whole = torch.as_tensor(x, dtype=torch.float64).detach().cpu()
        return self.number(whole.expand(operation.shape).reshape(-1, 1))

    def _at(self, operation: Hinges, z: Values) -> tuple[Values, Values]:
        """An activation at z, (units, N), and how far that is off."""
        value = self._column(operation, operation.slope) * z
        size = abs(value)
        for at, change in operation.kinks:
            beyond = self._column(operation, change) * np.maximum(z - self.number(at), 0 * z)
            value, size = value + beyond, size + abs(beyond)
        offset = self.number(operation.offset)
        error = 2 * (len(operation.kinks) + 2) * self._rounding * (size + abs(offset))
        return value + offset, error

    def _windows(
        self, operation: Windows, x: "_Near", low: Values, high: Values
    ) -> tuple[Values, Values, "_Near"]:
        index = operation.index.cpu().numpy()
        same = index[:, :, None] == index[:, None, :]  # entries of a window
        again = np.tril(same, -1).any(2)
        low, high = low[index], high[index]  # (windows, entries, N)
        certain = np.zeros(low.shape, dtype=bool)
        for k in range(index.shape[1]):
            most = np.where(same[:, k, :, None], low[:, k : k + 1], high).max(1)
            certain[:, k] = low[:, k] >= most
        certain &= ~again[:, :, None]
        possible = (high >= low.max(1)[:, None]) & ~again[:, :, None]
        winner = certain.argmax(1)[:, None]
        one = _Near(*(np.take_along_axis(part[index], winner, 1)[:, 0] for part in x))
        made = _chosen(certain.any(1), one, low.max(1), high.max(1))
        return certain, possible, made


class _Near(NamedTuple):
    r"""Values around positions: :math:`c + s \tau` up to e, for tau up to a radius, (n, N) each."""

    middle: Values
    slope: Values
    off: Values


def _chosen(certain: Any, one: _Near, low: Values, high: Values) -> _Near:
    """What is known where a state is certain, and elsewhere anything between two bounds."""
    other = (low + high) / 2, 0 * low, (high - low) / 2
    return _Near(*(np.where(certain, a, b) for a, b in zip(one, other, strict=True)))
