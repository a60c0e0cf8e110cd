"""What a network does, as a short list of operations on one sample.

Three kinds of operation are enough for every continuous piecewise linear network:

* `Affine`: a linear map plus a constant (layers, pooling by averages, reshaping, sums, ...);
* `Hinges`: a function of one variable with kinks, applied to every entry (ReLU and its kin);
* `Windows`: the largest of several entries (max pooling).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from implreg.errors import InputError

Shape = tuple[int, ...]
# Where unit impulses at flat indices (k,) go, and their factors there (None: 1).
Moves = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Affine:
    """A linear map of its inputs plus a constant.

    Attributes:
        name: qualified name of the module that does it.
        text: the operation in words, for printing.
        inputs: indices of the values that it takes; value 0 is the sample.
        shape: of its result, for one sample.
        linear: the map without the constant, (R, *input) each -> (R, *shape), for any R.
        bias: the constant, of a shape that broadcasts to `shape`, or None.
        columns: the rows of the map for unit impulses: flat indices of input entries (k,) ->
            (k, *shape). None where applying `linear` is as good.
        moves: for a map that makes another single impulse of a unit impulse: which one.
    """

    name: str
    text: str
    inputs: tuple[int, ...]
    shape: Shape
    linear: Callable[..., Tensor] = field(repr=False)
    bias: Tensor | None = field(default=None, repr=False)
    columns: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    moves: Moves | None = field(default=None, repr=False)

    def value(self, *taken: Tensor) -> Tensor:
        """The result for samples, constant included, (N, *input) each -> (N, *shape)."""
        made = self.linear(*taken)
        return made if self.bias is None else made + self.bias


@dataclass(frozen=True)
class Hinges:
    r"""A continuous piecewise linear function of one variable, applied to every entry.

    .. math:: a(z) = \beta + \alpha z + \sum_h \Delta_h \max(z - c_h, 0)

    Attributes:
        name: qualified name of the module that does it.
        text: the operation in words, for printing.
        inputs: index of the value that it takes.
        shape: of its input and result, for one sample.
        offset: beta.
        slope: alpha, a number or a tensor that broadcasts to `shape`.
        kinks: pairs (c, Delta), from the smallest c up; Delta is a number or such a tensor.
    """

    name: str
    text: str
    inputs: tuple[int]
    shape: Shape
    offset: float
    slope: float | Tensor
    kinks: tuple[tuple[float, float | Tensor], ...]

    @cached_property
    def _relu(self) -> bool:
        numbers = (self.slope, *(number for kink in self.kinks for number in kink))
        return not any(isinstance(x, Tensor) for x in numbers) and numbers == (0, 0, 1)

    def factor(self, on: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """Slope of the function, given for every kink whether the entry is above it."""
        if self._relu:
            return on[0]  # as truth values: one pass over memory less
        total: Tensor | float = self.slope
        for above, (_, change) in zip(on, self.kinks, strict=True):
            total = above.to(dtype) * change + total
        assert isinstance(total, Tensor)
        return total

    def at(self, z: Tensor) -> Tensor:
        """The function at z."""
        return self.value(z, [z > at for at, _ in self.kinks])

    def value(self, z: Tensor, on: Sequence[Tensor]) -> Tensor:
        """The function at z, on the sides of the kinks that `on` says."""
        shift: float | Tensor = self.offset
        for above, (at, change) in zip(on, self.kinks, strict=True):
            if at:  # constants first: the large ones of far bounds cancel
                shift = shift - above.to(z.dtype) * change * at
        total = z * self.factor(on, z.dtype)
        return total if isinstance(shift, float) and shift == 0 else total + shift


@dataclass(frozen=True)
class Windows:
    """The largest of several entries, for every window.

    Attributes:
        name: qualified name of the module that does it.
        text: the operation in words, for printing.
        inputs: index of the value that it takes.
        shape: of its result, for one sample.
        index: flat indices of the entries of each window, int64, (windows, w); smaller windows
            repeat an entry of theirs.
    """

    name: str
    text: str
    inputs: tuple[int]
    shape: Shape
    index: Tensor = field(repr=False)


@dataclass(frozen=True)
class Forbidden:
    """What is not piecewise linear; no program has it, as no output may depend on it.

    Attributes:
        why: the reason, as a sentence.
        inputs: indices of the values that it takes.
    """

    why: str
    inputs: tuple[int, ...]


Operation = Affine | Hinges | Windows


def _joined(between: Sequence[Affine], layer: Affine) -> Affine:
    """Operations that move entries, and the layer behind them, as one operation."""
    if not between:
        return layer
    columns, chain = layer.columns, [*between, layer]
    assert columns is not None

    def linear(x: Tensor) -> Tensor:
        for operation in chain:
            x = operation.linear(x)
        return x

    def impulses(unit: Tensor) -> Tensor:
        total: Tensor | None = None
        for operation in between:
            assert operation.moves is not None
            unit, factor = operation.moves(unit)
            if factor is not None:
                total = factor if total is None else total * factor
        made = columns(unit)
        return made if total is None else made * total.view(-1, *[1] * (made.ndim - 1)).to(made)

    bias = None
    for operation in chain:
        bias = None if bias is None else operation.linear(bias[None])[0]
        if operation.bias is not None:
            own = operation.bias.expand(operation.shape)
            bias = own if bias is None else bias + own
    return replace(layer, linear=linear, bias=bias, columns=impulses)


def arranged(
    operations: Sequence[Operation | Forbidden], output: int
) -> tuple[tuple[Operation, ...], int]:
    """What the output depends on, and nothing else, in an order that suits tracing.

    What alone reads the result of an activation, be it a layer or a chain that ends in one, stands
    right behind it, and no other activation between them. All else keeps its order.

    Args:
        operations: operation i makes value i + 1 from earlier values; value 0 is the sample.
        output: index of the value that the network returns.

    Returns:
        The operations with their values numbered anew, and the number of the output.

    Raises:
        InputError: the output depends on what is not piecewise linear.
    """
    wanted = {output}
    for i, operation in reversed(list(enumerate(operations, 1))):
        if i in wanted:
            wanted.update(operation.inputs)
    readers: dict[int, list[int]] = {value: [] for value in wanted}
    for i, operation in enumerate(operations, 1):
        for value in set(operation.inputs) if i in wanted else ():
            readers[value].append(i)
    number = {0: 0}
    for i in sorted(wanted - {0}):
        behind = isinstance(operations[i - 1], Hinges)
        while i not in number:
            number[i] = len(number)
            if behind and i != output and len(readers[i]) == 1:
                following = operations[readers[i][0] - 1]
                if isinstance(following, Affine) and following.inputs == (i,):
                    i = readers[i][0]
    kept: list[Operation] = []
    for i in sorted(number):
        if i and isinstance(operation := operations[i - 1], Forbidden):
            raise InputError(operation.why)
    for i in number:
        if i and not isinstance(operation := operations[i - 1], Forbidden):
            inputs: Any = tuple(number[value] for value in operation.inputs)
            kept.append(replace(operation, inputs=inputs))
    return tuple(kept), number[output]


@dataclass(frozen=True)
class Program:
    """The operations of a network, without those that its output does not depend on.

    Operation i makes value i + 1 from earlier values; value 0 is the sample.

    Attributes:
        operations: the operations.
        input_shape: shape of one sample.
        output: index of the value that the network returns.
        dtype: of all constants.
        device: of all constants.

    >>> import implreg as ir
    >>> ir.read(ir.mlp(4, 8, 2, seed=0), torch.zeros(4))
    Program of 3 operations, 8 hidden units
       in             4
        1  0          8  linear
        2  1          8  relu
        3  2          2  linear
    """

    operations: tuple[Operation, ...]
    input_shape: Shape
    output: int
    dtype: torch.dtype
    device: torch.device

    @cached_property
    def last_use(self) -> tuple[int, ...]:
        """For every value the last operation that reads it."""
        last = [-1] * (len(self.operations) + 1)
        for i, operation in enumerate(self.operations):
            for value in operation.inputs:
                last[value] = i
        last[self.output] = len(self.operations)
        return tuple(last)

    @cached_property
    def followers(self) -> dict[int, tuple[int, Affine]]:
        """For hinges right behind which a layer alone reads their result, and knows its columns.

        Operations between the two that only move and scale entries are made part of the layer. By
        index of the hinges: the layer's own position, and an operation that takes the result of the
        hinges to the result of the layer.
        """
        found = {site: self._follower(site) for site in self.sites}
        return {site: follower for site, follower in found.items() if follower is not None}

    @cached_property
    def sites(self) -> tuple[int, ...]:
        """The operations that can switch, in order."""
        return tuple(i for i, o in enumerate(self.operations) if not isinstance(o, Affine))

    @property
    def units(self) -> int:
        """Number of entries that can switch: hidden units and pooling windows."""
        return sum(prod(self.operations[i].shape) for i in self.sites)

    def shape(self, value: int) -> Shape:
        """Shape of a value, for one sample.

        Args:
            value: its index; 0 is the sample, i + 1 what operation i makes.
        """
        return self.operations[value - 1].shape if value else self.input_shape

    def size(self, value: int) -> int:
        """Number of entries of a value, for one sample.

        Args:
            value: its index, as for `shape`.
        """
        return prod(self.shape(value))

    def live(self, position: int) -> tuple[int, ...]:
        """Values that exist before operation `position` and are read by a later one.

        Args:
            position: index of an operation.

        Returns:
            Indices of values, in order.
        """
        return tuple(v for v in range(position + 1) if self.last_use[v] > position)

    def _follower(self, site: int) -> tuple[int, Affine] | None:
        if not isinstance(self.operations[site], Hinges):
            return None
        between: list[Affine] = []
        value = site + 1
        # As long as the operation right behind, which has the number of the value, alone reads it.
        while value != self.output and self.last_use[value] == value:
            reader = self.operations[value]
            if not isinstance(reader, Affine) or reader.inputs != (value,):
                return None
            if reader.columns is not None:
                return value, _joined(between, reader)
            if reader.moves is None:
                return None
            between.append(reader)
            value += 1
        return None

    def values(self, x: Tensor) -> dict[int, Tensor]:
        """What the operations that can switch take at the points x, and the output.

        Args:
            x: samples, (N, *input_shape).

        Returns:
            For every value that a switching operation reads, and the output, its entries,
            (N, *shape).
        """
        wanted = {self.operations[i].inputs[0] for i in self.sites} | {self.output}
        found = {0: x}
        for i, operation in enumerate(self.operations):
            taken = [found[v] for v in operation.inputs]
            if isinstance(operation, Affine):
                made = operation.value(*taken)
            elif isinstance(operation, Hinges):
                made = operation.at(*taken)
            else:
                made = taken[0].flatten(1)[:, operation.index].amax(-1)
            found[i + 1] = made.reshape(len(x), *operation.shape)
            for value in {*operation.inputs} - wanted:
                if self.last_use[value] == i:
                    del found[value]
        return {v: found[v] for v in wanted}

    def __repr__(self) -> str:
        """One line per operation: number, qualified name, shape of the result, what it does."""

        def words(shape: Shape) -> str:
            return "x".join(map(str, shape)) or "1"

        names = [o.name for o in self.operations]
        wide = max([4, *map(len, names)])
        shapes = [words(o.shape) for o in self.operations]
        long = max(map(len, [words(self.input_shape), *shapes]))
        previous = 0
        lines = [
            f"Program of {len(self.operations)} operations, {self.units:,} hidden units",
            f"   in  {'':{wide}}  {words(self.input_shape):>{long}}",
        ]
        for i, (operation, shape) in enumerate(zip(self.operations, shapes, strict=True)):
            plain = operation.inputs == (previous,)
            source = "" if plain else f"({', '.join(str(v or 'in') for v in operation.inputs)})"
            lines.append(
                f"{i + 1:5}  {operation.name:{wide}}  {shape:>{long}}  {operation.text}{source}"
            )
            previous = i + 1
        if self.output != len(self.operations):
            lines.append(f"  out  {self.output}")
        return "\n".join(lines)
