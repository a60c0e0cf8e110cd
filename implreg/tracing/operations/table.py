"""The table of functions that can be traced, and why others cannot.

It goes by a function's own name, so that `F.relu`, `torch.relu`, `x.relu_()` and `nn.ReLU` are one
entry. A handler takes the recorder and the function's arguments, checks these, and appends what the
function does to the recorder.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from math import isfinite
from numbers import Real
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from implreg.errors import InputError
from implreg.tracing.kinds import Shape
from implreg.tracing.operations.linear import NotAffine, affine
from implreg.tracing.record import (
    BATCH,
    Function,
    Recorded,
    Recorder,
    Refused,
    changed,
    changes,
    fixed,
    plain,
)

Handler = Function
H = TypeVar("H", bound=Handler)
HANDLERS: dict[str, Handler] = {}
_signature = cache(inspect.signature)
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}  # that PyTorch takes too

# Why functions cannot be traced, and their names.
_WHY_NOT = {
    ", which is not piecewise linear; use ReLU or its kin.": """
        gelu silu mish sigmoid logsigmoid tanh softmax log_softmax softmin softplus elu selu celu
        hardswish exp expm1 log log1p log2 log10 sqrt rsqrt square pow rpow sin cos tan erf softsign
        tanhshrink reciprocal normalize cosine_similarity logsumexp
        scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh lstm_cell
        gru_cell rnn_tanh_cell glu var std bilinear prod""",
    ", which divides by a deviation of the sample itself and so is not piecewise linear; use "
    "batch norm in eval mode.": "layer_norm group_norm instance_norm rms_norm local_response_norm",
    ", which is not continuous; use a continuous activation.": """
        sign heaviside hardshrink round floor ceil trunc frac sgn fmod remainder
        floor_divide floordiv mod""",
    ", a product of two branches, which is quadratic, not piecewise linear; use a product with a "
    "constant.": "matmul mm bmm einsum tensordot dot inner outer addbmm baddbmm kron cdist",
    ": what the network computes then depends on values in a way that is not read off its "
    "operations (data-dependent control flow); use maximum, minimum or clamp.": """
        eq ne argmax argmin nonzero argsort any all isnan isfinite contains equal allclose
        masked_select logical_and logical_or logical_xor unique mode cummax cummin bincount
        searchsorted bucketize""",
    ": what is done with the numbers that it takes out cannot be followed; keep the tensor, or its "
    "detach().": "item tolist numpy array float int index iter",
}


def perform(recorder: Recorder, func: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run `func` on recorded tensors and append what it does to the recorder."""
    if getattr(func, "__name__", "") == "__get__":
        return _property(recorder, func.__self__.__name__, args[0])  # type: ignore[attr-defined]
    called = getattr(func, "__name__", str(func)).split(".")[0]  # without an overload's name
    in_place = changes(func, kwargs)
    name = "item" if called == "__float__" else called.strip("_")  # not the method float()
    if name in ("iadd", "isub", "imul", "itruediv", "idiv", "radd", "rmul"):
        name = name[1:]
    if in_place and recorder.holds(args[0]):
        raise Refused(f"changes a parameter or buffer of its own by {called}; use {name}.")
    try:
        if name in HANDLERS:
            made = _handled(recorder, name, args, kwargs)
        else:
            made = affine(recorder, name, changed(func) if in_place else func, args, kwargs)
    except NotAffine as error:
        raise Refused(_why(name, str(error))) from None
    if in_place and isinstance(args[0], Tensor) and made.shape != args[0].shape:
        raise InputError(f"net must be piecewise linear, but {recorder.where()} calls {called}, "
                         f"whose result has another shape; use {name}.")  # fmt: skip
    # Whoever holds a tensor that was written to now holds its new value.
    return recorder.becomes(args[0], made) if in_place else made


def _handled(recorder: Recorder, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    kwargs = {
        _NUMPY_NAMES.get(key, key): value
        for key, value in kwargs.items()
        if value is not None or key not in ("out", "dtype")
    }
    try:
        _signature(HANDLERS[name]).bind(recorder, *args, **kwargs)
    except TypeError as error:
        raise Refused(
            f"calls {name} with arguments that cannot be traced ({error}); leave them out."
        ) from None
    return HANDLERS[name](recorder, *args, **kwargs)


def _why(name: str, otherwise: str) -> str:
    for reason, names in _WHY_NOT.items():
        if name in names.split():
            return f"calls {name}{reason}"
    return f"calls {name}, which {otherwise}; replace it."


def _property(recorder: Recorder, name: str, x: Recorded) -> Any:
    if name == "data":
        return recorder.shared(recorder.wrap(x, x.value), x, x, lambda whole: whole)
    if name in ("T", "H", "mT", "mH"):
        return perform(recorder, torch.transpose, (x, -1, -2), {})
    asked = getattr(plain(x), name)
    if isinstance(asked, Tensor):
        raise Refused(f"takes .{name} of its input, which cannot be traced; leave it out.")
    return asked


def handles(*names: str) -> Callable[[H], H]:
    """Enter a handler under the names of the functions that it is for."""

    def enter(handler: H) -> H:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return enter


def first_axis_moved() -> NoReturn:
    """Refuse what does not leave the first axis to the samples."""
    raise Refused("moves the first axis, which must stay that of the samples; keep it first.")


def axis_of(dim: int, ndim: int) -> int:
    """An axis counted from 0 that is not the samples' own."""
    axis = dim + ndim if dim < 0 else dim
    return axis or first_axis_moved()


def axes_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """Several such axes, given as one or as a sequence."""
    if dim is None:
        raise Refused(
            "reduces its input over all axes, also the first axis, which is the samples' own; name "
            "the others (and let no data-dependent control flow hang on the result)."
        )
    return tuple(axis_of(int(d), ndim) for d in (dim if isinstance(dim, Sequence) else (dim,)))


def constant(value: Any, like: Tensor, *, finite: bool = True) -> float | Tensor:
    """A constant as a number, or as a tensor that broadcasts to one sample of `like`."""
    if isinstance(value, Real) and isfinite(float(value)):
        return float(value)
    if isinstance(value, Real):
        value = torch.tensor(float(value), dtype=torch.float64)
    if not isinstance(value, Tensor) or value.is_complex():
        kind = f"tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise Refused(f"combines its input with a {kind}; use real numbers or tensors of them.")
    if bool(value.isnan().any()) or (finite and bool(value.isinf().any())):
        raise Refused("combines its input with a constant that is not finite; replace it.")
    value = fixed(value).to(dtype=like.dtype, copy=True)  # it may be written to
    if value.ndim > like.ndim:
        first_axis_moved()
    if value.ndim == like.ndim and (
        len(value) not in (1, BATCH) or not bool((value == value[:1]).all())
    ):
        raise Refused("uses a constant that differs from sample to sample; use one for all.")
    one: Tensor = value[0] if value.ndim == like.ndim else value
    return one


def filled(value: float | Tensor, shape: Shape, like: Tensor) -> Tensor:
    """A constant as a tensor with the axes of `shape`."""
    if isinstance(value, Tensor):
        return value
    return torch.full((1,) * len(shape), value, dtype=like.dtype, device=like.device)


def constants_only(*given: Any) -> None:
    """Refuse weights that depend on the input."""
    if any(isinstance(x, Recorded) for x in given):
        raise Refused("uses weights that it computes from its input (a product of two branches).")


def each(value: Any, axes: int) -> tuple[int, ...]:
    """One number per axis, given one for all or one for each."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * axes if len(values) == 1 else values


def spread(x: Tensor, shape: Shape) -> Tensor:
    """Rows expanded to samples of `shape`."""
    return x.expand(len(x), *shape)
