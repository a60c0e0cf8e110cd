"""What the theory must know of a network: from the layers of a torch network to its own."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from implreg.errors import InputError
from implreg.networks import Initialisation, PreActivationBlock, Residual
from implreg.theory.layers import Architecture, Block, Layer, Pool, Relu, Scale, Weights, placed
from implreg.theory.pixels import Grid, Space, Window

_KNOWN = (
    "Linear, Conv1d, Conv2d, ReLU, LeakyReLU, AvgPool1d, AvgPool2d, AdaptiveAvgPool1d, "
    "AdaptiveAvgPool2d, Flatten, BatchNorm1d, BatchNorm2d and the blocks of implreg.networks"
)
_WEIGHTS = nn.Linear | nn.Conv1d | nn.Conv2d
_POOLS = nn.AvgPool1d | nn.AvgPool2d | nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d
_PASSED = nn.Identity | nn.Dropout | nn.Flatten | nn.Sequential


def architecture(
    net: nn.Module, initialisation: Initialisation, sample: tuple[int, ...] = ()
) -> Architecture:
    """Read the layers of a network; its weights are not looked at.

    Args:
        net: `nn.Sequential`, nested or not, of `Linear`, `Conv1d`, `Conv2d`, `ReLU`, `LeakyReLU`,
            `AvgPool1d` and `AvgPool2d` without overlap, `AdaptiveAvgPool1d(1)`,
            `AdaptiveAvgPool2d(1)`, `Flatten`, `BatchNorm1d` and `BatchNorm2d` in eval mode that
            have not seen data, and the blocks of `implreg.networks`, with a `Linear` layer at the
            end. What changes nothing (`Identity`, `Dropout` in eval mode) is passed over.
        initialisation: the distribution that its weights were drawn from.
        sample: shape of a sample; not needed if the first layer is `Linear`.

    Raises:
        InputError: any other module, named with its type; an activation or a residual block of
            something that is not Gaussian, such as an activation; or a sample that does not fit.

    >>> import implreg as ir
    >>> [type(layer).__name__ for layer in architecture(ir.mlp(4, 8, 2, seed=0), ir.HE).layers]
    ['Weights', 'Relu', 'Weights']
    """
    if not isinstance(net, nn.Module):
        raise InputError(
            f"net must be a torch.nn.Module, got {type(net).__name__}; pass for example "
            f"implreg.mlp(64, 512, 10, seed=0)."
        )
    leaves = {
        name or "net": module for name, module in net.named_modules(remove_duplicate=False)
        if not isinstance(module, _PASSED) and not any(module.children())
    }  # fmt: skip
    first = next(iter(leaves.values()), None)
    weights = [id(x.weight) for x in leaves.values() if isinstance(x, _WEIGHTS)]
    if len({*weights}) < len(weights):
        raise InputError(
            "net must use all weights once, but some are used twice; copy their layer."
        )
    if isinstance(first, nn.Linear):
        sample = (math.prod(sample) if sample else first.in_features,)
    if not 1 <= len(sample) <= 3:
        raise InputError(
            f"samples must be (channels, height, width), (channels, length) or (d,), got samples "
            f"of shape {sample}; reshape them."
        )
    height, width = (1, 1, *sample[1:])[-2:]
    state = _State(sample[0], (height, width), len(sample) - 1, gaussian=False)
    after, layers = _Reader(initialisation).read(net, "", state)
    if not (layers and isinstance(layers[-1], Weights) and after.axes == 0):
        *_, last = "nothing", *(f"its layer {k!r}, {type(x).__name__}" for k, x in leaves.items())
        raise InputError(f"net must end with a Linear layer, but ends with {last}; add one.")
    outputs = replace(layers[-1], weight=initialisation.sigma_o**2, bias=0.0)
    layers, dense = placed((*layers[:-1], outputs), Grid()), isinstance(first, nn.Linear)
    seen = Architecture(math.prod(sample), after.channels, layers, dense)
    if not seen.sites:
        raise InputError("net must have a ReLU, but has none; add one.")
    return seen


@dataclass(frozen=True)
class _State:
    """What a layer is given: the shape of a sample, and whether its entries are Gaussian."""

    channels: int
    space: Space
    axes: int  # 2 for images, 1 for signals, 0 for what dense layers take
    gaussian: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """As torch has it."""
        if self.axes:
            return (self.channels, *self.space[2 - self.axes :])
        return (self.channels * math.prod(self.space),)


_Read = tuple[_State, tuple[Layer, ...]]


@dataclass(frozen=True)
class _Reader:
    """Reads modules one after the other."""

    initialisation: Initialisation

    def chain(self, parts: Iterable[tuple[str, nn.Module]], name: str, state: _State) -> _Read:
        """The layers of modules that follow each other, and what they hand on."""
        layers: tuple[Layer, ...] = ()
        for key, module in parts:
            state, more = self.read(module, f"{name}.{key}" if name else key, state)
            layers += more
        return state, layers

    def read(self, module: nn.Module, name: str, state: _State) -> _Read:
        """The layers of a module, and what it hands on."""
        if type(module) is nn.Sequential:
            return self.chain(zip(module._modules, module, strict=True), name, state)
        where = f"its layer {name or 'net'!r}"
        training = isinstance(module, nn.Dropout) and module.training
        if isinstance(module, nn.Identity | nn.Dropout) and not training:
            return state, ()
        if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            return replace(state, axes=0), ()
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
            if not state.gaussian:
                raise InputError(
                    f"net must have a layer with weights before each ReLU, but there is none "
                    f"before {where}; rearrange it."
                )
            leak = module.negative_slope if isinstance(module, nn.LeakyReLU) else 0.0
            return replace(state, gaussian=False), (Relu(state.channels, leak),)
        if isinstance(module, _WEIGHTS):
            return self._weights(module, where, state)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return state, (Scale(_norm(module, where)),)
        if isinstance(module, _POOLS):
            return _pool(module, where, state)
        if isinstance(module, Residual | PreActivationBlock):
            return self._block(module, name, where, state)
        what = type(module).__name__ if any(module.children()) else str(module)
        raise InputError(
            f"net may hold {_KNOWN} alone, but {where} is {what}"
            f"{' in training mode; call net.eval()' if training else '; replace it'}."
        )

    def _weights(self, module: _WEIGHTS, where: str, state: _State) -> _Read:
        if isinstance(module, nn.Linear):  # behind flattening each unit sees all pixels at once
            n_out, takes = module.out_features, f"{module.in_features} numbers"
            window = Window(state.space, space=state.space)
            fits = state.shape == (module.in_features,)
        else:
            wraps = module.padding_mode != "zeros" and any(module.padding)
            if wraps or isinstance(module.padding, str) or {module.groups, *module.dilation} != {1}:
                raise InputError(
                    f"net may hold convolutions with numbers of zeros as padding and without "
                    f"groups and dilation alone, but {where} is {module}; replace it."
                )
            n_out, takes = module.out_channels, f"{module.in_channels} channels"
            size, stride = _two(module.kernel_size, 1), _two(module.stride, 1)
            window = Window(size, stride, _two(module.padding, 0), state.space)
            fits = (state.channels, state.axes) == (module.in_channels, len(module.kernel_size))
        _check_fit(fits, window, f"{where}, {module}, which takes {takes}", state)
        bias = 0.0 if module.bias is None else self.initialisation.sigma_b**2
        layer = Weights((state.channels, n_out), self.initialisation.sigma_w**2, bias, window)
        return _State(n_out, window.places, state.axes, gaussian=True), (layer,)

    def _block(
        self, module: Residual | PreActivationBlock, name: str, where: str, state: _State
    ) -> _Read:
        def route(names: str, given: _State) -> _Read:
            return self.chain([(key, getattr(module, key)) for key in names.split()], name, given)

        kept, shortcut = route("", state)
        if isinstance(module, Residual):
            after, branch = route("branch", state)
            branch += (Scale(module.scale**2),)
        else:
            names = "norm1 relu1 convolution1 norm2 relu2 dropout convolution2"
            after, branch = route(names, state)
            if module.shortcut is not None:
                kept, shortcut = route("shortcut", state)
        anew = any(isinstance(x, Weights) or (isinstance(x, Block) and x.shortcut) for x in branch)
        if kept != after or not after.gaussian or not anew:
            raise InputError(
                f"net must have blocks that add what layers with weights make, of one shape, but "
                f"{where} is another; rearrange it."
            )
        # Each route must need the same pairs of pixels for those behind it.
        pairs = Grid(after.space, ((0, 0), (0, 1), (1, 0)))
        needed = placed(branch, pairs)[0].before
        if needed != (placed(shortcut, pairs)[0].before if shortcut else pairs):
            raise InputError(
                f"net must have blocks with the same strides on both routes and no pooling, but "
                f"{where} is another; replace it."
            )
        return after, (Block(branch, shortcut),)


def _check_fit(fits: bool, window: Window, what: str, state: _State) -> None:
    if not fits or min(window.room) < 0:
        raise InputError(
            f"samples must fit net, but {what}, is given {state.shape}; pass samples of another "
            f"shape."
        )


def _norm(module: nn.BatchNorm1d | nn.BatchNorm2d, where: str) -> float:
    """The factor on variances of a batch norm that has not seen data."""
    at_first = {"running_mean": 0, "running_var": 1, "weight": 1, "bias": 0}
    held = ((getattr(module, name), value) for name, value in at_first.items())
    fresh = all(values is None or bool((values == value).all()) for values, value in held)
    if module.training or module.running_mean is None or not fresh:
        raise InputError(
            f"net must have batch norm in eval mode and as it begins, with means and shifts 0 and "
            f"variances and scales 1, but {where} is not; call net.eval() on a network that has "
            f"not seen data."
        )
    return 1 / (1 + module.eps)


def _pool(module: _POOLS, where: str, state: _State) -> _Read:
    axes = 1 if isinstance(module, nn.AvgPool1d | nn.AdaptiveAvgPool1d) else 2
    sizes = (getattr(module, key, state.space) for key in ("kernel_size", "stride"))
    size, stride = (_two(given, 1, axes) for given in sizes)
    usual = {"output_size": 1, "padding": 0, "ceil_mode": False, "divisor_override": None}
    known = all(getattr(module, k, v) in (v, (v,), (v, v)) for k, v in usual.items())
    if not known or size[0] > stride[0] or size[1] > stride[1]:
        raise InputError(
            f"net may hold average pooling alone that is to one pixel or over windows without "
            f"overlap and padding, but {where} is {module}; replace it."
        )
    window, what = Window(size, stride, space=state.space), f"{where}, {module}, which takes more"
    _check_fit(axes == state.axes, window, what, state)
    return replace(state, space=window.places), (Pool(window),)


def _two(sizes: int | tuple[int, ...], other: int, axes: int = 0) -> Space:
    """Sizes down and across; for signals `other` down."""
    if isinstance(sizes, int):
        sizes = (sizes,) * axes
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (other, sizes[0])
