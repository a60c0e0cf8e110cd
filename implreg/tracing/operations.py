"""Which functions of PyTorch are piecewise linear, and how each becomes operations.

The table goes by the function's own name, so that `F.relu`, `torch.relu`, `x.relu_()` and
`nn.ReLU` are one entry. What it does not hold is refused with a reason.
"""

import inspect
from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.program import Shape
from implreg.tracing.record import BATCH, Recorded, Recorder, Refused, plain

Handler = Callable[..., Any]
_HANDLERS: dict[str, Handler] = {}

_SMOOTH = (
    "gelu silu mish sigmoid logsigmoid tanh softmax log_softmax softmin softplus elu selu celu "
    "hardswish exp expm1 log log1p log2 log10 sqrt rsqrt square pow sin cos tan erf softsign "
    "tanhshrink reciprocal norm linalg_norm normalize cosine_similarity logsumexp "
    "scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh glu var std"
).split()
_NORMS = "layer_norm group_norm instance_norm rms_norm local_response_norm".split()
_JUMPS = "sign heaviside threshold hardshrink round floor ceil trunc frac sgn fmod".split()
_VALUES = (
    "bool item gt lt ge le eq ne where argmax argmin nonzero sort topk argsort any all isnan "
    "isfinite tolist numpy array float int index contains equal allclose masked_fill "
    "masked_select greater less logical_and logical_or logical_not unique median mode kthvalue "
    "cummax cummin bincount searchsorted bucketize iter"
).split()


def perform(
    recorder: Recorder, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """Run `func` on recorded tensors and append what it does to the recorder."""
    if getattr(func, "__name__", "") == "__get__":
        return _property(recorder, func.__self__.__name__, args[0])  # type: ignore[attr-defined]
    name = getattr(func, "__name__", str(func)).strip("_")
    if name.startswith(("i", "r")) and name[1:] in ("add", "sub", "mul", "truediv"):
        in_place, name = name[0] == "i", name if name == "rsub" else name[1:]
    else:
        in_place = func.__name__.endswith("_") and not func.__name__.endswith("__")
    if name not in _HANDLERS:
        raise Refused(_why(name))
    made = _HANDLERS[name](recorder, *args, **kwargs)
    if (in_place or kwargs.get("inplace") is True) and isinstance(args[0], Recorded):
        args[0].index = made.index  # whoever holds the tensor now holds its new value
        return args[0]
    return made


def _why(name: str) -> str:
    if name in _SMOOTH:
        return f"calls {name}, which is not piecewise linear; use ReLU or its kin."
    if name in _NORMS:
        return (
            f"calls {name}, which divides by a deviation of the sample itself and so is not "
            f"piecewise linear; use batch norm in eval mode."
        )
    if name in _JUMPS:
        return f"calls {name}, which is not continuous; use a continuous activation."
    if name in _VALUES:
        return (
            f"calls {name}: what the network computes then depends on values in a way that is not "
            f"read off its operations (data-dependent control flow); use maximum, minimum or clamp."
        )
    return f"calls {name}, which is not among the operations that can be traced; replace it."


def _property(recorder: Recorder, name: str, x: Recorded) -> Any:
    if name == "data":
        return recorder.wrap(x, x.index)
    if name in ("T", "H", "mT", "mH"):
        return (
            _permute(recorder, x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))
            if (name[0] == "m" and x.ndim > 2)
            else _moved()
        )
    if name in ("real", "grad", "grad_fn"):
        return None if name != "real" else x
    return getattr(plain(x), name)


def _handles(*names: str) -> Callable[[Handler], Handler]:
    def enter(handler: Handler) -> Handler:
        for name in names:
            _HANDLERS[name] = handler
        return handler

    return enter


def _moved() -> Any:
    raise Refused("moves the first axis, which must stay that of the samples; keep it first.")


def _axis(dim: int, ndim: int) -> int:
    """An axis counted from 0 that is not the samples' own."""
    axis = dim + ndim if dim < 0 else dim
    return axis if axis else _moved()


def _axes(dim: Any, ndim: int) -> tuple[int, ...]:
    if dim is None:
        _moved()
    return tuple(_axis(int(d), ndim) for d in (dim if isinstance(dim, Sequence) else (dim,)))


def _constant(value: Any, like: Tensor) -> float | Tensor:
    """A constant as a number, or as a tensor that broadcasts to one sample of `like`."""
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, Tensor):
        raise Refused(f"combines its input with a {type(value).__name__}; use numbers or tensors.")
    if value.numel() == 1 and value.ndim <= like.ndim:
        return float(value)
    value = value.detach().to(dtype=like.dtype)
    if value.ndim > like.ndim:
        _moved()
    if value.ndim == like.ndim:
        if len(value) not in (1, BATCH) or not bool((value == value[:1]).all()):
            raise Refused("uses a constant that differs from sample to sample; use one for all.")
        value = value[0]
    return value


def _filled(value: float | Tensor, shape: Shape, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.full((1,) * len(shape), value, dtype=like.dtype, device=like.device)


# --- layers -------------------------------------------------------------------------------------


@_handles("linear")
def _linear(r: Recorder, input: Recorded, weight: Tensor, bias: Tensor | None = None) -> Recorded:
    _constants_only(weight, bias)
    weight = weight.detach()

    def columns(units: Tensor) -> Tensor:
        return weight.T[units]

    return r.affine(
        "linear",
        [input],
        functional.linear(plain(input), weight, bias),
        lambda x: functional.linear(x, weight),
        bias=None if bias is None else bias.detach(),
        columns=columns if input.ndim == 2 else None,
    )


@_handles("matmul", "mm", "rmatmul")
def _matmul(r: Recorder, left: Any, right: Any) -> Recorded:
    if isinstance(left, Recorded) and isinstance(right, Recorded):
        raise Refused("multiplies two branches, which is quadratic; use a product with a constant.")
    if isinstance(left, Recorded):
        right = right.detach()
        if right.ndim != 2:
            raise Refused("multiplies by a stack of matrices; use one matrix.")
        return _linear(r, left, right.T)
    left = left.detach()
    if right.ndim < 3 or left.ndim != 2:
        _moved()
    return r.affine("matmul", [right], left @ plain(right), lambda x: left @ x)


@_handles("addmm")
def _addmm(
    r: Recorder, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1
) -> Any:
    _constants_only(bias, weight)
    return _linear(r, x, alpha * weight.T, beta * bias)


def _constants_only(*given: Any) -> None:
    if any(isinstance(x, Recorded) for x in given):
        raise Refused("uses weights that it computes from its input (a product of two branches).")


def _convolution(transposed: bool) -> Handler:
    def handle(
        r: Recorder,
        input: Recorded,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kw: Any,
    ) -> Recorded:
        _constants_only(weight, bias)
        weight = weight.detach()
        axes = weight.ndim - 2
        if input.ndim != axes + 2:
            raise Refused(f"takes samples without a batch axis; pass {axes + 2} axes.")
        name = f"conv_transpose{axes}d" if transposed else f"conv{axes}d"
        function = getattr(functional, name)
        data = function(plain(input), weight, bias, *args, **kw)
        return r.affine(
            name,
            [input],
            data,
            lambda x: function(x, weight, None, *args, **kw),
            bias=None if bias is None else bias.detach().reshape(-1, *[1] * axes),
            columns=None
            if transposed
            else _impulses(weight, tuple(input.shape[1:]), tuple(data.shape[1:]), *args, **kw),
        )

    return handle


for _n in (1, 2, 3):
    _HANDLERS[f"conv{_n}d"] = _convolution(transposed=False)
    _HANDLERS[f"conv_transpose{_n}d"] = _convolution(transposed=True)


def _impulses(
    weight: Tensor,
    before: Shape,
    after: Shape,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Callable[[Tensor], Tensor]:
    """A convolution's answer to unit impulses: the kernel, put where it belongs."""
    kernel = weight.shape[2:]
    axes = len(kernel)
    stride, dilation = _each(stride, axes), _each(dilation, axes)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    padding = (0,) * axes if padding == "valid" else _each(padding, axes)
    channels_in, channels_out = weight.shape[1], weight.shape[0] // groups

    def columns(units: Tensor) -> Tensor:
        places = list(_unravel(units, before))
        channel = places.pop(0)
        group = channel // channels_in
        made = weight.new_zeros(len(units), groups, channels_out, prod(after[1:]))
        kernels = weight.reshape(groups, channels_out, channels_in, *kernel)
        kernels = kernels.transpose(1, 2)[group, channel % channels_in]
        rows = torch.arange(len(units), device=units.device)
        for offset in product(*map(range, kernel)):
            target = torch.zeros_like(units)
            inside = torch.ones_like(units, dtype=torch.bool)
            for a in range(axes):
                reach = places[a] + padding[a] - offset[a] * dilation[a]
                at = reach // stride[a]
                inside &= (reach % stride[a] == 0) & (at >= 0) & (at < after[1 + a])
                target = target * after[1 + a] + at
            keep = inside.nonzero().flatten()
            value = kernels[(keep, slice(None), *offset)]
            made[rows[keep], group[keep], :, target[keep]] = value
        return made.reshape(len(units), *after)

    return columns


def _unravel(index: Tensor, shape: Shape) -> tuple[Tensor, ...]:
    return torch.unravel_index(index, shape)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * axes if len(values) == 1 else values


@_handles("batch_norm")
def _batch_norm(
    r: Recorder,
    input: Recorded,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Recorded:
    if training or running_mean is None or running_var is None:
        raise Refused(
            "normalises by the statistics of the batch, so that no sample has a path of its own; "
            "call net.eval() (and keep track_running_stats=True)."
        )
    axes = [1] * (input.ndim - 2)
    scale = (running_var.detach() + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    shift = -running_mean.detach() * scale
    shift = shift if bias is None else shift + bias.detach()
    scale, shift = scale.reshape(-1, *axes), shift.reshape(-1, *axes)
    data = plain(input) * scale + shift
    return r.affine("batch_norm", [input], data, lambda x: x * scale, bias=shift)


@_handles("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
          "feature_dropout")  # fmt: skip
def _dropout(
    r: Recorder, input: Recorded, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Recorded:
    if training:
        raise Refused("is dropout in training mode, which is random; call net.eval().")
    return r.wrap(input, input.index)


# --- activations --------------------------------------------------------------------------------


@_handles("relu")
def _relu(r: Recorder, input: Recorded, inplace: bool = False) -> Recorded:
    return r.hinges("relu", input, plain(input).relu(), kinks=[(0.0, 1.0)])


@_handles("leaky_relu")
def _leaky_relu(
    r: Recorder, input: Recorded, negative_slope: float = 0.01, inplace: bool = False
) -> Recorded:
    slope = float(negative_slope)
    data = functional.leaky_relu(plain(input), slope)
    return r.hinges(f"leaky_relu({slope:g})", input, data, slope=slope, kinks=[(0.0, 1.0 - slope)])


@_handles("prelu")
def _prelu(r: Recorder, input: Recorded, weight: Tensor) -> Recorded:
    _constants_only(weight)
    slope = weight.detach().reshape(-1, *[1] * max(0, input.ndim - 2))
    data = functional.prelu(plain(input), weight.detach())
    return r.hinges("prelu", input, data, slope=slope, kinks=[(0.0, 1.0 - slope)])


@_handles("abs", "absolute")
def _abs(r: Recorder, input: Recorded) -> Recorded:
    return r.hinges("abs", input, plain(input).abs(), slope=-1.0, kinks=[(0.0, 2.0)])


@_handles("relu6")
def _relu6(r: Recorder, input: Recorded, inplace: bool = False) -> Recorded:
    return _between(r, "relu6", input, 0.0, 6.0)


@_handles("hardtanh")
def _hardtanh(
    r: Recorder, input: Recorded, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Recorded:
    low, high = float(min_val), float(max_val)
    return _between(r, "relu6" if (low, high) == (0, 6) else "hardtanh", input, low, high)


def _between(r: Recorder, text: str, x: Recorded, low: float, high: float) -> Recorded:
    if low >= high:
        raise Refused(f"has the bounds {low:g} and {high:g}; the first must be below the second.")
    kinks = [(low, 1.0), (high, -1.0)]
    return r.hinges(text, x, plain(x).clamp(low, high), offset=low, kinks=kinks)


@_handles("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(r: Recorder, input: Recorded, min: Any = None, max: Any = None) -> Recorded:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        low = input if min is None else _maximum(r, input, min)
        return low if max is None else _minimum(r, low, max)
    if min is not None and max is not None:
        return _between(r, "clamp", input, float(min), float(max))
    if min is not None:
        data = plain(input).clamp(min=min)
        return r.hinges("clamp", input, data, offset=float(min), kinks=[(float(min), 1.0)])
    data = plain(input).clamp(max=max)
    return r.hinges("clamp", input, data, slope=1.0, kinks=[(float(max), -1.0)])


_HANDLERS["clamp_max"] = lambda r, input, max: _clamp(r, input, max=max)


@_handles("maximum", "fmax")
def _maximum(r: Recorder, input: Any, other: Any) -> Recorded:
    return _add(r, other, _named_relu(r, "maximum", _sub(r, input, other)))


@_handles("minimum", "fmin")
def _minimum(r: Recorder, input: Any, other: Any) -> Recorded:
    return _sub(r, input, _named_relu(r, "minimum", _sub(r, input, other)))


def _named_relu(r: Recorder, text: str, x: Recorded) -> Recorded:
    return r.hinges(text, x, plain(x).relu(), kinks=[(0.0, 1.0)])


@_handles("max")
def _max(r: Recorder, input: Any, other: Any = None, *args: Any, **kw: Any) -> Recorded:
    return _maximum(r, input, _other("max", other, args, kw))


@_handles("min")
def _min(r: Recorder, input: Any, other: Any = None, *args: Any, **kw: Any) -> Recorded:
    return _minimum(r, input, _other("min", other, args, kw))


def _other(name: str, other: Any, args: Any, kw: Any) -> Tensor:
    if not isinstance(other, Tensor) or args or kw:
        raise Refused(
            f"calls {name} over an axis, which gives indices too; use a{name}, or pooling."
        )
    return other


@_handles("amax")
def _amax(r: Recorder, input: Recorded, dim: Any = None, keepdim: bool = False) -> Recorded:
    axes = _axes(dim, input.ndim)
    shape = tuple(input.shape[1:])
    index = torch.arange(prod(shape), device=input.device).reshape(shape)
    kept = [a - 1 for a in range(1, input.ndim) if a not in axes]
    index = index.permute(*kept, *(a - 1 for a in axes)).reshape(prod(shape[a] for a in kept), -1)
    return r.windows("amax", input, plain(input).amax(axes, keepdim), index)


@_handles("amin")
def _amin(r: Recorder, input: Recorded, dim: Any = None, keepdim: bool = False) -> Recorded:
    return _neg(r, _amax(r, _neg(r, input), dim, keepdim))


# --- pooling ------------------------------------------------------------------------------------


def _pooling(name: str, axes: int) -> Handler:
    function = getattr(functional, name)

    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
        return r.affine(
            name, [_batched(input, axes)], function(plain(input), *args, **kw),
            lambda x: function(x, *args, **kw),
        )  # fmt: skip

    return handle


def _max_pooling(axes: int) -> Handler:
    function = getattr(functional, f"max_pool{axes}d")

    def handle(
        r: Recorder,
        input: Recorded,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Recorded:
        if return_indices:
            raise Refused("returns indices, which depend on values; use return_indices=False.")
        data = function(
            plain(_batched(input, axes)), kernel_size, stride, padding, dilation, ceil_mode
        )
        kernel = _each(kernel_size, axes)
        step = kernel if stride is None or stride == [] else _each(stride, axes)
        starts = [
            [range(o * s - p, o * s - p + k * d, d) for o in range(size)]
            for size, s, p, k, d in zip(
                data.shape[2:], step, _each(padding, axes), kernel, _each(dilation, axes),
                strict=True,
            )
        ]  # fmt: skip
        index = _window_index(tuple(input.shape[1:]), starts).to(input.device)
        return r.windows(f"max_pool{axes}d", input, data, index)

    return handle


def _adaptive_max_pooling(axes: int) -> Handler:
    function = getattr(functional, f"adaptive_max_pool{axes}d")

    def handle(
        r: Recorder, input: Recorded, output_size: Any, return_indices: bool = False
    ) -> Recorded:
        if return_indices:
            raise Refused("returns indices, which depend on values; use return_indices=False.")
        data = function(plain(_batched(input, axes)), output_size)
        sizes = zip(input.shape[2:], data.shape[2:], strict=True)
        starts = [
            [range(o * n // made, -(-(o + 1) * n // made)) for o in range(made)]
            for n, made in sizes
        ]
        index = _window_index(tuple(input.shape[1:]), starts).to(input.device)
        return r.windows(f"adaptive_max_pool{axes}d", input, data, index)

    return handle


def _batched(input: Recorded, axes: int) -> Recorded:
    if input.ndim != axes + 2:
        raise Refused(f"takes samples without a batch axis; pass {axes + 2} axes.")
    return input


def _window_index(shape: Shape, reaches: list[list[range]]) -> Tensor:
    """Flat indices of the entries of every window; places outside repeat an entry inside."""
    channels, *sizes = shape
    index = torch.zeros(1, 1, dtype=torch.int64)  # windows so far, entries
    for size, windows in zip(sizes, reaches, strict=True):
        inside = [[p for p in places if 0 <= p < size] for places in windows]
        wide = max(map(len, inside))
        along = torch.tensor([places + places[:1] * (wide - len(places)) for places in inside])
        index = (index[:, None, :, None] * size + along[None, :, None, :]).flatten(0, 1).flatten(1)
    offset = torch.arange(channels)[:, None, None] * prod(sizes)
    return (offset + index).flatten(0, 1)


for _n in (1, 2, 3):
    _HANDLERS[f"avg_pool{_n}d"] = _pooling(f"avg_pool{_n}d", _n)
    _HANDLERS[f"adaptive_avg_pool{_n}d"] = _pooling(f"adaptive_avg_pool{_n}d", _n)
    _HANDLERS[f"max_pool{_n}d"] = _max_pooling(_n)
    _HANDLERS[f"adaptive_max_pool{_n}d"] = _adaptive_max_pooling(_n)


# --- arithmetic ---------------------------------------------------------------------------------


@_handles("add")
def _add(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Recorded:
    if isinstance(input, Recorded) and isinstance(other, Recorded):
        shape = tuple(torch.broadcast_shapes(input.shape[1:], other.shape[1:]))
        data = torch.add(plain(input), plain(other), alpha=alpha)
        return r.affine(
            "add", [input, other], data,
            lambda x, y: torch.add(_aligned(x, shape), _aligned(y, shape), alpha=alpha),
        )  # fmt: skip
    if not isinstance(input, Recorded):
        return _add(r, _scaled(r, other, alpha), input)
    return _shifted(r, "add", input, _constant(other, input), alpha)


def _aligned(x: Tensor, shape: Shape) -> Tensor:
    """Rows whose samples have as many axes as `shape`, so that they broadcast to it."""
    return x.reshape(len(x), *[1] * (len(shape) + 1 - x.ndim), *x.shape[1:])


def _shifted(
    r: Recorder, text: str, x: Recorded, constant: float | Tensor, scale: float
) -> Recorded:
    bias = _filled(constant, tuple(x.shape[1:]), plain(x)) * scale
    shape = tuple(torch.broadcast_shapes(x.shape[1:], bias.shape))
    data = _aligned(plain(x), shape) + bias
    return r.affine(text, [x], data, lambda x: _spread(_aligned(x, shape), shape), bias=bias)


def _spread(x: Tensor, shape: Shape) -> Tensor:
    return x.expand(len(x), *shape)


@_handles("sub", "subtract")
def _sub(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Recorded:
    return _add(r, input, other, alpha=-alpha)


@_handles("rsub")
def _rsub(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Recorded:
    return _add(r, other, input, alpha=-alpha)


@_handles("neg", "negative")
def _neg(r: Recorder, input: Recorded) -> Recorded:
    return _scaled(r, input, -1.0, "neg")


@_handles("positive", "contiguous", "clone", "detach", "requires_grad", "alias", "identity")
def _same(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
    return r.wrap(input, input.index)


@_handles("to", "double", "float", "half", "bfloat16", "type", "type_as", "cpu", "cuda")
def _to(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
    if any(isinstance(x, torch.dtype) and x != input.dtype for x in (*args, *kw.values())):
        raise Refused(f"changes the precision of its input from {input.dtype}; take that out.")
    return r.wrap(input, input.index)


_HANDLERS["double"] = _HANDLERS["float"] = _HANDLERS["half"] = _HANDLERS["bfloat16"] = (
    lambda r, input: _to(r, input, plain(input).double().dtype)
)


@_handles("mul", "multiply")
def _mul(r: Recorder, input: Any, other: Any) -> Recorded:
    if isinstance(input, Recorded) and isinstance(other, Recorded):
        raise Refused(
            "multiplies two branches (or one by itself), which is quadratic, not piecewise linear; "
            "use a sum, or a product with a constant."
        )
    x, factor = (input, other) if isinstance(input, Recorded) else (other, input)
    return _scaled(r, x, factor)


def _scaled(r: Recorder, x: Recorded, factor: Any, text: str = "mul") -> Recorded:
    scale = _constant(factor, x)
    shape = tuple(x.shape[1:])
    if isinstance(scale, Tensor):
        shape = tuple(torch.broadcast_shapes(shape, scale.shape))
    data = _aligned(plain(x), shape) * scale
    return r.affine(text, [x], data, lambda x: _aligned(x, shape) * scale)


@_handles("div", "divide", "true_divide", "truediv")
def _div(r: Recorder, input: Any, other: Any, *, rounding_mode: str | None = None) -> Recorded:
    if isinstance(other, Recorded):
        raise Refused("divides by what it computes from its input; divide by a constant.")
    if rounding_mode is not None:
        raise Refused("rounds a quotient, which is not continuous; use an ordinary division.")
    scale = _constant(other, input)
    return _scaled(r, input, 1.0 / scale, "div")


@_handles("sum")
def _sum(r: Recorder, input: Recorded, dim: Any = None, keepdim: bool = False) -> Recorded:
    axes = _axes(dim, input.ndim)
    return r.affine("sum", [input], plain(input).sum(axes, keepdim), lambda x: x.sum(axes, keepdim))


@_handles("mean")
def _mean(r: Recorder, input: Recorded, dim: Any = None, keepdim: bool = False) -> Recorded:
    axes = _axes(dim, input.ndim)
    return r.affine(
        "mean", [input], plain(input).mean(axes, keepdim), lambda x: x.mean(axes, keepdim)
    )


# --- shapes -------------------------------------------------------------------------------------


def _reshaped(name: str) -> Handler:
    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
        data = getattr(torch.Tensor, name)(plain(input), *args, **kw)
        if not isinstance(data, Tensor):
            return data
        if data.ndim == 0 or len(data) != BATCH:
            _moved()
        shape = tuple(data.shape[1:])
        return r.affine(name, [input], data, lambda x: x.reshape(len(x), *shape))

    return handle


for _name in ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as",
              "reshape_as"):  # fmt: skip
    _HANDLERS[_name] = _reshaped(_name)


@_handles("permute")
def _permute(r: Recorder, input: Recorded, *dims: Any, **kw: Any) -> Recorded:
    order = kw.get("dims", dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims)
    order = [d % input.ndim for d in order]
    if order[0] != 0:
        _moved()
    return r.affine("permute", [input], plain(input).permute(order), lambda x: x.permute(order))


@_handles("transpose", "swapaxes", "swapdims")
def _transpose(r: Recorder, input: Recorded, dim0: int, dim1: int) -> Recorded:
    a, b = _axis(dim0, input.ndim), _axis(dim1, input.ndim)
    return r.affine("transpose", [input], plain(input).transpose(a, b), lambda x: x.transpose(a, b))


@_handles("movedim", "moveaxis")
def _movedim(r: Recorder, input: Recorded, source: Any, destination: Any) -> Recorded:
    a, b = _axes(source, input.ndim), _axes(destination, input.ndim)
    return r.affine("movedim", [input], plain(input).movedim(a, b), lambda x: x.movedim(a, b))


@_handles("flip")
def _flip(r: Recorder, input: Recorded, *dims: Any, **kw: Any) -> Recorded:
    given = kw.get("dims", dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims)
    axes = _axes(given, input.ndim)
    return r.affine("flip", [input], plain(input).flip(axes), lambda x: x.flip(axes))


@_handles("expand", "expand_as", "broadcast_to")
def _expand(r: Recorder, input: Recorded, *sizes: Any, **kw: Any) -> Recorded:
    data = plain(input).expand(*(plain(s) if not isinstance(s, Tensor) else s.shape for s in sizes))
    if data.ndim != input.ndim:
        _moved()
    shape = tuple(data.shape[1:])
    return r.affine("expand", [input], data, lambda x: _spread(x, shape))


@_handles("cat", "concat", "concatenate")
def _cat(r: Recorder, tensors: Sequence[Any], dim: int = 0, axis: int | None = None) -> Recorded:
    ndim = tensors[0].ndim
    along = _axis(dim if axis is None else axis, ndim)
    recorded = [x for x in tensors if isinstance(x, Recorded)]
    plains = [plain(x) for x in tensors]
    data = torch.cat(plains, along)
    if len(recorded) == len(tensors):
        return r.affine("cat", recorded, data, lambda *xs: torch.cat(xs, along))
    held = [
        None if isinstance(x, Recorded) else _constant(x, plains[i]) for i, x in enumerate(tensors)
    ]
    blank = torch.cat(
        [
            plains[i].new_zeros(plains[i].shape[1:]) if c is None
            else _filled(c, tuple(plains[i].shape[1:]), data).expand(plains[i].shape[1:])
            for i, c in enumerate(held)
        ],
        along - 1,
    )  # fmt: skip
    sizes = [tuple(p.shape[1:]) for p in plains]

    def linear(*xs: Tensor) -> Tensor:
        left = iter(xs)
        rows = len(xs[0])
        return torch.cat(
            [next(left) if c is None else xs[0].new_zeros(rows, *size)
             for c, size in zip(held, sizes, strict=True)],
            along,
        )  # fmt: skip

    return r.affine("cat", recorded, data, linear, bias=blank)


@_handles("stack")
def _stack(r: Recorder, tensors: Sequence[Any], dim: int = 0) -> Recorded:
    _constants = [x for x in tensors if not isinstance(x, Recorded)]
    if _constants:
        raise Refused("stacks its input with constants; use cat.")
    along = _axis(dim, tensors[0].ndim + 1)
    data = torch.stack([plain(x) for x in tensors], along)
    return r.affine("stack", list(tensors), data, lambda *xs: torch.stack(xs, along))


def _parts(name: str) -> Handler:
    function = getattr(torch, name)

    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> tuple[Recorded, ...]:
        bound = inspect.signature(_PARTS[name]).bind(*args, **kw)
        bound.apply_defaults()
        along = _axis(bound.arguments["dim"], input.ndim)
        pieces = function(plain(input), *args, **kw)

        def one(i: int) -> Recorded:
            return r.affine(
                name, [input], pieces[i],
                lambda x: function(x, *[a for k, a in bound.arguments.items() if k != "dim"],
                                   dim=along)[i],
            )  # fmt: skip

        return tuple(one(i) for i in range(len(pieces)))

    return handle


_PARTS: dict[str, Callable[..., None]] = {
    "chunk": lambda chunks, dim=0: None,
    "split": lambda split_size_or_sections, dim=0: None,
    "tensor_split": lambda indices_or_sections, dim=0: None,
    "unbind": lambda dim=0: None,
}
for _name in _PARTS:
    _HANDLERS[_name] = _parts(_name)


@_handles("getitem")
def _getitem(r: Recorder, input: Recorded, index: Any) -> Recorded:
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, Recorded) for p in parts):
        raise Refused("indexes by what it computes from its input; index by constants.")
    first = parts[0] if parts else slice(None)
    used = sum(p is not None and p is not Ellipsis for p in parts)
    whole = isinstance(first, slice) and first == slice(None)
    if not whole and not (first is Ellipsis and used < input.ndim):
        _moved()
    return r.affine("getitem", [input], plain(input)[index], lambda x: x[index])


def _selecting(name: str) -> Handler:
    function = getattr(torch, name)

    def handle(r: Recorder, input: Recorded, dim: int, *args: Any, **kw: Any) -> Recorded:
        along = _axis(dim, input.ndim)
        _constants_only(*args, *kw.values())
        return r.affine(
            name, [input], function(plain(input), along, *args, **kw),
            lambda x: function(x, along, *args, **kw),
        )  # fmt: skip

    return handle


for _name in ("select", "narrow", "index_select"):
    _HANDLERS[_name] = _selecting(_name)


@_handles("pad")
def _pad(
    r: Recorder, input: Recorded, pad: Any, mode: str = "constant", value: float | None = None
) -> Recorded:
    if len(pad) >= 2 * input.ndim:
        _moved()
    data = functional.pad(plain(input), pad, mode, value)
    bias = None
    if mode == "constant" and value:
        bias = functional.pad(torch.zeros_like(plain(input)[0]), pad, mode, value)
    if mode != "constant":
        return r.affine(f"pad ({mode})", [input], data, lambda x: functional.pad(x, pad, mode))
    return r.affine("pad", [input], data, lambda x: functional.pad(x, pad), bias=bias)


@_handles("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def _interpolate(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
    data = functional.interpolate(plain(input), *args, **kw)
    mode = kw.get("mode", args[2] if len(args) > 2 else "nearest")
    return r.affine(
        f"interpolate ({mode})", [input], data, lambda x: functional.interpolate(x, *args, **kw)
    )


# --- questions about shapes, which have plain answers ---------------------------------------------


def _question(name: str) -> Handler:
    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Any:
        return getattr(plain(input), name)(*args, **kw)

    return handle


for _name in (
    "size dim numel ndimension nelement stride is_contiguous is_floating_point is_complex "
    "get_device __len__ __hash__ __repr__ __format__ __str__"
).split():
    _HANDLERS[_name.strip("_")] = _question(_name)
