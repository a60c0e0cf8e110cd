"""Functions that are affine in what the network computes when all else is constant.

There are too many to list, so none is: a function is tried at random points, and taken if it adds
up and keeps the samples of a batch apart.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from implreg.tracing.record import BATCH, Function, Recorded, Recorder, Refused, fixed, plain

_SCALES = (1e-15, 1e-3, -1.0, 1e3, 1e15)  # of points, so that no threshold lies beyond all
RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-3}  # error of what is the same


class NotAffine(Exception):
    """A function that is not affine in what it is given; the message says what else it is."""


def affine(r: Recorder, name: str, func: Function, args: Any, kwargs: Any) -> Any:
    """Append what a function does to its recorded arguments, and return its result or results.

    Raises:
        NotAffine: it is not affine in them.
        Refused: it is, but not for each sample by itself.
    """
    leaves, structure = tree_flatten((args, kwargs))
    places = [i for i, x in enumerate(leaves) if isinstance(x, Recorded)]
    given = [leaves[i] for i in places]
    if any(x.ndim == 0 or len(x) != BATCH for x in given):
        raise NotAffine("goes on with what has lost the first axis, that of the samples")
    # As they are now, for what is constant may be written to later.
    constants: list[Any] = [
        x if not isinstance(x, Tensor) else None if isinstance(x, Recorded) else
        fixed(x) if r.holds(x) else fixed(x).clone()
        for x in leaves
    ]  # fmt: skip
    alike = {i for i, x in enumerate(constants) if isinstance(x, Tensor) and _alike(x)}

    def apply(*values: Tensor) -> Any:
        count = len(values[0])
        filled = list(constants)
        for i in alike if count != BATCH else ():
            filled[i] = filled[i][:1].expand(count, *filled[i].shape[1:])
        for i, value in zip(places, values, strict=True):
            filled[i] = value
        a, k = tree_unflatten(filled, structure)
        return func(*a, **k)

    made = apply(*plain(given))
    if name.endswith("_like") or name.startswith("new_"):
        return made
    if not isinstance(made, Tensor | tuple | list):
        raise NotAffine(f"returns {type(made).__name__}")
    try:
        if isinstance(made, Tensor):
            return _Try(apply, plain(given)).append(r, name, given, made)
        every = [_Try(lambda *x, i=i: apply(*x)[i], plain(given)) for i in range(len(made))]
        return [one.append(r, name, given, x) for one, x in zip(every, made, strict=True)]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise NotAffine("cannot be tried at other points than the sample") from error


class _Try:
    """A function of a batch of tensors, tried at random points.

    Args:
        function: of tensors alike those `given`; returns one tensor.
        given: what it is called with.

    Attributes:
        linear: the function without its constant, for any number of samples.
        bias: the constant for one sample, None for zero.
        read: which of the arguments it depends on.
    """

    def __init__(self, function: Function, given: Sequence[Tensor]) -> None:
        random = torch.Generator(given[0].device).manual_seed(0)
        a, b = (
            [torch.randn(x.shape, generator=random, dtype=x.dtype, device=x.device) for x in given]
            for _ in range(2)
        )
        start, at_a, at_b = (function(*x) for x in (map(torch.zeros_like, given), a, b))
        self._shapes, self.bias = [x.shape[1:] for x in given], None
        if not isinstance(start, Tensor) or start.dtype != given[0].dtype:
            raise NotAffine(f"returns {getattr(start, 'dtype', type(start).__name__)}")
        bias = start
        if start.ndim and bool(start.isinf().any()):  # constants, which a maximum may read
            infinite, whole = start[:1].isinf(), function
            if not all(torch.equal(x.isinf(), start.isinf()) for x in (at_a, at_b)):
                raise NotAffine("is infinite for some inputs, and not for all")

            def function(*values: Tensor) -> Any:
                return whole(*values).masked_fill(infinite, 0.0)

            start, at_a, at_b = (x.masked_fill(infinite, 0.0) for x in (start, at_a, at_b))
        self.read = []
        for i in range(len(given)):
            others = (function(*a[:i], x * b[i], *a[i + 1 :]) for x in _SCALES)
            if not all(torch.equal(other, at_a) for other in others):
                self.read.append(i)
        if not self.read and torch.equal(start, at_a):
            return
        both = function(*(x + y for x, y in zip(a, b, strict=True)))
        if not _same(both, at_a + (at_b - start)) or not all(
            _same(function(*(scale * x for x in a)), start + scale * (at_a - start))
            for scale in _SCALES
        ):
            raise NotAffine(
                "is not linear in what the network computes from its input, nor among the "
                "piecewise linear functions that can be traced"
            )
        rows = start.ndim > 0 and len(start) == BATCH
        alone = [function(*(x[[i] * BATCH] for x in a)) for i in range(BATCH)]
        if not rows or not all(_same(at_a[i], alone[i][i]) for i in range(BATCH)):
            raise Refused(
                "mixes the samples of a batch (the first axis must stay theirs); keep it apart."
            )
        if not _same(start[0], start[1]):
            raise Refused("uses a constant that differs from sample to sample; use one for all.")
        self._shift = start[0].clone() if bool(start.any()) else None
        self.bias = bias[0].clone() if bool(bias.any()) else None

        def each(*rows: Tensor) -> Any:
            return function(*(row.expand(BATCH, *row.shape) for row in rows))[0]

        try:
            more = function(*(torch.cat([x, y]) for x, y in zip(a, b, strict=True)))
            many = _same(more, torch.cat([at_a, at_b]))
        except (RuntimeError, ValueError, IndexError):
            many = False  # the number of samples is among its arguments
        self._function = function if many else torch.vmap(each)
        try:  # the constant takes no digits from a derivative
            slope = self._derivative(a) if self._shift is not None else None
        except (RuntimeError, ValueError):
            slope = None
        self._derived = slope is not None and _same(slope + start, at_a)

    def _derivative(self, values: Sequence[Tensor]) -> Tensor:
        origin = tuple(map(torch.zeros_like, values))
        return torch.func.jvp(self._function, origin, tuple(values))[1]  # type: ignore[no-any-return]

    def linear(self, *values: Tensor) -> Tensor:
        """The function of those arguments that it reads, without its constant."""
        every = [values[0].new_zeros(len(values[0]), *shape) for shape in self._shapes]
        for i, value in zip(self.read, values, strict=True):
            every[i] = value
        if self._derived:
            return self._derivative(every)
        made: Tensor = self._function(*every)
        return made if self._shift is None else made - self._shift

    def append(self, r: Recorder, name: str, given: Sequence[Recorded], made: Tensor) -> Any:
        """Append it and return its result: that which was made, if nothing is read."""
        if not self.read:
            return made
        result = r.affine(name, [given[i] for i in self.read], self.linear, bias=self.bias)
        return r.shared(result, made, given[0], None)


def _alike(x: Tensor) -> bool:
    """Whether a constant may have a row for each sample, the same for all."""
    return x.ndim > 0 and len(x) == BATCH and bool((x == x[:1]).all())


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, but for rounding."""
    size = max(float(x.abs().max()) if x.numel() else 0.0 for x in (one, other))
    near = RELATIVE[one.dtype] * size
    return one.shape == other.shape and bool(((one - other).abs() <= near).all())
