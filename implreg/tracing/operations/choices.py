"""Choices by a comparison: ``where(x > 0, x, 0)``, ``x * (x > 0)``, ``x[x < 0] = 0``, checks."""

import dis
import sys
from typing import Any

import torch
from torch import Tensor

from implreg.tracing.kinds import Affine, Forbidden
from implreg.tracing.operations.activations import maximum, minimum
from implreg.tracing.operations.arithmetic import add, mul, neg, sub
from implreg.tracing.operations.linear import RELATIVE, affine
from implreg.tracing.operations.table import HANDLERS, Handler, handles
from implreg.tracing.record import Recorded, Recorder, Refused, changed, plain

_DRAWS = (1.0, 1e-3, 1e3, 1.0)  # sizes of the random points at which branches are compared
_COMPARED = (
    "compares what it computes, which is not continuous; use the comparison where both branches "
    "meet, as in where(x > 0, x, 0), or use maximum, minimum or clamp."
)
_DECIDES = (
    "decides by what it computes which way to go on (data-dependent control flow), which is not "
    "read off its operations; use maximum, minimum, clamp or torch.where."
)
_APART = (
    "chooses between two branches that do not meet where the choice changes, as far as can be "
    "told, which is not continuous; use ReLU, maximum or clamp."
)


def _comparison(name: str, sign: int) -> Handler:
    def handle(r: Recorder, input: Any, other: Any) -> Recorded:
        data = getattr(torch, name)(plain(input), plain(other))
        if not plain(input).is_floating_point():
            raise Refused(_COMPARED)
        zero = isinstance(other, int | float) and other == 0
        above = input if zero else sub(r, input, other)
        said = r.forbidden(r.why(_COMPARED), [above], data)
        return r.says(above if sign > 0 else neg(r, above), said, data)

    return handle


for _name in ("gt", "ge", "greater", "greater_equal"):
    HANDLERS[_name] = _comparison(_name, 1)
for _name in ("lt", "le", "less", "less_equal"):
    HANDLERS[_name] = _comparison(_name, -1)


@handles("logical_not", "bitwise_not", "invert")
def _not(r: Recorder, input: Recorded) -> Recorded:
    if input.above is None:
        raise Refused(_COMPARED)
    return r.says(neg(r, input.above), input, plain(input).logical_not())


@handles("mul", "multiply")
def _mul(r: Recorder, input: Any, other: Any) -> Recorded:
    for mask, branch in ((other, input), (input, other)):
        if isinstance(mask, Recorded) and mask.above is not None:
            return _choose(r, mask, branch, 0.0)
    return mul(r, input, other)


@handles("where")
def _where(r: Recorder, *args: Any) -> Recorded:
    first, second, otherwise = args
    if getattr(first, "dtype", None) == torch.bool:  # the function, not the method
        return _choose(r, first, second, otherwise)
    return _choose(r, second, first, otherwise)


@handles("masked_fill")
def _masked_fill(r: Recorder, input: Any, mask: Any, value: Any) -> Recorded:
    return _choose(r, mask, value, input)


@handles("setitem")
def _setitem(r: Recorder, input: Any, key: Any, value: Any) -> Any:
    if isinstance(key, Recorded) and key.above is not None:
        return _choose(r, key, value, input)
    return affine(r, "setitem", changed(Tensor.__setitem__), (input, key, value), {})


def _choose(r: Recorder, mask: Any, yes: Any, no: Any) -> Recorded:
    """One branch where the mask says so, the other elsewhere, if both meet in between."""
    if not isinstance(mask, Recorded):  # a constant choice
        made: Recorded = affine(r, "where", torch.where, (mask, yes, no), {})
        return made
    if mask.above is None:
        raise Refused(_COMPARED)
    if not isinstance(yes, Recorded) and not isinstance(no, Recorded):
        raise Refused(_APART)
    zero = isinstance(no, int | float) and no == 0
    excess = yes if zero else sub(r, yes, no)
    shape = torch.broadcast_shapes(mask.above.shape[1:], excess.shape[1:])
    above, excess = (
        x if x.shape[1:] == shape else r.affine("expand", [x], lambda x: x.expand(len(x), *shape))
        for x in (mask.above, excess)
    )
    steps = _steps(r, above, excess)
    if steps is None:
        data = torch.where(plain(mask).bool(), plain(yes), plain(no))
        return r.forbidden(r.why(_APART), [above, excess], data)
    if not zero and not isinstance(no, Recorded):
        for rising, extreme in ((steps, maximum), (-steps, minimum)):
            if bool((torch.as_tensor(rising) > 0).all()):  # no digits are lost to a large constant
                return extreme(r, yes, no)
    made = r.hinges("where", above, kinks=[(0.0, steps)])
    return made if zero else add(r, no, made)


def _steps(r: Recorder, above: Recorded, excess: Recorded) -> float | Tensor | None:
    """How many times as large as `above` the `excess` of one branch over the other is, if it is.

    Both are affine in the results of activations, for which numbers are drawn.
    """
    wanted = {above.value, excess.value}
    for value in range(max(wanted), 0, -1):
        if value in wanted and isinstance(layer := r.operations[value - 1], Affine):
            wanted.update(layer.inputs)
    random = torch.Generator(above.device).manual_seed(0)
    found: dict[int, Tensor] = {}
    for value in sorted(wanted):
        operation: Any = r.operations[value - 1] if value else None
        if isinstance(operation, Affine):
            found[value] = operation.value(*(found[v] for v in operation.inputs))
        elif isinstance(operation, Forbidden):
            return None
        else:
            shape = r.shape if operation is None else operation.shape
            found[value] = torch.stack(
                [size * torch.randn(shape, generator=random, dtype=above.dtype,
                                    device=above.device) for size in _DRAWS]
            )  # fmt: skip
    one, other = (found[x.value] for x in (above, excess))
    steps = (one * other).sum(0) / one.square().sum(0).clamp(min=torch.finfo(one.dtype).tiny)
    size = other.abs() + (steps * one).abs()
    near = RELATIVE[one.dtype] * size + 64 * torch.finfo(one.dtype).eps * size.amax(0)
    if bool(((other - steps * one).abs() > near).any()):
        return None
    alike = (steps - steps.mean()).abs() <= 8 * torch.finfo(one.dtype).eps * steps.abs()
    return float(steps.median()) if bool(alike.all()) and not steps.requires_grad else steps


@handles("bool")
def _bool(r: Recorder, input: Recorded) -> bool:
    """What a check that raises asks, such as an assertion: the network goes on if it may."""
    frame = sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].startswith(("implreg.tracing", "torch.")):
        frame = frame.f_back
    following = [
        step.opname
        for step in dis.get_instructions(frame.f_code)
        if step.offset > frame.f_lasti and step.opname.startswith(("JUMP", "POP_JUMP", "R"))
    ]
    if following[:1] == ["RAISE_VARARGS"]:  # before any way round it
        return bool(plain(input))
    raise Refused(_DECIDES)


@handles("assert", "_assert")
def _assert(r: Recorder, condition: Any, message: Any) -> None:
    torch._assert(plain(condition), message)
