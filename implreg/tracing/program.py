"""What a network does, as a short list of operations on one sample."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from implreg.errors import InputError
from implreg.tracing.kinds import Affine, Forbidden, Hinges, Operation, Shape
from implreg.tracing.maps import Mixing
from implreg.tracing.plan import Plan, plan


def _reshaped(layer: Affine, shape: Shape) -> Affine:
    """A layer that brings what it takes into shape."""
    return replace(layer, linear=lambda x: layer.linear(x.reshape(len(x), *shape)))


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

        Operations between the two that keep entries and their order, such as a flatten, are made
        part of the layer. By index of the hinges: the layer's own position, and an operation that
        takes the result of the hinges to the result of the layer.
        """
        found = {site: self._follower(site) for site in self.sites}
        return {site: follower for site, follower in found.items() if follower is not None}

    @cached_property
    def plan(self) -> Plan:
        """Which operations are done on patches of maps, and how."""
        return plan(
            self.operations, self.input_shape, torch.empty(0, dtype=self.dtype, device=self.device)
        )

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

    def before(self, position: int) -> tuple[int, ...]:
        """Values that exist before operation `position` and are read by it or a later one.

        Args:
            position: index of an operation, or their number for what the network returns.

        Returns:
            Indices of values, in order.
        """
        return tuple(v for v in range(position + 1) if self.last_use[v] >= position)

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
        value = site + 1
        # As long as the operation right behind, which has the number of the value, alone reads it.
        while value != self.output and self.last_use[value] == value:
            reader = self.operations[value]
            if not isinstance(reader, Affine) or reader.inputs != (value,):
                return None
            if reader.columns is not None:
                return value, _reshaped(reader, self.shape(value))
            if not reader.keeps:
                return None
            value += 1
        return None

    def chosen(self, outputs: Sequence[int]) -> "Program":
        """The same network with some of its outputs only.

        Args:
            outputs: numbers of entries of what it returns, in the order that is wanted.

        Returns:
            A program that returns these, of shape (C,), and does not compute the others if a linear
            layer comes last.

        Raises:
            InputError: there is no such entry.

        >>> import implreg as ir
        >>> ir.read(ir.mlp(4, 8, 1000, seed=0), torch.zeros(4)).chosen([281, 285])
        Program of 3 operations, 8 hidden units
           in             4
            1  0          8  linear
            2  1          8  relu
            3  2          2  linear
        """
        count = self.size(self.output)
        if not isinstance(outputs, list | tuple | range) or not all(
            isinstance(k, Integral) and not isinstance(k, bool) and 0 <= int(k) < count
            for k in outputs
        ):
            raise InputError(
                f"outputs must be a list of whole numbers from 0 to {count - 1}, got {outputs!r}; "
                f"choose among these."
            )
        index = torch.tensor(outputs, dtype=torch.int64, device=self.device)
        last = self.operations[-1] if self.operations else None
        if isinstance(last, Affine) and last.form is not None and not last.form.sources:
            form = Mixing((), (), last.form.weight[..., index])
            bias = None if last.bias is None else last.bias.expand(last.shape)[index]
            made = replace(
                last, shape=(len(outputs),), linear=lambda x: x @ form.weight[0], bias=bias,
                columns=form.columns, form=form,
            )  # fmt: skip
            return replace(self, operations=(*self.operations[:-1], made))
        made = Affine(
            "outputs", "choose", (self.output,), (len(outputs),), lambda x: x.flatten(1)[:, index]
        )
        operations = (*self.operations, made)
        return replace(self, operations=operations, output=len(operations))

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
