"""The three kinds of operations of a continuous piecewise linear network, on one sample.

* `Affine`: a linear map plus a constant (layers, pooling by averages, reshaping, sums, ...);
* `Hinges`: a function of one variable with kinks, applied to every entry (ReLU and its kin);
* `Windows`: the largest of several entries (max pooling).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from operator import add

import torch
from torch import Tensor

from implreg.tracing.maps import Mixing

Shape = tuple[int, ...]


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
        form: what a layer that mixes channels does place by place, see `maps`.
        keeps: all entries keep their values and their order.
    """

    name: str
    text: str
    inputs: tuple[int, ...]
    shape: Shape
    linear: Callable[..., Tensor] = field(repr=False)
    bias: Tensor | None = field(default=None, repr=False)
    columns: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    form: Mixing | None = field(default=None, repr=False)
    keeps: bool = False

    def value(self, *taken: Tensor) -> Tensor:
        """The result for samples, constant included, (N, *input) each -> (N, *shape)."""
        made = self.linear(*taken)
        return made if self.bias is None else made + self.bias

    def of_rows(self, taken: Sequence[Tensor], values: int) -> Tensor:
        """The result for rows the first of which are values and the others slopes."""
        made = self.linear(*taken).contiguous()
        if self.bias is not None:
            held = made.untyped_storage().data_ptr()
            if any(x.untyped_storage().data_ptr() == held for x in taken):
                made = made.clone()  # the input itself, which others may read
            made[:values] += self.bias
        return made


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

    @cached_property
    def steepest(self) -> float | Tensor:
        """The largest slope, whatever its sign."""
        slopes = accumulate((change for _, change in self.kinks), add, initial=self.slope)
        found = torch.stack(torch.broadcast_tensors(*map(torch.as_tensor, slopes)))
        return found.abs().amax(0)

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
